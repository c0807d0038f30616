"""Several steps that belong together: once begun they go on, whatever their caller does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from durable_streams.filestore.runtime.closing import retrieve

if TYPE_CHECKING:
    from collections.abc import Coroutine

_T = TypeVar("_T")


class Errands:
    """Those under way; closing waits for them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()

    def begin(self, work: Coroutine[None, None, _T]) -> asyncio.Task[_T]:
        """Begin one; whoever wants to know how it ends may leave."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(retrieve)
        return task

    async def do(self, work: Coroutine[None, None, _T]) -> _T:
        """Begin one and wait for it; it goes on even if the caller goes away meanwhile."""
        return await asyncio.shield(self.begin(work))

    async def finished(self) -> None:
        """Return when none is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def cancel(self) -> None:
        """End them where they are."""
        for task in self._tasks:
            task.cancel()
