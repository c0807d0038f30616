"""A data directory that is copied: locked, and brought up to its journal, as by a start.

Nobody can serve it meanwhile; whoever starts afterwards finds it as it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durable_streams.filestore.files.directory import DataDirectory, absolute
from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.files.format_file import check_format, read_format
from durable_streams.filestore.files.journal import SyncFailed
from durable_streams.filestore.files.recovery import recover
from durable_streams.filestore.files.retired_file import NAME as RETIRED
from durable_streams.filestore.files.retired_file import retire
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
            recovery = recover(directory, _FILES)
            found = read_format(disk, root)
        except (OSError, SyncFailed) as error:
            raise DataDirectoryError(
                f"the journal of {root} cannot be recovered: {error}"
            ) from error
        except BaseException:
            directory.close()
            raise
        if recovery.kept or recovery.damage:
            directory.close()
            raise Damaged(f"{root}: {recovery}: see durable-streams verify, and repair it first")
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
