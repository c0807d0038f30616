"""Walking along the lines of an index: what each line is, and what it proves.

============  =================================================================================
``Opened``    the first line, whole: complete and intact in itself
``Appended``  a further line, whole: complete, and its running checksum continues the line before
``Foreign``   a first line that is whole and continues something else: it is of another age
``Torn``      what is behind the last newline: a line that was not written to its end, or not yet
``Damaged``   a complete line that is not of this format, or fails its checksum
============  =================================================================================

A walk ends behind the first line that is not whole, as nothing proves what follows.  What is to be
done then is for whoever walks: a server that opens a stream leaves out what is torn and refuses
what is damaged, one that lost unsynced writes cuts both, ``verify`` reports them.  Whether the
bytes of an append are there, and are right, is for them to check as well.

Only a first line says what it continues, so only a first line can be foreign: a further one that
does not continue the line before it is damaged.

No I/O: reading files is ``files.index_files``.
"""

from __future__ import annotations

import re
from binascii import unhexlify
from typing import TYPE_CHECKING, Final

import msgspec

from durable_streams.filestore.format.index import (
    BadLine,
    Line,
    Opening,
    Tail,
    unpack_line,
    unpack_opening,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_STATED: Final = re.compile(rb'^\{"end":([0-9]+),.*"chain":"([0-9a-f]+)"\}$', re.MULTILINE)


class Opened(msgspec.Struct, frozen=True, gc=False):
    """A whole first line.

    ``chain``: the running checksum behind it.  ``index_position``: bytes of the index up to there.
    """

    opening: Opening
    chain: bytes
    index_position: int

    @property
    def tail(self) -> Tail:
        """The end of a stream that has nothing behind this line."""
        opening = self.opening
        return Tail(
            opening.segment, 0, self.index_position, self.chain, stream_seq=opening.stream_seq
        )


class Appended(msgspec.Struct, frozen=True, gc=False):
    """A whole line of an append.

    ``row``: which line of the index it is, from 1 on.  ``begin``: where the bytes of the append
    begin in the segment; they end at ``line.end``.  ``chain``, ``index_position``: as above.
    """

    line: Line
    chain: bytes
    index_position: int
    row: int
    begin: int


class Foreign(msgspec.Struct, frozen=True, gc=False):
    """A whole first line that does not continue the running checksum that it should."""

    opening: Opening


class Torn(msgspec.Struct, frozen=True, gc=False):
    """A line without its newline; ``chain``: the running checksum before it."""

    text: bytes
    row: int
    chain: bytes

    def lacks_only_its_newline(self) -> bool:
        """Whether it is whole but for its last byte, which another one stands in the place of."""
        try:
            if self.row == 1:
                unpack_opening(self.text[:-1])
            else:
                unpack_line(self.text[:-1], self.chain)
        except BadLine:
            return False
        return True


class Damaged(msgspec.Struct, frozen=True, gc=False):
    """A complete line that says nothing; ``error`` tells why, and whether it is of a newer version.

    ``text`` is without the newline.
    """

    text: bytes
    row: int
    error: BadLine


FirstLine = Opened | Foreign | Torn | Damaged
FurtherLine = Appended | Torn | Damaged


def first_line(text: bytes, continues: bytes | None = None) -> FirstLine:
    """What the first line of an index is; ``text`` has all of the line if the index has.

    ``continues``: the running checksum that the index has to continue, None for whatever it says.
    An index without a byte is torn: its first line is written when it is made.
    """
    line, newline, _ = text.partition(b"\n")
    if not newline:
        return Torn(line, 1, b"")
    try:
        opening, chain = unpack_opening(line)
    except BadLine as error:
        return Damaged(line, 1, error)
    if continues is not None and not opening.follows(continues):
        return Foreign(opening)
    return Opened(opening, chain, len(line) + 1)


def lines_behind(text: bytes, end: Tail, row: int = 2) -> Iterator[FurtherLine]:
    """The lines of an index behind a place; ``text`` is that of the index from there on.

    ``row``: which line of the index the first one is.
    """
    chain, position, before = end.chain, end.position, end.index_position
    begin = 0
    while (newline := text.find(b"\n", begin)) >= 0:
        try:
            line, chain = unpack_line(text[begin:newline], chain)
        except BadLine as error:
            yield Damaged(text[begin:newline], row, error)
            return
        begin = newline + 1
        yield Appended(line, chain, before + begin, row, position)
        position = line.end
        row += 1
    if begin < len(text):
        yield Torn(text[begin:], row, chain)


def walk(text: bytes) -> Iterator[FirstLine | FurtherLine]:
    """All lines of an index, whatever it continues; none if it is empty."""
    if not text:
        return
    first = first_line(text)
    yield first
    if isinstance(first, Opened):
        yield from lines_behind(text[first.index_position :], first.tail)


def stated_ends(text: bytes) -> tuple[list[int], bytes]:
    """Where appends end and their running checksums, one behind the other, as whole lines state.

    Nothing is checked: a reader waits for it, and checking each line takes several times as long.
    Where the last one ends is compared with what the stream knows of its segment; ``verify`` checks
    all.
    """
    found = _STATED.findall(text)
    ends = [int(end) for end, _ in found]
    return ends, unhexlify(b"".join([chain for _, chain in found]))
