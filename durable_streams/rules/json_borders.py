"""Where the messages of a JSON stream end, found in its wire bytes as they come.

On the wire every message is followed by a comma.  Inside a message commas stand within brackets or
strings only, so telling the two apart takes no more than the depth of the brackets.  Nothing is
parsed into objects, no nesting recurses, and each byte is looked at a bounded number of times.
"""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from itertools import accumulate, islice, pairwise
from typing import TYPE_CHECKING, Final

import msgspec

from durable_streams.settings import KIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_array_of_raw: Final = msgspec.json.Decoder(list[msgspec.Raw])

_STRING_REST: Final = rb'[^"\\]*+(?:\\.[^"\\]*+)*'
_STRING: Final = rb'"' + _STRING_REST + rb'"'
_FLAT: Final = rb'[\[{][^"\[\]{}]*+(?:' + _STRING + rb'[^"\[\]{}]*+)*[\]}]'
"""An array or object without another one in it: most messages are one."""

# Loops whose rounds begin with what cannot stand before them: one way to match, nothing to go back
# to.  (Possessive groups would say it shorter; Python before 3.11.5 has them wrong.)
_in_string: Final = re.compile(_STRING_REST, re.DOTALL)
_outside: Final = re.compile(
    rb'[^"\[\]{},]*+(?:(?:' + _STRING + rb"|" + _FLAT + rb')[^"\[\]{},]*+)*', re.DOTALL
)
_inside: Final = re.compile(
    rb'[^"\[\]{}]*+(?:(?:' + _STRING + rb"|" + _FLAT + rb')[^"\[\]{}]*+)*', re.DOTALL
)

_LIKELY: Final = (b",", b"},", b"],")  # of which the last one in a piece may end a message
_WORTH_PARSING: Final = 64
_SLICE_BYTES: Final = 64 * KIB

_QUOTE, _COMMA = b'",'
_OPENING: Final = frozenset(b"[{")


class Borders:
    """Finds the ends of messages in wire bytes that begin with a message and come in pieces.

    ``behind_message``: the bytes so far, if any, end behind a message.
    """

    __slots__ = ("_depth", "_escaped", "_in_string", "behind_message")

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self.behind_message = True

    def feed(self, piece: bytes) -> list[int]:
        """Return the positions in the next piece behind each comma that ends a message."""
        begin, found = self._finish_message(piece)
        messages = self._whole_messages(piece, begin)
        found += islice(accumulate(map(_wire_bytes, messages), initial=begin), 1, None)
        self.scan(piece, found[-1] if messages else begin, found)
        return found

    def in_lines(self, piece: bytes) -> bytes:
        """Return the next piece with a line feed behind each comma that ends a message."""
        begin, found = self._finish_message(piece)
        messages = self._whole_messages(piece, begin)
        lines: list[bytes | msgspec.Raw] = [piece[:begin]] if found else []
        at = begin + sum(map(_wire_bytes, messages)) if messages or found else 0
        if messages:
            lines.append(b",\n".join(messages) + b",")
        found.clear()
        self.scan(piece, max(at, begin), found)
        lines += [piece[start:end] for start, end in pairwise([at, *found, None])]
        return b"\n".join(lines)

    def _finish_message(self, piece: bytes) -> tuple[int, list[int]]:
        """Go through the message that began before; where it ends, and that as a list."""
        found: list[int] = []
        if self.behind_message or not piece:
            return 0, found
        self.scan(piece, 0, found, most=1)
        return (found[0] if found else len(piece)), found

    def _whole_messages(self, piece: bytes, begin: int) -> list[msgspec.Raw]:
        """The messages from a position on, mostly all but the last one, or none.

        In one go, by the JSON parser: that is ten times as fast as looking at each bracket.
        """
        for border in _LIKELY:
            end = piece.rfind(border, begin) + len(border)
            if end - begin > _WORTH_PARSING:
                with suppress(msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                    messages = _array_of_raw.decode(b"[" + piece[begin : end - 1] + b"]")
                    if sum(map(_wire_bytes, messages)) == end - begin:
                        self.behind_message = True
                        return messages
        return []

    def scan(self, piece: bytes, position: int, found: list[int], most: int = sys.maxsize) -> None:
        """Go through a piece from a position on; ``found`` gets the ends of messages."""
        if position == 0 and self._escaped and piece:
            self._escaped, position = False, 1
        if position < len(piece):
            self.behind_message = False
        while position < len(piece) and len(found) < most:
            if self._in_string:
                position = self._leave_string(piece, position)
                continue
            run = (_inside if self._depth else _outside).match(piece, position)
            assert run is not None
            position = run.end() + 1
            if position > len(piece):
                break
            byte = piece[position - 1]
            if byte == _COMMA:
                found.append(position)
                self.behind_message = position == len(piece)
            elif byte == _QUOTE:
                self._in_string = True
            elif byte in _OPENING:
                self._depth += 1
            else:
                self._depth = max(0, self._depth - 1)

    def _leave_string(self, piece: bytes, position: int) -> int:
        """Skip a string up to its end, or that of the piece."""
        run = _in_string.match(piece, position)
        assert run is not None
        position = run.end()
        if position < len(piece):
            self._escaped = piece[position] != _QUOTE  # else a backslash, the last of its piece
            self._in_string = self._escaped
        return position + 1


def _wire_bytes(message: msgspec.Raw) -> int:
    return len(message) + 1


def positions(pieces: Iterable[bytes]) -> Iterator[int]:
    """Yield where each message of wire bytes ends, its comma included."""
    borders, begin = Borders(), 0
    for piece in pieces:
        for position in borders.feed(piece):
            yield begin + position
        begin += len(piece)


def first_border(text: bytes, begin: int) -> int:
    """Where the message that begins at a position ends, behind its comma; or the text's end."""
    borders = Borders()
    found: list[int] = []
    for at in range(begin, len(text), _SLICE_BYTES):
        borders.scan(text[at : at + _SLICE_BYTES], 0, found, most=1)
        if found:
            return at + found[0]
    return len(text)


def ends_message(pieces: Iterable[bytes]) -> bool:
    """Whether wire bytes that begin with a message end behind one."""
    borders = Borders()
    for piece in pieces:
        borders.feed(piece)
    return borders.behind_message
