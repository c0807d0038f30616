"""A data directory that is copied: locked, and brought up to its journal, as by a start.

Nobody can serve it meanwhile; whoever starts afterwards finds it as it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durable_streams.filestore.files.directory import DataDirectory, absolute
from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.files.format_file import check_format, read_format
from durable_streams.filestore.files.journal import SyncFailed
from durable_streams.filestore.files.journal_survey import survey
from durable_streams.filestore.files.recovery import Recovery, recover
from durable_streams.filestore.files.retired_file import NAME as RETIRED
from durable_streams.filestore.files.retired_file import retire
from durable_streams.filestore.format.stored_path import stored_text
from durable_streams.filestore.transfer.reading import DirectoryStreams, in_thread
from durable_streams.model.errors import DataDirectoryError, DataDirectoryInUse
from durable_streams.transfers import Damaged, InUse

if TYPE_CHECKING:
    from pathlib import Path

_FILES: Final = 256  # open at a time while the journal is recovered


class SourceDirectory(DirectoryStreams):
    """One; use :meth:`open`, and :meth:`close` it."""

    def __init__(self, directory: DataDirectory, identity: str, *, verify: bool) -> None:
        super().__init__(directory, verify=verify)
        self.name = str(directory.root)
        self.identity = identity
        self.by_hand = f"make an empty file {directory.root / RETIRED}"
        self._directory = directory

    @classmethod
    async def open(cls, path: Path) -> SourceDirectory:
        """Lock a directory that is there; :class:`InUse`, ``DataDirectoryError``, :class:`Damaged`.

        What its journal has beyond the files is brought into them.
        """
        return await in_thread(cls._open, path)

    @classmethod
    def _open(cls, path: Path) -> SourceDirectory:
        disk, root = Disk(), absolute(path)
        if not check_format(disk, root):
            raise DataDirectoryError(f"{root} is no data directory: it has no FORMAT.json")
        try:
            directory = DataDirectory.open(disk, root, was_there=True)
        except DataDirectoryInUse as error:
            raise InUse(str(error)) from None
        try:
            recovery = _recovered(directory)
            found = read_format(disk, root)
        except BaseException as error:
            directory.close()
            if isinstance(error, OSError | SyncFailed):
                raise DataDirectoryError(
                    f"the journal of {root} cannot be recovered: {error}"
                ) from error
            raise
        assert found is not None
        return cls(directory, found.id, verify=recovery.unsynced)

    async def check_still(self) -> None:
        """It is locked, and where it was."""
        if not await in_thread(self._directory.is_there):
            raise InUse(f"{self.name} is not where it was: it was moved, or removed")

    async def left(self) -> str:
        """Nothing: tokens and keys are in files elsewhere, which nodes read as servers do."""
        return ""

    async def retire(self, successor: str) -> str:
        """Have no server open it any more; how that is taken back."""
        await in_thread(retire, self._directory, successor)
        return f"{self._directory.root / RETIRED} is removed"

    async def close(self) -> None:
        """Let others have it."""
        await in_thread(self._directory.close)


def _recovered(directory: DataDirectory) -> Recovery:
    """Bring the files up to the journal; :class:`Damaged` if that cannot be done with all of it.

    The journal stays as it was then.  Recovery would move one that is damaged out of the way, and
    whoever comes next would not know that there was more.
    """
    root, damage = directory.root, survey(directory).content.damage
    if damage:
        others = f", and {len(damage) - 1} more places" if len(damage) > 1 else ""
        raise Damaged(
            f"{root}: its journal is damaged, and may have acknowledged writes that are nowhere "
            f"else: {damage[0]}{others}: nothing was copied, nor changed; durable-streams repair "
            "--apply goes on without them, and keeps the journal in aside/"
        )
    recovery = recover(directory, _FILES)
    for (path, _), kept in recovery.kept.items():
        raise Damaged(
            f"{root}: stream {stored_text(path)}: {kept.reason}: its last writes are in the "
            "journal only: mend that, and copy again"
        )
    return recovery
