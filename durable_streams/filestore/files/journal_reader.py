"""Reading the journal, as it is before anything is written to it: by recovery, and by the tools.

Files are read oldest use first, each as far as its batches continue one another, but no further
than the next one's first batch.  What does not continue them is the end, or damage where a later
batch says that it had been durable; then what follows is read nevertheless.  Blocking code.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from durable_streams.filestore.files.directory import FULL
from durable_streams.filestore.format import journal as fmt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from durable_streams.filestore.files.directory import DataDirectory, Layout
    from durable_streams.filestore.files.disk import Disk
    from durable_streams.filestore.format.journal import Batch, FileHeader

SUFFIX: Final = ".journal"


class Piece(NamedTuple):
    """Bytes of a journal file."""

    path: Path
    begin: int
    end: int


@dataclass(slots=True)
class JournalContent:
    """What a journal held at start: where writing goes on, and what was unreadable.

    ``newest``: the header or batch that was written last.
    """

    files: int = 0
    generation: int = 0
    last: int = 0
    checkpointed: int = 0
    damage: list[str] = field(default_factory=list)
    newest: Piece | None = None


def _paths(disk: Disk, directory: Path) -> list[Path]:
    """The journal's files; a directory is none, whatever its name, and a pipe would block us."""
    named = sorted(directory / name for name in disk.names(directory) if name.endswith(SUFFIX))
    return [path for path in named if not disk.is_no_file(path)]


def by_age(disk: Disk, directory: Path) -> list[tuple[FileHeader | None, Path]]:
    """The journal's files with their headers, oldest use first; last those that hold nothing."""
    headers = [(_read_header(disk, path), path) for path in _paths(disk, directory)]
    return sorted(headers, key=lambda entry: (entry[0] is None, entry))


def _read_header(disk: Disk, path: Path) -> FileHeader | None:
    fd = disk.open_read(path)
    try:
        return fmt.unpack_header(disk.pread(fd, fmt.FILE_HEADER_BYTES, 0))
    except OSError as error:
        raise _named(error, path) from error
    finally:
        disk.close(fd)


def _named(error: OSError, path: Path) -> OSError:
    """The error with the file that it is about, which only opening one tells."""
    return OSError(error.errno, error.strerror, str(path))


def read_journal(directory: Layout, content: JournalContent) -> Iterator[Batch]:
    """Yield the batches in order; ``content`` is complete when the iteration ends."""
    disk = directory.disk
    aged = by_age(disk, directory.journal)
    headers = [(header, path) for header, path in aged if header is not None]
    content.files = len(headers)
    content.generation = headers[-1][0].generation if headers else 0
    for index, (header, path) in enumerate(headers):
        following = headers[index + 1][0] if index + 1 < len(headers) else None
        limit = following.first if following else 1 << 64
        content.last = max(content.last, header.first - 1)
        yield from _read_file(disk, path, header, limit, content)
        if following and content.last + 1 < following.first:
            content.damage.append(
                f"{path.name}: batches {content.last + 1} to {following.first - 1} are missing"
            )


def _read_file(
    disk: Disk, path: Path, header: FileHeader, limit: int, content: JournalContent
) -> Iterator[Batch]:
    fd = disk.open_read(path)
    try:
        data = memoryview(disk.pread(fd, disk.file_status(fd).size_bytes, 0))
    except OSError as error:
        raise _named(error, path) from error
    finally:
        disk.close(fd)
    position, expected = fmt.FILE_HEADER_BYTES, header.first
    content.newest = Piece(path, 0, position)
    while expected < limit:
        batch = fmt.unpack_batch(data, position, header)
        if batch is None or batch.number != expected:
            found = _resume(data, position, header, expected)
            if found is None:
                return
            content.damage.append(f"{path.name}: batch {expected} at byte {position} is unreadable")
            position, batch = found
            if batch.number >= limit:
                return
        content.last = batch.number
        content.checkpointed = max(content.checkpointed, batch.checkpointed)
        content.newest = Piece(path, position, position + batch.size_bytes)
        yield batch
        position += batch.size_bytes
        expected = batch.number + 1


def _resume(
    data: memoryview, position: int, header: FileHeader, expected: int
) -> tuple[int, Batch] | None:
    """The next batch behind damage: one that says what is unreadable here was durable."""
    haystack = data.obj
    if not isinstance(haystack, bytes):
        raise TypeError("a journal file is read as bytes")
    while (position := haystack.find(fmt.BATCH_MAGIC, position + 1)) >= 0:
        batch = fmt.unpack_batch(data, position, header)
        if batch is not None and batch.number > expected and batch.synced >= expected:
            return position, batch
    return None


def make_durable(directory: DataDirectory, newest: Piece | None) -> None:
    """Make durable what is there, so that whoever acts on it does so once and for all.

    Nothing is written behind a failed sync, so what one left in memory only can be no more than
    what is ``newest``, where every batch was synced: that is written again.  Where there is no room
    for it, as on a full file system that never overwrites, it is left: a start must not need any.
    """
    disk = directory.disk
    if newest is not None:
        _write_again(disk, newest)
    for path in _paths(disk, directory.journal):
        fd = disk.open_read(path)
        try:
            disk.sync(fd)
        finally:
            disk.close(fd)
    disk.sync_directory(directory.journal)  # a server may have been killed before it did


def _write_again(disk: Disk, piece: Piece) -> None:
    fd = disk.open_write(piece.path)
    try:
        data = disk.pread(fd, piece.end - piece.begin, piece.begin)
        disk.pwrite(fd, data, piece.begin)
    except OSError as error:
        if error.errno not in FULL:
            raise
    finally:
        disk.close(fd)


def set_aside(directory: DataDirectory) -> Path:
    """Move a damaged journal out of the way, whole; where to."""
    disk = directory.disk
    target = directory.aside / f"journal-{time.time_ns()}"
    disk.rename(directory.journal, target)
    disk.make_directory(directory.journal)
    disk.sync_directory(directory.aside)
    disk.sync_directory(directory.root)
    return target
