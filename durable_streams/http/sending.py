"""Answers on the wire.

A handler describes an answer, a reply with bytes or with slices of files, and :class:`Sender` sends
it: a body in memory in ONE write with its head, slices of files by ``sendfile``.  How much may wait
in a transport, and for how long, is ``flow_control``'s; answers that go on are ``event_stream``'s.
"""

from __future__ import annotations

import time
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web

from durable_streams.http.flow_control import Connection
from durable_streams.http.sendfile import Turns, send_parts
from durable_streams.protocol.replies import COMMON

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from concurrent.futures import Executor

    from aiohttp.abc import AbstractStreamWriter

    from durable_streams.protocol.replies import BodyPlan, Reply

_STATUS_LINES: Final = {
    (minor, status.value): f"HTTP/1.{minor} {status.value} {status.phrase}\r\n"
    for minor in (0, 1)
    for status in HTTPStatus
}
_STATUS_AND_COMMON: Final = {
    status.value: _STATUS_LINES[1, status.value]
    + "".join(f"{name}: {value}\r\n" for name, value in COMMON)
    for status in HTTPStatus
}
_BODILESS: Final = frozenset({204, 304})


class Sender:
    """What the answers of one server share: the clock of ``Date`` and the stall timeout.

    ``closing``: the server is going down, so every answer ends its connection.
    """

    def __init__(
        self,
        *,
        stall_timeout_s: float,
        clock: Callable[[], float] = time.time,
        executor: Executor | None = None,
    ) -> None:
        self.stall_timeout_s = stall_timeout_s
        self.closing = False
        self.turns = Turns(executor)
        self._clock = clock
        self._date_s = -1
        self._date_line = ""

    @property
    def date_line(self) -> str:
        """The line with the ``Date`` of an answer sent now, made once a second."""
        now_s = int(self._clock())
        if now_s != self._date_s:
            self._date_s = now_s
            self._date_line = f"Date: {formatdate(now_s, usegmt=True)}\r\n"
        return self._date_line

    def answer(self, reply: Reply) -> Answer:
        """Return the answer that sends ``reply`` in one write."""
        return Answer(self, reply)

    def whole(self, reply: Reply, *, last: bool = False) -> bytes:
        """Return ``reply`` as :meth:`answer` sends it to a GET or POST of HTTP/1.1.

        ``last``: the connection is closed after it.
        """
        lines = [f"{name}: {value}\r\n" for name, value in reply.headers[len(COMMON) :]]
        if reply.status not in _BODILESS:
            lines.append(f"Content-Length: {len(reply.body)}\r\n")
        lines.append(self.date_line)
        if last or self.closing:
            lines.append("Connection: close\r\n")
        return _head(_STATUS_AND_COMMON[reply.status], lines) + reply.body

    async def send_plan(self, request: web.BaseRequest, reply: Reply, plan: BodyPlan) -> Answer:
        """Send ``reply`` with a body from files; they must stay open until this returns."""
        answer = Answer(self, reply)
        answer.length_bytes = plan.size_bytes
        await answer.prepare(request)
        connection = answer.begin(plan.prefix)
        with connection.cut_off_on_failure():
            await send_parts(connection, (*plan.parts, plan.suffix), self.turns)
            await connection.drain()
        return answer


class Answer(web.StreamResponse):
    """An answer whose head and body leave in one write.

    Its headers are an ordinary ``headers`` mapping until then, so that an application around it
    may add its own.
    """

    def __init__(self, sender: Sender, reply: Reply) -> None:
        super().__init__(status=reply.status, headers=reply.headers)
        self._sender = sender
        self._bytes = reply.body
        self.length_bytes: int | None = len(reply.body)

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Bind the answer to its request; nothing is sent yet."""
        if self.prepared:
            return self._payload_writer
        self._req = request
        self._payload_writer = request.writer
        body = request.content
        if self._sender.closing or not body.is_eof() or body.exception() is not None:
            # What is left of a body would be taken for the next request.
            self._keep_alive = False
        elif self._keep_alive is None:
            self._keep_alive = request.keep_alive
        await request._prepare_hook(self)  # noqa: SLF001 - the application's on_response_prepare
        return self._payload_writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Send everything, unless it was sent already."""
        if self._eof_sent:
            return
        connection = self.begin(self._bytes + data)
        if connection.paused:
            await connection.drain()

    def begin(self, body: bytes = b"") -> Connection:
        """Write the head and the first bytes of the body; the caller sends the rest."""
        request = self._req
        assert request is not None
        self._eof_sent = True
        if self.status in _BODILESS or request.method == "HEAD":
            body = b""
        connection = Connection(request, self._sender.stall_timeout_s)
        self._body_length = self.length_bytes or 0
        connection.write(self._head(request) + body)
        return connection

    def _head(self, request: web.BaseRequest) -> bytes:
        minor = 1 if request.version >= (1, 1) else 0
        lines = [f"{name}: {value}\r\n" for name, value in self._headers.items()]
        length = self.length_bytes
        # The length of what HEAD leaves out is known for errors, not for streams.
        has_length = length if request.method == "HEAD" else length is not None
        if has_length and self.status not in _BODILESS:
            lines.append(f"Content-Length: {length}\r\n")
        lines.append(self._sender.date_line)
        if not self._keep_alive:
            lines.append("Connection: close\r\n")
        elif not minor:
            lines.append("Connection: keep-alive\r\n")
        return _head(_STATUS_LINES[minor, self.status], lines)


def _head(begin: str, lines: list[str]) -> bytes:
    """Join a head; :class:`ValueError` if a value would begin a line of its own."""
    fields = "".join(lines)
    if fields.count("\n") != len(lines) or fields.count("\r") != len(lines):
        raise ValueError("a line break in a response header")
    return f"{begin}{fields}\r\n".encode("utf-8", "surrogateescape")


def send_continue(request: web.BaseRequest) -> None:
    """Tell a client that waits for it to send its body (RFC 9110 §10.1.1)."""
    connection = Connection(request, 0)
    connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def send_unasked(transport: asyncio.Transport, sender: Sender, reply: Reply) -> None:
    """Send a reply nobody has asked for yet, and nothing after it."""
    transport.write(sender.whole(reply, last=True))
    if transport.can_write_eof():
        transport.write_eof()
