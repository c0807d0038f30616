"""All tasks of a node, watched: one that a bug ends does not end in silence.

A bug is logged with its traceback and stays in ``bug``: nothing more is written then, reads go on.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

from durable_streams.model.errors import StorageFailed

if TYPE_CHECKING:
    from collections.abc import Coroutine

log = logging.getLogger("durable_streams.postgres")


class Tasks:
    """Those under way; ``bug``: why one has ended that should not."""

    def __init__(self) -> None:
        self.bug: StorageFailed | None = None
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[asyncio.Task[None], None] = {}

    def lasting(self, name: str, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run something for as long as the store is open."""
        return self._begin(name, work, ends=False)

    def once(self, name: str, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run something to its end, whoever waits for that."""
        return self._begin(name, work, ends=True)

    def _begin(
        self, name: str, work: Coroutine[None, None, None], *, ends: bool
    ) -> asyncio.Task[None]:
        task = self._loop.create_task(work, name=f"durable-streams-{name}")
        self._tasks[task] = None
        task.add_done_callback(partial(self._done, name, ends))
        return task

    def _done(self, name: str, ends: bool, task: asyncio.Task[None]) -> None:
        if self._tasks.pop(task, task) is not None or task.cancelled():
            return  # it was stopped, or the loop is ending
        error = task.exception()
        if error is not None or not ends:
            log.critical("bug: %s ended; nothing more is written", name, exc_info=error)
            self.bug = self.bug or StorageFailed(f"a part of the server ended ({name})")

    async def stop(self) -> None:
        """End all others that are left; they have ended when this returns."""
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
