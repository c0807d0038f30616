"""All that runs for as long as a data directory is open: its threads, and its tasks on the loop.

Every thread is there before anything is opened, or nothing is.  No thread and no task ends in
silence: a bug that ends one is logged with its traceback and stays in ``bug``, which a health check
shows, and whoever owns the data directory is told, so that nothing more is written.

Work that somebody waits for (a request, a look at the disk) is no business of this module: whoever
waits gets what it raises.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from durable_streams.filestore.runtime.executor import ClosableExecutor
from durable_streams.model.errors import DataDirectoryError, StorageFailed
from durable_streams.own_process import OwnProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from durable_streams.filestore.runtime.machine import Runtime, Worker

_T = TypeVar("_T")

WorkerName = Literal["commit", "apply", "checkpoint"]

_STEP: Final = "a step on the event loop"

_WORKERS: Final[tuple[WorkerName, ...]] = ("commit", "apply", "checkpoint")

log = logging.getLogger("durable_streams.filestore")


class Supervisor:
    """Starts and watches what runs; its methods are called on the loop.

    ``executor``: for what may wait for the disk.  ``process``: that has all this.  ``bug``: why
    something ended that should not have, if anything did.  ``is_ending``: the data directory is
    being closed, or its loop; then it is no news that tasks end.
    """

    def __init__(self, runtime: Runtime) -> None:
        """Start all threads; ``DataDirectoryError`` if there are not enough of them."""
        self._loop = asyncio.get_running_loop()
        self.process = OwnProcess()
        self._on_bug: Callable[[str, StorageFailed], None] = lambda _what, _error: None
        self._on_end: Callable[[StorageFailed], None] = lambda _error: None
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._workers: dict[WorkerName, Worker] = {}
        self.bug: StorageFailed | None = None
        self.is_ending = False
        try:
            for name in _WORKERS:
                self._workers[name] = runtime.worker(name, partial(self._died, name))
            self.executor = ClosableExecutor(runtime.executor())
        except RuntimeError as error:
            self._stop_workers()
            raise DataDirectoryError(
                f"cannot start the threads that a data directory needs: {error}; allow the user "
                "or container more of them (ulimit -u, TasksMax, pids.max), or stop others"
            ) from error

    def tell_of_bugs(
        self,
        on_bug: Callable[[str, StorageFailed], None],
        on_end: Callable[[StorageFailed], None],
    ) -> None:
        """Have somebody told, with what to tell those who wait for anything.

        ``on_bug``: a worker ended (its name), or a step failed in the middle.  ``on_end``: a task
        ended, which leaves all else as it should be.
        """
        self._on_bug = on_bug
        self._on_end = on_end

    # -- threads ---------------------------------------------------------------------------

    def worker(self, name: WorkerName) -> Worker:
        """The worker of that name."""
        return self._workers[name]

    def tell(self, callback: Callable[..., None], *arguments: object) -> None:
        """Call back on the loop, where a bug is one as in a task; for any thread.

        If the loop was closed, nobody is there to be told.  So it is after a second Ctrl-C, which
        ends it in the middle of closing.
        """
        with suppress(RuntimeError):  # nothing else is what it can be
            self._loop.call_soon_threadsafe(self._call, callback, arguments)

    def _call(self, callback: Callable[..., None], arguments: tuple[object, ...]) -> None:
        try:
            callback(*arguments)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is logged
            self.met(_STEP, error)
        except BaseException as error:
            self.met(_STEP, error)  # it ended in the middle, all the same
            raise

    def _died(self, name: WorkerName, error: BaseException) -> None:
        """In a worker's thread, at its end."""
        self.tell(self.met, name, error)

    async def run(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Do something that may wait for the disk, off the loop."""
        return await self._loop.run_in_executor(self.executor, function, *arguments)

    def begin(self, function: Callable[[], _T]) -> asyncio.Future[_T]:
        """The same, to be awaited later, or again."""
        return self._loop.run_in_executor(self.executor, function)

    def abandon(self) -> None:
        """Let all threads and tasks end, with what they have; for when the opening failed."""
        self.cancel_tasks()
        self._stop_workers()
        self.executor.shutdown(wait=False)

    def cancel_tasks(self) -> None:
        """Let all tasks end."""
        while self._tasks:
            self._tasks.popitem()[0].cancel()

    def _stop_workers(self) -> None:
        for worker in self._workers.values():
            worker.stop(wait=False)

    # -- tasks -----------------------------------------------------------------------------

    def watch(
        self, name: str, work: Coroutine[None, None, None], *, ends: bool = False
    ) -> asyncio.Task[None]:
        """Run something for as long as the data directory is open, or until it ``ends``."""
        task = self._loop.create_task(work, name=f"durable-streams-{name}")
        self._tasks[task] = None
        task.add_done_callback(partial(self._done, name, ends))
        return task

    def _done(self, name: str, ends: bool, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if task not in self._tasks or not self.process.is_here:  # it was stopped, or is a copy
            return
        del self._tasks[task]
        if task.cancelled() and all(other.cancelling() for other in asyncio.all_tasks(self._loop)):
            self.is_ending = True  # the loop is, as asyncio.run ends it
        if error is not None or task.cancelled() or not ends:
            self._on_end(self._note(name, error))

    async def stop(self, *tasks: asyncio.Task[None]) -> None:
        """End tasks; they have ended when this returns.  Once more is as good as once."""
        for task in tasks:
            self._tasks.pop(task, None)
            task.cancel()
        await asyncio.wait(tasks)

    def met(self, what: str, error: BaseException) -> None:
        """A bug ended something."""
        self._on_bug(what, self._note(what, error))

    def _note(self, what: str, error: BaseException | None) -> StorageFailed:
        if error is None:
            level = logging.DEBUG if self.is_ending else logging.WARNING
            log.log(level, "somebody else cancelled %s; nothing more is written", what)
        elif isinstance(error, KeyboardInterrupt):  # which is raised wherever the program is
            log.warning("%s was interrupted; nothing more is written", what)
        else:
            log.critical("bug: %s ended; nothing more is written", what, exc_info=error)
        failure = StorageFailed(f"a part of the server ended ({what})")
        self.bug = self.bug or failure
        return failure
