"""An MCP server whose calls are answered by runs, for ``prove_mcp``: streams at ``STREAMS_URL``.

    uvicorn --fd NUMBER tools.proofs.mcp_application:app

It carries no run itself: the stream ``jobs`` says what is to be started, and somebody else does.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from mcp.server.mcpserver import Context, MCPServer
from mcp_types import CallToolResult  # noqa: TC002 - the SDK reads it

import durable_streams
from durable_streams.runs import Runs
from durable_streams.runs.lifespan import with_lifespan
from durable_streams.runs.mcp import DurableEvents

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

RETRY_MS: Final = 50
server = MCPServer("counts")
serving: dict[str, Any] = {}


@server.tool()
async def count(ctx: Context, up_to: int) -> CallToolResult:
    """Count, and notify of each number."""
    name = f"count-{uuid4().hex}"
    await serving["streams"].append_json("jobs", {"run": name, "up_to": up_to})
    result: CallToolResult = await serving["events"].follow(ctx, name)
    return result


@asynccontextmanager
async def lifespan() -> AsyncIterator[None]:
    async with (
        durable_streams.connect(os.environ["STREAMS_URL"]) as streams,
        Runs(streams) as runs,
        DurableEvents(streams, runs=runs) as events,
    ):
        inner = server.streamable_http_app(event_store=events, retry_interval=RETRY_MS)
        async with inner.router.lifespan_context(inner):
            serving.update(streams=streams, events=events, application=events.around(inner))
            yield


async def serve(scope: Any, receive: Any, send: Any) -> None:
    await serving["application"](scope, receive, send)


app = with_lifespan(serve, lifespan)
