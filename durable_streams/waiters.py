"""Waiting on the event loop: until something has changed, or for one's turn at a path."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from durable_streams.model.paths import StreamPath


class Waiters:
    """Those who wait for the next change, whatever it is; they look again themselves."""

    __slots__ = ("_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[asyncio.Future[None], None] = {}

    def __bool__(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiting)

    async def wait(self, deadline: float | None = None) -> None:
        """Return at the next change, or at ``deadline`` by the loop's clock."""
        waiter = self._loop.create_future()
        self._waiting[waiter] = None
        timer = self._loop.call_at(deadline, resolve, waiter) if deadline is not None else None
        try:
            await waiter
        finally:
            self._waiting.pop(waiter, None)
            if timer is not None:
                timer.cancel()

    def wake(self) -> None:
        """Something changed."""
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting:
            resolve(waiter)


def resolve(waiter: asyncio.Future[None]) -> None:
    """Let whoever awaits a future go on, unless that one has left."""
    if not waiter.done():
        waiter.set_result(None)


class Turns:
    """Whose turn it is at which path, in the order in which they came.

    The body of ``async with turns.at(path)`` may wait; what follows it without an await comes
    before whatever those behind do.  ``taken``: the paths at which somebody has or awaits one.
    """

    def __init__(self) -> None:
        self.taken: dict[StreamPath, _Turn] = {}

    def at(self, path: StreamPath) -> AbstractAsyncContextManager[None]:
        """A turn at a path."""
        return self.taken.get(path) or _Turn(self.taken, path)


class _Turn:
    """Those who come for a path; among ``turns`` while there are any."""

    __slots__ = ("_lock", "_path", "_turns", "_users")

    def __init__(self, turns: dict[StreamPath, _Turn], path: StreamPath) -> None:
        self._turns = turns
        self._path = path
        self._lock = asyncio.Lock()
        self._users = 0

    async def __aenter__(self) -> None:
        self._turns[self._path] = self
        self._users += 1
        try:
            await self._lock.acquire()
        except BaseException:
            self._leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()
        self._leave()

    def _leave(self) -> None:
        self._users -= 1
        if not self._users:
            del self._turns[self._path]
