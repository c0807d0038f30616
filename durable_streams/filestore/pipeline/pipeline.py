"""The way of every write, from its decision until the journal need not keep it.

    admit → decide → submit → journal batch → fdatasync → publish → acknowledge
                                                 └→ apply → checkpoint → journal freed

Who owns what
-------------

===========  ================================================================================
the loop     all state of streams, the queue of decided operations, admission, health, outages,
             and what of the journal is free.  It alone decides, publishes and acknowledges.
commit       the journal's files while a batch is written and synced.  One batch is out at a time,
             so the loop may look at the journal when none is.
apply        the streams' files, through the ``StreamWriter``, and what of them is not synced yet.
checkpoint   a *dirty* set that the apply thread gave it, and the removed paths, to be written.
===========  ================================================================================

A thread gets jobs from the loop and tells the loop what became of them (``supervisor.tell``); none
looks at what another one owns.  The methods here run on the loop unless they say so.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from durable_streams.filestore.files.writer import StreamWriter
from durable_streams.filestore.pipeline.admission import Admission
from durable_streams.filestore.pipeline.apply import Applier
from durable_streams.filestore.pipeline.commit import Committer
from durable_streams.filestore.pipeline.freeing import Freeing
from durable_streams.filestore.pipeline.health import Health
from durable_streams.filestore.pipeline.lag import Lag
from durable_streams.filestore.pipeline.operations import AppendOperation, publish
from durable_streams.filestore.pipeline.outages import KEPT_SHARE, Outages
from durable_streams.filestore.pipeline.room import Room
from durable_streams.model.errors import DiskFull, Draining
from durable_streams.settings import Durability
from durable_streams.waiters import Waiters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from durable_streams.filestore.files.directory import DataDirectory
    from durable_streams.filestore.files.journal import Journal
    from durable_streams.filestore.files.recovery import Kept, StreamKey
    from durable_streams.filestore.pipeline.operations import Operation
    from durable_streams.filestore.pipeline.removed import RemovedPaths
    from durable_streams.filestore.runtime.machine import Runtime
    from durable_streams.filestore.runtime.supervisor import Supervisor
    from durable_streams.filestore.streams.stream import Stream
    from durable_streams.filestore.tuning import Tuning
    from durable_streams.model.errors import StorageFailed, StreamError
    from durable_streams.model.offsets import Offset
    from durable_streams.settings import Settings

QUEUE_BYTES: Final = 64 * 1024 * 1024
"""On their way to the journal: with more, and one write more, writers wait in line."""


class Pipeline:
    """The journal and the threads behind it; ``submit`` sends a decided operation on its way."""

    def __init__(
        self,
        directory: DataDirectory,
        journal: Journal,
        settings: Settings,
        runtime: Runtime,
        supervisor: Supervisor,
        *,
        max_files: int,
        verify: bool,
        removed: RemovedPaths,
        tuning: Tuning,
    ) -> None:
        """``max_files``: kept open for writing; ``verify``: as for the catalogue."""
        self._loop = loop = asyncio.get_running_loop()
        self._supervisor = supervisor
        self._max_lag_s = settings.max_lag_s
        self._writes_seen = 0
        self._not_applied: StorageFailed | None = None
        self._in_files = Waiters(loop)
        self.journal = journal
        self.outages = Outages()
        self.lag = Lag(loop, journal.last)
        self.admission = Admission(
            loop, settings.held_up_s, is_held_up=self.is_held_up, last_moved=self.last_moved
        )
        self.health = Health(self.admission, supervisor, directory.disk, self._end_writes)
        self.room = Room(
            directory,
            journal,
            settings.reserve_bytes,
            supervisor,
            self.admission,
            coming=lambda: self.committer.waiting_bytes + self.lag.bytes,
        )
        writer = StreamWriter(
            directory,
            max_files,
            journaled=settings.durability is Durability.FSYNC and not verify,
        )
        # Each is let go once, whoever does it, and whatever became of the one before.
        self._files = ExitStack()
        self._files.callback(journal.close)
        self._files.callback(writer.close)
        self._make_threads_work(
            directory, settings, runtime, writer, removed=removed, tuning=tuning
        )
        supervisor.tell_of_bugs(self._on_bug, self.health.task_ended)

    def _make_threads_work(
        self,
        directory: DataDirectory,
        settings: Settings,
        runtime: Runtime,
        writer: StreamWriter,
        *,
        removed: RemovedPaths,
        tuning: Tuning,
    ) -> None:
        supervisor = self._supervisor
        self.committer = Committer(
            self._loop,
            supervisor,
            self.journal,
            reserve=settings.journal_file_bytes // KEPT_SHARE,
            durable=self._on_durable,
            failed=self.health.set_fault,
            refused=self.room.refused,
        )
        self.submit = self.committer.submit  # itself: one call less on the way of every write
        self._applier = Applier(
            supervisor,
            runtime,
            directory,
            writer,
            self.journal.last,
            durability=settings.durability,
            share_writes=tuning.share_writes,
            applied=self._on_applied,
            failed=self._on_stream_fault,
            ended=self._on_stream_fault_ended,
            tried=self._on_tried,
            refused=self.room.refused,
        )
        self.give_back = self._applier.give_back  # of files kept open for writing
        self.freeing = Freeing(
            directory,
            self.journal,
            writer,
            settings,
            supervisor,
            committer=self.committer,
            applier=self._applier,
            lag=self.lag,
            outages=self.outages,
            health=self.health,
            removed=removed,
            freed=self._on_freed,
        )

    def begin(self, out_of_service: Mapping[StreamKey, Kept]) -> None:
        """Begin with what a start left: streams whose files it could not write, full journals."""
        self.freeing.retries.put_out_of_service(out_of_service)
        self.freeing.sync_what_recovery_left()

    # -- how it goes -----------------------------------------------------------------------

    def is_held_up(self) -> bool:
        """Whether writes have to wait: the files lag, or too much is on its way."""
        since = self.lag.since
        if since is not None and self._loop.time() - since > self._max_lag_s:
            return True
        return self.committer.stalled or self.committer.waiting_bytes > QUEUE_BYTES

    def last_moved(self) -> float:
        """When anything that writers wait for went on, by the loop's clock."""
        writes = self._applier.writes
        if writes != self._writes_seen or self.freeing.checkpointer.moves():
            self._writes_seen = writes
            self.lag.moves()
        return self.lag.moved_s

    def takes_sidecars(self) -> bool:
        """Whether a new version of a sidecar can be sent, on a full disk too: it replaces one."""
        refusal = self.admission.refusal()
        return refusal is None or (isinstance(refusal, DiskFull) and not self.is_held_up())

    async def files_have(self, stream: Stream, offset: Offset, index_position: int = 0) -> None:
        """Return when a stream's files have everything up to an offset; raises if they never will.

        ``index_position``: and so much of the index there, to which a close without data adds.
        What a stream out of service has missed counts as applied, so that is looked at first.
        """
        while (fault := self.outages.error(stream.path, stream.id)) is None:
            applied = stream.applied
            if (applied.offset, applied.index_position) >= (offset, index_position):
                return
            if self.health.bug is not None:
                raise self.health.bug.again()
            await self._in_files.wait()
        raise fault.again()

    # -- the way of an operation -----------------------------------------------------------

    def _on_durable(self, number: int, operations: list[Operation], size_bytes: int) -> None:
        self.lag.begins(number, size_bytes)
        self._applier.submit(number, operations)
        if self.outages.errors:
            self.outages.durable(number, operations)
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
        self.freeing.look()
        self.admission.look()

    def _on_applied(self, number: int, operations: list[Operation]) -> None:
        self.lag.ends(number)
        for operation in operations:
            try:
                operation.applied()
            except Exception as error:  # noqa: BLE001 - the others are in files all the same
                self._supervisor.met("what follows a write", error)
        self.outages.keep(operations)
        self.freeing.look()
        self._in_files.wake()
        self.admission.look()

    def _on_freed(self) -> None:
        self.committer.start()
        self.freeing.look()
        self.admission.look()

    # -- what goes wrong -------------------------------------------------------------------

    def _end_writes(self, error: StreamError) -> None:
        self.committer.end(error)

    def _on_bug(self, what: str, error: StorageFailed) -> None:
        """A worker ended: end those who wait for what it will not do."""
        self.health.set_fault(error)
        if what == "commit":
            self.committer.give_up(error)
        if what == "apply":
            self._not_applied = error
            self._end_unapplied(error)
        if what in {"apply", "checkpoint"}:
            self.freeing.checkpointer.abandon()
        self._in_files.wake()

    def _end_unapplied(self, error: StorageFailed) -> None:
        """Nothing comes to the files any more: end those who wait for that."""
        for operation in reversed(self._applier.left()):
            if operation.pending:
                operation.undo()
                operation.settle(error)

    def _on_stream_fault(self, path: str, stream_id: str, reason: str, gone: bool) -> None:
        self.health.look_for_failed_sync()
        self.freeing.retries.begin(path, stream_id, reason, gone=gone)
        self._in_files.wake()

    def _on_stream_fault_ended(self, path: str, stream_id: str) -> None:
        self.outages.end(path, stream_id)
        self.freeing.look()
        self._in_files.wake()

    def _on_tried(self) -> None:
        self.freeing.retries.tried()
        self.health.look_for_failed_sync()

    # -- the end ---------------------------------------------------------------------------

    async def settled(self) -> None:
        """Return when all that was accepted is durable, or has failed."""
        self._applier.hasten()
        if self.committer.stalled or not self.freeing.retries.can_keep():
            self.committer.refuse(Draining())
        await self.committer.settled()

    async def checkpoints_finished(self) -> None:
        """Return when no checkpoint is under way; none follows."""
        self.freeing.ends()
        await self.freeing.checkpointer.finished()

    def stop_threads(self) -> None:
        """In order: no new batches, no checkpoint, all applied; each, whatever the one before.

        Blocks.
        """
        with ExitStack() as stops:  # the last one given comes first
            stops.callback(self._applier.stop)
            stops.callback(self.freeing.checkpointer.stop)
            stops.callback(self.committer.stop)

    def finish_files(self, *, is_verified: bool) -> None:
        """Make them durable and let go of them, when the threads have ended; blocks."""
        self.freeing.finish(is_verified=is_verified)
        self.close_files()

    def close_files(self) -> None:
        """Let go of the files that are open for writing, as they are."""
        self._files.close()

    def abandon(self) -> None:
        """Wait for nothing any more; for any thread."""
        self.freeing.ends()
        self.admission.draining = self.admission.closed = True
        self._applier.hasten()
