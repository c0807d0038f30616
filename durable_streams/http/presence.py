"""Noticing that a client has gone, and telling it from one that only sends no more.

A client may end its side of the connection and wait for answers all the same (``shutdown``, a FIN;
``nc -N`` does so).  What it has sent whole is then carried out and answered, if that needs no
waiting for news, and the connection ends.  Whoever waits for news, by long-poll or event stream,
keeps its side open: for those a FIN means that the client has gone, whatever it has sent behind.
So it does for a write while all writes wait for the disk: nobody works for clients that gave up.

A connection that is closed stays until its client has taken what it was sent, however little that
is; a transport waits for ever.  Here it has ``stall_timeout_s`` from then on, whoever closes it.

In an application the connections are aiohttp's own.  It ends one at a FIN, and cancels a handler
whose client goes away only if the server was made with ``handler_cancellation=True``; a reader that
waits would else stay for nothing.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import web

from durable_streams.settings import KIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable_streams.http.bounded_parser import BoundedParser

MAX_BEHIND_BYTES: Final = 16 * KIB
"""What may come behind a request that is being answered.  Then no more is read; but behind a live
read the rest is read and dropped, and the connection ends with the answer, so that it shows if the
client leaves."""


class BodyCutOff(web.RequestPayloadError, TimeoutError):
    """The client sends no more, and a body is not whole.

    It is a ``TimeoutError`` for aiohttp: while it drops what comes of a refused body, that ends it.
    """


class PresenceConnection(web.RequestHandler):
    """A connection that notices when its client has gone, or sends no more.

    ``sends_no_more``: a FIN came.  ``_waits``: a live read is under way, and ``_behind`` what came
    meanwhile, unless it was too much and ``_dropped``.  ``_ending``: cuts off what is being closed.
    """

    __slots__ = ("_behind", "_dropped", "_ending", "_stall_timeout_s", "_waits", "sends_no_more")

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
        self.sends_no_more = False
        self._waits = False
        self._behind = b""
        self._dropped = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let aiohttp serve the connection; it closes it behind the last answer."""
        super().connection_made(transport)
        task = self._task_handler
        assert task is not None
        task.add_done_callback(self._limit_end)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection has ended."""
        super().connection_lost(exc)  # which closes it once more
        if self._ending is not None:
            self._ending.cancel()

    def force_close(self) -> None:
        """Close the connection, in bounded time."""
        self._limit_end()  # aiohttp forgets the transport
        super().force_close()

    def _limit_end(self, _: object = None) -> None:
        """The connection is being closed: give the client its time to take what it was sent."""
        transport = self.transport
        if transport is not None and self._ending is None and transport.get_write_buffer_size():
            self._ending = self._loop.call_later(self._stall_timeout_s, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Parse what came, or keep it while a live read is under way."""
        if self._waits and data:
            self._keep_behind(data)
        else:
            super().data_received(data)

    def eof_received(self) -> bool:  # type: ignore[override] # aiohttp's says None, asyncio's may
        """No more will come: whether the connection stays, as the client may wait for answers."""
        self.sends_no_more = True
        if self.transport is None or self._close or self.has_to_wait() or self.is_at_rest():
            self._limit_end()
            return False
        self.end_input()
        return True

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer; if it was the last that the client can wait for, end the connection."""
        sent = await super().finish_response(request, resp, start_time)
        if self._dropped or (self.sends_no_more and not self._messages):
            sent[0].force_close()
        return sent

    def has_to_wait(self) -> bool:
        """Whether the request under way waits for something that may never come."""
        return self._waits

    def is_at_rest(self) -> bool:
        """Whether aiohttp waits for a request, and none is under way."""
        waiter = self._waiter
        return waiter is not None and not waiter.done() and not self._messages

    @contextmanager
    def live_read(self) -> Iterator[None]:
        """Wait for news; :class:`ConnectionResetError` if the client has sent its last before."""
        if self.sends_no_more:
            raise ConnectionResetError("the client has gone")
        is_held = self._buffer_paused or self._reading_paused
        if is_held:
            self._resume_transport_reading()
        self._waits = True
        try:
            yield
        finally:
            self._waits = False
            behind, self._behind = self._behind, b""
            if is_held:
                self._pause_transport_reading()
            if behind and self.transport is not None:
                self.data_received(behind)

    def _keep_behind(self, data: bytes) -> None:
        if self._dropped:
            return
        self._behind += data
        if len(self._behind) > MAX_BEHIND_BYTES:
            self._behind = b""
            self._dropped = True

    def end_input(self) -> None:
        """All that will come was parsed: fail what is not whole, and end when all is answered."""
        parser = cast("BoundedParser | None", self._parser)
        body = None if parser is None else parser.body
        if body is not None:
            body.set_exception(BodyCutOff("the client ended it early"))
            body.feed_eof()
        # An answer that is out already lets aiohttp wait for the next request, a turn from now.
        self._loop.call_soon(self._close_at_rest)

    def _close_at_rest(self) -> None:
        if self.transport is not None and self.is_at_rest():
            self.force_close()


@contextmanager
def cancelled_when_gone(request: web.BaseRequest) -> Iterator[None]:
    """Cancel the current task as soon as the client of ``request`` has gone.

    :class:`ConnectionResetError` if it has already.
    """
    connection = request.protocol
    manager = connection._manager  # noqa: SLF001 - the server, None once disconnected
    if manager is None:
        raise ConnectionResetError("the client has gone")
    if isinstance(connection, PresenceConnection):
        with connection.live_read():
            yield
        return
    if manager.handler_cancellation:
        yield
        return
    task = asyncio.current_task()
    assert task is not None
    aiohttp_cancel = request._cancel  # noqa: SLF001 - what aiohttp calls when the client goes

    def cancel(error: BaseException) -> None:
        aiohttp_cancel(error)
        task.cancel()

    # Past aiohttp's __setattr__, which frowns on new attributes in its debug mode.
    attributes = vars(request)
    attributes["_cancel"] = cancel
    try:
        yield
    finally:
        del attributes["_cancel"]
