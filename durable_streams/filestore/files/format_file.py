"""``FORMAT.json``: that a directory is a data directory, and which format its files have.

One line of JSON: ``format``, a number, and ``id``, drawn by chance when it was begun.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from durable_streams.filestore.files import whole_files
from durable_streams.model.errors import DataDirectoryError

if TYPE_CHECKING:
    from pathlib import Path

    from durable_streams.filestore.files.disk import Disk

FORMAT: Final = 2
READ_FORMATS: Final = frozenset({1, FORMAT})


class FormatFile(msgspec.Struct, frozen=True):
    """What the file says."""

    format: int
    id: str


def check_format(disk: Disk, root: Path) -> bool:
    """Whether a data directory of a known format is there; False if it has yet to be begun.

    Raises :class:`DataDirectoryError` if it is somebody else's, or of an unknown format.
    """
    found = read_format(disk, root)
    if found is None:
        strangers = _strangers(disk, root)
        # Whoever begins it writes this file before anything else: it may have done so meanwhile.
        found = read_format(disk, root) if strangers else None
        if strangers and found is None:
            raise DataDirectoryError(
                f"{root} has no FORMAT.json but other files ({min(strangers)!r}); "
                "give an empty directory, or a whole copy of a data directory"
            )
    if found is None:
        return False
    if found.format not in READ_FORMATS:
        raise DataDirectoryError(
            f"{root} has data format {found.format}; this version knows only formats up to {FORMAT}"
        )
    return True


def _strangers(disk: Disk, root: Path) -> list[str]:
    """What is in a directory, if it is there, and is in none that has yet to be begun."""
    if disk.status(root) is not None and not disk.is_directory(root):
        raise DataDirectoryError(f"the data directory {root} is not a directory")
    return [name for name in disk.names(root) if not _may_stay(name)]


def read_format(disk: Disk, root: Path) -> FormatFile | None:
    """What the file says; None if there is none, :class:`DataDirectoryError` if it says nothing."""
    data = whole_files.read_file(disk, root / "FORMAT.json")
    try:
        return None if data is None else msgspec.json.decode(data, type=FormatFile)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DataDirectoryError(f"{root}/FORMAT.json is unreadable: {error}") from None


def _may_stay(name: str) -> bool:
    return name.startswith((".", "README", "LOCK", "lost+found"))


def write_format(disk: Disk, root: Path, directory_id: str) -> None:
    """Have the file say, durably, that the directory is of our format."""
    data = msgspec.json.encode(FormatFile(FORMAT, directory_id)) + b"\n"
    whole_files.write_file(disk, root / ".FORMAT.json", data, sync=True)
    disk.rename(root / ".FORMAT.json", root / "FORMAT.json")
    disk.sync_directory(root)
