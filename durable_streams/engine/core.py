"""The core of the engine: one data directory, its threads, and the way of every write.

    verbs → submit → journal batch → fdatasync → publish → acknowledge      loop, commit thread
                                         └→ apply → checkpoint              two more threads

Owned by one event loop.  Writes are admitted only while the files keep up with the journal
(``max_lag_s``) and there is room on the disk, so every queue is bounded; a writer that is held up
waits a while and then gets :class:`Overloaded`.  A failed sync is final: nothing more is written,
reads go on, ``fault`` says why.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections import deque
from contextlib import suppress
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Final, TypeVar

from durable_streams.engine.apply import Applier, Checkpointer
from durable_streams.engine.catalog import Catalog
from durable_streams.engine.clock import Clock
from durable_streams.engine.commit import Committer
from durable_streams.engine.executor import ClosableExecutor
from durable_streams.engine.operations import AppendOperation
from durable_streams.engine.outages import KEPT_SHARE
from durable_streams.engine.reads import Reader
from durable_streams.engine.runtime import cancel
from durable_streams.engine.waiters import Waiters
from durable_streams.errors import (
    DiskFull,
    Draining,
    NotOpen,
    Overloaded,
    StorageFailed,
    StreamError,
    StreamOutOfService,
    Unavailable,
)
from durable_streams.results import Publication
from durable_streams.settings import Durability
from durable_streams.storage import disk as disks
from durable_streams.storage.directory import RESERVE_BYTES
from durable_streams.storage.journal import Journal, SyncFailed
from durable_streams.storage.writer import StreamWriter, sync_dirty

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from durable_streams.engine.operations import Operation
    from durable_streams.engine.outages import KeptOperation
    from durable_streams.engine.runtime import Runtime
    from durable_streams.engine.stream import Stream
    from durable_streams.protocol.offsets import Offset
    from durable_streams.settings import Settings
    from durable_streams.storage.directory import DataDirectory
    from durable_streams.storage.recovery import Kept, StreamKey

_T = TypeVar("_T")

_TICK_S: Final = 0.5
_HELD_UP_S: Final = 5.0  # how long a writer waits for the files before it is told to come back
_QUEUE_BYTES: Final = 64 * 1024 * 1024
_RESERVE_SHARE: Final = 16  # of a small volume, one part in so many is the reserve
_PROOF_BYTES: Final = 4 * 1024 * 1024  # to be written where a quota may hide how much room there is
_ROOM_INODES: Final = 1024
_CHECKPOINT_AFTER_S: Final = 30.0
_TRY_AGAIN_S: Final = 2.0  # to write the files of streams out of service

log = logging.getLogger("durable_streams.engine")


class Core:
    """An open data directory."""

    def __init__(
        self,
        directory: DataDirectory,
        settings: Settings,
        runtime: Runtime,
        journal: Journal,
        *,
        verify: bool,
        outages: Mapping[StreamKey, Kept],
    ) -> None:
        """Start the threads.

        ``verify``: streams may have lost bytes acknowledged unsynced.  ``outages``: what could not
        be brought to the files of some; the journal has it behind what it had before.
        """
        self.loop = asyncio.get_running_loop()
        self.directory = directory
        self.settings = settings
        self.runtime = runtime
        self.now_ms = runtime.now_ms
        self.clock = Clock(self.loop, self.now_ms, settings.reclaim_delay_s)
        self.executor = ClosableExecutor(runtime.executor())
        self.fault: StorageFailed | None = None
        self._given_up: StorageFailed | None = None
        self.draining = self.closed = False
        self._closing = False
        self._was_refused = self._trying = False
        self._turn = 0
        self._full: DiskFull | Unavailable | None = None
        self._unapplied: deque[tuple[int, float]] = deque()
        self._unapplied_bytes = 0
        self._progress = Waiters(self.loop)
        self._last_checkpoint = self._last_start = self.loop.time()
        self.catalog = Catalog(
            directory,
            self.executor,
            settings.max_open_streams,
            self.now_ms,
            verify=verify,
        )
        self.reader = Reader(
            directory, self.executor, settings.max_read_bytes, settings.max_open_files // 2
        )
        self._journal = journal
        self._writer = StreamWriter(
            directory,
            settings.max_open_files // 2,
            journaled=settings.durability is Durability.FSYNC and not verify,
        )
        self._committer = Committer(
            self.loop,
            runtime.worker("commit"),
            self._journal,
            reserve=settings.journal_file_bytes // KEPT_SHARE,
            durable=self._on_durable,
            failed=self._on_fault,
            refused=self._on_refused,
        )
        self._applier = self._make_applier()
        self._put_out_of_service(outages)
        self._checkpointer = Checkpointer(
            self.loop,
            runtime.worker("checkpoint"),
            directory,
            self._applier,
            done=self._on_checkpoint,
            failed=self._on_sync_fault,
        )
        self._ticking = asyncio.create_task(self._tick())
        self._sync_what_recovery_left()

    def _make_applier(self) -> Applier:
        return Applier(
            self.loop,
            self.runtime,
            self.directory,
            self._writer,
            self._journal.last,
            applied=self._on_applied,
            failed=self._on_stream_fault,
            ended=self._on_stream_fault_ended,
            gave_up=self._on_given_up,
            tried=self._on_tried,
            refused=self._on_refused,
        )

    def _put_out_of_service(self, outages: Mapping[StreamKey, Kept]) -> None:
        for key, kept in outages.items():
            error = StreamOutOfService(key[0], kept.reason)
            self.catalog.outages.begin(*key, error, gone=False, last=0)
            self.catalog.outages.keep_records(key, kept.records)
        self._applier.put_out_of_service(outages)

    def _sync_what_recovery_left(self) -> None:
        if self._journal.full_files():
            self._writer.sync_everything()
            self.checkpoint()

    async def run(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Do something that may wait for the disk, off the loop."""
        return await self.loop.run_in_executor(self.executor, function, *arguments)

    # -- admission -------------------------------------------------------------------------

    def refusal(self) -> StreamError | None:
        """Why no write is taken now, None if writes are."""
        if self.fault is not None:
            return self.fault
        if self.draining:
            return NotOpen() if self.closed else Draining()
        return self._full

    def takes_sidecars(self) -> bool:
        """Whether a new version of a sidecar can be sent, on a full disk too: it replaces one."""
        refusal = self.refusal()
        return refusal is None or (isinstance(refusal, DiskFull) and not self.held_up())

    def held_up(self) -> bool:
        """Whether writes have to wait: the files lag, or too much is on its way."""
        unapplied = self._unapplied
        if unapplied and self.loop.time() - unapplied[0][1] > self.settings.max_lag_s:
            return True
        return self._committer.stalled or self._committer.waiting_bytes > _QUEUE_BYTES

    async def admit(self, *, frees: bool = False) -> None:
        """Return when a write may be decided; raises if it may not.

        ``frees``: it makes room, so it may be made on a full disk.
        """
        deadline = self.loop.time() + _HELD_UP_S
        while True:
            refusal = self.refusal()
            if refusal is not None and not (frees and isinstance(refusal, DiskFull)):
                raise refusal
            if not self.held_up() or (frees and refusal is not None):
                return
            if self.loop.time() >= deadline:
                raise Overloaded("writes outrun the disk")
            await self._progress.wait(deadline)

    async def applied_to(self, stream: Stream, offset: Offset) -> None:
        """Return when a stream's files have everything up to an offset."""
        while stream.applied.offset < offset:
            fault = self._given_up or self.catalog.outages.error(stream.path, stream.id)
            if fault is not None:
                raise fault
            await self._progress.wait(self.loop.time() + _HELD_UP_S)

    def drain(self) -> None:
        """Admit no more writes, and none of those that wait to be."""
        self.draining = True
        self._progress.wake()

    # -- the way of an operation -----------------------------------------------------------

    def submit(self, operation: Operation) -> None:
        """Send a decided operation on its way."""
        self._committer.submit(operation)

    def _on_durable(self, number: int, operations: list[Operation]) -> None:
        self._unapplied.append((number, self.loop.time()))
        self._applier.submit(number, operations)
        self.catalog.outages.durable(number, operations)
        heard: dict[Stream, list[AppendOperation]] = {}
        for operation in operations:
            self._unapplied_bytes += operation.size_bytes
            operation.durable()
            operation.settle(None)
            if isinstance(operation, AppendOperation) and operation.stream.audience:
                heard.setdefault(operation.stream, []).append(operation)
        for stream, appends in heard.items():
            stream.audience.wake()
            for _, run in groupby(appends, lambda append: append.record.segment):
                stream.audience.publish(_publication(list(run)))
        self._free_journal()
        self._progress.wake()

    def _on_applied(self, number: int, operations: list[Operation]) -> None:
        while self._unapplied and self._unapplied[0][0] <= number:
            self._unapplied.popleft()
        for operation in operations:
            self._unapplied_bytes -= operation.size_bytes
            operation.applied()
        self.catalog.outages.keep(operations)
        self._free_journal()
        self._progress.wake()

    def _on_checkpoint(self, number: int) -> None:
        """Free the journal up to a batch, having put behind it what streams out of service need."""
        if self.fault is not None:
            return
        outages = self.catalog.outages
        if not outages.keeps:
            self._checkpointed(number)
        elif self._journal.full_files() and self._can_keep() and self._has_settled(number):
            kept = outages.once_more()
            kept.when_settled(partial(self._on_kept, kept, number))
            self._committer.put_first(kept)

    def _on_kept(self, kept: KeptOperation, number: int) -> None:
        if kept.error is None:
            self._checkpointed(number)

    def _checkpointed(self, number: int) -> None:
        self._journal.checkpointed(number)
        self._committer.start()
        self._free_journal()
        self._progress.wake()

    def _has_settled(self, number: int) -> bool:
        """Whether nothing of streams out of service was or is written behind a batch."""
        outages = self.catalog.outages
        return (
            not self._closing
            and outages.last <= number
            and not outages.concern(self._committer.writing)
        )

    def _can_keep(self) -> bool:
        """Whether what streams out of service need is little enough to be written once more."""
        return self.catalog.outages.kept_bytes <= self.settings.journal_file_bytes // KEPT_SHARE

    def _free_journal(self) -> None:
        """Checkpoint when a journal file is full, unless that cannot free it."""
        if self._journal.full_files() and self._can_keep():
            applied = self._unapplied[0][0] - 1 if self._unapplied else self._journal.last
            if applied > self._journal.applied:
                self.checkpoint()

    def checkpoint(self) -> None:
        """Make the files durable soon, and free the journal."""
        if self.fault is None and not self._closing:
            self._last_checkpoint = self.loop.time()
            self._checkpointer.request()

    # -- what goes wrong -------------------------------------------------------------------

    def _on_fault(self, error: StorageFailed) -> None:
        if self.fault is None:
            self.fault = error
            self._committer.end(error)
            log.critical("%s; reads go on", error)

    def _on_sync_fault(self, error: Exception) -> None:
        self._on_fault(StorageFailed(f"syncing the streams' files failed: {error}"))

    def _on_given_up(self, operations: list[Operation]) -> None:
        """Nothing comes to the streams' files any more: end those who wait for that."""
        error = StorageFailed("writing the streams' files failed for a reason that is a bug")
        self._on_fault(error)
        self._given_up = error
        for operation in reversed(operations):
            if operation.pending:
                operation.undo()
                operation.settle(error)
        self._progress.wake()

    def look_for_failed_sync(self) -> None:
        """A sync that failed anywhere, in building a fork for one, is final for all."""
        if self.directory.disk.sync_failed and self.fault is None:
            self._on_fault(StorageFailed("a sync failed: what it was for may be lost"))

    def _on_stream_fault(self, path: str, stream_id: str, reason: str, gone: bool) -> None:
        self.look_for_failed_sync()
        error = StreamOutOfService(path, reason)
        last = self._unapplied[-1][0] if self._unapplied else 0
        self.catalog.outages.begin(path, stream_id, error, gone=gone, last=last)
        self._progress.wake()

    def _on_stream_fault_ended(self, path: str, stream_id: str) -> None:
        self.catalog.outages.end(path, stream_id)
        self._free_journal()
        self._progress.wake()

    def _try_again(self) -> None:
        """Try to bring streams out of service up to date, when all of theirs has been kept."""
        outages = self.catalog.outages
        on_their_way = self._unapplied and self._unapplied[0][0] <= outages.last
        if self._trying or not outages.keeps or on_their_way or self.fault is not None:
            return
        kept = list(outages.kept())
        self._turn = (self._turn + 1) % len(kept)  # not the same ones first each time
        self._trying = True
        self._applier.try_again(kept[self._turn :] + kept[: self._turn])

    def _on_tried(self) -> None:
        self._trying = False
        self.look_for_failed_sync()

    async def _tick(self) -> None:
        """Regular work of the core: room on the disk, checkpoints, syncs; runs for ever."""
        last_sync, lags, next_try = self.loop.time(), False, 0.0
        while True:
            await asyncio.sleep(_TICK_S)
            self.clock.look()
            self.look_for_failed_sync()
            await self._look_for_room()
            now = self.loop.time()
            if self.settings.durability is Durability.INTERVAL and (
                now - last_sync >= self.settings.sync_interval_s
            ):
                last_sync = now
                self._committer.sync()
            if now - self._last_checkpoint >= _CHECKPOINT_AFTER_S:
                self.checkpoint()
            if self._committer.stalled and now - self._last_start > _HELD_UP_S:
                self._committer.refuse(Overloaded("the journal is full and cannot be freed"))
            if not self._committer.stalled:
                self._last_start = now
            if now >= next_try:
                next_try = now + _TRY_AGAIN_S
                self._try_again()
            lagged, lags = lags, self.held_up()
            if lags:
                self._progress.wake()
                if not lagged:
                    log.warning("the streams' files lag behind the journal; writes are held up")

    async def _look_for_room(self) -> None:
        try:
            free, inodes, reserve = await self.run(self._room)
        except OSError as error:
            if not isinstance(self._full, Unavailable):
                log.critical("the data directory cannot be reached; writes refused: %s", error)
            self._full = Unavailable(f"the data directory cannot be reached: {error.strerror}")
            return
        coming = self._committer.waiting_bytes + self._unapplied_bytes
        full = free < reserve + coming or inodes < _ROOM_INODES
        if full and self._full is None:
            log.error("the disk is full: %d bytes and %d inodes left; writes refused", free, inodes)
        elif not full and self._full is not None:
            log.warning("there is room on the disk again; writes are accepted")
        self._full = DiskFull("the disk is full; nothing was stored") if full else None

    def _room(self) -> tuple[int, int, int]:
        """Free bytes and inodes, and the reserve, in a directory that is whole and ours; blocks."""
        self.directory.check_place()
        self.directory.mend()
        if not self._journal.is_in_place():
            path = self.directory.journal
            raise OSError(errno.ESTALE, "files of the journal were removed or replaced", str(path))
        disk, streams = self.directory.disk, self.directory.streams
        reserve = min(self.settings.reserve_bytes, disk.volume_bytes(streams) // _RESERVE_SHARE)
        free, inodes = disk.room(streams)
        if self._was_refused:
            self._was_refused = not self._can_write(min(_PROOF_BYTES, reserve))
        elif free > reserve + RESERVE_BYTES:
            self.directory.fill_reserve()
        return (0 if self._was_refused else free), inodes, reserve

    def _can_write(self, size: int) -> bool:
        """Whether a file of some size can be written: a quota is not told of otherwise; blocks."""
        proof = self.directory.tmp / "room"
        try:
            disks.write_file(self.directory.disk, proof, bytes(size))
        except OSError:
            return False
        finally:
            with suppress(OSError):
                self.directory.disk.unlink(proof)
        return True

    def _on_refused(self) -> None:
        """The disk, or a quota that nothing tells of, had no room for a write."""
        self._was_refused = True
        if self._full is None:
            log.error("there is no room on the disk, or within a quota; writes refused")
            self._full = DiskFull("the disk is full; nothing was stored")

    async def close(self) -> None:
        """Finish what was accepted, bring the files up to date, and let go of the directory."""
        self._applier.hasten()
        if self._committer.stalled or not self._can_keep():
            self._committer.refuse(Draining())
        await self._committer.settled()
        await cancel(self._ticking)  # not before: it ends what a full journal holds up
        self._closing = True  # the last checkpoint is our own
        await self._checkpointer.finished()
        await self.run(self._stop_threads)
        # What the threads had to say was heard before we came back here.
        await self.run(self._finish_files)
        self.reader.close()
        self.executor.shutdown(wait=False)
        self.closed = True
        self.directory.close()

    def _stop_threads(self) -> None:
        """In order: no new batches, no checkpoint, all applied."""
        self._committer.stop()
        self._checkpointer.stop()
        self._applier.stop()

    def _finish_files(self) -> None:
        """All synced, and the journal says so, unless streams out of service still need it."""
        dirty, number = self._applier.unsynced()
        try:
            if self.fault is None:
                sync_dirty(self.directory, dirty)
                if not self.catalog.outages.keeps:
                    self._journal.checkpointed(number)
                    self._journal.write([])
                self._journal.sync()
                if self.settings.durability is not Durability.FSYNC and not self.catalog.verifying:
                    self.directory.unmark_unsynced()
        except (OSError, SyncFailed) as error:
            self.fault = StorageFailed(f"the last checkpoint failed: {error}")
            log.critical("%s; the next start reads the journal", self.fault)
        self._writer.synced(dirty)
        self._writer.close()
        self._journal.close()


def _publication(appends: list[AppendOperation]) -> Publication:
    """What consecutive appends to one segment made public."""
    last = appends[-1].tail
    data = b"".join([append.record.data for append in appends])
    return Publication(appends[0].start, last.offset, data, last.closed)
