"""Server-sent events, decoded from bytes in whatever pieces they come (the SSE specification).

Lines end with CRLF, CR or LF; an empty line ends an event; one space behind the colon is not part
of the value.  An event that the connection cuts off never was.  Nothing is held but the lines of
the event under way, which is bounded.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from durable_streams.client.bodies import ANSWER_BYTES
from durable_streams.model.errors import UnexpectedAnswer

if TYPE_CHECKING:
    from collections.abc import Iterator

_LINE_END: Final = re.compile(rb"\r\n?|\n")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """A whole event; ``data`` has LF between its lines."""

    kind: str
    data: bytes
    id: str | None


class Decoder:
    """The events of one connection, given what arrives of it."""

    __slots__ = (
        "_begun",
        "_data",
        "_has_data",
        "_id",
        "_kind",
        "_limit",
        "_line",
        "_size",
        "_skip",
    )

    def __init__(self, limit_bytes: int = ANSWER_BYTES) -> None:
        self._limit = limit_bytes
        self._line = bytearray()  # what there is of a line that has not ended
        self._skip = False  # the last byte was a CR: an LF now belongs to it
        self._begun = False
        self._reset()

    def _reset(self) -> None:
        self._kind = ""
        self._data = bytearray()  # as lines may be of a byte each
        self._has_data = False
        self._id: str | None = None
        self._size = 0

    def feed(self, piece: bytes) -> Iterator[Event]:
        """The events that end in the next piece; ``UnexpectedAnswer`` for one that is too large."""
        if not piece:
            return
        if self._skip:
            piece = piece.removeprefix(b"\n")
        begin = 0
        for end in _LINE_END.finditer(piece):
            event = self._take(piece[begin : end.start()])
            begin = end.end()
            if event is not None:
                yield event
        self._skip = piece.endswith(b"\r")
        self._hold(piece[begin:])

    def _hold(self, piece: bytes) -> None:
        if piece:
            self._line += piece
            self._grow(len(piece))

    def _grow(self, size_bytes: int) -> None:
        self._size += size_bytes
        if self._size > self._limit:
            raise UnexpectedAnswer(
                f"an event has more than {self._limit} bytes: if that may be, give the client more "
                "(answer_bytes); else see what the URL is of"
            )

    def _take(self, rest: bytes) -> Event | None:
        """A line has ended, ``rest`` with it; the event, if that was the last one of it."""
        self._grow(len(rest))
        line = rest
        if self._line:
            line = bytes(self._line) + rest
            self._line.clear()
        if not self._begun:
            self._begun = True
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            return self._end()
        name, _, value = line.partition(b":")
        if value[:1] == b" ":
            value = value[1:]
        match name:
            case b"data":
                if self._has_data:
                    self._data += b"\n"
                self._data += value
                self._has_data = True
            case b"event":
                self._kind = value.decode(errors="replace")
            case b"id" if b"\0" not in value:
                self._id = value.decode(errors="replace")
            case b"":
                self._size -= len(line)  # a comment, of which there may be any number
            case _:
                pass
        return None

    def _end(self) -> Event | None:
        """The event that an empty line ends; none if it has no data, which is no event."""
        has_data = self._has_data
        event = Event(self._kind or "message", bytes(self._data), self._id)
        self._reset()
        return event if has_data else None
