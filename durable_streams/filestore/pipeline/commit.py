"""Group commit: while one batch is written and synced in a thread, the next one gathers.

The event loop owns the queue and hands whole batches over.  When a batch is durable, it is
acknowledged first, and the next one starts when the loop has read what came meanwhile: writers that
were answered together then write together again.  Started at once, it would hold what little had
come before, and every second batch would be one of one or two.

A batch waits while the journal has no free file (``stalled``).  If a batch fails, everything
gathered after it was decided on top of it and fails too, latest first; if the failure was a sync,
for good.  An operation that cannot be packed fails alone, with what came after it to
the same stream: one caller's value must not stop the thread that all share.
"""

from __future__ import annotations

import errno
import logging
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Final

from durable_streams.filestore.files.journal import SyncFailed, Unpackable, can_pack
from durable_streams.filestore.runtime.machine import call_after_reading
from durable_streams.measuring import COUNTS, SECONDS, Tally
from durable_streams.model.errors import DiskFull, StorageFailed, WriteFailed
from durable_streams.waiters import Waiters

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from durable_streams.filestore.files.journal import Journal
    from durable_streams.filestore.format.journal import Record
    from durable_streams.filestore.pipeline.operations import Operation
    from durable_streams.filestore.runtime.supervisor import Supervisor
    from durable_streams.model.errors import StreamError

log = logging.getLogger("durable_streams.filestore")

_BATCH_BYTES: Final = 8 * 1024 * 1024  # a larger operation is a batch of its own


class Committer:
    """Makes operations durable, in the order given; ``writing``: those being written.

    ``took``: seconds that batches took to become durable, ``shared`` how many operations they had,
    and ``bytes`` the size of all of them.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        supervisor: Supervisor,
        journal: Journal,
        *,
        reserve: int,
        durable: Callable[[int, list[Operation], int], None],
        failed: Callable[[StorageFailed], None],
        refused: Callable[[], None],
    ) -> None:
        """``reserve``: bytes of the journal that only what is put first may take.

        ``durable``: gets each batch's number, operations and bytes; ``failed``: a final error;
        ``refused``: there was no room on the disk.
        """
        self._loop = loop
        self._tell = supervisor.tell
        self._worker = supervisor.worker("commit")
        self._journal = journal
        self._reserve = reserve
        self._durable = durable
        self._failed = failed
        self._refused = refused
        self._first: list[Operation] = []
        self._gathering: list[Operation] = []
        self.writing: list[Operation] = []
        self._changes = Waiters(loop)
        self._is_starting = self._is_syncing = False
        self.waiting_bytes = self.bytes = 0
        self.took, self.shared = Tally(SECONDS), Tally(COUNTS)
        self.stalled = False
        self._ended: StreamError | None = None

    def submit(self, operation: Operation) -> None:
        """Queue an operation; all given before it come first."""
        if self._ended is not None:
            _refuse([operation], self._ended)
            return
        self._gathering.append(operation)
        self.waiting_bytes += operation.size_bytes
        if not self.writing:  # else the end of that batch starts it
            self._start_soon()

    def put_first(self, operation: Operation) -> None:
        """Queue an operation that frees the journal: it comes next, into the room kept for it."""
        self._first.append(operation)
        self.waiting_bytes += operation.size_bytes
        self.start()

    def _start_soon(self) -> None:
        if not self.writing and not self._is_starting:
            self._is_starting = True
            call_after_reading(self._loop, self.start)

    def start(self) -> None:
        """Hand the next batch over, if there is one, no other is written and there is room."""
        self._is_starting = False
        queue, reserve = (self._first, 0) if self._first else (self._gathering, self._reserve)
        if self.writing or not queue:
            return
        batch, size = 0, 0
        for operation in queue:
            if batch and size + operation.size_bytes > _BATCH_BYTES:
                break
            size += operation.size_bytes
            batch += 1
        self.stalled = not self._journal.has_room(size + reserve)
        if self.stalled:
            return
        self.writing = queue[:batch]
        del queue[:batch]
        records = [record for operation in self.writing for record in operation.records]
        self._worker.do(partial(self._write, records))

    def _write(self, records: list[Record]) -> None:
        """In the worker."""
        begin_s = perf_counter()
        try:
            number = self._journal.write(records)
        except Unpackable as error:
            self._tell(self._reject, error)
        except (OSError, SyncFailed) as error:
            self._tell(self._fail, error)
        else:
            self._tell(self._complete, number, perf_counter() - begin_s)

    def _complete(self, number: int, took_s: float) -> None:
        batch, self.writing = self.writing, []
        size = sum([operation.size_bytes for operation in batch])
        self.waiting_bytes -= size
        self.bytes += size
        self.took.add(took_s)
        self.shared.add(len(batch))
        self._durable(number, batch, size)
        self._start_soon()
        self._changes.wake()

    def _fail(self, cause: Exception) -> None:
        error: StreamError
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            error = DiskFull("no space is left for the journal; nothing was stored")
            self._refused()
        elif isinstance(cause, OSError):
            error = WriteFailed(f"writing the journal failed, nothing was stored: {cause}")
        else:
            error = StorageFailed(f"writing the journal failed: {cause}")
        self.give_up(error)
        if isinstance(error, StorageFailed):
            self._failed(error)

    def give_up(self, error: StreamError) -> None:
        """Fail what is being written, and everything behind it."""
        failed = [*self.writing, *self._first, *self._gathering]
        self.writing, self._first, self._gathering, self.waiting_bytes = [], [], [], 0
        self.stalled = False
        _refuse(failed, error)
        self._changes.wake()

    def _reject(self, cause: Unpackable) -> None:
        """Fail what cannot be written, and what builds on it; the rest of its batch goes on."""
        log.error("bug: a write was refused: %s", cause, exc_info=cause)
        harmed = {operation.stream for operation in self.writing if not can_pack(operation.records)}
        queue = [*self.writing, *self._gathering]
        self.writing, self._gathering, failed = [], [], []
        for operation in queue:
            if harmed.isdisjoint(operation.streams):
                self._gathering.append(operation)
            else:
                harmed.add(operation.stream)
                failed.append(operation)
                self.waiting_bytes -= operation.size_bytes
        _refuse(failed, WriteFailed("what was to be written is not bytes; nothing was stored"))
        self._start_soon()
        self._changes.wake()

    def refuse(self, error: StreamError) -> None:
        """Fail what was not handed over yet."""
        failed, self._first, self._gathering = [*self._first, *self._gathering], [], []
        self.waiting_bytes = sum(operation.size_bytes for operation in self.writing)
        self.stalled = False
        _refuse(failed, error)
        self._changes.wake()

    def end(self, error: StreamError) -> None:
        """Fail what was not handed over yet, and everything that still comes."""
        self._ended = error
        self.refuse(error)

    def sync(self) -> None:
        """Make everything written so far durable, for journals that do not sync every batch."""
        if not self._is_syncing:
            self._is_syncing = True
            self._worker.do(self._sync)

    def _sync(self) -> None:
        """In the worker."""
        self._is_syncing = False  # what is written from now on is not of this one
        try:
            self._journal.sync()
        except SyncFailed as error:
            self._tell(self._failed, StorageFailed(str(error)))

    def _is_idle(self) -> bool:
        return not (self.writing or self._first or self._gathering)

    async def settled(self) -> None:
        """Return when nothing waits any more."""
        while not self._is_idle():
            await self._changes.wait()

    def stop(self) -> None:
        """End the worker; blocks until it has."""
        self._worker.stop()


def _refuse(operations: list[Operation], error: StreamError) -> None:
    """Undo decisions, the latest first, and tell those who wait."""
    for operation in reversed(operations):
        operation.undo()
    for operation in operations:
        operation.settle(error)
