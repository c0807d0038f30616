"""A disk with a bad place."""

from pathlib import Path

from durable_streams.filestore.files.disk import Disk, StrPath


class UnreadableDisk(Disk):
    """Refuses to read the files of one directory, given by its name, or to list it."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def pread(self, fd: int, size: int, position: int) -> bytes:
        if Path(f"/proc/self/fd/{fd}").readlink().parent.name == self._directory:
            raise OSError(5, "Input/output error")
        return super().pread(fd, size, position)

    def names(self, path: StrPath) -> list[str]:
        if Path(path).name == self._directory:
            raise OSError(5, "Input/output error")
        return super().names(path)
