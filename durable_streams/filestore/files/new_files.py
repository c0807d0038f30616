"""Small files that are written whole: new ones, and those that replace another.

Nothing here is durable before the next checkpoint.  Until then a file stays open, within a bound;
``dirty`` explains why.  One thread uses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable_streams.filestore.files import whole_files

if TYPE_CHECKING:
    from durable_streams.filestore.files.dirty import Dirty
    from durable_streams.filestore.files.disk import Disk


class NewFiles:
    """Writes small files and notes them in ``dirty``."""

    def __init__(
        self, disk: Disk, dirty: Dirty, tmp: str, max_open: int, *, journaled: bool
    ) -> None:
        """``tmp``: where a file is made that is to replace another.

        ``journaled``: the journal has what is in it, durably, so that a torn one can be mended.
        """
        self._disk = disk
        self._dirty = dirty
        self._tmp = tmp
        self._max_open = max_open
        self._journaled = journaled
        self._waiting = 0  # open for a checkpoint under way

    def write(self, path: str, data: bytes) -> None:
        """Write a file at a path where none is needed yet."""
        fd = self._disk.open_write(path)
        try:
            self._disk.pwrite(fd, data, 0)
            if self._disk.file_status(fd).size_bytes > len(data):
                self._disk.truncate(fd, len(data))
        except BaseException:
            self._disk.close(fd)
            raise
        self._keep_open(fd)

    def put(self, directory: str, name: str, data: bytes, fresh_name: str) -> None:
        """Have a file in a directory, whole at every moment; ``fresh_name`` is that in ``tmp``."""
        if self.has(f"{directory}/{name}", data):
            return
        fresh = f"{self._tmp}/{fresh_name}"
        if self._journaled:
            self.write(fresh, data)
        else:
            whole_files.write_file(self._disk, fresh, data, sync=True)
        self._disk.rename(fresh, f"{directory}/{name}")
        self._dirty.note(directory, self._tmp)

    def has(self, path: str, data: bytes) -> bool:
        """Whether a file is there byte for byte; the next checkpoint makes it durable."""
        if whole_files.read_file(self._disk, path) != data:
            return False
        # Again, as it may be there in memory only: a sync that failed is not repeated by the next.
        fd = self._disk.open_write(path)
        try:
            self._disk.pwrite(fd, data, 0)
        except BaseException:
            self._disk.close(fd)
            raise
        self._keep_open(fd)
        return True

    def _keep_open(self, fd: int) -> None:
        """Have a file synced by the next checkpoint."""
        dirty = self._dirty
        if len(dirty.files) + self._waiting >= self._max_open:
            dirty.note_everything()
        if dirty.everything:
            self._disk.close(fd)
        else:
            dirty.files.append(fd)

    @property
    def are_taken(self) -> bool:
        """Whether a checkpoint has some."""
        return self._waiting > 0

    def give_back(self) -> bool:
        """There are no more descriptors: close all that is not taken; whether there was any.

        From then on fewer are kept, if it was half of what may be at least.
        """
        files, self._dirty.files = self._dirty.files, []
        for fd in files:
            self._disk.close(fd)
        if files:
            self._dirty.note_everything()
        if files and 2 * len(files) >= self._max_open:
            self._max_open //= 2
        return bool(files)

    def taken(self, files: list[int]) -> None:
        """A checkpoint has begun to sync these."""
        self._waiting += len(files)

    def synced(self, files: list[int]) -> None:
        """These were synced, or never will be: close them."""
        for fd in files:
            self._disk.close(fd)
        self._waiting -= len(files)

    def close(self) -> None:
        """Close all files that are not taken; they stay dirty."""
        for fd in self._dirty.files:
            self._disk.close(fd)
