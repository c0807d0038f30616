"""An MCP server whose sessions resume, for ``test_mcp``: streams at ``STREAMS_URL``."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from mcp.server.mcpserver import Context, MCPServer

import durable_streams
from durable_streams.runs.lifespan import with_lifespan
from durable_streams.runs.mcp import DurableEvents

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LEASE_S: Final = 3.0
KEEP: Final = int(os.environ.get("KEEP", "1000"))
SESSIONS: Final = int(os.environ.get("SESSIONS", "1000"))
server = MCPServer("counts")
serving: dict[str, Any] = {}


@server.tool()
async def count(ctx: Context, notifications: int, cuts: int) -> str:
    """Notify so often, and have the client's connection cut now and then."""
    for number in range(notifications):
        await ctx.report_progress(number, notifications)
        await asyncio.sleep(0.01)
        if cuts and number % (notifications // cuts) == 3:
            await ctx.close_sse_stream()
    return f"{notifications} notifications"


@asynccontextmanager
async def lifespan() -> AsyncIterator[None]:
    async with (
        durable_streams.connect(os.environ["STREAMS_URL"]) as streams,
        DurableEvents(streams, lease_s=LEASE_S, keep=KEEP, sessions=SESSIONS) as events,
    ):
        inner = server.streamable_http_app(event_store=events, retry_interval=20)
        async with inner.router.lifespan_context(inner):
            serving["application"] = events.around(inner)
            yield


async def serve(scope: Any, receive: Any, send: Any) -> None:
    await serving["application"](scope, receive, send)


app = with_lifespan(serve, lifespan)
