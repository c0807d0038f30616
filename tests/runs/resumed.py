"""What an MCP client gets that resumes, of an application in this process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeAlias

from mcp_types import JSONRPCMessage, jsonrpc_message_adapter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Told: TypeAlias = tuple[str | None, JSONRPCMessage]
    """An event's id, and its message."""


async def resumed(
    application: Callable[..., Awaitable[None]], headers: list[tuple[bytes, bytes]]
) -> list[Told]:
    """The events of one connection, until it ends by itself."""
    body = b""
    statuses: list[int] = []

    async def stays() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        nonlocal body
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
        body += message.get("body", b"")

    scope = {"type": "http", "method": "GET", "headers": headers}
    await asyncio.ensure_future(application(scope, stays, send))
    if statuses != [200]:
        return []
    lines = [block.splitlines() for block in body.decode().split("\r\n\r\n") if block]
    events = [dict(line.split(": ", 1) for line in block) for block in lines]
    return [
        (event.get("id"), jsonrpc_message_adapter.validate_json(event["data"])) for event in events
    ]
