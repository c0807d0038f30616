"""Reading index files: one line and what is behind it, or where all appends end.

What a line is, ``format.index_lines`` says.  Blocking code; nothing here changes a file.
"""

from __future__ import annotations

import errno
import sys
from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING, Final

from durable_streams.filestore.files import names
from durable_streams.filestore.format import index as index_format
from durable_streams.filestore.format.index import CHAIN_BYTES, Tail
from durable_streams.filestore.format.index_lines import (
    Appended,
    Opened,
    Torn,
    first_line,
    lines_behind,
    stated_ends,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable_streams.filestore.files.disk import Disk, StrPath
    from durable_streams.filestore.format.index import Line, Opening
    from durable_streams.filestore.format.index_lines import FurtherLine

_READ_BYTES: Final = 4096
PIECE_BYTES: Final = 1 << 20  # of an index that is read to its end
_KEPT_BYTES: Final = 512  # of the ends of one segment beside the ends
_CHAIN_TEXT: Final = 64  # bytes at the end of a line that hold its chain field


def text_at(disk: Disk, path: StrPath, position: int = 0) -> tuple[bytes, bool]:
    """What an index has from a position on, as far as its next line at least; whether it is all.

    Nothing, if there is no such file.
    """
    try:
        fd = disk.open_read(path)
    except FileNotFoundError:
        return b"", True
    try:
        size = _READ_BYTES
        while True:
            text = disk.pread(fd, size, position)
            if len(text) < size:
                return text, True
            if b"\n" in text:
                return text, False
            size *= 8
    finally:
        disk.close(fd)


def each_line_behind(
    disk: Disk, path: StrPath, end: Tail, piece_bytes: int = PIECE_BYTES
) -> Iterator[FurtherLine]:
    """All lines of an index behind a place, lazily: a piece of it is in memory at a time."""
    row = 2
    try:
        fd = disk.open_read(path)
    except FileNotFoundError:
        return
    try:
        size = piece_bytes
        while True:
            text = disk.pread(fd, size, end.index_position)
            is_all = len(text) < size
            size = piece_bytes
            for found in lines_behind(text, end, row):
                if isinstance(found, Torn) and not is_all:
                    if found.text == text:  # no line of ours is as long; where does it end?
                        size = len(text) * 8
                    break  # its end is in the next piece
                yield found
                if not isinstance(found, Appended):
                    return
                end = Tail(end.segment, found.line.end, found.index_position, found.chain)
                row = found.row + 1
            if is_all:
                return
    finally:
        disk.close(fd)


def opening_of(disk: Disk, path: StrPath) -> Opening | None:
    """What the first line of an index says; None if it is not there, or not whole."""
    text, _ = text_at(disk, path)
    found = first_line(text)
    return found.opening if isinstance(found, Opened) else None


def line_behind(disk: Disk, path: StrPath, end: Tail) -> FurtherLine | None:
    """What is right behind a place in an index; None if it ends there."""
    text, _ = text_at(disk, path, end.index_position)
    return next(lines_behind(text, end), None)


def chain_at(
    disk: Disk, directory: StrPath, stream_id: str, segment: int, index_position: int
) -> bytes | None:
    """The chain that an index states right before a position; None if no line ends there."""
    try:
        fd = disk.open_read(f"{directory}/{names.index_file(segment, stream_id)}")
    except FileNotFoundError:
        return None
    try:
        begin = max(0, index_position - _CHAIN_TEXT)
        text = disk.pread(fd, index_position - begin, begin)
    finally:
        disk.close(fd)
    return index_format.chain_at_end(text) if len(text) == index_position - begin else None


def time_before(
    disk: Disk, directory: StrPath, stream_id: str, segment: int, index_position: int
) -> int | None:
    """The time of the append whose line ends at a position of an index; None if there is none."""
    fd = disk.open_read(f"{directory}/{names.index_file(segment, stream_id)}")
    try:
        begin = max(0, index_position - index_format.LONGEST_LINE)
        text = disk.pread(fd, index_position - begin, begin)
    finally:
        disk.close(fd)
    return index_format.time_of(text[:-1].rpartition(b"\n")[2])


def last_line(disk: Disk, path: StrPath) -> Line | None:
    """What the last line of an index says, unchecked; None if it ends in none."""
    fd = disk.open_read(path)
    try:
        begin = max(0, disk.size_of(fd) - index_format.LONGEST_LINE)
        text = disk.pread(fd, index_format.LONGEST_LINE, begin)
    finally:
        disk.close(fd)
    if not text.endswith(b"\n"):
        return None
    return index_format.said_by(text[:-1].rpartition(b"\n")[2])


def continuation(disk: Disk, directory: StrPath, stream_id: str, end: Tail) -> bytes | None:
    """The index text of the append that the files prove right behind a place; None without one.

    Its line is whole, continues the chain at ``end`` and has its bytes.  If it begins a segment,
    the opening is part of the text.
    """
    if not end.index_position:
        return _begun_behind(disk, directory, stream_id, end, end.segment)
    begun = _begun_behind(disk, directory, stream_id, end, end.segment + 1)
    return begun or _line_behind(disk, directory, stream_id, end)


def _begun_behind(
    disk: Disk, directory: StrPath, stream_id: str, end: Tail, segment: int
) -> bytes | None:
    """The opening and first line of a segment, if they continue a place so."""
    text, _ = text_at(disk, f"{directory}/{names.index_file(segment, stream_id)}")
    first = first_line(text, end.chain)
    if not isinstance(first, Opened):
        return None
    behind = Tail(segment, 0, first.index_position, first.chain)
    line = _line_behind(disk, directory, stream_id, behind)
    return None if line is None else text[: first.index_position] + line


def _line_behind(disk: Disk, directory: StrPath, stream_id: str, end: Tail) -> bytes | None:
    """The line behind one in the same index, if it is whole and has its bytes."""
    index = f"{directory}/{names.index_file(end.segment, stream_id)}"
    text, _ = text_at(disk, index, end.index_position)
    found = next(lines_behind(text, end), None)
    if not isinstance(found, Appended):
        return None
    status = disk.status(f"{directory}/{names.segment_file(end.segment, stream_id)}")
    has_bytes = (status.size_bytes if status else 0) >= found.line.end
    return text[: found.index_position - end.index_position] if has_bytes else None


class AppendEnds:
    """Where each append of one segment ends, in stream order, and the running checksum there.

    Grows with the index: :meth:`extend` reads what was added since, until it is ``complete``.
    """

    __slots__ = ("_chains", "complete", "ends", "scanned")

    def __init__(self) -> None:
        self.ends: array[int] = array("Q")
        self._chains = bytearray()
        self.scanned = 0
        self.complete = False

    def copy(self) -> AppendEnds:
        """A copy to extend in another thread."""
        other = AppendEnds()
        other.ends, other._chains, other.scanned = self.ends[:], self._chains[:], self.scanned
        return other

    @property
    def size_bytes(self) -> int:
        """Memory in use, by whoever keeps it as well."""
        return sys.getsizeof(self.ends) + sys.getsizeof(self._chains) + _KEPT_BYTES

    def extend(self, text: bytes) -> None:
        """Take over whole index lines that follow those scanned before."""
        ends, chains = stated_ends(text)
        self.ends.extend(ends)
        self._chains += chains
        self.scanned += len(text)

    def chain_at(self, end: int) -> bytes | None:
        """The running checksum behind the last append that ends at a position, None without one."""
        at = bisect_right(self.ends, end)
        if not at or self.ends[at - 1] != end:
            return None
        return bytes(self._chains[(at - 1) * CHAIN_BYTES : at * CHAIN_BYTES])


def scan_ends(disk: Disk, path: StrPath, ends: AppendEnds, index_position: int) -> None:
    """Read an index up to ``index_position`` (the end of a line) into ``ends``.

    ``OSError`` if it is shorter: somebody replaced it, or it is being put back.
    """
    size = index_position - ends.scanned
    fd = disk.open_read(path)
    try:
        text = disk.pread(fd, size, ends.scanned)
    finally:
        disk.close(fd)
    if len(text) < size:
        raise OSError(errno.ESTALE, "the index is shorter than what was written to it", str(path))
    ends.extend(text)
