"""Files that somebody replaced, moved or removed while we have them open.

A tool that links equal files, a restore that renames over them, or ``rm`` leaves us with an open
file that no name leads to.  Four cases, by the file that is at the name now:

1. It has all that we wrote: writing goes on in it.
2. It begins like ours and is shorter: it is replaced by a copy of ours, and writing goes on there.
3. It is another one, is gone, or may not be read: what we wrote is kept in ``aside/``, and the
   stream's files are *lost* (:class:`FilesLost`).
4. As 2 or 3, and we may not write there: our open file and the journal are all that has it
   (:class:`NotKept`), so the file stays open.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Final

from durable_streams.filestore.files import whole_files
from durable_streams.filestore.files.aside import keep_aside, move_bytes_aside
from durable_streams.filestore.files.disk import NO_DESCRIPTORS, FailedSync
from durable_streams.filestore.files.open_pairs import OpenFile

if TYPE_CHECKING:
    from durable_streams.filestore.files.directory import DataDirectory
    from durable_streams.filestore.files.dirty import Dirty
    from durable_streams.filestore.files.disk import Disk
    from durable_streams.filestore.files.open_pairs import Pair

_COMPARED_BYTES: Final = 1024 * 1024
_FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
"""Errors of a directory that is not ours to write."""

_REFUSED: Final = _FORBIDDEN | {errno.EIO, errno.ENOTDIR, errno.ELOOP}
"""Errors of an ``aside/`` that somebody has to see to; room and descriptors come by themselves."""


class FilesLost(Exception):
    """A stream's files are not what was written: somebody took them away."""


class NotKept(FilesLost):
    """The same, and our open file is the only one that has what was written."""


def is_in_place(disk: Disk, file: OpenFile) -> bool:
    """Whether the name leads to the file that is open, and no other name does."""
    status = disk.status(file.path)
    return status is not None and status.links == 1 and status.identity == file.identity


def has_a_name(disk: Disk, file: OpenFile) -> bool:
    """Whether an open file has one name still, whichever: less than half of what a look costs.

    One that was replaced has none.  One that was moved has, and takes along what is in it.
    """
    return disk.file_status(file.fd).links == 1


def is_missing(disk: Disk, path: str) -> bool:
    """Whether a file is not where it was, though its directory is."""
    return disk.status(path) is None and disk.is_directory(whole_files.parent_of(path))


def open_own(
    directory: DataDirectory, dirty: Dirty, file: str, size: int, *, trim: bool
) -> OpenFile:
    """Open a stream's file that has so many bytes (with ``trim``) and no other name."""
    disk = directory.disk
    if size and is_missing(disk, file):  # and not to be made: it would mislead readers
        raise FilesLost(f"{file} is gone")
    fd = disk.open_write(file)
    try:
        status = disk.file_status(fd)
        if status.size_bytes == size and status.links == 1:
            return OpenFile(file, fd, status.identity)
        if status.size_bytes < size:
            raise FilesLost(f"{file} has {status.size_bytes} bytes, expected {size}")
        if status.links > 1:
            fresh = directory.tmp / Path(file).name
            linked, fd = fd, whole_files.own_copy(disk, file, fd, status.size_bytes, fresh)
            disk.close(linked)
            dirty.note(whole_files.parent_of(file), str(directory.tmp))
        if trim and status.size_bytes > size:
            move_bytes_aside(directory, file, fd, size)
        return OpenFile(file, fd, disk.file_status(fd).identity)
    except BaseException:
        disk.close(fd)
        raise


def losses_of(directory: DataDirectory, pair: Pair) -> list[FilesLost]:
    """Have both files put in their places; why those are lost that are.

    That is found out once for the same bytes: the other file may have to wait for room, and be
    tried again and again.
    """
    losses: list[FilesLost] = []
    for file in (pair.segment, pair.index):
        written = (file, directory.disk.file_status(file.fd).size_bytes)
        if written in pair.kept:
            losses.append(FilesLost(pair.kept[written]))
            continue
        try:
            put_in_place(directory, file)
        except FilesLost as error:
            if not isinstance(error, NotKept):
                pair.kept[written] = str(error)
            losses.append(error)
    return losses


def put_in_place(directory: DataDirectory, file: OpenFile) -> None:
    """Have at the name what is in an open file, or :class:`FilesLost`; the next sync makes it last.

    The file that is at the name then is to be opened anew.  :class:`NotKept`, ``OSError``: what is
    in the open file can be put nowhere, until somebody lets us write there, or for now.
    """
    disk = directory.disk
    size = disk.file_status(file.fd).size_bytes
    try:
        there, lost = _bytes_there(disk, file, size)
    except OSError as error:
        if error.errno in NO_DESCRIPTORS:
            raise
        there, lost = 0, f"was made unreadable ({error.strerror})"
    if lost:
        try:
            kept = keep_aside(directory, file.path, file.fd, size)
        except OSError as error:
            if isinstance(error, FailedSync) or error.errno not in _REFUSED:
                raise
            raise NotKept(
                f"{file.path} {lost}, and what it held cannot be kept in {directory.aside} "
                f"({error.strerror}): only this process has it; let us write there"
            ) from error
        raise FilesLost(f"{file.path} {lost}; what it held is kept in {kept}")
    if there < size:
        fresh = directory.tmp / Path(file.path).name
        try:
            disk.close(whole_files.own_copy(disk, file.path, file.fd, size, fresh))
        except OSError as error:
            if isinstance(error, FailedSync) or error.errno not in _FORBIDDEN:
                raise
            raise NotKept(
                f"{file.path} was replaced by an older copy, and what that lacks cannot be put "
                f"there by way of {fresh} ({error.strerror}): only this process has it; let us "
                f"write there"
            ) from error


def _bytes_there(disk: Disk, file: OpenFile, size: int) -> tuple[int, str]:
    """How much of an open file is at its name, or what happened to it there."""
    status = disk.status(file.path)
    if status is None:
        return 0, "was removed"
    if status.identity == file.identity:
        return size, ""  # it has another name as well
    there = min(size, status.size_bytes)
    return (there, "") if _begin_alike(disk, file, there) else (0, "was replaced")


def _begin_alike(disk: Disk, file: OpenFile, size: int) -> bool:
    """Whether the file at the name has the same first bytes."""
    fd = disk.open_read(file.path)
    try:
        return all(
            disk.pread(fd, min(_COMPARED_BYTES, size - position), position)
            == disk.pread(file.fd, min(_COMPARED_BYTES, size - position), position)
            for position in range(0, size, _COMPARED_BYTES)
        )
    finally:
        disk.close(fd)
