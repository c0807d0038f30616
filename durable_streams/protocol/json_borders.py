"""Where the messages of a JSON stream end, found in its wire bytes as they come.

On the wire every message is followed by a comma.  Inside a message commas stand within brackets or
strings only, so telling the two apart takes no more than the depth of the brackets.  Nothing is
parsed into objects, no nesting recurses, and each byte is looked at a bounded number of times.
"""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

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

_SLICE_BYTES: Final = 64 * 1024  # so that there are never many positions at a time
_QUOTE, _COMMA = b'",'
_OPENING: Final = frozenset(b"[{")


class Borders:
    """Finds the ends of messages in wire bytes that begin with a message and come in pieces."""

    __slots__ = ("_depth", "_escaped", "_in_string")

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def feed(self, piece: bytes) -> list[int]:
        """Return the positions in the next piece behind each comma that ends a message."""
        found: list[int] = []
        position = 0
        if self._escaped and piece:
            self._escaped, position = False, 1
        while position < len(piece):
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
            elif byte == _QUOTE:
                self._in_string = True
            elif byte in _OPENING:
                self._depth += 1
            else:
                self._depth = max(0, self._depth - 1)
        return found

    def _leave_string(self, piece: bytes, position: int) -> int:
        """Skip a string up to its end, or that of the piece."""
        run = _in_string.match(piece, position)
        assert run is not None
        position = run.end()
        if position < len(piece):
            self._escaped = piece[position] != _QUOTE  # else a backslash, the last of its piece
            self._in_string = self._escaped
        return position + 1


def positions(wire: bytes) -> Iterator[int]:
    """Yield where each message of wire bytes ends, its comma included."""
    borders = Borders()
    for begin in range(0, len(wire), _SLICE_BYTES):
        for position in borders.feed(wire[begin : begin + _SLICE_BYTES]):
            yield begin + position


def ends_message(wire: bytes) -> bool:
    """Whether wire bytes that begin with a message end behind one."""
    last = deque(positions(wire), maxlen=1)
    return bool(last) and last[0] == len(wire)
