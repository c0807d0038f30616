"""Operations: accepted changes on their way to the journal and to the files.

An operation's records are one atomic unit.  It was *decided* when it was made (the stream's
``decided`` state has it), becomes *durable* with its batch or *fails* and is undone (latest first),
and is *applied* when its records are in the streams' files.  All methods run on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Final

from durable_streams.filestore.format.journal import AppendRecord, ForkRecord
from durable_streams.filestore.streams.life import TRANSITIONS, Event, Life
from durable_streams.filestore.streams.stream import MemoryChunk
from durable_streams.model.errors import StreamGone, StreamNotFound
from durable_streams.model.paths import path_text
from durable_streams.model.results import Publication
from durable_streams.waiters import resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from durable_streams.filestore.format.index import Tail
    from durable_streams.filestore.format.journal import AdoptRecord, Record
    from durable_streams.filestore.format.sidecar import Sidecar
    from durable_streams.filestore.streams.stream import Before, Stream
    from durable_streams.model.errors import StreamError
    from durable_streams.model.offsets import Offset
    from durable_streams.model.results import Appended

log = logging.getLogger("durable_streams.filestore")

_RECORD_BYTES: Final = 256  # of a packed record beside its path, data and index lines, at most


class Operation:
    """Base: waits and outcome.

    ``error``: why it failed, once it has.  ``size_bytes``: at least what its records take in the
    journal.  ``keep``: the files that it deletes go to ``aside/``.  ``earlier``: the one before it
    to its stream, while that is on its way.
    """

    keep = False
    __slots__ = ("_callbacks", "earlier", "error", "pending", "records", "size_bytes", "stream")

    @property
    def streams(self) -> tuple[Stream, ...]:
        """If what came before to one of them fails, so does this."""
        return (self.stream,)

    def __init__(
        self, stream: Stream, records: Sequence[Record], size_bytes: int | None = None
    ) -> None:
        self.stream = stream
        self.records = records
        self.size_bytes = sum(map(size_of, records)) if size_bytes is None else size_bytes
        self.pending = True
        self.error: StreamError | None = None
        self._callbacks: list[Callable[[], None]] = []
        self.earlier = stream.last_operation
        stream.last_operation = self

    def when_settled(self, callback: Callable[[], None]) -> None:
        """Call back, once, when a pending operation is durable or has failed."""
        self._callbacks.append(callback)

    async def wait(self) -> None:
        """Return when durable, raise if it failed.  Any number may wait; cancelling harms none."""
        if self.pending:
            waiter = asyncio.get_running_loop().create_future()
            self.when_settled(partial(resolve, waiter))
            await waiter
        if self.error is not None:
            raise self.error.again()

    def settle(self, error: StreamError | None) -> None:
        """The batch is durable (None) or failed."""
        self.pending = False
        self.error = error
        while self.earlier is not None and not self.earlier.pending:
            self.earlier = self.earlier.earlier
        if self.stream.last_operation is self:
            self.stream.last_operation = self.earlier  # a later one may fail before an earlier ends
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback()
            except Exception:
                log.critical("bug: somebody was not told how a write ended", exc_info=True)

    def durable(self) -> None:
        """The records are durable."""

    def undo(self) -> None:
        """The records failed: the decided state is what it was before."""

    def applied(self) -> None:
        """The records are in the files."""


class AppendOperation(Operation):
    """Bytes, a close, or both; its own ticket, as most appends wait for nothing else.

    ``result``: what its caller is told once it is durable.
    """

    __slots__ = ("before", "record", "result", "tail")

    def __init__(
        self, stream: Stream, record: AppendRecord, before: Before, result: Appended
    ) -> None:
        # What ``Operation`` does, once more: this is on the way of every append.
        self.stream = stream
        self.records = (record,)
        self.size_bytes = size_of_append(record)
        self.pending = True
        self.error = None
        self._callbacks = []
        self.earlier = stream.last_operation
        stream.last_operation = self
        self.record = record
        self.before = before
        self.result = result
        self.tail: Tail = stream.decided

    def outcome(self) -> Appended:
        """The answer of a settled one; raises what it failed with."""
        if self.error is not None:
            raise self.error.again()
        return self.result

    @property
    def start(self) -> Offset:
        """Where the stream ended before."""
        return self.before.tail.offset

    def durable(self) -> None:
        """Let readers see it."""
        stream, record = self.stream, self.record
        stream.durable = self.tail
        if record.data:
            chain = self.tail.chain
            stream.remember(MemoryChunk(record.segment, record.position, record.data, chain))

    def undo(self) -> None:
        """Take it back."""
        self.stream.take_back(self.before)

    def applied(self) -> None:
        """The files have it."""
        self.stream.forget_applied(self.tail)


class BirthOperation(Operation):
    """A new stream, perhaps with first content; nobody sees it before it is durable."""

    __slots__ = ("_discard", "first_data", "tail")

    def __init__(
        self,
        stream: Stream,
        records: Sequence[Record],
        first_data: bytes,
        discard: Callable[[], None],
    ) -> None:
        """``discard`` takes the stream out of the catalogue again."""
        super().__init__(stream, records)
        self.first_data = first_data
        self._discard = discard
        self.tail = stream.decided
        stream.begins(Life.COMING, self)

    def durable(self) -> None:
        """Let readers see it."""
        tail = self.tail
        self.stream.moves(Event.DURABLE)
        self.stream.durable = tail
        if self.first_data:
            self.stream.remember(MemoryChunk(tail.segment, 0, self.first_data, tail.chain))

    def undo(self) -> None:
        """Take it back."""
        self.stream.moves(Event.FAILED)
        self._discard()

    def applied(self) -> None:
        """The files have it."""
        self.stream.forget_applied(self.tail)


class AdoptOperation(Operation):
    """A fork that was built beside; nobody sees it before its directory is in place."""

    __slots__ = ("_discard", "_in_place", "_source", "_tail", "first")

    def __init__(
        self,
        stream: Stream,
        source: Stream,
        adopt: AdoptRecord,
        first: AppendRecord | None,
        discard: Callable[[], None],
    ) -> None:
        """``first``: what the fork gets at once; ``discard`` takes it out of the catalogue."""
        super().__init__(stream, (adopt,) if first is None else (adopt, first))
        self._source = source
        self.first = first
        self._tail = stream.decided
        self._discard = discard
        self._in_place = False
        stream.begins(Life.COMING, self)

    @property
    def streams(self) -> tuple[Stream, ...]:
        """Its source as well, which must know of it."""
        return (self.stream, self._source)

    def settle(self, error: StreamError | None) -> None:
        """Settled when it failed, or is in place as well as durable."""
        if error is not None or self._in_place:
            super().settle(error)

    def undo(self) -> None:
        """Take it back."""
        self.stream.moves(Event.FAILED)
        self._discard()

    def applied(self) -> None:
        """The files have it."""
        self._in_place = True
        self.stream.moves(Event.DURABLE)
        self.stream.durable = self._tail
        self.stream.forget_applied(self._tail)
        self.settle(None)


class SidecarOperation(Operation):
    """A new version of a stream's sidecar."""

    __slots__ = ("_before",)

    def __init__(self, stream: Stream, records: Sequence[Record], before: Sidecar) -> None:
        super().__init__(stream, records)
        self._before = before

    def undo(self) -> None:
        """Take it back."""
        self.stream.sidecar = self._before


class SoftDeleteOperation(SidecarOperation):
    """The end of a stream that forks need still: its new sidecar says so."""

    __slots__ = ()

    def __init__(self, stream: Stream, records: Sequence[Record], before: Sidecar) -> None:
        super().__init__(stream, records, before)
        stream.begins(TRANSITIONS[stream.state][Event.SOFT_DELETE], self)

    def durable(self) -> None:
        """Its readers leave."""
        self.stream.moves(Event.DURABLE)
        self.stream.audience.end(StreamGone(path_text(self.stream.path)))

    def undo(self) -> None:
        """Take it back."""
        super().undo()
        self.stream.moves(Event.FAILED)


class DeleteOperation(Operation):
    """The end of a stream; ``keep``: its files go to ``aside/``."""

    __slots__ = ("_gone", "_restore", "_unlinked", "keep")

    def __init__(
        self,
        stream: Stream,
        records: Sequence[Record],
        *,
        keep: bool,
        restore: Callable[[], None],
        gone: Callable[[], None],
        unlinked: Callable[[], None],
    ) -> None:
        """``restore`` undoes the decision; ``gone``: it is durable.

        ``unlinked``: its directory has left its path.
        """
        super().__init__(stream, records)
        self.keep = keep
        self._restore = restore
        self._gone = gone
        self._unlinked = unlinked
        stream.begins(TRANSITIONS[stream.state][Event.DELETE], self)

    def durable(self) -> None:
        """Its readers leave."""
        self.stream.moves(Event.DURABLE)
        self._gone()
        self.stream.audience.end(StreamNotFound(path_text(self.stream.path)))

    def undo(self) -> None:
        """Take it back."""
        self.stream.moves(Event.FAILED)
        self._restore()

    def applied(self) -> None:
        """The files have it."""
        self.stream.moves(Event.UNLINK)
        self._unlinked()


def size_of_append(record: AppendRecord) -> int:
    """:func:`size_of` an append."""
    return _RECORD_BYTES + len(record.path) + len(record.data) + len(record.index)


def size_of(record: Record) -> int:
    """At least what a record takes in the journal."""
    if isinstance(record, AppendRecord):
        return size_of_append(record)
    size = _RECORD_BYTES + len(record.path)
    for name in ("data", "index", "sidecar"):
        size += len(getattr(record, name, b""))
    if isinstance(record, ForkRecord):
        size += len(record.fork_path)
    return size


def publish(stream: Stream, appends: Sequence[AppendOperation]) -> None:
    """Tell a stream's live readers; whatever goes wrong there is no business of the writers."""
    try:
        stream.audience.wake()
        for _, run in groupby(appends, lambda append: append.record.segment):
            stream.audience.publish(_publication(list(run)))
    except Exception:
        log.critical(
            "bug: readers of %s were not told of an append", path_text(stream.path), exc_info=True
        )


def _publication(appends: Sequence[AppendOperation]) -> Publication:
    """What consecutive appends to one segment made public."""
    last = appends[-1].tail
    data = b"".join([append.record.data for append in appends])
    return Publication(appends[0].start, last.offset, data, last.closed)
