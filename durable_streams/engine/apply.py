"""Applying: durable records go to the streams' files, and checkpoints free the journal.

Two threads, independent of the event loop.  The *applier* owns the
:class:`~durable_streams.storage.writer.StreamWriter`; it gathers batches for up to 20 ms and writes
what belongs to one segment at once.  The *checkpointer* syncs what the applier touched and then
frees the journal's files.  Only durable records come here, so whoever copies or follows the files
sees only durable bytes.

A full disk is waited out (writing again changes nothing); any other error of a stream's files puts
that stream out of service (``failed``) and keeps the journal from its batch on, so that a restart
can apply it.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, NamedTuple

from durable_streams.engine.worker import Worker
from durable_streams.storage.format import journal as fmt
from durable_streams.storage.stream_files import DamagedFiles
from durable_streams.storage.writer import FilesLost, sync_dirty

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from durable_streams.engine.operations import Operation
    from durable_streams.storage.directory import DataDirectory
    from durable_streams.storage.format.journal import AppendRecord, Record
    from durable_streams.storage.journal import Journal
    from durable_streams.storage.writer import Dirty, StreamWriter

_GATHER_S: Final = 0.02
_GATHER_BYTES: Final = 8 * 1024 * 1024
_FULL_DISK_PAUSE_S: Final = 0.2

log = logging.getLogger("durable_streams.engine")


class _Batch(NamedTuple):
    number: int
    operations: list[Operation]


class _Checkpoint:
    """A request to the applier to hand over what is dirty."""

    def __init__(self) -> None:
        self.taken = threading.Event()
        self.dirty: Dirty
        self.number = 0


class _Synced(NamedTuple):
    dirty: Dirty


class _Nothing:
    """Time is up."""


_NOTHING: Final = _Nothing()
_Item = _Batch | _Checkpoint | _Synced | _Nothing | None


class _Run:
    """Contiguous appends of one segment, to be written at once."""

    __slots__ = ("data", "first", "index")

    def __init__(self, first: AppendRecord) -> None:
        self.first = first
        self.data = [first.data]
        self.index = [first.index]

    def add(self, record: AppendRecord) -> None:
        self.data.append(record.data)
        self.index.append(record.index)


class Applier:
    """The applier thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        writer: StreamWriter,
        number: int,
        *,
        applied: Callable[[int, list[Operation]], None],
        failed: Callable[[str, str, str], None],
    ) -> None:
        """``number``: the last batch before the first one given.

        ``applied`` and ``failed`` (path, id and reason of a stream) are called on the loop.
        """
        self._loop = loop
        self._writer = writer
        self._applied = applied
        self._failed = failed
        self._number = number
        self._held: int | None = None
        self._stopping = False
        self._broken: set[str] = set()
        self._runs: dict[tuple[str, int], _Run] = {}
        self._queue: SimpleQueue[_Item] = SimpleQueue()
        self._thread = threading.Thread(
            target=self._main, name="durable-streams-apply", daemon=True
        )
        self._thread.start()

    def submit(self, number: int, operations: list[Operation]) -> None:
        """Apply a durable batch, after those before."""
        self._queue.put(_Batch(number, operations))

    def take_dirty(self) -> tuple[Dirty, int]:
        """What is to be synced so that every batch up to the number is in the files; blocks."""
        request = _Checkpoint()
        self._queue.put(request)
        request.taken.wait()
        return request.dirty, request.number

    def synced(self, dirty: Dirty) -> None:
        """A dirty set is durable."""
        self._queue.put(_Synced(dirty))

    def stop(self) -> None:
        """Apply what was given, as far as the disk has room, and end the thread; blocks."""
        self._stopping = True
        self._queue.put(None)
        self._thread.join()

    def _main(self) -> None:
        while True:
            item = self._queue.get()
            while isinstance(item, _Batch):
                item = self._gather(item)
            if item is None:
                return
            self._serve(item)

    def _serve(self, item: _Checkpoint | _Synced | _Nothing) -> None:
        match item:
            case _Checkpoint():
                item.dirty = self._writer.take_dirty()
                item.number = self._number if self._held is None else self._held
                item.taken.set()
            case _Synced():
                self._writer.synced(item.dirty)
            case _Nothing():
                return

    def _gather(self, first: _Batch) -> _Item:
        """Apply this batch and those that come soon; the item that ended the gathering."""
        batches = [first]
        size = sum(operation.size_bytes for operation in first.operations)
        deadline = time.monotonic() + _GATHER_S
        item: _Item
        while True:
            try:
                item = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                item = _NOTHING
                break
            if not isinstance(item, _Batch):
                break
            batches.append(item)
            size += sum(operation.size_bytes for operation in item.operations)
            if size > _GATHER_BYTES:
                item = _NOTHING
                break
        self._apply(batches)
        return item

    def _apply(self, batches: list[_Batch]) -> None:
        for batch in batches:
            for operation in batch.operations:
                for record in operation.records:
                    self._take(record)
        self._flush()
        self._number = batches[-1].number
        operations = [operation for batch in batches for operation in batch.operations]
        self._loop.call_soon_threadsafe(self._applied, self._number, operations)

    def _take(self, record: Record) -> None:
        if isinstance(record, fmt.AppendRecord):
            key = (record.id, record.segment)
            run = self._runs.get(key)
            if run is None:
                self._runs[key] = _Run(record)
            else:
                run.add(record)
            return
        if isinstance(record, fmt.DeleteRecord):
            self._flush()
        self._guard(record.path, record.id, partial(self._structural, record))

    def _structural(self, record: Record) -> None:
        match record:
            case fmt.CreateRecord():
                self._writer.create(record)
            case fmt.AdoptRecord():
                self._writer.adopt(record)
            case fmt.SidecarRecord():
                self._writer.replace_sidecar(record)
            case fmt.DeleteRecord():
                self._writer.delete(record)
                self._broken.discard(record.id)
            case fmt.AppendRecord():
                raise TypeError("appends are applied in runs")

    def _flush(self) -> None:
        for run in self._runs.values():
            self._guard(run.first.path, run.first.id, partial(self._write, run))
        self._runs.clear()

    def _write(self, run: _Run) -> None:
        self._writer.append(run.first, b"".join(run.data), b"".join(run.index))

    def _guard(self, path: str, stream_id: str, write: Callable[[], None]) -> None:
        """Do a write, whatever the disk says."""
        if stream_id in self._broken:
            return
        while True:
            try:
                write()
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT) and not self._stopping:
                    log.error("the disk is full; waiting to write stream %s", path)
                    time.sleep(_FULL_DISK_PAUSE_S)
                    continue
                self._break(path, stream_id, f"writing its files failed: {error}")
            except (FilesLost, DamagedFiles) as error:
                self._break(path, stream_id, str(error))
            return

    def _break(self, path: str, stream_id: str, reason: str) -> None:
        self._broken.add(stream_id)
        if self._held is None:
            self._held = self._number
        log.critical(
            "stream %s: %s; its acknowledged data stays in the journal until a restart",
            path,
            reason,
        )
        self._loop.call_soon_threadsafe(self._failed, path, stream_id, reason)


class Checkpointer:
    """Syncs the streams' files and frees the journal's."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        directory: DataDirectory,
        journal: Journal,
        applier: Applier,
        failed: Callable[[OSError], None],
    ) -> None:
        """``failed`` is called on the loop if a sync failed, which is final."""
        self._loop = loop
        self._directory = directory
        self._journal = journal
        self._applier = applier
        self._failed = failed
        self._worker = Worker("durable-streams-checkpoint")
        self._requested = False

    def request(self) -> None:
        """Checkpoint soon, unless one is about to begin; called on the loop."""
        if not self._requested:
            self._requested = True
            self._worker.do(self._checkpoint)

    def _checkpoint(self) -> None:
        self._requested = False
        dirty, number = self._applier.take_dirty()
        try:
            sync_dirty(self._directory, dirty)
        except OSError as error:
            self._loop.call_soon_threadsafe(self._failed, error)
            return
        self._applier.synced(dirty)
        self._journal.checkpointed(number)

    def stop(self) -> None:
        """Do a last checkpoint and end the thread; blocks until then."""
        self._worker.do(self._checkpoint)
        self._worker.stop()
