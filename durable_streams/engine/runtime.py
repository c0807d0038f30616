"""Threads, time and chance: what the engine takes from the machine besides the disk.

A simulation replaces the :class:`Runtime` and the :class:`~durable_streams.storage.disk.Disk`, so
that one seed decides everything.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

_ID_BYTES: Final = 12
_IDS: Final = 64


class Worker(Protocol):
    """Does jobs one after the other; they must not raise."""

    def do(self, job: Callable[[], None]) -> None:
        """Do ``job`` after those given before; callable from any thread."""

    def stop(self) -> None:
        """Return when the jobs given so far are done; there will be no more."""


class ThreadWorker:
    """A worker with a thread of its own."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def do(self, job: Callable[[], None]) -> None:
        """Queue a job."""
        self._jobs.put(job)

    def stop(self) -> None:
        """End the thread; blocks until it has."""
        self._jobs.put(None)
        self._thread.join()


class Runtime:
    """The real machine."""

    def __init__(self) -> None:
        self._ids: list[str] = []

    def worker(self, name: str) -> Worker:
        """A new worker."""
        return ThreadWorker(f"durable-streams-{name}")

    def executor(self) -> Executor:
        """A new executor for reading files."""
        return ThreadPoolExecutor(4, thread_name_prefix="durable-streams-files")

    def now_ms(self) -> int:
        """Wall clock, in milliseconds since 1970."""
        return time.time_ns() // 1_000_000

    def new_id(self) -> str:
        """An id that no stream ever had: 24 hex digits."""
        if not self._ids:  # asking the system for chance costs the same for one as for many
            chance = secrets.token_hex(_ID_BYTES * _IDS)
            self._ids = [
                chance[at : at + 2 * _ID_BYTES] for at in range(0, len(chance), 2 * _ID_BYTES)
            ]
        return self._ids.pop()

    def pause(self, seconds: float) -> None:
        """Let time pass, in a worker."""
        time.sleep(seconds)


def call_after_reading(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    """Call back when the loop has read what has come on all connections by now.

    So that requests which came together are dealt with together.
    """
    # Called next, it would come before what the loop finds when it looks for events.
    loop.call_soon(loop.call_soon, callback)


def tell(
    loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *arguments: object
) -> None:
    """Call back on a loop, from any thread; if it was closed, nobody is there to be told.

    So it is after a second Ctrl-C, which ends the loop in the middle of closing.
    """
    with suppress(RuntimeError):  # nothing else is what it can be
        loop.call_soon_threadsafe(callback, *arguments)


async def cancel(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks; they have ended when this returns, whatever they raised."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
