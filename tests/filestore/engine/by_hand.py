"""What stands in for threads, journals and streams where a test drives one module by hand."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from durable_streams.filestore.pipeline.operations import DeleteOperation, Operation
from durable_streams.filestore.runtime.machine import Runtime
from durable_streams.filestore.tuning import Tuning
from durable_streams.model.paths import parse_path_text

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from durable_streams.filestore.format.journal import Record
    from durable_streams.filestore.runtime.supervisor import Supervisor, WorkerName
    from durable_streams.filestore.streams.stream import Stream
    from durable_streams.model.errors import StreamError


_T = TypeVar("_T")

WORKERS: Final[tuple[WorkerName, ...]] = ("commit", "apply", "checkpoint")
"""In the order in which a supervisor makes them."""


class HandWorker:
    """A worker whose jobs a test does, one or all of them, when it likes."""

    def __init__(self) -> None:
        self._jobs: deque[Callable[[], None]] = deque()
        self.is_stopped = False

    @property
    def jobs(self) -> int:
        return len(self._jobs)

    def do(self, job: Callable[[], None]) -> None:
        self._jobs.append(job)

    def do_one(self) -> None:
        self._jobs.popleft()()

    def do_all(self) -> None:
        while self._jobs:
            self.do_one()

    def stop(self, *, wait: bool = True) -> None:
        self.do_all()
        self.is_stopped = True


class HandSupervisor:
    """Has one worker, and tells at once."""

    def __init__(self) -> None:
        self.one = HandWorker()

    def worker(self, name: str) -> HandWorker:
        return self.one

    def tell(self, callback: Callable[..., None], *arguments: object) -> None:
        callback(*arguments)


def supervisor_by_hand() -> tuple[Supervisor, HandWorker]:
    """A supervisor, and the worker that it has."""
    made = HandSupervisor()
    return cast("Supervisor", made), made.one


class HandRuntime(Runtime):
    """The machine, but for its three threads, whose jobs a test does; a pause is over at once."""

    def __init__(self) -> None:
        super().__init__()
        self._made: list[HandWorker] = []

    def worker(self, name: str, died: Callable[[BaseException], None]) -> HandWorker:
        self._made.append(HandWorker())
        return self._made[-1]

    def pause(self, seconds: float) -> None:
        pass

    def hand(self, name: WorkerName) -> HandWorker:
        """The worker of that name."""
        return self._made[WORKERS.index(name)]

    async def do(self, *names: WorkerName) -> None:
        """Do what some workers have to do by now, in another thread; the loop has heard of it."""
        for name in names:
            worker = self.hand(name)
            for _ in range(worker.jobs):  # not what comes meanwhile: nobody knows when that is
                await asyncio.to_thread(worker.do_one)
            await turns()

    async def do_all(self) -> None:
        """Do what there is to do, and what follows from it."""
        await turns()
        while any(worker.jobs for worker in self._made):
            await self.do(*WORKERS)


QUIET: Final = Tuning(tick_s=3600.0)
"""An engine that does nothing by itself."""


async def done(work: Coroutine[object, None, _T], runtime: HandRuntime, *names: WorkerName) -> _T:
    """What comes of something for which threads have to work: all of them, or those named."""
    task = asyncio.ensure_future(work)
    while not task.done():
        await turns()
        await runtime.do(*(names or WORKERS))
    return await task


async def turns() -> None:
    """As many of the loop as it takes to read what has come, and to begin."""
    for _ in range(4):
        await asyncio.sleep(0)


class Named:
    """As much of a stream as an operation knows."""

    def __init__(self, path: str, stream_id: str = "") -> None:
        self.path = parse_path_text(path)
        self.stored = path
        self.id = stream_id or path
        self.last_operation: Operation | None = None


def stream(path: str, stream_id: str = "") -> Stream:
    """A stream that nobody looks into."""
    return cast("Stream", Named(path, stream_id))


class Noted(Operation):
    """An operation that notes what becomes of it, in a list that it may share with others."""

    __slots__ = ("name", "notes")

    def __init__(
        self,
        name: str,
        of: Stream,
        notes: list[tuple[str, str]],
        records: Sequence[Record] = (),
        size_bytes: int = 1,
    ) -> None:
        super().__init__(of, records, size_bytes)
        self.name = name
        self.notes = notes

    def durable(self) -> None:
        self.notes.append(("durable", self.name))

    def undo(self) -> None:
        self.notes.append(("undone", self.name))

    def settle(self, error: StreamError | None) -> None:
        super().settle(error)
        self.notes.append(("told", self.name))


class Deletion(DeleteOperation):
    """Of a stream that nobody looks into."""

    __slots__ = ()

    def __init__(self, of: Stream, records: Sequence[Record], *, keep: bool) -> None:
        Operation.__init__(self, of, records)
        self.keep = keep


class Calls:
    """Something that may be called, and notes with what; ``calls.name`` is one function of it."""

    def __init__(self) -> None:
        self.made: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: self.made.append((name, *arguments))
