"""Looking at the fast lane: what goes through it, and its connections."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from durable_streams.http.fast_lane import LaneConnection
from tools.inside import in_files

if TYPE_CHECKING:
    from aiohttp import web as aiohttp_web

    from tests.http.client import Client
    from tests.http.conftest import RunningServer

TEXT: Final = {"Content-Type": "text/plain"}
JSON: Final = {"Content-Type": "application/json"}
HEAD: Final = (
    b"POST /v1/stream/a HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    b"Content-Length: 4\r\n\r\n"
)


def watch(server: RunningServer) -> list[str]:
    """Note the requests that go through aiohttp."""
    seen: list[str] = []
    handle = server.handler.handle

    async def noted(
        request: aiohttp_web.BaseRequest, prefix: str, raw_path: str, raw_query: str
    ) -> aiohttp_web.StreamResponse:
        seen.append(f"{request.method} {raw_path}?{raw_query}")
        return await handle(request, prefix, raw_path, raw_query)

    server.handler.handle = noted  # type: ignore[method-assign]
    return seen


async def idle(client: Client) -> None:
    """Give the server the moment it needs after a connection was made, or answered by aiohttp."""
    assert (await client.request("OPTIONS", "a")).status == 204
    for _ in range(5):
        await asyncio.sleep(0)


def connections(server: RunningServer) -> list[LaneConnection]:
    found = server._server._server.connections
    return [connection for connection in found if isinstance(connection, LaneConnection)]


async def applied(server: RunningServer, path: str) -> None:
    """Wait until all of a stream is in its files."""
    await in_files(server.engine, path)
