"""Streams as an application of ASGI 3: on its own, mounted in another one, or around it.

It belongs to one event loop, and opens its streams when that begins: by the lifespan of the
application that it is mounted in (:meth:`AsgiStreams.lifespan`), as a sub-application's own is not
run; by the server's lifespan protocol, if it is the whole application or is around another one
(:meth:`AsgiStreams.around`).  Before that, and after the end, requests are answered 503, and told.

At the end live reads are ended, what is under way has ``shutdown_grace_s``, and the streams close.
Servers tell of the end only after all answers are out: ``drain_on_signals`` ends live reads before.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import durable_streams.arguments as arguments  # noqa: PLR0402 - not from the root, which knows us
from durable_streams.access.door import OPEN
from durable_streams.http.applications import Source, checked, pages_of
from durable_streams.http.asgi.answers import Answer
from durable_streams.http.asgi.handler import AsgiHandler
from durable_streams.http.asgi.lifespans import Inner, live
from durable_streams.http.asgi.requests import AsgiRequest
from durable_streams.http.asgi.scopes import is_below, mounted_at
from durable_streams.http.asgi.signals import called_on_signals
from durable_streams.http.guards import Guard, guard_of
from durable_streams.http.logs import Throttle
from durable_streams.model.errors import DataDirectoryInUse, StreamError, Unavailable
from durable_streams.settings import AccessSettings, HttpSettings
from durable_streams.wire import replies
from durable_streams.wire.replies import FOR_NO_PAGE
from durable_streams.wire.url_prefix import checked_prefix

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Awaitable, Callable

    from durable_streams.http.asgi.answers import Send
    from durable_streams.http.asgi.lifespans import App
    from durable_streams.http.asgi.requests import Message
    from durable_streams.http.asgi.scopes import Scope
    from durable_streams.http.askers import Authorize
    from durable_streams.settings import Settings
    from durable_streams.store import Store
    from durable_streams.streams import Streams
    from durable_streams.wire.pages import Pages

    Receive = Callable[[], Awaitable[Message]]

_NOT_OPEN: Final = (
    "the streams are not open: a sub-application's lifespan is not run, so give "
    "lifespan=streams.lifespan to the application that they are mounted in, or enter "
    "'async with streams.lifespan():' in a lifespan of your own; around an application without "
    "one, as Django's, serve streams.around(application, prefix)"
)

_WAYS_OUT: Final = (
    "One process at a time has a data directory: run one worker (--workers 1), or have all of them "
    "ask one server (durable-streams serve), or keep the streams in PostgreSQL "
    "(durable_streams.asgi('postgresql://...')), which any number of workers may open"
)

logger = logging.getLogger("durable_streams")


def asgi(
    data_dir: str | os.PathLike[str] | None = None,
    *,
    streams: Streams | None = None,
    settings: Settings | None = None,
    http_settings: HttpSettings | None = None,
    access: AccessSettings | None = None,
    authorize: Authorize | None = None,
    drain_on_signals: bool = False,
) -> AsgiStreams:
    """Streams as an ASGI application, to be mounted below any prefix of another, or served alone.

    Either from ``data_dir``, which may be the URL of a database, opened with ``settings`` by the
    lifespan; or from ``streams`` that the caller has opened, in the event loop that serves, and
    closes afterwards.  Alone it has the streams below ``/``, whatever ``http_settings.prefix`` is.

    ``access`` has the files of tokens, keys and JWTs by which requests say who asks, as ``serve``
    has them; they are read when the streams open, and followed while they are open.  Or
    ``authorize`` says who asks: a function, or a coroutine function, from the connection scope of
    ASGI (``starlette.requests.HTTPConnection(scope)`` reads it) to a
    :class:`~durable_streams.Principal`, or to None for nobody it knows, who is answered 401; it may
    also raise :class:`~durable_streams.Unauthenticated` or :class:`~durable_streams.Forbidden`, or
    what its framework has for 401 and 403.  All else about it is as for
    :func:`~durable_streams.mount`.

    ``drain_on_signals``: live reads end as soon as ``SIGTERM`` or ``SIGINT`` tells the server to
    stop, which waits for them otherwise.  It puts itself before the handlers that the server has
    for these, while the lifespan lasts.
    ``TypeError`` or ``ValueError`` if an argument cannot be.
    """
    source = Source.of("asgi", data_dir, streams, settings)
    http = arguments.settings("http_settings", http_settings, HttpSettings)
    arguments.flag("drain_on_signals", drain_on_signals)
    who = arguments.settings("access", access, AccessSettings)
    if who.is_on and authorize is not None:
        raise TypeError("asgi() takes either access or authorize, as one of them says who asks")
    front = _Front(http, pages_of(http, checked(authorize)), who, authorize)
    return AsgiStreams(source, front, drain_on_signals=drain_on_signals)


class _Front(NamedTuple):
    """What a handler is made of, once there is a store."""

    settings: HttpSettings
    pages: Pages
    access: AccessSettings
    authorize: Authorize | None

    def guard(self, data_dir: Path | None) -> Guard:
        """Who may come in; blocks."""
        return guard_of(self.access, data_dir, self.pages)

    def handler(self, store: Store, guard: Guard) -> AsgiHandler:
        """The handler of a store."""
        return AsgiHandler(store, self.settings, guard, self.authorize)


class AsgiStreams:
    """An ASGI application that serves streams; made by :func:`asgi`."""

    def __init__(
        self,
        source: Source,
        front: _Front,
        *,
        drain_on_signals: bool,
    ) -> None:
        self._source = source
        self._front = front
        self._settings = front.settings
        self._drain_on_signals = drain_on_signals
        self._handler: AsgiHandler | None = None
        self._opened: Streams | None = source.streams
        self._is_live = False
        self._throttle = Throttle()

    @property
    def streams(self) -> Streams:
        """The open streams, to be used without HTTP; ``RuntimeError`` while they are not open."""
        if self._opened is None:
            raise RuntimeError(_NOT_OPEN)
        return self._opened

    @property
    def store(self) -> Store:
        """The store behind them; likewise."""
        return self.streams.engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection, or the lifespan protocol."""
        match scope["type"]:
            case "http":
                await self._serve(scope, receive, send)
            case "lifespan":
                await live(self.lifespan(), receive, send)
            case "websocket":
                await receive()
                await send({"type": "websocket.close"})
            case kind:
                raise ValueError(f"streams are served over HTTP, not by {kind!r}")

    def around(self, application: App, prefix: str | None = None) -> App:
        """An ASGI application that has the streams below ``prefix``, and ``application`` elsewhere.

        Its lifespan opens the streams, and goes on to ``application``'s if that has one: so it is
        for frameworks that know none, such as Django.  ``prefix`` is that of ``http_settings`` by
        default.
        """
        if not callable(application):
            raise TypeError(f"application must be one of ASGI, not {application!r}")
        text = self._settings.prefix if prefix is None else arguments.text("prefix", prefix)
        return _Around(self, application, checked_prefix(text))

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:  # noqa: ARG002 - frameworks hand theirs over
        """Be open while the block runs: what ``lifespan=`` of Starlette and FastAPI takes.

        :class:`~durable_streams.DataDirectoryError` if the streams cannot be opened.
        ``RuntimeError`` if they are open already.
        """
        if self._is_live:
            raise RuntimeError("these streams have a lifespan already, which has not ended")
        self._is_live = True
        try:
            async with AsyncExitStack() as stack:
                try:
                    streams = await stack.enter_async_context(self._source.opened())
                except DataDirectoryInUse as error:
                    raise DataDirectoryInUse(f"{error}. {_WAYS_OUT}", error.pid) from None
                guard = await self._guard()
                await guard.begin(streams.engine)
                await stack.enter_async_context(guard.door.running())
                handler = self._begin(streams, guard)
                if self._drain_on_signals:
                    stack.enter_context(called_on_signals(self.drain))
                try:
                    yield
                finally:
                    await self._end(handler)
        finally:
            self._is_live = False

    def drain(self) -> None:
        """End all live reads, and take no more writes: whoever serves is told to stop.

        For servers that are told otherwise than by a signal; nothing happens while it is not open.
        """
        if self._handler is None:
            return
        if not self._source.is_shared:
            self._handler.store.drain()
        self._handler.drain()

    async def _guard(self) -> Guard:
        place = self._source.place
        data_dir = place if isinstance(place, Path) else None
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, self._front.guard, data_dir)

    def _begin(self, streams: Streams, guard: Guard) -> AsgiHandler:
        handler = self._handler = self._front.handler(streams.engine, guard)
        self._opened = streams
        handler.metrics.begin()
        return handler

    async def _end(self, handler: AsgiHandler) -> None:
        """Drain, and give what is under way its time."""
        self.drain()
        under_way = handler.active
        if under_way:
            await asyncio.wait(under_way, timeout=self._settings.shutdown_grace_s)
        handler.metrics.end()
        self._handler = None
        self._opened = self._source.streams

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            handler = self._running()
        except StreamError as error:
            await self._refuse(error, scope, receive, send)
        else:
            await handler.handle(scope, receive, send)

    def _running(self) -> AsgiHandler:
        """What answers requests; :class:`Unavailable` if the streams are not open."""
        if self._handler is None:
            shared, front = self._source.streams, self._front
            if shared is None or front.access.is_on:  # there are files to be followed
                raise Unavailable(_NOT_OPEN)
            # They are open, and no lifespan is needed.
            return self._begin(shared, Guard(front.pages, OPEN, None))
        return self._handler

    async def _refuse(self, error: StreamError, scope: Scope, receive: Receive, send: Send) -> None:
        if self._throttle.passes(type(error)) is not None:
            logger.error("%s", error)
        answer = Answer(AsgiRequest(scope, receive), send, self._settings.stall_timeout_s)
        with suppress(ConnectionError):
            await answer.whole(replies.errors(error), FOR_NO_PAGE, last=False)


class _Around:
    """Streams below a prefix, and another application elsewhere."""

    def __init__(self, streams: AsgiStreams, application: App, prefix: str) -> None:
        self._streams = streams
        self._application = application
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection, or the lifespan protocol."""
        if scope["type"] == "lifespan":
            inner = Inner(self._application, scope)
            await live(self._streams.lifespan(), receive, send, inner)
        elif scope["type"] == "http" and is_below(scope, self._prefix):
            await self._streams(mounted_at(scope, self._prefix), receive, send)
        else:
            await self._application(scope, receive, send)
