"""What stands in for threads, journals and streams where a test drives one module by hand."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, cast

from durable_streams.filestore.pipeline.operations import DeleteOperation, Operation
from durable_streams.model.paths import parse_path_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from durable_streams.filestore.format.journal import Record
    from durable_streams.filestore.runtime.supervisor import Supervisor
    from durable_streams.filestore.streams.stream import Stream
    from durable_streams.model.errors import StreamError


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
