"""What is taken away from streams' files is kept in ``aside/``, durably, for whoever looks into it.

Torn ends, what belongs to another age and directories without an owner are moved, never removed.
"""

from __future__ import annotations

import errno
import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from durable_streams.filestore.files import names, whole_files
from durable_streams.filestore.files.directory import FULL
from durable_streams.filestore.files.disk import FailedSync
from durable_streams.filestore.files.journal_reader import make_durable

if TYPE_CHECKING:
    from durable_streams.filestore.files.directory import DataDirectory, Layout
    from durable_streams.filestore.files.disk import Disk, StrPath
    from durable_streams.filestore.files.stream_files import LoadedStream
    from durable_streams.filestore.format.index import Tail

_NAME_LENGTH: Final = 200  # the file systems' limit is 255 bytes; room for a time

_NOT_MOVED: Final = FULL | {errno.EXDEV}
"""Where a directory cannot be moved: no room for a name, or the layers of an image."""

log = logging.getLogger("durable_streams.filestore.files")


def move_bytes_aside(
    directory: DataDirectory, file: StrPath, fd: int, begin: int, target: StrPath | None = None
) -> None:
    """Move the bytes of a file from ``begin`` on to ``target``, a file in ``aside/``."""
    disk = directory.disk
    target = target or _new_aside(directory, f"{Path(file).name}.{begin}")
    end = disk.file_status(fd).size_bytes
    whole_files.write_file(disk, target, disk.pread(fd, end - begin, begin), sync=True)
    _sync_aside(directory, Path(target).parent)
    disk.truncate(fd, begin)
    disk.sync(fd)  # or else a power cut brings it back, behind what is written next
    directory.torn_bytes += end - begin
    log.warning("moved %d torn bytes of %s to %s", end - begin, file, target)


def keep_aside(directory: DataDirectory, file: StrPath, fd: int, size: int) -> Path:
    """Keep a copy of an open file that has lost its name, durably; where."""
    disk = directory.disk
    target = _new_aside(directory, Path(file).name)
    disk.close(whole_files.own_copy(disk, target, fd, size, f"{target}.part"))
    _sync_aside(directory, directory.aside)
    return target


def cut(directory: DataDirectory, loaded: LoadedStream, stream_directory: StrPath) -> None:
    """Cut a stream's files to what was proved, durably; what is behind goes to ``aside/``."""
    disk, stream_id, tail = directory.disk, loaded.sidecar.id, loaded.tail
    cut_files(directory, stream_directory, stream_id, tail)
    for name in disk.names(stream_directory):
        parsed = names.parse_file(name)
        if parsed and parsed[1] == stream_id and parsed[0] > tail.segment:
            move_aside(directory, f"{stream_directory}/{name}")


def move_aside(directory: DataDirectory, path: StrPath) -> Path:
    """Move a file or directory out of the way, whole and durably; where to."""
    disk = directory.disk
    target = _new_aside(directory, Path(path).name)
    disk.rename(path, target)
    _sync_aside(directory, directory.aside)
    disk.sync_directory(Path(path).parent)
    return target


def move_to_trash(
    directory: DataDirectory, source: StrPath, target: str, *, keep: bool, journaled: bool
) -> None:
    """Move a deleted stream's directory out of its place, or remove it where it cannot be moved.

    If it is to be kept (``keep``), each file is moved by itself then; no room for that is an
    ``OSError``, after which this can be done again.

    ``journaled``: the deletion is in the journal, durably.  Else it is made so before the directory
    goes in pieces: a power cut that took the deletion and not all of these would bring back a
    stream without some of its files.
    """
    disk = directory.disk
    if not (keep and disk.is_directory(target)):  # else an earlier try got as far as this
        whole_files.remove_tree(disk, target)
        try:
            disk.rename(source, target)
        except OSError as error:
            if error.errno not in _NOT_MOVED or (keep and error.errno in FULL):
                raise
        else:
            return
    if not journaled:
        make_durable(directory, None)
    if keep:
        _move_each(disk, source, target)
        disk.sync_directory(directory.trash)
    whole_files.remove_tree(disk, source)  # the journal knows, should it be interrupted


def _move_each(disk: Disk, source: StrPath, target: str) -> None:
    """Move what is in a directory to another, durably."""
    with suppress(FileExistsError):
        disk.make_directory(target)
    for name in disk.names(source):
        if disk.is_directory(f"{source}/{name}"):
            _move_each(disk, f"{source}/{name}", f"{target}/{name}")
        else:
            disk.rename(f"{source}/{name}", f"{target}/{name}")
    disk.sync_directory(target)


def _sync_aside(directory: DataDirectory, changed: Path) -> None:
    """Make the names in ``aside/``, or in a directory there, durable, though we may not list it.

    What was put there would be put there again, and again, if that were an error.
    """
    try:
        directory.disk.sync_directory(changed)
    except (FailedSync, FileNotFoundError, NotADirectoryError):
        raise  # it may have taken along what was put there
    except OSError:
        directory.disk.sync_file_system(directory.root_fd)


def _new_aside(directory: Layout, name: str) -> Path:
    """A name in ``aside/`` that nothing kept there has."""
    return directory.aside / f"{name[:_NAME_LENGTH]}.{time.time_ns()}"


def cut_files(directory: DataDirectory, stream: StrPath, stream_id: str, tail: Tail) -> None:
    """Cut one segment and its index to a tail, durably; nothing happens where they end there."""
    for file, size in (
        (names.index_file(tail.segment, stream_id), tail.index_position),
        (names.segment_file(tail.segment, stream_id), tail.position),
    ):
        cut_file(directory, f"{stream}/{file}", size)


def cut_file(
    directory: DataDirectory, file: StrPath, size: int, target: StrPath | None = None
) -> None:
    """Cut one file, durably, and keep what is behind ``size`` in ``target`` (in ``aside/``)."""
    disk = directory.disk
    status = disk.status(file)
    if status is None or status.size_bytes <= size:
        return
    fd = disk.open_write(file)
    try:
        if status.links > 1:
            fresh = directory.tmp / Path(file).name
            linked, fd = fd, whole_files.own_copy(disk, file, fd, status.size_bytes, fresh)
            disk.close(linked)
            disk.sync_directory(Path(file).parent)
        move_bytes_aside(directory, file, fd, size, target)
    finally:
        disk.close(fd)
