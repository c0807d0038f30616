"""Closing, whatever cancels it.

A cancellation is a crash between any two awaits, and what is half closed keeps its lock, threads
and descriptors for the life of the process.  So closing is a list of steps, each of which is tried
whatever became of the one before, and each of which can be begun again where it was interrupted.

They run in a task of their own, which cancelling a caller does not touch.  The caller waits until
they are done, however often it is cancelled (a cancel scope of ``anyio`` does so in every turn of
the loop), and is cancelled then: control that returned earlier would find the directory locked, and
``asyncio.run`` would end the loop in the middle.

``asyncio.run`` cancels all tasks when it ends, also after a second Ctrl-C; that of the steps takes
no notice, and ``asyncio.run`` waits for it.  If an interrupt ends it (a ``KeyboardInterrupt`` is
raised wherever the program is), whoever waits begins another.  Only a loop that is closed ends it
for good, as a third Ctrl-C does: then the directory is as after a crash, with everything that was
acknowledged, and is let go with the process, or sooner (``forgotten``).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    Step = Callable[[], Awaitable[None]]
    """Raises ``CancelledError`` only if it is cancelled; then it is called again."""

log = logging.getLogger("durable_streams.filestore")


class Closing:
    """The steps of closing.  ``has_begun``: whether anybody has asked for them."""

    def __init__(self, begin: Callable[[], object], steps: Iterable[Step]) -> None:
        """``begin`` is called as soon as somebody asks, before anything is waited for."""
        self._begin = begin
        self._steps = deque(steps)
        self._task: asyncio.Task[None] | None = None

    @property
    def has_begun(self) -> bool:
        """Whether closing is under way, or done."""
        return self._task is not None

    async def finish(self) -> None:
        """Return when all steps are done; if that is cancelled meanwhile, raise so afterwards."""
        cancelled: asyncio.CancelledError | None = None
        while self._steps:
            if self._task is None:
                self._attempt(self._begin)
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._run(), name="durable-streams-closing")
                self._task.add_done_callback(retrieve)
            try:
                await asyncio.wait([self._task])
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    async def _run(self) -> None:
        while self._steps:
            try:
                await self._steps[0]()
            except asyncio.CancelledError:
                continue  # by who cancels all tasks there are: the step goes on
            except Exception as error:  # noqa: BLE001 - whatever it is, it is logged
                _failed(error)
            self._steps.popleft()

    def _attempt(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is logged
            _failed(error)


def _failed(error: Exception) -> None:
    log.critical("bug: a step of closing failed; the others go on", exc_info=error)


def in_turn(work: Callable[[], object]) -> Step:
    """A step that waits for nothing."""

    async def step() -> None:
        work()

    return step


def in_thread(begin: Callable[[], asyncio.Future[None]]) -> Step:
    """A step that a thread does, once, however often it is called.  ``begin`` hands it over."""
    job: asyncio.Future[None] | None = None

    async def step() -> None:
        nonlocal job
        if job is None:
            job = begin()
        await asyncio.wait([job])
        job.result()

    return step


def retrieve(task: asyncio.Future[Any]) -> None:
    """Take note of what something ended with, so that asyncio does not log it."""
    if not task.cancelled():
        task.exception()
