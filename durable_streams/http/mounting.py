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
from durable_streams.databases import is_database
from durable_streams.http.handler import StreamsHandler
from durable_streams.http.peers import Peers
from durable_streams.library import Streams, open_streams
from durable_streams.model.errors import StreamNotFound
from durable_streams.settings import HttpSettings, Settings
from durable_streams.wire import replies
from durable_streams.wire.pages import Pages
from durable_streams.wire.urls import split_target

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from durable_streams.http.askers import Authorize
    from durable_streams.store import Store

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
    arguments.instance("app", app, web.Application)
    if (data_dir is None) == (streams is None):
        raise TypeError("mount() takes either data_dir or streams")
    if streams is not None and settings is not None:
        raise TypeError(
            "mount() takes settings with data_dir only: streams were opened with theirs"
        )
    place: Path | str | None = None
    if is_database(data_dir):
        place = str(data_dir)
    elif data_dir is not None:
        place = arguments.directory("data_dir", data_dir)
    if streams is not None:
        arguments.instance("streams", streams, Streams)
    settings = arguments.settings("settings", settings, Settings)
    http_settings = arguments.settings("http_settings", http_settings, HttpSettings)
    prefix = http_settings.prefix if prefix is None else arguments.text("prefix", prefix)
    if not prefix.startswith("/") or not prefix.isprintable() or _NO_PREFIX.search(prefix):
        raise ValueError(f"prefix is no URL path like /v1/stream: {prefix!r}")
    if authorize is not None and not callable(authorize):
        raise TypeError(f"authorize must be a function, not {authorize!r}")
    make = partial(_handler, http_settings, _pages(http_settings, authorize), authorize)
    mounted = Mount(place, streams, settings, make)
    app.router.add_route(
        "*",
        prefix.rstrip("/") + "/{path:(?s:.*)}",
        mounted.handle,
        expect_handler=_expect_nothing,
    )
    app.cleanup_ctx.append(mounted.run)
    app.on_shutdown.append(mounted.drain)
    return mounted


def _pages(settings: HttpSettings, authorize: Authorize | None) -> Pages:
    """Which web pages are welcome; ``ValueError`` if an origin, a host or a proxy is none."""
    Peers(settings.trusted_proxy)  # which the handler asks, once the application has begun
    return Pages(
        settings.cors_origin,
        settings.allowed_host,
        any_by_default=authorize is None,
        with_cookies=authorize is not None,
    )


def _handler(
    settings: HttpSettings, pages: Pages, authorize: Authorize | None, store: Store
) -> StreamsHandler:
    # Where nobody says who may know that, neither lists nor details tell which streams there are.
    lists = authorize is not None
    return StreamsHandler(store, settings, pages, authorize=authorize, lists=lists)


class Mount:
    """A stream space in an application; made by :func:`mount`."""

    def __init__(
        self,
        data_dir: Path | str | None,
        streams: Streams | None,
        settings: Settings,
        make_handler: Callable[[Store], StreamsHandler],
    ) -> None:
        self._data_dir = data_dir
        self._streams = streams
        self._settings = settings
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
        if self._streams is not None:
            with self._serving(self._streams):
                yield
            return
        assert self._data_dir is not None
        async with open_streams(self._data_dir, self._settings) as streams:
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
        if self._streams is None:
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
            handler.tell(request, handler.begin(request, "other"), answer)
            return answer
        return await handler.handle(request, prefix, path[len(prefix) + 1 :], query)

    def _running(self) -> StreamsHandler:
        if self._handler is None:
            raise RuntimeError("the application is not running")
        return self._handler


async def _expect_nothing(_request: web.Request) -> None:
    """Leave ``Expect: 100-continue`` to the handler, which may refuse before the body comes."""
