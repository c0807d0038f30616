"""Sending: the only module that touches a transport.

Handlers describe an answer (a reply with bytes, a reply with slices of files, a stream of
events); this module puts it on the wire.

* A reply with its body in memory goes out in ONE write, head and body together.
* Slices of files go out by ``sendfile`` on a duplicate of the socket's descriptor, at most
  1 MiB per call, and only once the transport's own buffer is empty; plain copying replaces it
  on TLS and where it is missing.
* Events are written as they come; whoever writes them looks at ``paused`` first, so that a
  reader never has more than a bounded buffer here.

A client that takes no bytes for ``stall_timeout_s`` is cut off.  Once a head is out there is no
error answer any more: whatever goes wrong then aborts the connection and raises
:class:`ConnectionError`, so that the client sees a cut-off answer, never a wrong one.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from collections import deque
from contextlib import contextmanager
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web

from durable_streams.http import files
from durable_streams.protocol.replies import COMMON
from durable_streams.settings import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from aiohttp.abc import AbstractStreamWriter

    from durable_streams.protocol.replies import BodyPlan, Reply
    from durable_streams.results import FileSlice

MAX_SENDFILE_BYTES: Final = MIB
"""Of one ``sendfile`` call, which copies on the event loop: about 0.3 ms."""

SENDFILES_PER_TURN: Final = 4
"""Of all readers together, in one turn of the event loop, which they hold up for about 1 ms."""

HIGH_WATER_BYTES: Final = 64 * KIB
LOW_WATER_BYTES: Final = 16 * KIB
"""When a transport says that it is full, and when that it has room again (uvloop's own low-water
mark is 16 bytes, which wakes writers for nothing)."""

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
_NO_SENDFILE: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
_LAST_CHUNK: Final = b"0\r\n\r\n"

logger = logging.getLogger("durable_streams")


class Sender:
    """What the answers of one server share: the clock of ``Date`` and the stall timeout.

    ``closing``: the server is going down, so every answer ends its connection.
    """

    def __init__(self, *, stall_timeout_s: float, clock: Callable[[], float] = time.time) -> None:
        self.stall_timeout_s = stall_timeout_s
        self.closing = False
        self._turns = _Turns()
        self._clock = clock
        self._date_s = -1
        self._date = ""

    @property
    def date(self) -> str:
        """The ``Date`` of an answer sent now, made once a second."""
        now_s = int(self._clock())
        if now_s != self._date_s:
            self._date_s = now_s
            self._date = formatdate(now_s, usegmt=True)
        return self._date

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
        lines.append(f"Date: {self.date}\r\n")
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
            await _send_parts(connection, (*plan.parts, plan.suffix), self._turns)
            await connection.drain()
        return answer

    async def open_events(self, request: web.BaseRequest, reply: Reply) -> EventStream:
        """Begin an answer without length; nothing is sent before its first write."""
        return await EventStream.open(self, request, reply)


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

    def begin(self, body: bytes = b"") -> _Connection:
        """Write the head and the first bytes of the body; the caller sends the rest."""
        request = self._req
        assert request is not None
        self._eof_sent = True
        if self.status in _BODILESS or request.method == "HEAD":
            body = b""
        connection = _Connection(request, self._sender.stall_timeout_s)
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
        lines.append(f"Date: {self._sender.date}\r\n")
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


class EventStream:
    """An answer of unknown length: chunks in HTTP/1.1, until the connection ends in HTTP/1.0.

    The connection is closed after it, as the protocol asks of event streams (§5.8).
    """

    __slots__ = ("_connection", "_protocol", "answer", "chunked")

    def __init__(self, answer: Answer, request: web.BaseRequest) -> None:
        self.answer = answer
        self.chunked = answer.headers.get("Transfer-Encoding") == "chunked"
        self._protocol = request.protocol
        self._connection: _Connection | None = None

    @classmethod
    async def open(cls, sender: Sender, request: web.BaseRequest, reply: Reply) -> EventStream:
        """Prepare the answer to ``request``."""
        answer = Answer(sender, reply)
        answer.length_bytes = None
        answer.force_close()
        if request.version >= (1, 1):
            answer.headers["Transfer-Encoding"] = "chunked"
        await answer.prepare(request)
        return cls(answer, request)

    def frame(self, data: bytes) -> bytes:
        """Return ``data`` as this stream sends it; streams with equal ``chunked`` may share it."""
        return b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data

    def push(self, framed: bytes) -> bool:
        """Send framed bytes if there is room; False if not, or if the client has gone."""
        transport = self._protocol.transport
        if transport is None or self._protocol.writing_paused:
            return False
        transport.write(framed)
        return True

    async def write(self, framed: bytes) -> None:
        """Send framed bytes, the first time with the head, and wait until there is room."""
        if self._connection is None:
            self._connection = self.answer.begin(framed)
        else:
            self._connection.write(framed)
        await self.drain()

    async def drain(self) -> None:
        """Wait until there is room; cut the connection off if there is none in time."""
        if self._connection is not None:
            await self._connection.drain()

    async def finish(self) -> None:
        """End the answer cleanly."""
        await self.write(_LAST_CHUNK if self.chunked else b"")

    @contextmanager
    def cut_off_on_failure(self) -> Iterator[None]:
        """Cut the connection off if a failure leaves no clean end; before the head it does."""
        try:
            yield
        except BaseException:
            if self._connection is None:
                raise
            with self._connection.cut_off_on_failure():
                raise


class _Connection:
    """The transport of one request, with bounded buffers and bounded patience."""

    def __init__(self, request: web.BaseRequest, stall_timeout_s: float) -> None:
        self.request = request
        self.stall_timeout_s = stall_timeout_s
        self._protocol = request.protocol
        self._writer = request.writer

    @property
    def transport(self) -> asyncio.Transport:
        """The transport; :class:`ConnectionResetError` if the client has gone."""
        transport = self._protocol.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has gone")
        return transport

    @property
    def paused(self) -> bool:
        """Whether the transport is full."""
        return self._protocol.writing_paused

    def check(self) -> None:
        """Raise :class:`ConnectionResetError` if the client has gone."""
        _ = self.transport

    def write(self, data: bytes) -> None:
        self.transport.write(data)
        self._writer.output_size += len(data)

    async def drain(self) -> None:
        """Wait for room in the transport's buffer; it is empty if the marks are zero."""
        if not self.paused:
            return
        try:
            async with asyncio.timeout(self.stall_timeout_s):
                await self._writer.drain()
        except TimeoutError:
            raise self.stalled() from None

    def stalled(self) -> ConnectionResetError:
        """Cut off a client that takes nothing, and return the error that says so."""
        logger.warning(
            "dropped a reader that took nothing for %g s",
            self.stall_timeout_s,
            extra={"path": self.request.raw_path, "peer": self.request.remote},
        )
        self.abort()
        return ConnectionResetError("the client takes no data")

    def abort(self) -> None:
        transport = self._protocol.transport
        if transport is not None:
            transport.abort()

    @contextmanager
    def cut_off_on_failure(self) -> Iterator[None]:
        """Abort on any failure; what is not the client's is logged and turned into its going."""
        try:
            yield
        except (ConnectionError, asyncio.CancelledError):
            self.abort()
            raise
        except Exception as error:
            logger.error(
                "cut off an answer: %s",
                error,
                extra={"path": self.request.raw_path},
                exc_info=None if isinstance(error, OSError | EOFError) else error,
            )
            self.abort()
            raise ConnectionResetError("the answer was cut off") from error


def send_continue(request: web.BaseRequest) -> None:
    """Tell a client that waits for it to send its body (RFC 9110 §10.1.1)."""
    connection = _Connection(request, 0)
    connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def send_unasked(transport: asyncio.Transport, sender: Sender, reply: Reply) -> None:
    """Send a reply nobody has asked for yet, and nothing after it."""
    transport.write(sender.whole(reply, last=True))
    if transport.can_write_eof():
        transport.write_eof()


def bound_buffers(transport: asyncio.Transport) -> None:
    """Set the marks between which a transport is full and has room again."""
    transport.set_write_buffer_limits(high=HIGH_WATER_BYTES, low=LOW_WATER_BYTES)


class _Turns:
    """Lets a few slices go per turn of the event loop: hundreds of readers hold up nobody else."""

    def __init__(self) -> None:
        self._left = SENDFILES_PER_TURN
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._counting = False

    async def take(self) -> None:
        """Return when it is the caller's turn; first come, first served."""
        loop = asyncio.get_running_loop()
        if not self._counting:
            self._counting = True
            loop.call_soon(self._next, loop)
        if self._left and not self._waiting:
            self._left -= 1
            return
        waiter = loop.create_future()
        self._waiting.append(waiter)
        await waiter

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        self._left = SENDFILES_PER_TURN
        while self._left and self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                self._left -= 1
        self._counting = self._left < SENDFILES_PER_TURN
        if self._counting:
            loop.call_soon(self._next, loop)


async def _send_parts(
    connection: _Connection, parts: Iterable[bytes | FileSlice], turns: _Turns
) -> None:
    pipe: _FilePipe | None = None
    try:
        for part in parts:
            if isinstance(part, bytes):
                connection.write(part)
                await connection.drain()
            else:
                pipe = pipe or _FilePipe(connection, turns)
                await pipe.send(part)
    finally:
        if pipe is not None:
            pipe.close()


class _FilePipe:
    """Sends file slices into one connection, past the transport where that is possible."""

    def __init__(self, connection: _Connection, turns: _Turns) -> None:
        self._connection = connection
        self._turns = turns
        self._loop = asyncio.get_running_loop()
        transport = connection.transport
        socket = transport.get_extra_info("socket")
        encrypted = transport.get_extra_info("sslcontext") is not None
        usable = hasattr(os, "sendfile") and socket is not None and not encrypted
        self._socket: int | None = os.dup(socket.fileno()) if usable else None
        if usable:
            # Lowest marks: a drain now means that the buffer is empty, and the slice is next.
            transport.set_write_buffer_limits(high=0, low=0)

    def close(self) -> None:
        """Give the duplicate back; what was sent stays sent."""
        if self._socket is not None:
            os.close(self._socket)
            self._socket = None
        transport = self._connection.request.transport
        if transport is not None:
            bound_buffers(transport)

    async def send(self, part: FileSlice) -> None:
        """Send one slice; :class:`EOFError` if the file is shorter than that."""
        position, end = part.position, part.position + part.size
        warm_until = position
        file = part.file.fileno()
        while position < end:
            size = min(end - position, MAX_SENDFILE_BYTES)
            if position >= warm_until:
                await files.warm(file, position, size)
                warm_until = position + size
            await self._connection.drain()
            await self._turns.take()
            sent = await self._send_some(file, position, min(size, warm_until - position))
            if sent is not None:
                position += sent

    async def _send_some(self, file: int, position: int, size: int) -> int | None:
        """Send up to ``size`` bytes and return how many; None: nothing yet, try again."""
        if self._socket is None:
            data = os.pread(file, min(size, files.READ_BYTES), position)
            self._connection.write(data)
            sent = len(data)
        else:
            try:
                self._connection.check()  # the duplicate outlives the connection
                sent = os.sendfile(self._socket, file, position, size)
            except BlockingIOError:
                await self._writable(self._socket)
                return None
            except OSError as error:
                if error.errno not in _NO_SENDFILE:
                    raise
                os.close(self._socket)
                self._socket = None
                return None
        if not sent:
            raise EOFError(f"a file ends at {position}, before the slice to be sent does")
        return sent

    async def _writable(self, socket: int) -> None:
        ready = self._loop.create_future()
        self._loop.add_writer(socket, _resolve, ready)
        try:
            async with asyncio.timeout(self._connection.stall_timeout_s):
                await ready
        except TimeoutError:
            raise self._connection.stalled() from None
        finally:
            self._loop.remove_writer(socket)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
