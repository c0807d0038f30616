"""A lifespan for applications of ASGI that have none, as Django's.

    application = with_lifespan(get_asgi_application(), opened)

``opened`` is a function that gives an asynchronous context manager, which lasts as long as the
server serves.  Its failure to begin is told to the server, which ends then.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping
    from contextlib import AbstractAsyncContextManager

_log = logging.getLogger(__name__)

_Scope: TypeAlias = "MutableMapping[str, Any]"
_Receive: TypeAlias = "Callable[[], Awaitable[MutableMapping[str, Any]]]"
_Send: TypeAlias = "Callable[[MutableMapping[str, Any]], Awaitable[None]]"
_Application: TypeAlias = "Callable[[_Scope, _Receive, _Send], Awaitable[None]]"


def with_lifespan(
    application: _Application, lifespan: Callable[[], AbstractAsyncContextManager[object]]
) -> _Application:
    """The application, with a context around all that it serves."""

    async def wrapped(scope: _Scope, receive: _Receive, send: _Send) -> None:
        if scope["type"] == "lifespan":
            await _last(lifespan, receive, send)
        else:
            await application(scope, receive, send)

    return wrapped


async def _last(
    lifespan: Callable[[], AbstractAsyncContextManager[object]], receive: _Receive, send: _Send
) -> None:
    await receive()
    step = "startup"
    try:
        async with lifespan():
            await send({"type": "lifespan.startup.complete"})
            await receive()
            step = "shutdown"
    except Exception as error:  # noqa: BLE001 - the server is told, and ends
        _log.exception("the application's lifespan failed")
        await send({"type": f"lifespan.{step}.failed", "message": str(error)})
    else:
        await send({"type": "lifespan.shutdown.complete"})
