"""Whether what is written can be relied on; owned by the event loop.

A failed sync is final, and so is a bug that ends a thread or a task: nothing more is written, reads
go on, ``fault`` says why.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from durable_streams.model.errors import StorageFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_streams.filestore.files.disk import Disk
    from durable_streams.filestore.pipeline.admission import Admission
    from durable_streams.filestore.runtime.supervisor import Supervisor
    from durable_streams.model.errors import StreamError

log = logging.getLogger("durable_streams.filestore")


class Health:
    """Why nothing is written any more, if that is so.

    ``is_sound``: it is known what is in the files, and what is durable.
    """

    def __init__(
        self,
        admission: Admission,
        supervisor: Supervisor,
        disk: Disk,
        end_writes: Callable[[StreamError], None],
    ) -> None:
        """``end_writes`` fails all that is on its way to the journal, and all that still comes."""
        self._admission = admission
        self._supervisor = supervisor
        self._disk = disk
        self._end_writes = end_writes
        self.is_sound = True

    @property
    def fault(self) -> StorageFailed | None:
        """The final failure, if there was one."""
        return self._admission.fault

    @property
    def bug(self) -> StorageFailed | None:
        """Why a thread or a task ended, if one did: only a restart helps."""
        return self._supervisor.bug

    def _refuse_writes(self, error: StorageFailed, *, is_news: bool = True) -> None:
        if self.fault is None:
            self._admission.set_fault(error)
            self._end_writes(error)
            if is_news:
                log.critical("%s; reads go on", error)

    def set_fault(self, error: StorageFailed) -> None:
        """What is in the files, or durable, is not known any more."""
        self.is_sound = False
        self._refuse_writes(error)

    def sync_failed(self, error: Exception) -> None:
        """A checkpoint could not make the files durable."""
        self.set_fault(StorageFailed(f"syncing the streams' files failed: {error}"))

    def look_for_failed_sync(self) -> None:
        """A sync that failed anywhere, in building a fork for one, is final for all."""
        if self._disk.sync_failed and self.is_sound:
            self.set_fault(StorageFailed("a sync failed: what it was for may be lost"))

    def task_ended(self, error: StorageFailed) -> None:
        """A task ended that should not have; all else is as it should be."""
        # At the end, what there is to say was said.
        self._refuse_writes(error, is_news=not self._supervisor.is_ending)

    def last_checkpoint_failed(self, error: Exception) -> None:
        """At the end, in the thread that makes it, when nobody waits for anything."""
        self._admission.fault = StorageFailed(f"the last checkpoint failed: {error}")
        log.critical("%s; the next start reads the journal", self.fault)
