"""The core of the engine: one data directory, its threads, and the way of every write.

    verbs → admit → submit → journal batch → fdatasync → publish → acknowledge   loop, commit thread
                                                  └→ apply → checkpoint          two more threads

Owned by one event loop.  A failed sync is final, and so is a bug that ends a thread or a task:
nothing more is written, reads go on, ``fault`` says why.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, TypeVar

from durable_streams import descriptors
from durable_streams.filestore.catalog import Catalog
from durable_streams.filestore.files.dirty import sync_dirty
from durable_streams.filestore.files.journal import Journal, SyncFailed
from durable_streams.filestore.files.writer import StreamWriter
from durable_streams.filestore.pipeline.admission import Admission
from durable_streams.filestore.pipeline.apply import Applier
from durable_streams.filestore.pipeline.checkpoints import Checkpointer
from durable_streams.filestore.pipeline.commit import Committer
from durable_streams.filestore.pipeline.lag import Lag
from durable_streams.filestore.pipeline.operations import AppendOperation, publish
from durable_streams.filestore.pipeline.outages import KEPT_SHARE
from durable_streams.filestore.pipeline.retries import Retries
from durable_streams.filestore.pipeline.room import Room
from durable_streams.filestore.pipeline.ticks import Ticks
from durable_streams.filestore.reading.reads import Reader
from durable_streams.filestore.runtime import loop_copies
from durable_streams.filestore.runtime.clock import Clock
from durable_streams.filestore.runtime.closing import in_thread, in_turn
from durable_streams.live import Deliveries
from durable_streams.model.errors import DiskFull, Draining, StorageFailed
from durable_streams.settings import Durability
from durable_streams.waiters import Waiters

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from durable_streams.filestore.files.directory import DataDirectory
    from durable_streams.filestore.files.recovery import Kept, StreamKey
    from durable_streams.filestore.pipeline.operations import Operation
    from durable_streams.filestore.runtime.closing import Step
    from durable_streams.filestore.runtime.machine import Runtime
    from durable_streams.filestore.runtime.supervisor import Supervisor
    from durable_streams.filestore.streams.stream import Stream
    from durable_streams.model.errors import StreamError
    from durable_streams.model.offsets import Offset
    from durable_streams.settings import Settings

_T = TypeVar("_T")

_CHECKPOINT_AFTER_S: Final = 30.0
QUEUE_BYTES: Final = 64 * 1024 * 1024
"""On their way to the journal: with more, and one write more, writers wait in line."""

log = logging.getLogger("durable_streams.filestore")


class Core:
    """An open data directory."""

    def __init__(
        self,
        directory: DataDirectory,
        settings: Settings,
        runtime: Runtime,
        supervisor: Supervisor,
        journal: Journal,
        *,
        verify: bool,
        outages: Mapping[StreamKey, Kept],
    ) -> None:
        """Begin to work, with the threads that ``supervisor`` has.

        ``verify``: streams may have lost bytes acknowledged unsynced.  ``outages``: what could not
        be brought to the files of some; the journal has it behind what it had before.
        """
        self.loop = asyncio.get_running_loop()
        loop_copies.protect(self.loop)
        self.directory = directory
        self.settings = settings
        self.runtime = runtime
        self.supervisor = supervisor
        self.now_ms = runtime.now_ms
        self.clock = Clock(self.loop, self.now_ms, settings.reclaim_delay_s)
        self.executor = supervisor.executor
        self.deliveries = Deliveries(self.loop)
        self._closing, self._is_sound = False, True
        self._lag = Lag(self.loop, journal.last)
        self._in_files = Waiters(self.loop)
        self._last_checkpoint = self._moved = self.loop.time()
        self._writes_seen = 0
        self._not_applied: StorageFailed | None = None
        self.admission = Admission(
            self.loop, settings.held_up_s, is_held_up=self.held_up, last_moved=self.last_moved
        )
        self.catalog = Catalog(
            directory, self.executor, settings.max_open_streams, self.now_ms, verify=verify
        )
        available = descriptors.share(settings.max_open_files)
        self.reader = Reader(directory, self.executor, settings.max_read_bytes, available)
        self._journal = journal
        self._writer = StreamWriter(
            directory,
            available.files // 2,
            journaled=settings.durability is Durability.FSYNC and not verify,
        )
        self.room = Room(
            directory,
            journal,
            settings.reserve_bytes,
            supervisor,
            self.admission,
            coming=lambda: self.committer.waiting_bytes + self._lag.bytes,
        )
        # Each is let go once, whoever does it, and whatever became of the one before.
        self._files, self._held = ExitStack(), ExitStack()
        self._files.callback(journal.close)
        self._files.callback(self._writer.close)
        self._held.callback(directory.close)
        self._held.callback(self.reader.close)
        self._make_threads_work()
        self.retries.put_out_of_service(outages)
        supervisor.tell_of_bugs(self._on_bug, self._on_task_ended)
        self._ticking = supervisor.watch("ticks", Ticks(self).run())
        self._sync_what_recovery_left()

    def _make_threads_work(self) -> None:
        self.committer = Committer(
            self.loop,
            self.supervisor,
            self._journal,
            reserve=self.settings.journal_file_bytes // KEPT_SHARE,
            durable=self._on_durable,
            failed=self._on_fault,
            refused=self.room.refused,
        )
        self._applier = Applier(
            self.supervisor,
            self.runtime,
            self.directory,
            self._writer,
            self._journal.last,
            durability=self.settings.durability,
            applied=self._on_applied,
            failed=self._on_stream_fault,
            ended=self._on_stream_fault_ended,
            tried=self._on_tried,
            refused=self.room.refused,
        )
        self._checkpointer = Checkpointer(
            self.loop,
            self.supervisor,
            self.directory,
            self._applier,
            done=self._on_checkpoint,
            failed=self._on_sync_fault,
        )
        self.retries = Retries(
            self.catalog.outages,
            self._applier,
            self.committer,
            self._lag,
            self.settings.journal_file_bytes,
            freed=self._checkpointed,
        )

    def _sync_what_recovery_left(self) -> None:
        if self._journal.full_files():
            self._writer.sync_everything()
            self.checkpoint()

    async def run(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Do something that may wait for the disk, off the loop."""
        return await self.supervisor.run(function, *arguments)

    # -- admission -------------------------------------------------------------------------

    @property
    def fault(self) -> StorageFailed | None:
        """Why nothing is written any more, if that is so."""
        return self.admission.fault

    @property
    def draining(self) -> bool:
        """Whether the data directory is being closed."""
        return self.admission.draining

    def refusal(self) -> StreamError | None:
        """Why no write is taken now, None if writes are."""
        return self.admission.refusal()

    def takes_sidecars(self) -> bool:
        """Whether a new version of a sidecar can be sent, on a full disk too: it replaces one."""
        refusal = self.refusal()
        return refusal is None or (isinstance(refusal, DiskFull) and not self.held_up())

    def held_up(self) -> bool:
        """Whether writes have to wait: the files lag, or too much is on its way."""
        since = self._lag.since
        if since is not None and self.loop.time() - since > self.settings.max_lag_s:
            return True
        return self.committer.stalled or self.committer.waiting_bytes > QUEUE_BYTES

    def last_moved(self) -> float:
        """When anything that writers wait for went on, by the loop's clock."""
        writes = self._applier.writes
        if writes != self._writes_seen or self._checkpointer.moves():
            self._writes_seen = writes
            self._moved = self.loop.time()
        return self._moved

    async def applied_to(self, stream: Stream, offset: Offset) -> None:
        """Return when a stream's files have everything up to an offset."""
        while stream.applied.offset < offset:
            fault = self.supervisor.bug or self.catalog.outages.error(stream.path, stream.id)
            if fault is not None:
                raise fault.again()
            await self._in_files.wait()

    def drain(self) -> None:
        """Admit no more writes, and none of those that wait to be."""
        self.supervisor.is_ending = True
        self.admission.drain()

    # -- the way of an operation -----------------------------------------------------------

    def submit(self, operation: Operation) -> None:
        """Send a decided operation on its way."""
        self.committer.submit(operation)

    def _on_durable(self, number: int, operations: list[Operation]) -> None:
        self._moved = self.loop.time()
        self._lag.begins(number, operations)
        self._applier.submit(number, operations)
        self.catalog.outages.durable(number, operations)
        heard: dict[Stream, list[AppendOperation]] = {}
        for operation in operations:
            operation.durable()
            operation.settle(None)
            if isinstance(operation, AppendOperation) and operation.stream.audience:
                heard.setdefault(operation.stream, []).append(operation)
        for stream, appends in heard.items():
            publish(stream, appends)
        if self._not_applied is not None:
            self._end_unapplied(self._not_applied)
        self._free_journal()
        self.admission.look()

    def _on_applied(self, number: int, operations: list[Operation]) -> None:
        self._lag.ends(number, operations)
        for operation in operations:
            try:
                operation.applied()
            except Exception as error:  # noqa: BLE001 - the others are in files all the same
                self.supervisor.met("what follows a write", error)
        self.catalog.outages.keep(operations)
        self._free_journal()
        self._in_files.wake()
        self.admission.look()

    def _on_checkpoint(self, number: int) -> None:
        if self.fault is not None or self._closing:
            return
        is_needed = bool(self._journal.full_files())
        if is_needed or not self._writer.has_homeless:
            self.retries.free(number, is_needed=is_needed)

    def _checkpointed(self, number: int) -> None:
        self._moved = self.loop.time()
        self._journal.checkpointed(number)
        self.committer.start()
        self._free_journal()
        self.admission.look()

    def _free_journal(self) -> None:
        """Checkpoint when a journal file is full, unless that cannot free it."""
        if (
            not self._checkpointer.is_put_off
            and self._journal.full_files()
            and self.retries.can_keep()
            and self._lag.applied > self._journal.applied
        ):
            self.checkpoint()

    def checkpoint_is_due(self) -> bool:
        """Whether the last one is long ago, or has to be tried again."""
        since_s = self.loop.time() - self._last_checkpoint
        return self._checkpointer.is_put_off or since_s >= _CHECKPOINT_AFTER_S

    def checkpoint(self) -> None:
        """Make the files durable soon, and free the journal."""
        if self.fault is None and not self._closing:
            self._last_checkpoint = self.loop.time()
            self._checkpointer.request()

    # -- what goes wrong -------------------------------------------------------------------

    def _refuse_writes(self, error: StorageFailed) -> None:
        if self.fault is None:
            self.admission.set_fault(error)
            self.committer.end(error)
            log.critical("%s; reads go on", error)

    def _on_task_ended(self, error: StorageFailed) -> None:
        """All else is as it should be."""
        if self.supervisor.is_ending:  # what there is to say was said
            self.admission.set_fault(error)
            self.committer.end(error)
        else:
            self._refuse_writes(error)

    def _on_fault(self, error: StorageFailed) -> None:
        """What is in the files, or durable, is not known any more."""
        self._is_sound = False
        self._refuse_writes(error)

    def _on_sync_fault(self, error: Exception) -> None:
        self._on_fault(StorageFailed(f"syncing the streams' files failed: {error}"))

    def _on_bug(self, what: str, error: StorageFailed) -> None:
        """A worker ended: end those who wait for what it will not do."""
        self._on_fault(error)
        if what == "commit":
            self.committer.give_up(error)
        if what == "apply":
            self._not_applied = error
            self._end_unapplied(error)
        if what in {"apply", "checkpoint"}:
            self._checkpointer.abandon()
        self._in_files.wake()

    def _end_unapplied(self, error: StorageFailed) -> None:
        """Nothing comes to the files any more: end those who wait for that."""
        for operation in reversed(self._applier.left()):
            if operation.pending:
                operation.undo()
                operation.settle(error)

    def look_for_failed_sync(self) -> None:
        """A sync that failed anywhere, in building a fork for one, is final for all."""
        if self.directory.disk.sync_failed and self.fault is None:
            self._on_fault(StorageFailed("a sync failed: what it was for may be lost"))

    def _on_stream_fault(self, path: str, stream_id: str, reason: str, gone: bool) -> None:
        self.look_for_failed_sync()
        self.retries.begin(path, stream_id, reason, gone=gone)
        self._in_files.wake()

    def _on_stream_fault_ended(self, path: str, stream_id: str) -> None:
        self.catalog.outages.end(path, stream_id)
        self._free_journal()
        self._in_files.wake()

    def _on_tried(self) -> None:
        self.retries.tried()
        self.look_for_failed_sync()

    # -- the end ---------------------------------------------------------------------------

    def steps_of_closing(self) -> list[Step]:
        """Finish what was accepted, bring the files up to date, and let go of the directory."""
        return [
            self._settled,
            # Who comes now was admitted before, and has looked at the disk since.
            in_turn(lambda: self.committer.end(Draining())),
            lambda: self.supervisor.stop(self._ticking),  # it ends what a full journal holds
            self._checkpoints_finished,
            in_thread(lambda: self.supervisor.begin(self._stop_threads)),
            # What the threads had to say was heard before we came back here.
            in_thread(lambda: self.supervisor.begin(self._finish_files)),
            # Who left may have left something behind that writes, and then the lock must be ours.
            self.executor.finished,
            in_turn(self._let_go),
        ]

    async def _settled(self) -> None:
        self._applier.hasten()
        if self.committer.stalled or not self.retries.can_keep():
            self.committer.refuse(Draining())
        await self.committer.settled()

    async def _checkpoints_finished(self) -> None:
        self._closing = True  # the last checkpoint is our own
        await self._checkpointer.finished()

    def _let_go(self) -> None:
        self.supervisor.abandon()
        self.admission.closed = True
        self._held.close()

    def abandon(self) -> None:
        """Let go of the directory with what is in it; in a thread of nobody's, which it blocks."""
        self._closing = self.admission.draining = self.admission.closed = True
        self._applier.hasten()
        self.executor.shutdown(wait=False)
        with ExitStack() as ends:  # the last one given comes first
            ends.callback(self._held.close)
            ends.callback(self._files.close)
            ends.callback(self.executor.shutdown, wait=True)
            ends.callback(self._stop_threads)

    def _stop_threads(self) -> None:
        """In order: no new batches, no checkpoint, all applied; each, whatever the one before."""
        with ExitStack() as stops:  # the last one given comes first
            stops.callback(self._applier.stop)
            stops.callback(self._checkpointer.stop)
            stops.callback(self.committer.stop)

    def _finish_files(self) -> None:
        """All synced, and the journal says so, unless it has what the files do not."""
        try:
            if self._is_sound:
                self._checkpoint_last()
        except (OSError, SyncFailed) as error:
            self._on_last_fault(error)
        except Exception as error:
            log.critical("bug: the last checkpoint failed", exc_info=True)
            self._on_last_fault(error)
        self._files.close()

    def _checkpoint_last(self) -> None:
        try:
            dirty, number = self._applier.unsynced()
        except OSError:
            self._journal.sync()  # which has it all
            raise
        try:
            sync_dirty(self.directory, dirty)
            has_all = not self._writer.has_homeless
            if has_all and not self.catalog.outages.keeps:
                self._journal.checkpointed(number)
                self._journal.write([])
            self._journal.sync()
            is_marked = self.settings.durability is not Durability.FSYNC
            if has_all and is_marked and not self.catalog.verifying:
                self.directory.unmark_unsynced()
        finally:
            self._writer.synced(dirty)

    def _on_last_fault(self, error: Exception) -> None:
        self.admission.fault = StorageFailed(f"the last checkpoint failed: {error}")
        log.critical("%s; the next start reads the journal", self.fault)
