"""The server inside an application: one call mounts it under a prefix.

It lives and ends with the application: opened by ``cleanup_ctx``, drained on shutdown, closed at
cleanup.  Nothing is global, and no signal handler is installed.  Requests go through the same
handler as in a server of its own; limits on heads and connections, and health checks, are the
application's.  A client that goes away is noticed whatever ``handler_cancellation`` says.

Mount before the application is started, and before it is added to another as a sub-application;
the prefixes of both then count.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from aiohttp import web

import durable_streams.arguments as arguments  # noqa: PLR0402 - not from the root, which knows us
from durable_streams.http.applications import Source, checked, pages_of
from durable_streams.http.handler import Asking, StreamsHandler
from durable_streams.model.errors import StreamNotFound
from durable_streams.settings import HttpSettings
from durable_streams.wire import replies
from durable_streams.wire.urls import split_target

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable, Iterator

    from durable_streams.http.askers import Authorize
    from durable_streams.settings import Settings
    from durable_streams.store import Store
    from durable_streams.streams import Streams
    from durable_streams.wire.pages import Pages

_ASGI: Final = frozenset({"fastapi", "starlette", "litestar", "quart", "django"})
"""Frameworks whose applications are no aiohttp ones."""

_NO_PREFIX: Final = re.compile("[{}?#]")  # what the router or a URL takes for something else


def mount(
    app: web.Application,
    prefix: str | None = None,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    streams: Streams | None = None,
    settings: Settings | None = None,
    http_settings: HttpSettings | None = None,
    authorize: Authorize | None = None,
) -> Mount:
    """Serve streams below ``prefix`` of ``app`` (default: the one of ``http_settings``).

    Either from ``data_dir``, which may be the URL of a database, opened with ``settings`` when the
    application starts (:class:`~durable_streams.model.errors.DataDirectoryError` if that fails) and
    closed with it; or from ``streams`` that the caller has opened and will close afterwards.

    ``authorize`` says who asks: a function, or a coroutine function, from a request of aiohttp's to
    a :class:`~durable_streams.Principal`, or to None for nobody it knows, who is answered 401; it
    may also raise aiohttp's ``HTTPUnauthorized`` or ``HTTPForbidden``.  It is called for every
    request but OPTIONS, before the body is read.  As it may go by cookies, pages of other origins
    than the application's are refused then, but for those of ``http_settings.cors_origin``, which
    may send cookies; ``*`` is for pages that send none.  Without it everybody may do everything,
    but no lists of streams and no details of one (``__ds/streams``) are told.
    ``TypeError`` or ``ValueError`` if an argument cannot be.
    """
    _check_application(app)
    source = Source.of("mount", data_dir, streams, settings)
    http_settings = arguments.settings("http_settings", http_settings, HttpSettings)
    prefix = http_settings.prefix if prefix is None else arguments.text("prefix", prefix)
    if not prefix.startswith("/") or not prefix.isprintable() or _NO_PREFIX.search(prefix):
        raise ValueError(f"prefix is no URL path like /v1/stream: {prefix!r}")
    checked(authorize)
    make = partial(_handler, http_settings, pages_of(http_settings, authorize), authorize)
    mounted = Mount(source, make)
    app.router.add_route(
        "*",
        prefix.rstrip("/") + "/{path:(?s:.*)}",
        mounted.handle,
        expect_handler=_expect_nothing,
    )
    app.cleanup_ctx.append(mounted.run)
    app.on_shutdown.append(mounted.drain)
    return mounted


def _check_application(app: object) -> None:
    """``TypeError`` if it is not aiohttp's; applications of ASGI are told what is theirs."""
    names = {f"{kind.__module__.partition('.')[0]}" for kind in type(app).__mro__}
    if names & _ASGI:
        raise TypeError(
            f"app must be an application of aiohttp, not {type(app).__name__}, which is one of "
            "ASGI: write streams = durable_streams.asgi(data_dir), hand streams.lifespan to the "
            "application (lifespan=), and app.mount(prefix, streams)"
        )
    arguments.instance("app", app, web.Application)


def _handler(
    settings: HttpSettings, pages: Pages, authorize: Authorize | None, store: Store
) -> StreamsHandler:
    # Where nobody says who may know that, neither lists nor details tell which streams there are.
    lists = authorize is not None
    return StreamsHandler(store, settings, pages, authorize=authorize, lists=lists)


class Mount:
    """A stream space in an application; made by :func:`mount`."""

    def __init__(self, source: Source, make_handler: Callable[[Store], StreamsHandler]) -> None:
        self._source = source
        self._make_handler = make_handler
        self._handler: StreamsHandler | None = None
        self._opened: Streams | None = None

    @property
    def streams(self) -> Streams:
        """What it serves, for the application itself; open while that runs.

        The caller's, if they were handed over.  :class:`RuntimeError` while it is not running.
        """
        if self._opened is None:
            raise RuntimeError("the application is not running")
        return self._opened

    @property
    def store(self) -> Store:
        """The store behind it; :class:`RuntimeError` while the application is not running."""
        return self._running().store

    @property
    def engine(self) -> Store:
        """:attr:`store`, by the name that it had in 0.1."""
        return self.store

    async def run(self, _app: web.Application) -> AsyncIterator[None]:
        """Be open while the application runs."""
        async with self._source.opened() as streams:
            with self._serving(streams):
                yield

    @contextmanager
    def _serving(self, streams: Streams) -> Iterator[None]:
        handler = self._handler = self._make_handler(streams.engine)
        self._opened = streams
        handler.metrics.begin()
        try:
            yield
        finally:
            handler.metrics.end()
            self._handler = self._opened = None

    async def drain(self, _app: web.Application) -> None:
        """End live reads, so that the application need not wait for them."""
        handler = self._running()
        if not self._source.is_shared:
            handler.store.drain()
        handler.drain()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request below the prefix."""
        handler = self._running()
        resource = request.match_info.route.resource
        assert resource is not None
        prefix = resource.canonical.removesuffix("/{path}")
        path, query = split_target(request.raw_path)
        if not path.startswith(f"{prefix}/"):
            # The router matches decoded paths; a needlessly escaped prefix is not ours.
            common = handler.exchange.pages.default
            answer = handler.sender.answer(replies.errors(StreamNotFound(path)), common)
            asking = Asking(request)
            handler.tell(asking, handler.begin(asking, "other"), answer)
            return answer
        return await handler.handle(request, prefix, path[len(prefix) + 1 :], query)

    def _running(self) -> StreamsHandler:
        if self._handler is None:
            raise RuntimeError("the application is not running")
        return self._handler


async def _expect_nothing(_request: web.Request) -> None:
    """Leave ``Expect: 100-continue`` to the handler, which may refuse before the body comes."""
