"""Event streams on the wire: an answer that is sent as its events come (:class:`live.Events`).

Whoever writes events looks first whether there is room, so that a reader never has more than a
bounded buffer here.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from durable_streams.http.sending import Answer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp import web

    from durable_streams.http.counters import Counters
    from durable_streams.http.flow_control import Connection
    from durable_streams.http.sending import Sender
    from durable_streams.wire.replies import Common, Reply

_LAST_CHUNK: Final = b"0\r\n\r\n"


class EventStream:
    """An answer of unknown length: chunks in HTTP/1.1, until the connection ends in HTTP/1.0.

    The connection is closed after it, as the protocol asks of event streams (§5.8).
    """

    __slots__ = (
        "_connection",
        "_counters",
        "_protocol",
        "_writer",
        "answer",
        "chunked",
        "pushed_bytes",
    )

    def __init__(self, answer: Answer, request: web.BaseRequest, counters: Counters) -> None:
        self.answer = answer
        self.pushed_bytes = 0  # counted elsewhere once for all pushes: there are very many
        self._counters = counters
        self.chunked = answer.headers.get("Transfer-Encoding") == "chunked"
        self._protocol = request.protocol
        self._writer = request.writer
        self._connection: Connection | None = None

    @classmethod
    async def open(
        cls,
        sender: Sender,
        request: web.BaseRequest,
        reply: Reply,
        common: Common,
        counters: Counters,
    ) -> EventStream:
        """Prepare the answer to ``request``; nothing is sent before the first write."""
        answer = Answer(sender, reply, common)
        answer.length_bytes = None
        answer.force_close()
        if request.version >= (1, 1):
            answer.headers["Transfer-Encoding"] = "chunked"
        await answer.prepare(request)
        return cls(answer, request, counters)

    def frame(self, data: bytes) -> bytes:
        """Return ``data`` as this stream sends it; streams with equal ``chunked`` may share it."""
        return b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data

    def push(self, framed: bytes) -> bool:
        """Send framed bytes if there is room; False if not, or if the client has gone."""
        transport = self._protocol.transport
        if transport is None or self._protocol.writing_paused:
            return False
        transport.write(framed)
        self.pushed_bytes += len(framed)
        return True

    async def write(self, framed: bytes) -> None:
        """Send framed bytes, the first time with the head, and wait until there is room."""
        if self._connection is None:
            self._connection = self.answer.begin(framed)
        else:
            self._connection.write(framed)
        self._counters.sent_bytes += len(framed)
        await self.drain()

    async def drain(self) -> None:
        """Wait until there is room; cut the connection off if there is none in time."""
        if self._connection is not None:
            await self._connection.drain()

    async def finish(self) -> None:
        """End the answer cleanly."""
        await self.write(_LAST_CHUNK if self.chunked else b"")

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Send events meanwhile, and count them.

        A failure that leaves no clean end cuts the connection off; before the head it does.
        """
        self._counters.following.add(self)
        try:
            yield
        except BaseException:
            if self._connection is None:
                raise
            with self._connection.cut_off_on_failure():
                raise
        finally:
            self._counters.following.discard(self)
            self._counters.sent_bytes += self.pushed_bytes
            self._writer.output_size += self.pushed_bytes
