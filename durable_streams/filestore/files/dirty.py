"""What was written to streams' directories and is not durable yet.

It may be synced in another thread than the one that writes.  Descriptors stay open until it is:
the system reports a failed write to whoever has the file open and syncs it, and a report that
nobody was there for may never come again.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from durable_streams.filestore.files.disk import FailedSync

if TYPE_CHECKING:
    from durable_streams.filestore.files.directory import DataDirectory
    from durable_streams.filestore.files.disk import Disk
    from durable_streams.filestore.files.open_pairs import Pair


@dataclass(slots=True)
class Dirty:
    """What has to be synced; ``everything``: too much to list, sync the file system."""

    pairs: list[Pair] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    directories: set[str] = field(default_factory=set)
    everything: bool = False

    def __bool__(self) -> bool:
        return bool(self.pairs or self.files or self.directories or self.everything)

    @property
    def syncs(self) -> int:
        """How many it takes, one by one."""
        return 2 * len(self.pairs) + len(self.files) + len(self.directories)

    def note(self, *directories: str) -> None:
        """Names were added to or taken from directories."""
        if not self.everything:
            self.directories.update(directories)

    def take(self) -> Dirty:
        """Move all of it to a set of its own, which a checkpoint syncs; this one is empty then."""
        taken = Dirty(self.pairs, self.files, self.directories, self.everything)
        self.pairs, self.files, self.directories, self.everything = [], [], set(), False
        return taken

    def note_everything(self) -> None:
        """It became too much to list."""
        self.everything = True
        self.directories.clear()


def sync_dirty(directory: DataDirectory, dirty: Dirty) -> None:
    """Make a dirty set durable; an ``OSError`` is as final as a failed fsync."""
    disk = directory.disk
    if disk.syncs_sooner_as_a_whole(dirty.syncs):
        dirty.everything = True
    try:
        if not dirty.everything:
            _sync_each(disk, dirty)
    except FailedSync:
        raise
    except OSError:  # no descriptor to open a directory with: the one we hold does as well
        dirty.everything = True
    if dirty.everything:
        disk.sync_file_system(directory.root_fd)
    if disk.sync_failed:
        raise FailedSync(errno.EIO, "an earlier sync failed, so this one proves nothing")


def _sync_each(disk: Disk, dirty: Dirty) -> None:
    for pair in dirty.pairs:
        disk.sync(pair.segment.fd)
        disk.sync(pair.index.fd)
    for fd in dirty.files:
        disk.sync(fd)
    for path in sorted(dirty.directories):
        try:
            disk.sync_directory(path)
        except FileNotFoundError:
            continue  # moved or removed since; the directory it was in is in the set as well
