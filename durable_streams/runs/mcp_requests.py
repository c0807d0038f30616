"""Requests to an MCP server: whose each is, and answers that the application is not asked for."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser, authorization_context
from mcp_types import INVALID_REQUEST, ErrorData, JSONRPCError
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_Anything: TypeAlias = Any
"""A message of ASGI."""

SESSION: Final = b"mcp-session-id"
LAST: Final = b"last-event-id"


def values(scope: _Anything, name: bytes) -> list[str]:
    """All values of a header."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


async def refuse(send: _Anything, reason: str) -> None:
    """Answer 400 with a reason."""
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": f"{reason}\n".encode()})


def unknown(
    application: Callable[..., Awaitable[None]], scope: _Anything
) -> Callable[..., Awaitable[None]]:
    """What answers a session that has ended here, or was never known: as the SDK would, 404.

    The SDK may know it yet, if it was ended as there were too many, and is told by a DELETE.
    """
    versions = values(scope, b"mcp-protocol-version")
    has_sessions = not versions or versions[0] in HANDSHAKE_PROTOCOL_VERSIONS
    return _not_found if has_sessions and scope["method"] != "DELETE" else application


async def _not_found(_scope: _Anything, _receive: _Anything, send: _Anything) -> None:
    error = ErrorData(code=INVALID_REQUEST, message="Session not found")
    body = JSONRPCError(jsonrpc="2.0", id=None, error=error)
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 404, "headers": headers})
    dumped = body.model_dump_json(by_alias=True, exclude_unset=True)
    await send({"type": "http.response.body", "body": dumped.encode()})


def owner(id_: str, scope: _Anything) -> str:
    """A digest of a session's id, and of its user by the SDK's authorization."""
    user = scope.get("user")
    who = authorization_context(user) if isinstance(user, AuthenticatedUser) else None
    return hashlib.sha256(repr((id_, who)).encode()).hexdigest()
