"""aiohttp's parser, with a bound on the whole head of a request.

aiohttp bounds each header and how many there are, which together is more than a megabyte.  Here the
parser is given no more than ``MAX_HEAD_BYTES`` of a head: what is longer fails before its memory is
taken.  The same bound holds for the trailers of a body, and for whatever else brings neither a
request nor a byte of a body.

A head that begins in the middle of what was read, behind another request, is measured when it is
whole, without the spaces around its values; until then it may be longer by what one read brings.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Final

from aiohttp.http_exceptions import HttpProcessingError

from durable_streams.settings import KIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import StreamReader
    from aiohttp.http import HttpRequestParser, RawRequestMessage

    _Messages = Sequence[tuple[RawRequestMessage, StreamReader]]

MAX_HEAD_BYTES: Final = 64 * KIB
"""Of a request: its first line and all its headers, with their line ends and the empty line."""

MAX_AHEAD: Final = 2
"""Requests parsed ahead on a connection that pipelines: each may have a head as large as that."""

_FIRST_AND_EMPTY_LINE_BYTES: Final = len("  HTTP/1.1\r\n\r\n")
_BETWEEN_BYTES: Final = len(": \r\n")


class HeadTooLong(HttpProcessingError):
    """The head of a request, or what follows its body, is longer than ``MAX_HEAD_BYTES``."""


class BoundedParser:
    """What a connection of aiohttp's uses of its parser, within the bound.

    ``error``: what ended it.  ``waiting``: how many requests it gave, the error being one, that
    are not under way yet.
    """

    __slots__ = ("_body", "_parser", "_silent_bytes", "error", "waiting")

    def __init__(self, parser: HttpRequestParser) -> None:
        self._parser = parser
        self._body: StreamReader | None = None
        self._silent_bytes = 0  # since the parser last gave a request, or bytes of a body
        self.error: HttpProcessingError | None = None
        self.waiting = 0

    @property
    def body(self) -> StreamReader | None:
        """The body whose rest comes next, if there is one."""
        body = self._body
        return None if body is None or body.is_eof() else body

    @property
    def is_in_head(self) -> bool:
        """Whether a head has begun and is not whole."""
        return self._silent_bytes > 0 and self.body is None

    def feed_data(self, data: bytes) -> tuple[_Messages, bool, bytes]:
        """Parse as aiohttp's parser does, within the bounds."""
        try:
            parsed = self._feed_bounded(data)
        except HttpProcessingError as error:
            self.error = error
            self.waiting += 1
            raise
        self.waiting += len(parsed[0])
        return parsed

    def _feed_bounded(self, data: bytes) -> tuple[_Messages, bool, bytes]:
        """Parse; :class:`HeadTooLong` beyond the bound."""
        messages: list[tuple[RawRequestMessage, StreamReader]] = []
        while True:
            room = MAX_HEAD_BYTES - self._silent_bytes
            if data and room <= 0:
                raise HeadTooLong
            is_whole = len(data) <= room or self.body is not None
            found, upgraded, tail = self._feed(data if is_whole else data[:room])
            if is_whole and not messages:
                return found, upgraded, tail
            messages += found
            data = b"" if is_whole else data[room:]
            if upgraded or not data:
                return messages, upgraded, tail + data

    def _feed(self, data: bytes) -> tuple[_Messages, bool, bytes]:
        body = self.body
        before_bytes = 0 if body is None else body.total_bytes
        parsed = self._parser.feed_data(data)
        messages = parsed[0]
        if messages:
            for message, _ in messages:
                if _head_bytes(message) > MAX_HEAD_BYTES:
                    raise HeadTooLong
            self._body = messages[-1][1]
            self._silent_bytes = 0
        elif body is not None and (body.is_eof() or body.total_bytes > before_bytes):
            self._silent_bytes = 0
        else:
            self._silent_bytes += len(data)
        return parsed

    def message_consumed(self) -> None:
        """One more may be parsed ahead."""
        self.waiting -= 1
        self._parser.message_consumed()

    def pause_reading(self) -> None:
        """Parse no more of a body for now."""
        self._parser.pause_reading()

    def set_upgraded(self, upgraded: bool) -> None:
        """Go on with HTTP, or not."""
        self._parser.set_upgraded(upgraded)


def _head_bytes(message: RawRequestMessage) -> int:
    headers = message.raw_headers
    fields = sum(map(len, chain.from_iterable(headers))) + len(headers) * _BETWEEN_BYTES
    return len(message.method) + len(message.path) + fields + _FIRST_AND_EMPTY_LINE_BYTES
