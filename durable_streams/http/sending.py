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

from durable_streams.http.aiohttp_private import prepare_hook
from durable_streams.http.flow_control import Connection
from durable_streams.http.sendfile import send_parts
from durable_streams.http.turns import Turns
from durable_streams.wire.replies import has_no_body, told_length

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from aiohttp.abc import AbstractStreamWriter

    from durable_streams.wire.replies import BodyPlan, Common, Reply

_STATUS_LINES: Final = {
    (minor, status.value): f"HTTP/1.{minor} {status.value} {status.phrase}\r\n"
    for minor in (0, 1)
    for status in HTTPStatus
}
_CLOSE: Final = "Connection: close\r\n"
_KEEP_ALIVE: Final = "Connection: keep-alive\r\n"


class Sender:
    """What the answers of one server share: the clock of ``Date`` and the stall timeout.

    ``closing``: the server is going down, so every answer ends its connection.
    """

    def __init__(self, *, stall_timeout_s: float, clock: Callable[[], float] = time.time) -> None:
        self.stall_timeout_s = stall_timeout_s
        self.closing = False
        self.turns = Turns()
        self._clock = clock
        self._date_s = -1
        self._date_line = ""

    def head(
        self,
        begin: str,
        headers: Iterable[tuple[str, str]],
        length_bytes: int | None,
        connection: str = "",
    ) -> bytes:
        """Return a head, with the date; ``begin`` is the status line and perhaps some headers.

        ``length_bytes`` is that of the body, None if it is not told, and ``connection`` the header
        of that name.  :class:`ValueError` if a value would begin a line of its own.
        """
        now_s = int(self._clock())
        if now_s != self._date_s:
            self._date_s = now_s
            self._date_line = f"Date: {formatdate(now_s, usegmt=True)}\r\n"
        lines = [f"{name}: {value}\r\n" for name, value in headers]
        if length_bytes is not None:
            lines.append(f"Content-Length: {length_bytes}\r\n")
        lines.append(self._date_line)
        if connection:
            lines.append(connection)
        fields = "".join(lines)
        if fields.count("\n") != len(lines) or fields.count("\r") != len(lines):
            raise ValueError("a line break in a response header")
        return f"{begin}{fields}\r\n".encode("utf-8", "surrogateescape")

    def answer(self, reply: Reply, common: Common) -> Answer:
        """Return the answer that sends ``reply`` in one write, with the headers that all have."""
        return Answer(self, reply, common)

    def whole(self, reply: Reply, common: Common, *, last: bool = False) -> bytes:
        """Return ``reply`` as :meth:`answer` sends it to a GET or POST of HTTP/1.1.

        ``last``: the connection is closed after it.
        """
        status, body = reply.status, reply.body
        length_bytes = told_length(status, "GET", len(body))
        connection = _CLOSE if last or self.closing else ""
        begin = _STATUS_LINES[1, status] + common.lines
        return self.head(begin, reply.headers, length_bytes, connection) + body

    async def send_plan(self, request: web.BaseRequest, answer: Answer, plan: BodyPlan) -> None:
        """Send an answer with a body from files; they must stay open until this returns."""
        answer.length_bytes = plan.size_bytes
        await answer.prepare(request)
        connection = answer.begin(plan.prefix)
        with connection.cut_off_on_failure():
            await send_parts(connection, (*plan.parts, plan.suffix), self.turns)
            await connection.drain()


class Answer(web.StreamResponse):
    """An answer whose head and body leave in one write; ``is_out``: they have begun to.

    Its headers are an ordinary ``headers`` mapping until then, so that an application around it
    may add its own.
    """

    def __init__(self, sender: Sender, reply: Reply, common: Common) -> None:
        super().__init__(status=reply.status, headers=common.headers + reply.headers)
        self._sender = sender
        self._bytes = reply.body
        self._request: web.BaseRequest | None = None
        self.is_out = False
        self._head_bytes = 0
        self._stays: bool | None = None
        self.length_bytes: int | None = len(reply.body)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status}{' out' if self.is_out else ''}>"

    @property
    def prepared(self) -> bool:
        """Whether it is bound to a request."""
        return self._request is not None

    @property
    def task(self) -> asyncio.Task[None] | None:
        """That of its connection."""
        return None if self._request is None else self._request.task

    @property
    def keep_alive(self) -> bool | None:
        """Whether its connection goes on; None if that is not decided."""
        return self._stays

    def force_close(self) -> None:
        """End the connection behind it."""
        self._stays = False

    @property
    def body_length(self) -> int:
        """How many bytes its body has, for the log of an application."""
        return (self.length_bytes or 0) if self.is_out else 0

    def sent_bytes(self, request: web.BaseRequest) -> int:
        """How many bytes of its body went out, or will at once, framing included."""
        if self.is_out:
            return request.writer.output_size - self._head_bytes
        return 0 if has_no_body(self.status, request.method) else len(self._bytes)

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Bind the answer to its request; nothing is sent yet."""
        if self.prepared:
            return request.writer
        self._request = request
        body = request.content
        if self._sender.closing or not body.is_eof() or body.exception() is not None:
            # What is left of a body would be taken for the next request.
            self._stays = False
        elif self._stays is None:
            self._stays = request.keep_alive
        await prepare_hook(request, self)
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Send everything, unless it was sent already."""
        if self.is_out:
            return
        connection = self.begin(self._bytes + data)
        if connection.paused:
            await connection.drain()

    def begin(self, body: bytes = b"") -> Connection:
        """Write the head and the first bytes of the body; the caller sends the rest."""
        request = self._request
        assert request is not None
        self.is_out = True
        if has_no_body(self.status, request.method):
            body = b""
        connection = Connection(request, self._sender.stall_timeout_s)
        head = self._head(request)
        self._head_bytes = len(head)
        connection.write(head + body)
        return connection

    def _head(self, request: web.BaseRequest) -> bytes:
        minor = 1 if request.version >= (1, 1) else 0
        length_bytes = told_length(self.status, request.method, self.length_bytes)
        connection = "" if minor else _KEEP_ALIVE
        return self._sender.head(
            _STATUS_LINES[minor, self.status],
            self.headers.items(),
            length_bytes,
            connection if self._stays else _CLOSE,
        )


def send_continue(request: web.BaseRequest) -> None:
    """Tell a client that waits for it to send its body (RFC 9110 §10.1.1)."""
    connection = Connection(request, 0)
    connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def send_unasked(
    transport: asyncio.Transport, sender: Sender, reply: Reply, common: Common
) -> None:
    """Send a reply nobody has asked for yet, and nothing after it."""
    transport.write(sender.whole(reply, common, last=True))
    if transport.can_write_eof():
        transport.write_eof()
