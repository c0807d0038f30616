"""From a descriptor to a stream: one task reads as far as there is room, the other one sends.

While an append is under way, what comes gathers for the next one; so the batches are as large as
they have to be, and one at a time is enough.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from durable_streams.shell.waiting import readable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from durable_streams.shell.buffers import Buffer
    from durable_streams.shell.spool import Batch


class Pump:
    """Moves all there is; ``sent_bytes``, ``appends``: what was."""

    def __init__(
        self,
        buffer: Buffer,
        send: Callable[[Batch], Awaitable[None]],
        *,
        linger_s: float,
        batch_bytes: int,
        full: Callable[[], None],
    ) -> None:
        """``send`` returns when an append is stored.  ``full``: is told each time reading stops."""
        self._buffer = buffer
        self._send = send
        self._linger_s = linger_s
        self._batch_bytes = batch_bytes
        self._tell_full = full
        self._is_over = False
        self._read = asyncio.Event()
        self._freed = asyncio.Event()
        self._began_s: float | None = None

    async def run(self, fd: int | None) -> None:
        """Send all that is and comes; None: nothing comes."""
        self._is_over = fd is None
        if fd is None:
            await self._send_all()
            return
        filling = asyncio.create_task(self._fill(fd))
        sending = asyncio.create_task(self._send_all())
        try:
            await asyncio.wait({filling, sending}, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in (filling, sending):
                task.cancel()
            await asyncio.wait({filling, sending})
        for task in (sending, filling):
            if not task.cancelled():
                task.result()

    async def _fill(self, fd: int) -> None:
        while not self._is_over:
            if not self._buffer.has_room:
                self._tell_full()
                self._freed.clear()
                await self._freed.wait()
                continue
            await readable(fd)
            try:
                self._is_over = not self._buffer.take(fd)
            except BlockingIOError:  # another program that has it was faster
                continue
            self._read.set()

    async def _send_all(self) -> None:
        while (batch := await self._next()) is not None:
            await self._send(batch)
            self._buffer.done(batch)
            self._freed.set()
        self._buffer.finish()

    async def _next(self) -> Batch | None:
        """The next append; None at the end."""
        now = asyncio.get_running_loop().time
        while True:
            self._read.clear()
            if self._is_due(now()):
                batch = self._buffer.next(is_last=self._is_over)
                self._began_s = None
                if batch is not None or self._is_over:
                    return batch
                self._freed.set()  # there is room for what an append still needs
                await self._read.wait()
            elif self._buffer.uncut:
                self._began_s = now() if self._began_s is None else self._began_s
                await _until(self._read, self._began_s + self._linger_s - now())
            else:
                await self._read.wait()

    def _is_due(self, now_s: float) -> bool:
        """Whether there is an append that need not wait for more."""
        buffer = self._buffer
        has_lasted = self._began_s is not None and now_s >= self._began_s + self._linger_s
        is_full = buffer.uncut >= self._batch_bytes
        return self._is_over or buffer.is_ready or is_full or has_lasted


async def _until(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()
