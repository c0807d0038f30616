"""Noticing that a client has gone, also where the server does not cancel its handlers.

aiohttp cancels a handler whose client goes away only if the server was made with
``handler_cancellation=True``.  The serve command does that; an application that embeds the server
may not, and a reader that waits would then stay for nothing.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp import web


@contextmanager
def cancelled_when_gone(request: web.BaseRequest) -> Iterator[None]:
    """Cancel the current task as soon as the client of ``request`` has gone."""
    manager = request.protocol._manager  # noqa: SLF001 - the server, None once disconnected
    if manager is None:
        raise ConnectionResetError("the client has gone")
    if manager.handler_cancellation:
        yield
        return
    task = asyncio.current_task()
    assert task is not None
    aiohttp_cancel = request._cancel  # noqa: SLF001 - what aiohttp calls when the client goes

    def cancel(error: BaseException) -> None:
        aiohttp_cancel(error)
        task.cancel()

    # Past aiohttp's __setattr__, which frowns on new attributes in its debug mode.
    attributes = vars(request)
    attributes["_cancel"] = cancel
    try:
        yield
    finally:
        del attributes["_cancel"]
