"""A disk with a bad place."""

from pathlib import Path

from durable_streams.storage.disk import Disk


class UnreadableDisk(Disk):
    """Refuses to read the files of one directory, given by its name."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def pread(self, fd: int, size: int, position: int) -> bytes:
        if Path(f"/proc/self/fd/{fd}").readlink().parent.name == self._directory:
            raise OSError(5, "Input/output error")
        return super().pread(fd, size, position)
