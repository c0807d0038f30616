"""The journal is freed of what the streams' files have: when that is due, and the last time.

A journal file is used again once every batch in it is in files and synced (a *checkpoint*), but for
what streams out of service are missing, which is written once more before (``retries``).
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from durable_streams.filestore.files.dirty import sync_dirty
from durable_streams.filestore.files.journal import SyncFailed
from durable_streams.filestore.pipeline.checkpoints import Checkpointer
from durable_streams.filestore.pipeline.retries import Retries
from durable_streams.settings import Durability

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_streams.filestore.files.directory import DataDirectory
    from durable_streams.filestore.files.journal import Journal
    from durable_streams.filestore.files.writer import StreamWriter
    from durable_streams.filestore.pipeline.apply import Applier
    from durable_streams.filestore.pipeline.commit import Committer
    from durable_streams.filestore.pipeline.health import Health
    from durable_streams.filestore.pipeline.lag import Lag
    from durable_streams.filestore.pipeline.outages import Outages
    from durable_streams.filestore.pipeline.removed import RemovedPaths
    from durable_streams.filestore.runtime.supervisor import Supervisor
    from durable_streams.settings import Settings

_CHECKPOINT_AFTER_S: Final = 30.0

log = logging.getLogger("durable_streams.filestore")


class Freeing:
    """Asks for checkpoints and frees the journal; called on the loop, but for :meth:`finish`.

    ``checkpointer`` makes them; ``retries`` keeps what streams out of service are missing.
    """

    def __init__(
        self,
        directory: DataDirectory,
        journal: Journal,
        writer: StreamWriter,
        settings: Settings,
        supervisor: Supervisor,
        *,
        committer: Committer,
        applier: Applier,
        lag: Lag,
        outages: Outages,
        health: Health,
        removed: RemovedPaths,
        freed: Callable[[], None],
    ) -> None:
        """``freed``: there may be room in the journal again."""
        self._loop = loop = asyncio.get_running_loop()
        self._directory = directory
        self._settings = settings
        self._journal = journal
        self._writer = writer
        self._applier = applier
        self._lag = lag
        self._outages = outages
        self._health = health
        self._removed = removed
        self._freed = freed
        self._is_closing = False
        self._last_s = loop.time()
        self.checkpointer = Checkpointer(
            loop,
            supervisor,
            directory,
            applier,
            removed,
            done=self._on_checkpoint,
            failed=health.sync_failed,
        )
        self.retries = Retries(
            outages, applier, committer, lag, settings.journal_file_bytes, freed=self._free
        )

    def sync_what_recovery_left(self) -> None:
        """Checkpoint at once if a start left full journal files; before anything is given."""
        if self._journal.full_files():
            self._writer.sync_everything()
            self.checkpoint()

    def look(self) -> None:
        """Checkpoint when a journal file is full, unless that cannot free it."""
        if (
            not self.checkpointer.is_put_off
            and self._journal.full_files()
            and self.retries.can_keep()
            and self._lag.applied > self._journal.checkpointed
        ):
            self.checkpoint()

    def is_due(self) -> bool:
        """Whether the last checkpoint is long ago, or has to be tried again."""
        since_s = self._loop.time() - self._last_s
        return self.checkpointer.is_put_off or since_s >= _CHECKPOINT_AFTER_S

    def checkpoint(self) -> None:
        """Make the files durable soon, and free the journal."""
        if self._health.fault is None and not self._is_closing:
            self._last_s = self._loop.time()
            self.checkpointer.request()

    def _on_checkpoint(self, number: int) -> None:
        if self._health.fault is not None or self._is_closing:
            return
        is_needed = bool(self._journal.full_files())
        if is_needed or not self._writer.has_homeless:
            self.retries.free(number, is_needed=is_needed)

    def _free(self, number: int) -> None:
        self._lag.moves()
        self._journal.note_checkpoint(number)
        self._freed()

    # -- the last time ---------------------------------------------------------------------

    def ends(self) -> None:
        """Begin no more checkpoints: the last one is :meth:`finish`."""
        self._is_closing = True

    def finish(self, *, is_verified: bool) -> None:
        """All synced, and the journal says so, unless it has what the files do not.

        When the threads have ended; blocks.
        """
        try:
            if self._health.is_sound:
                self._checkpoint_last(is_verified=is_verified)
        except (OSError, SyncFailed) as error:
            self._health.last_checkpoint_failed(error)
        except Exception as error:
            log.critical("bug: the last checkpoint failed", exc_info=True)
            self._health.last_checkpoint_failed(error)

    def _checkpoint_last(self, *, is_verified: bool) -> None:
        try:
            dirty, number = self._applier.unsynced()
        except OSError:
            self._journal.sync()  # which has it all
            raise
        try:
            sync_dirty(self._directory, dirty)
            has_all = not self._writer.has_homeless and self._removed.save_last(self._directory)
            if has_all and not self._outages.keeps:
                self._journal.note_checkpoint(number)
                self._journal.write([])
            self._journal.sync()
            is_marked = self._settings.durability is not Durability.FSYNC
            if has_all and is_marked and is_verified:
                self._directory.unmark_unsynced()
        finally:
            self._writer.synced(dirty)
