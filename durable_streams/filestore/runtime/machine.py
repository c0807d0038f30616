"""Threads, time and chance: what the file store takes from the machine besides the disk.

A simulation replaces the :class:`Runtime` and the ``Disk``, so
that one seed decides everything.
"""

from __future__ import annotations

import secrets
import threading
import time
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_P = ParamSpec("_P")
_T = TypeVar("_T")

MAX_JOBS: Final = 7
"""Jobs of one worker that wait at a time, at most: one of each kind that it does."""

_POOL_THREADS: Final = 8
_ID_BYTES: Final = 12
_IDS: Final = 64


class Worker(Protocol):
    """Does jobs one after the other; one that raises is a bug, and the last that is done."""

    @property
    def jobs(self) -> int:
        """How many wait: up to ``MAX_JOBS``."""

    def do(self, job: Callable[[], None]) -> None:
        """Do ``job`` after those given before; callable from any thread."""

    def stop(self, *, wait: bool = True) -> None:
        """End when the jobs given so far are done, and ``wait`` for that."""


class ThreadWorker:
    """A worker with a thread of its own."""

    def __init__(self, name: str, died: Callable[[BaseException], None]) -> None:
        """Start the thread, or raise ``RuntimeError``; it tells ``died`` what a job raised."""
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._died = died
        self._is_dead = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except BaseException as error:  # noqa: BLE001 - whatever it is, somebody hears of it
                self._is_dead = True
                self._died(error)
                return

    @property
    def jobs(self) -> int:
        """How many wait."""
        return self._jobs.qsize()

    def do(self, job: Callable[[], None]) -> None:
        """Queue a job."""
        if not self._is_dead:
            self._jobs.put(job)

    def stop(self, *, wait: bool = True) -> None:
        """End the thread; blocks until it has, unless told not to ``wait``."""
        self._jobs.put(None)
        if wait:
            self._thread.join()


class Pool(Executor):
    """Threads that the interpreter neither ends nor waits for at its exit.

    Those of the standard library take nothing more as soon as the main thread has ended, though
    others of the program go on, and who waits for one is waited for.
    """

    def __init__(self, threads: int, name: str) -> None:
        """Start all of them, where somebody expects that it may fail: ``RuntimeError``."""
        self._jobs: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._shut = threading.Event()
        self._threads: list[threading.Thread] = []
        try:
            for number in range(threads):
                thread = threading.Thread(target=self._run, name=f"{name}_{number}", daemon=True)
                thread.start()
                self._threads.append(thread)
        except RuntimeError:
            self.shutdown(wait=False)
            raise

    def submit(
        self, fn: Callable[_P, _T], /, *arguments: _P.args, **named: _P.kwargs
    ) -> Future[_T]:
        """Have a job done; ``RuntimeError`` after the shutdown."""
        if self._shut.is_set():
            raise RuntimeError("no jobs are taken any more")
        job = _Job(partial(fn, *arguments, **named))
        self._jobs.put(job)
        if self._shut.is_set():  # in another thread, a moment ago: it may lie behind the end
            job.future.cancel()
        return job.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more jobs, and end when those given so far are done."""
        self._shut.set()
        if cancel_futures:
            self._cancel()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads if wait else ():
            thread.join()

    def _cancel(self) -> None:
        with suppress(Empty):
            while True:
                job = self._jobs.get_nowait()
                if job is not None:
                    job.future.cancel()

    @property
    def threads(self) -> int:
        """How many there are."""
        return len(self._threads)

    @property
    def jobs(self) -> int:
        """How many wait."""
        return self._jobs.qsize()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.do()
            del job  # not kept until the next one comes


class _Job(Generic[_T]):
    """Something to be done, and what became of it."""

    __slots__ = ("_do", "future")

    def __init__(self, do: Callable[[], _T]) -> None:
        self._do = do
        self.future: Future[_T] = Future()

    def do(self) -> None:
        """Do it, unless nobody wants it any more."""
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self._do()
        except BaseException as error:  # noqa: BLE001 - whatever it is, whoever waits is told
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class Runtime:
    """The real machine."""

    def __init__(self) -> None:
        self._ids: list[str] = []

    def worker(self, name: str, died: Callable[[BaseException], None]) -> Worker:
        """A new worker; ``died`` is told, in its thread, what the job raised that ended it.

        Raises ``RuntimeError`` if the system gives no thread.
        """
        return ThreadWorker(f"durable-streams-{name}", died)

    def executor(self) -> Executor:
        """A new executor for what is not a worker's; its threads are there, or as above."""
        return Pool(_POOL_THREADS, "durable-streams-files")

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
