"""Waiting on the event loop until something has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


class Waiters:
    """Those who wait for the next change, whatever it is; they look again themselves."""

    __slots__ = ("_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[asyncio.Future[None]] = []

    def __bool__(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiting)

    async def wait(self, deadline: float | None = None) -> None:
        """Return at the next change, or at ``deadline`` by the loop's clock."""
        waiter = self._loop.create_future()
        self._waiting.append(waiter)
        timer = self._loop.call_at(deadline, resolve, waiter) if deadline is not None else None
        try:
            await waiter
        finally:
            if timer is not None:
                timer.cancel()

    def wake(self) -> None:
        """Something changed."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            resolve(waiter)


def resolve(waiter: asyncio.Future[None]) -> None:
    """Let whoever awaits a future go on, unless that one has left."""
    if not waiter.done():
        waiter.set_result(None)
