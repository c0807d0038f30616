"""The server as a process of its own: aiohttp's low-level server around the handler.

Beside the stream space it answers health checks (``probes``).  At most ``max_connections`` are
served; one more is told 503 and closed.  What aiohttp cannot parse gets the same headers as every
other answer, and no traceback.

Stopping: live reads end, writes get 503, requests under way get ``shutdown_grace_s`` to finish,
then everything that is left is cut off.  The store is the caller's, to be closed afterwards.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import web
from aiohttp.http import HttpRequestParser

from durable_streams.descriptors import MAX_ARRIVING, spare_for
from durable_streams.http import metrics, probes
from durable_streams.http.bounded_parser import MAX_AHEAD, BoundedParser
from durable_streams.http.counters import BUG
from durable_streams.http.fast_lane import FastLane, LaneConnection
from durable_streams.http.flow_control import bound_buffers
from durable_streams.http.handler import Asking, StreamsHandler
from durable_streams.http.handshakes import HandshakeFailures
from durable_streams.http.heads import ParserLimits
from durable_streams.http.logs import Throttle
from durable_streams.http.malformed import (
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    MAX_TARGET_BYTES,
    parse_error,
)
from durable_streams.http.places import Places
from durable_streams.http.sending import send_unasked
from durable_streams.http.tls import TlsListener
from durable_streams.measuring import counter, gauge
from durable_streams.model.errors import (
    Overloaded,
    RequestTimeout,
    StreamError,
)
from durable_streams.settings import KIB
from durable_streams.wire import replies
from durable_streams.wire.pages import Pages
from durable_streams.wire.urls import split_target

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterable

    from durable_streams.measuring import Family
    from durable_streams.settings import HttpSettings
    from durable_streams.store import Store

READ_BUFFER_BYTES: Final = 64 * KIB
"""Of a body, until whoever reads it takes some."""

_PARSER_LIMITS: Final = ParserLimits(
    max_line_size=MAX_TARGET_BYTES, max_field_size=MAX_HEADER_BYTES, max_headers=MAX_HEADERS
)

LINGER_S: Final = 1.0
"""How long the rest of a refused request is read and dropped, so that the answer gets through."""

WRITES: Final = frozenset({"PUT", "POST", "DELETE"})

BACKLOG: Final = 1024
"""Connections the kernel holds while the loop is busy: thousands of readers may come at once."""

TURNS_TO_BEGIN: Final = 3
"""Of the event loop, until a request that aiohttp was given has begun."""

logger = logging.getLogger("durable_streams")


class HttpServer:
    """Serves one store on some sockets; use :meth:`start` and :meth:`stop`."""

    def __init__(
        self, store: Store, settings: HttpSettings, handler: StreamsHandler | None = None
    ) -> None:
        """``handler``: one with who may ask for what; without it everybody may, but web pages."""
        self._store = store
        self._settings = settings
        self._prefix = settings.prefix.rstrip("/")
        self._handler = handler or StreamsHandler(store, settings, pages_of(settings, is_open=True))
        self._server = BoundedServer(self._handler, self._answer, settings)
        self._runner = web.ServerRunner(self._server, shutdown_timeout=LINGER_S)
        self._tls: TlsListener | None = None
        self._failures = HandshakeFailures()

    async def start(
        self,
        sockets: Iterable[socket.socket],
        context: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        """Accept connections on bound sockets; :class:`OSError` if one cannot listen.

        ``context`` has them speak TLS, but for unix sockets; each asks for its own.
        """
        await self._runner.setup()
        if context is not None:
            patience_s = self._settings.stall_timeout_s
            self._tls = TlsListener(
                context,
                self._server.places,
                self._server,
                refused=self._server.refused,
                failed=self._failures.count,
                shutdown_timeout_s=patience_s,
            )
        self._handler.metrics.sources += [self._server.families, self._failures.families]
        self._handler.metrics.begin()
        # So many are accepted in a turn of the loop; asyncio has one number for two things.
        arriving = spare_for(self._settings.max_connections, MAX_ARRIVING)
        for bound in sockets:
            if self._tls is not None and bound.family != socket.AF_UNIX:
                self._tls.listen(bound, BACKLOG)
                continue
            await web.SockSite(self._runner, bound, backlog=arriving).start()
            bound.listen(BACKLOG)

    def use(self, settings: HttpSettings) -> None:
        """Go on with other settings, which differ in *reloadable* ones only (``model/setting``).

        They count for what is asked from now on, and no connection is closed: where there are more
        than there may be from now on, no other is served until enough of them have ended.
        """
        self._settings = settings
        self._handler.use(settings)
        self._server.use(settings)

    async def stop(self) -> None:
        """Drain, wait for requests under way, close every connection."""
        self._store.drain()
        self._handler.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.shutdown_grace_s):
                await self._finish()
        if self._tls is not None:
            await self._tls.close()
        await self._runner.cleanup()
        await self._server.places.end(LINGER_S)
        self._handler.metrics.end()

    async def _finish(self) -> None:
        """Return when no request is under way."""
        while True:
            if self._server.lane is not None:
                await self._server.lane.finish()
            for _ in range(TURNS_TO_BEGIN):
                await asyncio.sleep(0)
            if not self._handler.active:
                return
            await asyncio.wait(self._handler.active)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path, query = split_target(request.raw_path)
        prefix, handler = self._prefix, self._handler
        if path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] == "/":
            return await handler.handle(request, prefix, path[len(prefix) + 1 :], query)
        if path == metrics.PATH_AT_ROOT:
            return await handler.metrics_for(request, query)
        return await self._answer_other(request, path, query)

    async def _answer_other(
        self, request: web.BaseRequest, path: str, query: str
    ) -> web.StreamResponse:
        handler = self._handler
        asking = Asking(request)
        asked = handler.begin(asking, "other")
        pages = handler.exchange.pages
        common = pages.default
        try:
            common = pages.admit_probe(request.headers)
            reply = handler.way_to_console(asking, path, self._prefix)
            if reply is None:
                below, door = handler.below_control, handler.exchange.door
                may_know = path in probes.PATHS and await below.may_watch(asking, query)
                reply = probes.answer(request.method, path, self._store, door, may_know=may_know)
        except StreamError as error:
            handler.counters.refused(error)
            reply = replies.errors(error)
        called = handler.called(asking, asked)
        answer = handler.sender.answer(reply, common.with_id(called))
        handler.tell(asking, asked, answer)
        return answer


def pages_of(settings: HttpSettings, *, is_open: bool, is_on_loopback: bool = False) -> Pages:
    """Which web pages are welcome to a server.

    ``is_open``: nobody has to say who they are.  ``is_on_loopback``: nobody else can reach it.
    ``ValueError`` if an origin or a host of the settings is none.
    """
    return Pages(
        settings.cors_origin,
        settings.allowed_host,
        any_by_default=not is_open,
        of_this_machine=is_open,
        loopback_hosts=is_open and is_on_loopback,
    )


class BoundedServer(web.Server):
    """aiohttp's server, with our connections and our limits; ``answer`` answers requests."""

    def __init__(
        self,
        handler: StreamsHandler,
        answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        settings: HttpSettings,
    ) -> None:
        super().__init__(self._dispatch, handler_cancellation=True)
        self._answer = answer
        self.handler = handler
        prefix = settings.prefix.rstrip("/")
        self.lane = FastLane(handler, prefix, _PARSER_LIMITS) if settings.fast_lane else None
        self.places = Places(settings.max_connections)
        self.accepted = 0
        self.throttle = Throttle()
        self.use(settings)

    def use(self, settings: HttpSettings) -> None:
        """Take so many connections from now on."""
        self._settings = settings
        self.places.use(settings.max_connections)

    def __call__(self) -> web.RequestHandler:
        """Make the protocol of a new connection."""
        settings = self._settings
        return _Connection(
            self,
            loop=asyncio.get_running_loop(),
            logger=logger,
            access_log=None,
            keepalive_timeout=settings.keepalive_timeout_s,
            lingering_time=LINGER_S,
            read_bufsize=READ_BUFFER_BYTES,
            auto_decompress=False,
            **_PARSER_LIMITS,
        )

    async def _dispatch(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = cast("_Connection", request.protocol)
        connection.request = request
        connection.is_answering = True
        try:
            return await self._answer(request)
        finally:
            connection.request = None

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """A connection is served from now on."""
        super().connection_made(handler, transport)
        self.places.served[handler] = transport
        self.accepted += 1

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        """A connection has ended."""
        super().connection_lost(handler, exc)
        self.places.leave(handler)

    def refused(self) -> Overloaded:
        """Count a connection that is refused; why it is."""
        error = Overloaded(f"too many connections: the limit is {self.places.limit}")
        self.handler.counters.refused(error)
        return error

    def families(self) -> list[Family]:
        """What there is to know of connections."""
        places = self.places
        return [
            gauge("http_connections", "Connections that have a place.", places.taken),
            gauge("http_connections_limit", "The most there may be.", places.limit),
            counter("http_connections_opened_total", "Connections served.", self.accepted),
        ]


class _Connection(LaneConnection):
    """One connection: aiohttp's protocol, minus what it logs and plus what it lets through.

    ``_late``: when a head that has begun has to be whole.  ``_is_refused``: what came last is no
    HTTP, or too much of it.  ``_is_one_too_many``: it is told so, and given a moment to read it.
    """

    __slots__ = ("_is_one_too_many", "_is_refused", "_late", "_server")

    def __init__(
        self,
        server: BoundedServer,
        **settings: Any,  # noqa: ANN401 - aiohttp's
    ) -> None:
        stall_timeout_s = server.handler.settings.stall_timeout_s
        super().__init__(server, server.lane, stall_timeout_s=stall_timeout_s, **settings)
        self._server = server
        self._late: asyncio.TimerHandle | None = None
        self._is_refused = self._is_one_too_many = False
        parser = HttpRequestParser(
            self,
            self.loop,
            READ_BUFFER_BYTES,
            payload_exception=web.RequestPayloadError,
            auto_decompress=False,
            max_msg_queue_size=MAX_AHEAD,
            **_PARSER_LIMITS,
        )
        self.parse_with(BoundedParser(parser), most_ahead=MAX_AHEAD)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Serve the connection, or refuse it when there are too many."""
        stream = cast("asyncio.Transport", transport)  # uvloop's derive from nothing of asyncio
        bound_buffers(stream)
        if self._server.places.are_taken:
            self._refuse(stream)
        else:
            super().connection_made(transport)

    def _refuse(self, transport: asyncio.Transport) -> None:
        """Say 503 before the client has asked, and give it a moment to read that."""
        server = self._server
        limit = server.places.limit
        left_out = server.throttle.passes("connections")
        if left_out is not None:
            extra = {"limit": limit} | ({"left_out": left_out} if left_out else {})
            logger.warning("refused a connection: %d are open", limit, extra=extra)
        self.close()  # from now on aiohttp drops what the client sends
        error = server.refused()
        handler = server.handler
        common = handler.exchange.pages.default
        send_unasked(transport, handler.sender, replies.errors(error), common)
        if server.places.are_overrun:
            transport.close()
            return
        server.places.refused += 1
        self._is_one_too_many = True
        self.loop.call_later(LINGER_S, transport.close)

    def pass_on(self, data: bytes) -> None:
        """Let aiohttp parse what came; a malformed body fails the request that reads it.

        aiohttp queues the parser's error behind that request, which would wait for it in vain.
        What comes after an error is dropped.
        """
        if self._is_refused:
            return
        super().pass_on(data)
        self._time_head()
        error = None if self.bounded is None else self.bounded.error
        if error is None:
            return
        self._is_refused = True
        error.__traceback__ = None  # it would hold all that was read
        request = self.request
        if request is not None:
            request.content.set_exception(web.RequestPayloadError("its framing is broken"))
            request.content.feed_eof()  # nothing is left that could linger

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer; if it ends what is refused, drop what still comes for a moment.

        Else the system would reset the connection, and the client not get the answer.
        """
        sent = await super().finish_response(request, resp, start_time)
        transport = self.transport
        if self._is_refused and not sent[0].keep_alive and transport is not None:
            self.close()
            if transport.can_write_eof():
                transport.write_eof()
            await asyncio.sleep(LINGER_S)
        return sent

    def has_to_wait(self) -> bool:
        """Whether what is under way waits for news, or is a write while writes are held up."""
        if super().has_to_wait():
            return True
        request = self.request
        is_write = self._turn is not None or (request is not None and request.method in WRITES)
        return is_write and self._server.handler.store.writes_wait()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Wait for no head any more; there is room for the next that is one too many."""
        if self._late is not None:
            self._late.cancel()
        if self._is_one_too_many:
            self._server.places.refused -= 1
        super().connection_lost(exc)

    def is_busy(self) -> bool:
        """Whether something is under way; a head that has begun has its own time."""
        return self._late is not None or super().is_busy()

    def _time_head(self) -> None:
        """Give a head that has begun its time to arrive, once."""
        if self.bounded is None or not self.bounded.is_in_head:
            if self._late is not None:
                self._late.cancel()
                self._late = None
        elif self._late is None:
            timeout_s = self._server.handler.settings.head_timeout_s
            self._late = self.loop.call_later(timeout_s, self._give_up_head, timeout_s)

    def _give_up_head(self, timeout_s: float) -> None:
        self._late = None
        if self.transport is None:
            return
        if not self.is_at_rest():  # what it has sent before is answered first
            self._time_head()
            return
        error = RequestTimeout(f"the head of the request did not arrive within {timeout_s:g} s")
        handler = self._server.handler
        handler.counters.refused(error)
        common = handler.exchange.pages.default
        send_unasked(self.transport, handler.sender, replies.errors(error), common)
        self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what could not be parsed (400), or a bug outside of the handler (500)."""
        counters = self._server.handler.counters
        if status == 400:
            error = parse_error(exc, message or "")
            counters.refused(error)
            reply = replies.errors(error)
        else:
            counters.failed(BUG)
            logger.error("bug: a request failed", exc_info=exc)
            reply = replies.internal_error()
        if request.writer.output_size:
            raise ConnectionResetError("an answer is out already")
        handler = self._server.handler
        answer = handler.sender.answer(reply, handler.exchange.pages.default)
        answer.force_close()
        asking = Asking(request)
        handler.tell(asking, handler.begin(asking, is_read=False), answer)
        return answer
