"""Whether there is room on the disk, looked at now and then, and whether the disk is there at all.

A quota tells of itself only by refusing: after a refusal some bytes are written to see whether
there is room again.
"""

from __future__ import annotations

import errno
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from durable_streams.filestore.files import whole_files
from durable_streams.filestore.files.directory import RESERVE_BYTES
from durable_streams.model.errors import DiskFull, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_streams.filestore.files.directory import DataDirectory
    from durable_streams.filestore.files.journal import Journal
    from durable_streams.filestore.pipeline.admission import Admission
    from durable_streams.filestore.runtime.supervisor import Supervisor

_RESERVE_SHARE: Final = 16  # of a small volume, one part in so many is the reserve
_PROOF_BYTES: Final = 4 * 1024 * 1024  # to be written where a quota may hide how much room there is
_ROOM_INODES: Final = 1024

log = logging.getLogger("durable_streams.filestore")


class Seen(NamedTuple):
    """How much room there was."""

    free_bytes: int
    inodes: int
    reserve_bytes: int


class Room:
    """Tells admission whether there is room; called on the loop.

    ``seen``: what there was the last time; None before, and while the directory is not there.
    """

    def __init__(
        self,
        directory: DataDirectory,
        journal: Journal,
        reserve_bytes: int,
        supervisor: Supervisor,
        admission: Admission,
        *,
        coming: Callable[[], int],
    ) -> None:
        """``coming``: bytes that were admitted and still have to be written."""
        self._directory = directory
        self._journal = journal
        self._reserve_bytes = reserve_bytes
        self._run = supervisor.run
        self._admission = admission
        self._coming = coming
        self._was_refused = False
        self.seen: Seen | None = None

    async def look(self) -> None:
        """Look whether there is room, in a data directory that is whole and ours."""
        admission = self._admission
        try:
            free, inodes, reserve = self.seen = await self._run(self._room)
        except OSError as error:
            self.seen = None
            if not isinstance(admission.full, Unavailable):
                log.critical("the data directory cannot be reached; writes refused: %s", error)
            full = Unavailable(f"the data directory cannot be reached: {error.strerror}")
            admission.set_full(full)
            return
        is_full = free < reserve + self._coming() or inodes < _ROOM_INODES
        if is_full and admission.full is None:
            log.error("the disk is full: %d bytes and %d inodes left; writes refused", free, inodes)
        elif not is_full and admission.full is not None:
            log.warning("there is room on the disk again; writes are accepted")
        admission.set_full(DiskFull("the disk is full; nothing was stored") if is_full else None)

    def _room(self) -> Seen:
        """Free bytes and inodes, and the reserve; blocks."""
        directory = self._directory
        directory.check_place()
        directory.mend()
        if not self._journal.is_in_place():
            path = directory.journal
            raise OSError(errno.ESTALE, "files of the journal were removed or replaced", str(path))
        disk, streams = directory.disk, directory.streams
        reserve = min(self._reserve_bytes, disk.volume_bytes(streams) // _RESERVE_SHARE)
        free, inodes = disk.room(streams)
        if self._was_refused:
            self._was_refused = not self._can_write(min(_PROOF_BYTES, reserve))
        elif free > reserve + RESERVE_BYTES:
            directory.fill_reserve()
        return Seen(0 if self._was_refused else free, inodes, reserve)

    def _can_write(self, size: int) -> bool:
        """Whether a file of some size can be written: a quota is not told of otherwise; blocks."""
        disk, proof = self._directory.disk, self._directory.tmp / "room"
        try:
            whole_files.write_file(disk, proof, bytes(size))
        except OSError:
            return False
        finally:
            with suppress(OSError):
                disk.unlink(proof)
        return True

    def refused(self) -> None:
        """The disk, or a quota that nothing tells of, had no room for a write."""
        self._was_refused = True
        if self._admission.full is None:
            log.error("there is no room on the disk, or within a quota; writes refused")
            self._admission.set_full(DiskFull("the disk is full; nothing was stored"))
