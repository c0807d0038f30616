"""Metrics on an address of their own: nobody is asked who they are, and there is nothing else.

It is for a network that only those who watch reach.  Connections are few, and bounded as those of
the server itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from aiohttp import web

from durable_streams.http.handler import Asking
from durable_streams.http.metrics import PATH_AT_ROOT
from durable_streams.http.server import LINGER_S, BoundedServer
from durable_streams.model.errors import StreamError, StreamNotFound
from durable_streams.wire import replies
from durable_streams.wire.pages import Pages
from durable_streams.wire.replies import FOR_NO_PAGE
from durable_streams.wire.urls import authority, split_target

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

    from durable_streams.http.handler import StreamsHandler

MAX_CONNECTIONS: Final = 8
"""More than watch one server; each takes a descriptor of those that are kept for the process."""


class MetricsServer:
    """Serves the metrics of a handler; ``is_on_loopback``: nobody else reaches it."""

    def __init__(self, handler: StreamsHandler, *, is_on_loopback: bool) -> None:
        self._handler = handler
        # A page may ask here as little as anywhere, by a name that leads here (DNS rebinding).
        self._pages = Pages(any_by_default=False, loopback_hosts=is_on_loopback)
        few = replace(handler.settings, max_connections=MAX_CONNECTIONS, fast_lane=False)
        server = BoundedServer(handler, self._answer, few)
        self._runner = web.ServerRunner(server, shutdown_timeout=LINGER_S)

    async def start(self, sockets: Iterable[socket.socket]) -> None:
        """Accept connections on bound sockets; :class:`OSError` if one cannot listen."""
        await self._runner.setup()
        for bound in sockets:
            await web.SockSite(self._runner, bound, backlog=MAX_CONNECTIONS).start()

    async def stop(self) -> None:
        """Close every connection."""
        await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        handler = self._handler
        asking = Asking(request)
        asked = handler.begin(asking, "other")
        try:
            path, _ = split_target(request.raw_path)
            self._pages.admit(authority(request.raw_path), request.headers, for_all=False)
            if path != PATH_AT_ROOT:
                raise StreamNotFound(path)
            reply = await handler.metrics.answer(request.method)
        except StreamError as error:
            handler.counters.refused(error)
            reply = replies.errors(error)
        answer = handler.sender.answer(reply, FOR_NO_PAGE)
        handler.tell(asking, asked, answer)
        return answer
