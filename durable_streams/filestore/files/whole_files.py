"""Whole files and directories: what takes several system calls, and what is left if one fails."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durable_streams.filestore.files.disk import Disk, StrPath


def read_file(disk: Disk, path: StrPath) -> bytes | None:
    """The whole content of a small file, None if it is missing."""
    try:
        fd = disk.open_read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return disk.pread(fd, disk.file_status(fd).size_bytes, 0)
    finally:
        disk.close(fd)


def write_file(disk: Disk, path: StrPath, data: bytes, *, sync: bool = False) -> None:
    """Write a whole new file; its bytes are durable if ``sync``, its name never is."""
    fd = disk.open_write(path)
    try:
        disk.pwrite(fd, data, 0)
        disk.truncate(fd, len(data))
        if sync:
            disk.sync(fd)
    finally:
        disk.close(fd)


def own_copy(disk: Disk, path: StrPath, fd: int, size: int, fresh: StrPath) -> int:
    """Put a copy of our own in the place of a file that has another name; open for writing.

    Its bytes are durable, its name is not; made at ``fresh`` first, where nothing stays if it
    fails: whoever waits for room on a full disk must not fill it.
    """
    copy = disk.open_write(fresh)
    try:
        disk.truncate(copy, 0)
        disk.copy(fd, copy, size)
        disk.sync(copy)
        disk.rename(fresh, path)
    except BaseException:
        disk.close(copy)
        with suppress(OSError):
            disk.unlink(fresh)
        raise
    return copy


def parent_of(path: str) -> str:
    """The directory that an absolute path, given as text, is in."""
    return path.rpartition("/")[0] or "/"


def make_directories(disk: Disk, path: StrPath, top: StrPath) -> list[str]:
    """Make ``path`` and its missing parents below ``top``; the directories that got a new name.

    Whoever makes some of them at the same time may be faster, and need not have synced any.
    """
    name, end = str(path), str(top)
    missing: list[str] = []
    while name != end and not disk.is_directory(name):
        missing.append(name)
        name = parent_of(name)
    for directory in reversed(missing):
        try:
            disk.make_directory(directory)
        except FileExistsError:
            if not disk.is_directory(directory):
                raise
    return [parent_of(directory) for directory in missing]


def remove_tree(disk: Disk, path: StrPath) -> None:
    """Remove a directory and all below it, however deep; missing parts are no error."""
    waiting = [str(path)]
    found: list[str] = []
    while waiting:
        directory = waiting.pop()
        found.append(directory)
        for name in disk.names(directory):
            child = f"{directory}/{name}"
            try:
                disk.unlink(child)
            except FileNotFoundError:
                continue
            except (IsADirectoryError, PermissionError):
                waiting.append(child)
    for directory in reversed(found):  # what is in a directory was found behind it
        with suppress(FileNotFoundError):
            disk.remove_directory(directory)
