"""Turns: those who read from files go one after the other, so that they hold up nobody else."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

SENDFILES_PER_TURN: Final = 4
"""Of all readers together, in one turn of the event loop, which they hold up for about 1 ms."""


class Turns:
    """Lets a few slices go per turn of the event loop: hundreds of readers hold up nobody else."""

    def __init__(self) -> None:
        self._left = SENDFILES_PER_TURN
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._counting = False

    async def take(self) -> None:
        """Return when it is the caller's turn; first come, first served."""
        loop = asyncio.get_running_loop()
        if not self._counting:
            self._counting = True
            loop.call_soon(self._next, loop)
        if self._left and not self._waiting:
            self._left -= 1
            return
        waiter = loop.create_future()
        self._waiting.append(waiter)
        await waiter

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        self._left = SENDFILES_PER_TURN
        while self._left and self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                self._left -= 1
        self._counting = self._left < SENDFILES_PER_TURN
        if self._counting:
            loop.call_soon(self._next, loop)
