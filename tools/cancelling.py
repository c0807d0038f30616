"""Cancelling at a chosen suspension, and what must not be held afterwards.

A coroutine gives way to the event loop where it is *suspended*: there, and only there, can it be
cancelled.  So counting suspensions walks every point at which a cancellation can come.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tools.descriptors import leaked_files, open_now

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from durable_streams.filestore.store import FileStore

T = TypeVar("T")


class When(Enum):
    """When a cancellation comes to what is suspended."""

    WAITING = "while it waits"
    WOKEN = "when what it waits for is there, before it goes on"
    AGAIN = "while it waits, and wherever it waits from there on"


class Cut(Awaitable[T], Generic[T]):
    """Awaits ``work``, whose task is cancelled at suspension ``at``, counted from 1.

    ``suspensions``: how many there were so far.
    """

    def __init__(self, work: Coroutine[Any, Any, T], at: int, when: When) -> None:
        self._work = work
        self._at = at
        self._when = when
        self.suspensions = 0

    def __await__(self) -> Generator[Any, Any, T]:
        step: Callable[[], Any] = partial(self._work.send, None)
        while True:
            try:
                waited = step()
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            self.suspensions += 1
            if self.suspensions == self._at or (
                self.suspensions > self._at and self._when is When.AGAIN
            ):
                self._cancel(waited)
            try:
                sent = yield waited
                step = partial(self._work.send, sent)
            except BaseException as error:  # noqa: BLE001 - it is raised where it belongs
                step = partial(self._work.throw, error)

    def _cancel(self, waited: asyncio.Future[Any] | None) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._when is When.WOKEN and waited is not None:
            waited.add_done_callback(lambda _: task.cancel())  # before the task hears of it
        else:
            task.cancel()

    async def run(self) -> T:
        """The same, for a task of its own."""
        return await self


async def cut_off(work: Coroutine[Any, Any, T], at: int, when: When) -> tuple[int, T | None]:
    """Cancel something; ``at``, or 0 if it had ended by itself, and what it gave if it did.

    What it raises instead is raised.
    """
    cut = Cut(work, at, when)
    task = asyncio.create_task(cut.run())
    try:
        given = await task
    except asyncio.CancelledError:
        if not task.cancelled():
            raise
        return at, None
    return 0, given


def tasks() -> set[asyncio.Task[Any]]:
    """Those that are not done, but for the one that asks."""
    return {task for task in asyncio.all_tasks() if not task.done()} - {asyncio.current_task()}


async def all_gone(before: set[asyncio.Task[Any]]) -> None:
    """Return when no task is left that was not there before; a test that hangs here has one."""
    while tasks() - before:
        await asyncio.sleep(0)


def our_threads() -> list[threading.Thread]:
    """The library's threads that live."""
    return [thread for thread in threading.enumerate() if "durable-streams" in thread.name]


def held_by(engine: FileStore) -> list[str]:
    """What somebody holds that a later call needs, when nothing is under way."""
    core = engine._core
    catalog, reader = core.catalog, core.reader
    held = {
        "a place in the line of writers": core.admission.waiting,
        "a turn at a path": len(engine._appends.turns.taken),
        "an errand": len(engine._errands._tasks),
        "the making of a stream": len(engine._births._making),
        "a question whether a stream is there": len(catalog._asked) + len(catalog._asking),
        "the opening of a stream": len(catalog._opening),
        "a wait for files": len(core.pipeline._in_files._waiting),
        "the look into an append": int(reader._looking.locked()),
        "bytes on their way": core.pipeline.committer.waiting_bytes,
        "a file open too often": len(leaked_files(open_now())),
    }
    for stream in catalog.streams():
        audience = stream.audience
        held |= {
            f"a reader of {stream.path}": len(audience.waiters) + len(audience.subscribers),
            f"a follower of {stream.path}": stream.followers,
            f"the building of a fork of {stream.path}": stream.building,
        }
    return [f"{what}: {count}" for what, count in held.items() if count]


async def nothing_held(engine: FileStore, before: set[asyncio.Task[Any]]) -> None:
    """Return when nothing is under way any more; what is held then is a fault."""
    await all_gone(before)
    await engine._errands.finished()
    await engine._core.pipeline.committer.settled()
    await engine._core.executor.finished()
    held = ["not looked yet"]
    for look_for_garbage in (False, True):  # what was dropped may be part of a traceback
        if held and look_for_garbage:
            gc.collect()
        for _ in range(3):  # what has ended tells those who waited
            await asyncio.sleep(0)
        held = held_by(engine)
    assert not held, held
