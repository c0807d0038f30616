"""Noticing that a client has gone, and telling it from one that only sends no more.

A client may end its side of the connection and wait for answers all the same (``shutdown``, a FIN;
``nc -N`` does so).  What it has sent whole is then carried out and answered, if that needs no
waiting for news, and the connection ends.  Whoever waits for news, by long-poll or event stream,
keeps its side open: for those a FIN means that the client has gone, whatever it has sent behind.
So it does for a write while all writes wait for the disk: nobody works for clients that gave up.
With TLS it always does: neither event loop can send on a connection that one side has ended.

A connection that is closed stays until its client has taken what it was sent, however little that
is; a transport waits for ever.  Here it has ``stall_timeout_s`` from then on, whoever closes it.

In an application the connections are aiohttp's own.  It ends one at a FIN, and cancels a handler
whose client goes away only if the server was made with ``handler_cancellation=True``; a reader that
waits would else stay for nothing.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from durable_streams.http.aiohttp_private import Internals, called_when_gone
from durable_streams.settings import KIB

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BEHIND_BYTES: Final = 16 * KIB
"""What may come behind a request that is being answered.  Then no more is read; but behind a live
read the rest is read and dropped, and the connection ends with the answer, so that it shows if the
client leaves."""


class BodyCutOff(web.RequestPayloadError, TimeoutError):
    """The client sends no more, and a body is not whole.

    It is a ``TimeoutError`` for aiohttp: while it drops what comes of a refused body, that ends it.
    """


class PresenceConnection(Internals):
    """A connection that notices when its client has gone, or sends no more.

    ``request``: what the handler is given.  ``is_answering``: from then until the answer is out.
    ``sends_no_more``: a FIN came.  ``_waits``: a live read is under way, and ``_behind`` what came
    meanwhile, unless it was too much and ``_dropped``.  ``_ending``: cuts off what is being closed.
    ``handed``: what another front has found out about the request that comes next.
    """

    __slots__ = (
        "_behind",
        "_dropped",
        "_ending",
        "_stall_timeout_s",
        "_waits",
        "handed",
        "is_answering",
        "request",
        "sends_no_more",
    )

    def __init__(
        self,
        server: web.Server,
        *,
        stall_timeout_s: float,
        **settings: Any,  # noqa: ANN401 - aiohttp's
    ) -> None:
        super().__init__(server, **settings)
        self._stall_timeout_s = stall_timeout_s
        self._ending: asyncio.TimerHandle | None = None
        self.handed: Any = None
        self.request: web.BaseRequest | None = None
        self.is_answering = False
        self.sends_no_more = False
        self._waits = False
        self._behind = b""
        self._dropped = False

    async def start(self) -> None:
        """Serve requests; the connection is closed behind the last answer, in bounded time."""
        try:
            await super().start()
        finally:
            self._limit_end()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection has ended."""
        super().connection_lost(exc)  # which closes it once more
        if self._ending is not None:
            self._ending.cancel()

    def force_close(self) -> None:
        """Close the connection, in bounded time."""
        self._limit_end()  # aiohttp forgets the transport
        super().force_close()

    def _limit_end(self) -> None:
        """The connection is being closed: give the client its time to take what it was sent."""
        transport = self.transport
        # With TLS the size says nothing of what waits below, in the socket's own transport.
        is_slow = transport is not None and (
            self.ssl_context is not None or transport.get_write_buffer_size()
        )
        if transport is not None and is_slow and self._ending is None:
            self._ending = self.loop.call_later(self._stall_timeout_s, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Parse what came, or keep it while a live read is under way."""
        if self._waits and data:
            self._keep_behind(data)
        else:
            super().data_received(data)

    def eof_received(self) -> bool:  # type: ignore[override] # aiohttp's says None, asyncio's may
        """No more will come: whether the connection stays, as the client may wait for answers."""
        self.sends_no_more = True
        is_over = self.is_closing or self.has_to_wait() or self.is_at_rest()
        if self.transport is None or is_over or self.ssl_context is not None:
            self._limit_end()
            return False
        self.end_input()
        return True

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer; if it was the last that the client can wait for, end the connection."""
        sent = await super().finish_response(request, resp, start_time)
        self.is_answering = False
        if self._dropped or (self.sends_no_more and not self.has_more()):
            sent[0].force_close()
        return sent

    def has_to_wait(self) -> bool:
        """Whether the request under way waits for something that may never come."""
        return self._waits

    def has_more(self) -> bool:
        """Whether another request has come, behind the one that is under way."""
        return self.bounded is not None and self.bounded.waiting > 0

    def is_at_rest(self) -> bool:
        """Whether no request is under way."""
        return self.awaits_request()

    @contextmanager
    def live_read(self) -> Iterator[None]:
        """Wait for news; :class:`ConnectionResetError` if the client has sent its last before."""
        if self.sends_no_more:
            raise ConnectionResetError("the client has gone")
        transport = self.transport
        is_held = transport is not None and not transport.is_reading()
        if is_held:
            self.resume_transport()
        self._waits = True
        try:
            yield
        finally:
            self._waits = False
            behind, self._behind = self._behind, b""
            if is_held:
                self.pause_transport()
            if behind and self.transport is not None:
                self.data_received(behind)

    def pause_transport(self) -> None:
        """Read nothing more for now."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_transport(self) -> None:
        """Read on."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def _keep_behind(self, data: bytes) -> None:
        if self._dropped:
            return
        self._behind += data
        if len(self._behind) > MAX_BEHIND_BYTES:
            self._behind = b""
            self._dropped = True

    def end_input(self) -> None:
        """All that will come was parsed: fail what is not whole, and end when all is answered."""
        body = None if self.bounded is None else self.bounded.body
        if body is not None:
            body.set_exception(BodyCutOff("the client ended it early"))
            body.feed_eof()
        # An answer that is out already lets aiohttp wait for the next request, a turn from now.
        self.loop.call_soon(self._close_at_rest)

    def _close_at_rest(self) -> None:
        if self.transport is not None and self.is_at_rest():
            self.force_close()


@contextmanager
def cancelled_when_gone(request: web.BaseRequest) -> Iterator[None]:
    """Cancel the current task as soon as the client of ``request`` has gone.

    :class:`ConnectionResetError` if it has already.
    """
    connection = request.protocol
    if not connection.connected:
        raise ConnectionResetError("the client has gone")
    if isinstance(connection, PresenceConnection):
        with connection.live_read():
            yield
        return
    task = asyncio.current_task()
    assert task is not None
    with called_when_gone(request, task.cancel):
        yield
