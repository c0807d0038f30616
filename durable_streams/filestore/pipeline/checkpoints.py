"""Checkpoints: what the applier wrote is synced, and then the journal need not keep it.

A thread of its own does the syncing, so that neither writers nor the applier wait for it.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from durable_streams.filestore.files.dirty import sync_dirty
from durable_streams.filestore.files.disk import FailedSync
from durable_streams.filestore.files.removed_file import save_removed
from durable_streams.waiters import Waiters

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from durable_streams.filestore.files.directory import DataDirectory
    from durable_streams.filestore.files.dirty import Dirty
    from durable_streams.filestore.format.removed import Removed
    from durable_streams.filestore.pipeline.apply import Applier
    from durable_streams.filestore.pipeline.removed import RemovedPaths
    from durable_streams.filestore.runtime.supervisor import Supervisor

LONGEST_SYNC_S: Final = 30.0
"""One sync of a whole file system tells nothing while it lasts: so long it counts as movement."""

log = logging.getLogger("durable_streams.filestore")


class Checkpointer:
    """Makes the streams' files durable, so that the journal need not keep what they have.

    ``is_put_off``: the last one was not made, as something has to change first (room on the disk);
    to be tried again after a moment, not at once.  ``finished_count``: of those that were made, and
    ``syncing_s`` how long files were synced for any, in all.

    Goes from the loop to the applier (what is dirty), to a worker of its own (sync), and back; then
    what the journal alone remembers of removed paths goes to its file, in that worker.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        supervisor: Supervisor,
        directory: DataDirectory,
        applier: Applier,
        removed: RemovedPaths,
        *,
        done: Callable[[int], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """``done`` (up to which batch) and ``failed`` (final) are called on the loop."""
        self._loop = loop
        self._tell = supervisor.tell
        self._worker = supervisor.worker("checkpoint")
        self._directory = directory
        self._applier = applier
        self._removed = removed
        self._done = done
        self._failed = failed
        self._changes = Waiters(loop)
        self._busy = False
        self.is_put_off = False
        self._syncing_since: float | None = None
        self.finished_count = 0
        self.syncing_s = 0.0

    def request(self) -> None:
        """Begin a checkpoint, unless one is under way."""
        if not self._busy:
            self._busy = True
            self._applier.take_dirty(
                lambda dirty, number: self._worker.do(lambda: self._sync(dirty, number)),
                self._put_off,
            )

    def _put_off(self, error: OSError) -> None:
        if not self.is_put_off:
            self.is_put_off = True
            log.error("the journal cannot be freed now: %s", error)
        self.abandon()

    def _sync(self, dirty: Dirty, number: int) -> None:
        """In the worker."""
        begin_s = self._syncing_since = self._loop.time()
        failure: Exception | None = None
        self._applier.syncing_here()
        try:
            sync_dirty(self._directory, dirty)
        except OSError as error:
            failure = error
        finally:
            self._syncing_since = None
            self.syncing_s += self._loop.time() - begin_s
            self._applier.synced(dirty)  # a failure is known by now: closing hides nothing
        self._tell(self._finish, number, failure)

    def _finish(self, number: int, error: Exception | None) -> None:
        unsaved = None if error else self._removed.unsaved()
        if unsaved is None:
            self._end(number, error)
        else:
            self._worker.do(partial(self._save, number, *unsaved))

    def _save(self, number: int, changes: int, removed: Removed) -> None:
        """In the worker: keep what the journal will not."""
        failure: OSError | None = None
        try:
            save_removed(self._directory, removed)
        except OSError as error:
            failure = error
        self._tell(self._saved, number, changes, failure)

    def _saved(self, number: int, changes: int, error: OSError | None) -> None:
        if error is None:
            self._removed.saved(changes)
        elif not isinstance(error, FailedSync):
            self._put_off(error)
            return
        self._end(number, error)

    def _end(self, number: int, error: Exception | None) -> None:
        self.abandon()
        if error is not None:
            self._failed(error)
        else:
            self.is_put_off = False
            self.finished_count += 1
            self._done(number)

    def abandon(self) -> None:
        """The checkpoint under way is over, or never will be."""
        self._busy = False
        self._changes.wake()

    def moves(self) -> bool:
        """Whether files are being synced, and not for so long that the disk seems to hang."""
        since = self._syncing_since
        return since is not None and self._loop.time() - since < LONGEST_SYNC_S

    async def finished(self) -> None:
        """Return when no checkpoint is under way."""
        while self._busy:
            await self._changes.wait()

    def stop(self) -> None:
        """End the worker; blocks until it has."""
        self._worker.stop()
