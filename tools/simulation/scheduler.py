"""One seed decides everything: an event loop without sockets or threads, in virtual time.

Workers and executors queue their jobs here; whenever the loop would wait, and now and then when it
would not, the scheduler does one of them.  Time passes only when nothing else can happen.
"""

from __future__ import annotations

import asyncio
import selectors
from collections import deque
from concurrent.futures import Executor, Future
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from durable_streams.filestore.runtime.machine import MAX_JOBS, Runtime

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random


NAMES: ContextVar[Callable[[str], None] | None] = ContextVar("NAMES", default=None)
"""Who is told of the ids that are drawn for the request of a task."""


class Deadlock(Exception):
    """Everybody waits and nothing is left to happen."""


class _Selector(selectors.BaseSelector):
    """Asked by the loop how long to sleep, does a job or lets time pass instead."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, 0, None)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._scheduler.turn(timeout)
        return []

    def get_map(self) -> Any:
        return {}


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is the scheduler's."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        super().__init__(_Selector(scheduler))

    def time(self) -> float:
        return self._scheduler.now

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Any = None
    ) -> Any:
        return self.call_soon(callback, *args, context=context)


class _Worker:
    """Jobs in order, done when the scheduler says so, never more than are promised."""

    def __init__(self) -> None:
        self.queue: deque[Callable[[], None]] = deque()

    @property
    def jobs(self) -> int:
        return len(self.queue)

    def do(self, job: Callable[[], None]) -> None:
        self.queue.append(job)
        assert self.jobs <= MAX_JOBS, f"{self.jobs} jobs wait for one worker"

    def stop(self, *, wait: bool = True) -> None:
        while self.queue:
            self.queue.popleft()()


class _Executor(Executor):
    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        worker = self._scheduler.add_worker()

        def job() -> None:
            self._scheduler.workers.remove(worker)
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the caller's
                future.set_exception(error)

        worker.do(job)
        return future


class Scheduler(Runtime):
    """The machine the engine runs on."""

    def __init__(self, random: Random, now: float = 0.0) -> None:
        self._random = random
        self.now = now
        self.workers: list[_Worker] = []

    def turn(self, timeout: float | None) -> None:
        """The loop would sleep for ``timeout`` seconds (None: for ever)."""
        busy = [worker for worker in self.workers if worker.jobs]
        if busy and (timeout != 0 or self._random.random() < 0.3):
            self._random.choice(busy).queue.popleft()()
        elif timeout is None:
            raise Deadlock
        else:
            self.now += max(0.0, timeout)

    def add_worker(self) -> _Worker:
        worker = _Worker()
        self.workers.append(worker)
        return worker

    def worker(self, name: str, died: object) -> _Worker:
        """A job that raises ends the simulation."""
        return self.add_worker()

    def executor(self) -> Executor:
        return _Executor(self)

    def now_ms(self) -> int:
        return 1_800_000_000_000 + int(self.now * 1000)

    def new_id(self) -> str:
        drawn = f"{self._random.getrandbits(96):024x}"
        told = NAMES.get()
        if told is not None:
            told(drawn)
        return drawn

    def pause(self, seconds: float) -> None:
        """Time passes for everybody, and whoever waited for it comes next."""
        self.now += seconds
