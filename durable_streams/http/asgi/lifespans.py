"""The lifespan protocol of ASGI: what a server tells an application that it starts, and ends."""

from __future__ import annotations

import asyncio
import logging
import traceback
from typing import TYPE_CHECKING

from durable_streams.access.small_files import FileProblem
from durable_streams.model.errors import DataDirectoryError, StreamError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from durable_streams.http.asgi.answers import Send
    from durable_streams.http.asgi.requests import Message
    from durable_streams.http.asgi.scopes import Scope

    App = Callable[[Scope, Callable[[], Awaitable[Message]], Send], Awaitable[None]]

logger = logging.getLogger("durable_streams")

_FORESEEN = (DataDirectoryError, FileProblem, StreamError, ImportError, OSError)
"""Why streams do not open; all else is a bug, and told with a traceback."""


async def live(
    opened: AbstractAsyncContextManager[None],
    receive: Callable[[], Awaitable[Message]],
    send: Send,
    inner: Inner | None = None,
) -> None:
    """Be open between the two messages, and have an inner application be told of them as well."""
    await receive()
    step = "startup"
    try:
        async with opened:
            said = None if inner is None else await inner.tell(step)
            if said is not None and said["type"] != "lifespan.startup.complete":
                await send(said)
                return
            await send({"type": "lifespan.startup.complete"})
            await receive()
            step = "shutdown"
            if inner is not None:
                await inner.tell(step)
    except Exception as error:  # noqa: BLE001 - the server says it, whatever it is
        is_foreseen = isinstance(error, _FORESEEN)
        message = str(error) if is_foreseen else traceback.format_exc()
        await send({"type": f"lifespan.{step}.failed", "message": message})
        return
    await send({"type": "lifespan.shutdown.complete"})


class Inner:
    """The lifespan of an application that is inside of ours, if it knows one."""

    def __init__(self, app: App, scope: Scope) -> None:
        self._app = app
        self._scope = scope
        self._told: asyncio.Queue[Message] = asyncio.Queue()
        self._said: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def tell(self, step: str) -> Message | None:
        """Tell it of a step, and return what it says; None if it has ended, or knows none.

        An application that raises before it has said anything knows none, as servers see it.
        """
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        self._told.put_nowait({"type": f"lifespan.{step}"})
        said = asyncio.create_task(self._said.get())
        await asyncio.wait({said, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if not self._said.empty() or said.done():
            return await said
        said.cancel()
        return None

    async def _run(self) -> None:
        try:
            await self._app(self._scope, self._told.get, self._said.put)
        except Exception as error:  # noqa: BLE001 - Django has a ValueError for this
            logger.debug("the application inside has no lifespan: %s", error)
