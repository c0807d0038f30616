"""Applying: durable records go to the streams' files.

A thread, independent of the event loop, owns the
``StreamWriter``; it gathers batches for up to 50 ms and writes
what belongs to one segment at once.  Only durable records come here, so whoever copies or follows
the files sees only durable bytes.

It works in shares, one of which is scheduled at a time, so that a checkpoint which asks for what is
dirty has its turn between two of them however much there is to do.

A full disk is waited out (writing again changes nothing) while the deletions behind are done, and a
directory that somebody removed beside the streams is made again.  Any other error of a stream's
files puts that stream out of service (``failed``): what comes for it is not written, but for its
deletion, until all of it can be (``ended``).  An exception that is no such error is a bug, which
ends the thread: nothing more is written, and the journal keeps what it has.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from durable_streams.filestore.files import whole_files
from durable_streams.filestore.files.directory import FULL
from durable_streams.filestore.files.disk import NO_DESCRIPTORS
from durable_streams.filestore.files.identity import FilesLost
from durable_streams.filestore.files.recovery import apply_again
from durable_streams.filestore.files.stream_files import DamagedFiles
from durable_streams.filestore.format import journal as fmt
from durable_streams.filestore.format.stored_path import stored_text
from durable_streams.filestore.pipeline.giving_back import GivingBack
from durable_streams.filestore.pipeline.operations import AppendOperation, DeleteOperation
from durable_streams.filestore.pipeline.outages import KeptOperation
from durable_streams.settings import Durability

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from durable_streams.filestore.files.directory import DataDirectory
    from durable_streams.filestore.files.dirty import Dirty
    from durable_streams.filestore.files.recovery import StreamKey
    from durable_streams.filestore.files.writer import StreamWriter
    from durable_streams.filestore.format.journal import AppendRecord, DeleteRecord, Record
    from durable_streams.filestore.pipeline.operations import Operation
    from durable_streams.filestore.runtime.machine import Runtime
    from durable_streams.filestore.runtime.supervisor import Supervisor

_GATHER_S: Final = 0.05
_SHARE_BYTES: Final = 8 * 1024 * 1024
"""Applied before the loop is told, or ``share_writes`` writes."""

_PASSING: Final = FULL | NO_DESCRIPTORS
_FULL_DISK_PAUSE_S: Final = 0.2
_FAILURES_IN_A_ROW: Final = 4

log = logging.getLogger("durable_streams.filestore")


class _Run:
    """Contiguous appends of one segment, to be written at once."""

    __slots__ = ("data", "first", "index")

    def __init__(self, first: AppendRecord) -> None:
        self.first = first
        self.data = [first.data]
        self.index = [first.index]


class _Batch(NamedTuple):
    number: int
    operations: list[Operation]


class Applier:
    """Brings durable batches to the streams' files; its methods are called on the loop.

    ``writes`` only ever grows, with every write: it tells whether anything moves.  ``give_back``
    asks, in any thread, for the descriptors that are only kept open; ``syncing_here`` tells in
    which one a dirty set is synced.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        runtime: Runtime,
        directory: DataDirectory,
        writer: StreamWriter,
        number: int,
        *,
        durability: Durability,
        share_writes: int,
        applied: Callable[[int, list[Operation]], None],
        failed: Callable[[str, str, str, bool], None],
        ended: Callable[[str, str], None],
        tried: Callable[[], None],
        refused: Callable[[], None],
    ) -> None:
        """``number``: the last batch before the first one given.

        Called on the loop, in this order: ``failed`` (path and id of the stream that could not be
        written, why, and whether its files are gone), ``ended`` (path and id of one that had
        failed: it is deleted, or in its files by now) and ``applied``.  ``tried`` follows each
        :meth:`try_again`.
        """
        self._tell = supervisor.tell
        self._directory = directory
        self._runtime = runtime
        self._worker = supervisor.worker("apply")
        self._giving_back = GivingBack(self._worker, writer)
        self._do = self._giving_back.do
        self.give_back = self._giving_back.ask
        self.syncing_here = self._giving_back.syncing_here
        self._writer = writer
        self._applied = applied
        self._failed = failed
        self._ended = ended
        self._tried = tried
        self._refused = refused
        self._durability = durability
        self._share_writes = share_writes
        self._deleted_ahead: set[StreamKey] = set()
        self._told: tuple[StreamKey, int] | None = None
        self._taken: list[Operation] = []
        self._number = self._current = number
        self._stopping = False
        self._pending: deque[_Batch] = deque()
        self._scheduled = threading.Lock()  # held from when a share is queued until it is applied
        self._broken: dict[StreamKey, int] = {}  # with the last batch that has what it missed
        self._runs: dict[tuple[str, str, int], _Run] = {}
        self.writes = 0

    def submit(self, number: int, operations: list[Operation]) -> None:
        """Apply a durable batch, after those before."""
        self._pending.append(_Batch(number, operations))
        self._schedule(self._gather_share)

    def _schedule(self, share: Callable[[], None]) -> None:
        """Have a share of what is pending applied, unless one is to be already; for any thread."""
        if self._scheduled.acquire(blocking=False):
            self._do(share)

    def left(self) -> list[Operation]:
        """What is not in the files, once the worker has ended."""
        pending = [operation for batch in self._pending for operation in batch.operations]
        return [*self._taken, *pending]

    def take_dirty(
        self, then: Callable[[Dirty, int], None], refused: Callable[[OSError], None]
    ) -> None:
        """Hand over (in the worker) what is to be synced for every batch up to a number.

        Or tell (on the loop) why that cannot be said now.
        """
        self._do(lambda: self._take_dirty(then, refused))

    def _take_dirty(
        self, then: Callable[[Dirty, int], None], refused: Callable[[OSError], None]
    ) -> None:
        try:
            dirty, number = self.unsynced()
        except OSError as error:
            self._tell(refused, error)
        else:
            then(dirty, number)

    def unsynced(self) -> tuple[Dirty, int]:
        """What is to be synced, so that every batch up to the number is in files, or had failed.

        ``OSError`` if there is no place for what somebody took the name of: then only the journal
        has it, and must not be freed.
        """
        for (path, stream_id, _), reason in self._writer.strayed():
            self._break(path, stream_id, reason, gone=False)
        return self._writer.take_dirty(), self._number

    def synced(self, dirty: Dirty) -> None:
        """A dirty set is durable; callable from any thread."""
        self._do(lambda: self._synced(dirty))

    def _synced(self, dirty: Dirty) -> None:
        self._writer.synced(dirty)
        self._giving_back.answer()

    def hasten(self) -> None:
        """Wait no more: not for further batches, nor for room on the disk."""
        self._stopping = True

    def stop(self) -> None:
        """Apply what was given, as far as the disk has room, and end the worker; blocks."""
        self._do(self._apply_rest)
        self._worker.stop()
        self._giving_back.end()

    def _gather_share(self) -> None:
        """In the worker: a share of what is pending, after a moment in which more may come."""
        if not self._stopping:
            self._runtime.pause(_GATHER_S)
        self._apply_share()

    def _apply_share(self) -> None:
        """In the worker: a share of what is pending; a checkpoint has its turn between shares."""
        was_all = not self._pending or self._apply()
        self._scheduled.release()
        if self._pending:  # looked at after the release, so whatever came is seen here or there
            self._schedule(self._gather_share if was_all else self._apply_share)

    def _apply_rest(self) -> None:
        """In the worker: everything pending."""
        while self._pending:
            self._apply()

    def _apply(self) -> bool:
        """Apply a share of what is pending; whether that was all when it began."""
        size, writes = 0, 0
        taken = self._taken
        while self._pending and size < _SHARE_BYTES and writes < self._share_writes:
            self._current, operations = self._pending.popleft()
            taken += operations
            for operation in operations:
                size += operation.size_bytes
                if isinstance(operation, AppendOperation):  # first, as nearly all are
                    writes += self._append(operation.record)
                elif not isinstance(operation, KeptOperation):
                    writes += sum([self._take(record, operation) for record in operation.records])
                # else it is for the journal only: its stream may be in service again by now
        was_all = not self._pending
        self._flush()
        self._taken, self._told = [], None
        self._number = self._current
        self._tell(self._applied, self._number, taken)
        return was_all

    def _take(self, record: Record, operation: Operation) -> int:
        """Write a record, or keep it for a run; how many more writes there are for that."""
        if isinstance(record, fmt.AppendRecord):
            return self._append(record)
        if isinstance(record, fmt.DeleteRecord):
            self._flush()
        self._guard(record, partial(self._structural, record, keep=operation.keep))
        return 1

    def _append(self, record: AppendRecord) -> int:
        """Keep an append for a run; how many more runs there are for that."""
        key = (record.path, record.id, record.segment)
        run = self._runs.get(key)
        if run is None:
            self._runs[key] = _Run(record)
            return 1
        run.data.append(record.data)
        run.index.append(record.index)
        return 0

    def _structural(self, record: Record, *, keep: bool) -> None:
        match record:
            case fmt.CreateRecord():
                self._writer.create(record)
            case fmt.AdoptRecord():
                self._writer.adopt(record)
            case fmt.SidecarRecord():
                self._writer.replace_sidecar(record)
            case fmt.ForkRecord():
                self._writer.fork(record)
            case fmt.DeleteRecord():
                self._writer.delete(record, keep=keep)
                self._deleted_ahead.discard((record.path, record.id))
                self._end_outage((record.path, record.id))
            case fmt.AppendRecord():
                raise TypeError("appends are applied in runs")

    def _flush(self) -> None:
        for run in self._runs.values():
            self._guard(run.first, partial(self._write, run))
        self._runs.clear()

    def _write(self, run: _Run) -> None:
        self._writer.append(run.first, b"".join(run.data), b"".join(run.index))

    def _guard(self, record: Record, write: Callable[[], None]) -> None:
        """Do a write that begins with a record, whatever the disk says."""
        key = (record.path, record.id)
        self.writes += 1
        if key in self._broken and not isinstance(record, fmt.DeleteRecord):
            self._broken[key] = self._current
            return
        while key not in self._deleted_ahead or isinstance(record, fmt.DeleteRecord):
            self._giving_back.answer()
            try:
                write()
            except OSError as error:
                if isinstance(error, FileNotFoundError) and self._mended():
                    continue
                if error.errno in NO_DESCRIPTORS and self._writer.give_back():
                    continue
                passes = error.errno in _PASSING or not self._directory.is_there()
                if passes and not self._stopping:
                    self._wait(key, error)
                    continue
                gone = isinstance(error, FileNotFoundError) and self._is_gone(record)
                reason = f"writing its files failed: {error}"
                self._break(record.path, record.id, reason, gone=gone)
            except (FilesLost, DamagedFiles) as error:
                self._break(record.path, record.id, str(error), gone=False)
            return

    def _wait(self, key: StreamKey, error: OSError) -> None:
        """Let a moment pass before a write is tried again; on a full disk, make room in it."""
        told = (key, error.errno or 0)
        if told != self._told:
            self._told = told
            log.error("waiting to write stream %s: %s", stored_text(key[0]), error)
        if error.errno in FULL:
            self._tell(self._refused)
            self._delete_ahead()
        self._runtime.pause(_FULL_DISK_PAUSE_S)

    def _delete_ahead(self) -> None:
        """Do the deletions that wait behind a write for which there is no room.

        But for those that make none, as the files are kept.
        """
        pending = [batch.operations for batch in list(self._pending)]
        for operations in (self._taken, *pending):
            for operation in operations:
                if not isinstance(operation, DeleteOperation) or operation.keep:
                    continue
                for record in operation.records:
                    key = (record.path, record.id)
                    if isinstance(record, fmt.DeleteRecord) and key not in self._deleted_ahead:
                        try:
                            self._remove(record)
                        except (OSError, FilesLost, DamagedFiles) as error:
                            log.warning(
                                "stream %s cannot be deleted yet: %s", stored_text(key[0]), error
                            )
                        else:
                            self._deleted_ahead.add(key)

    def _remove(self, record: DeleteRecord) -> None:
        """Delete a stream, and its files at once."""
        disk, trash = self._directory.disk, self._directory.trash
        self._writer.delete(record)
        if self._durability is not Durability.FSYNC:
            # The journal may forget the deletion; then the stream must come back whole.
            disk.sync_directory(trash)
        whole_files.remove_tree(disk, trash / record.id)

    def _mended(self) -> bool:
        """Whether what was missing is a directory beside the streams, which is there again."""
        try:
            return self._directory.mend()
        except OSError:
            return False

    def _is_gone(self, record: Record) -> bool:
        """Whether somebody took a stream's files away: no restart can write them either."""
        if isinstance(record, fmt.CreateRecord) or not self._directory.is_there():
            return False
        return not self._directory.disk.is_directory(self._directory.home_of(record.path))

    def put_out_of_service(self, streams: Iterable[StreamKey]) -> None:
        """What comes for streams is not written; before anything is given."""
        self._broken.update(dict.fromkeys(streams, self._number))

    def try_again(self, kept: Sequence[tuple[StreamKey, Sequence[Record]]], number: int) -> None:
        """Bring streams out of service up to date: all that was kept of each, up to a batch.

        Those are left out that have missed something behind it, and those in service by now.
        ``ended`` is told of those that succeed; where several fail one after the other, the rest
        is not tried.
        """
        self._do(lambda: self._try_again(kept, number))

    def _try_again(self, kept: Sequence[tuple[StreamKey, Sequence[Record]]], number: int) -> None:
        """In the worker."""
        failures = 0
        for key, records in kept:
            # Shares have been applied since the loop asked: what they left out would be lost,
            # and what they deleted would be made again.
            if key not in self._broken or self._broken[key] > number:
                continue
            try:
                self._writer.forget(*key)
                apply_again(self._directory, records)
            except (OSError, FilesLost, DamagedFiles) as error:
                log.debug("stream %s stays out of service: %s", stored_text(key[0]), error)
                failures += 1
            else:
                failures = 0
                self._end_outage(key)
                name = stored_text(key[0])
                log.warning("stream %s is in service again: its files have everything", name)
            if failures == _FAILURES_IN_A_ROW:
                break
        self._tell(self._tried)

    def _end_outage(self, key: StreamKey) -> None:
        if key in self._broken:
            del self._broken[key]
            self._tell(self._ended, *key)

    def _break(self, path: str, stream_id: str, reason: str, *, gone: bool) -> None:
        """Put a stream out of service."""
        self._broken[path, stream_id] = self._current
        log.critical("stream %s is out of service: %s", stored_text(path), reason)
        self._tell(self._failed, path, stream_id, reason, gone)
