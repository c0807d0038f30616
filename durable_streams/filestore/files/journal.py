"""The shared write-ahead journal: what is durable in here is acknowledged.

Up to ``max_files`` files of ``file_bytes`` each, written front to back, zeroed ahead of the
writer and used again: overwriting allocated blocks makes a sync cheap.  The format is in
``format.journal``.

One thread writes (:meth:`Journal.write`); the owner asks for room before it lets a batch be written
and frees files (:meth:`Journal.checkpointed`), never while it asks.  A failed write abandons the
file, and the batch's number is given again in the next file: readers take from a file only batches
below the next file's first number.  A file that got another name (a hard-link backup) is left as it
is: writing goes on in another one, and where it would be used again it only loses our name.  A
failed sync is final (:class:`SyncFailed`): nothing may be acknowledged after it.
"""

from __future__ import annotations

import errno
import logging
import secrets
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from durable_streams.filestore.files.directory import FULL
from durable_streams.filestore.files.disk import FailedSync
from durable_streams.filestore.format import journal as fmt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from durable_streams.filestore.files.directory import DataDirectory, Layout
    from durable_streams.filestore.files.disk import Disk
    from durable_streams.filestore.format.journal import Batch, FileHeader, Record

_ZEROED_AHEAD: Final = 1024 * 1024
_WORTH_GROWING: Final = 512 * 1024
"""Bytes of a batch that costs more to zero for first than its sync costs on a growing file."""

_SUFFIX: Final = ".journal"

log = logging.getLogger("durable_streams.filestore.files")


_UNUSED: Final = fmt.FileHeader(generation=0, first=0, salt=0)


class SyncFailed(Exception):
    """The journal could not be synced; what it holds is unknown from here on."""


class Unpackable(Exception):
    """Records hold something that cannot be written; nothing was."""


@dataclass(slots=True, eq=False)
class _File:
    path: Path
    fd: int
    allocated: int
    header: FileHeader = _UNUSED
    position: int = 0
    last: int = 0


class Journal:
    """The writing side, after recovery."""

    def __init__(
        self,
        directory: DataDirectory,
        *,
        file_bytes: int,
        max_files: int,
        generation: int,
        number: int,
        applied: int,
        sync: bool,
        kept: Sequence[Record] = (),
    ) -> None:
        """Begin to write behind batch ``number`` with a ``generation`` that was never used.

        It is a higher one if files have that by now.

        The first batch has what is ``kept`` for streams that could not be recovered; no file is
        used again before that is durable.

        Batches up to ``applied`` are durable in the streams' files.  If those up to ``number`` are
        not, the files that are there wait for a checkpoint.
        """
        self._directory = directory
        self._disk = directory.disk
        self._path = directory.journal
        self._file_bytes = file_bytes
        self._max_files = max_files
        self._generation = generation
        self._sync = sync
        self._abandoned = False
        self._files: list[_File] = []
        self._free: deque[_File] = deque()
        self._sealed: deque[_File] = deque()
        self.last = number
        self.synced = number
        self.checkpoint = applied
        # Oldest first: what can still be read is then always the end of the history.
        for header, path in _by_age(self._disk, self._path):
            if header is not None:  # an earlier try to begin may have got as far as this
                self._generation = max(self._generation, header.generation + 1)
            fd = self._disk.open_write(path)
            file = self._opened(_File(path, fd, self._disk.file_status(fd).size_bytes, last=number))
            (self._sealed if header is not None and applied < number else self._free).append(file)
        try:
            self._active = self._begin() if kept else self._begin_anywhere(directory)
            self.write(list(kept))  # all of it, or none
            self.sync()  # in every mode: what was recovered is not to be recovered again
        except BaseException:
            self.close()
            raise

    def _begin_anywhere(self, directory: DataDirectory) -> _File:
        """Make a file the first one to write to: one that waits for a checkpoint on a full disk."""
        try:
            return self._begin()
        except OSError:
            if not self._sealed:
                raise
        self._disk.sync_file_system(directory.root_fd)
        self._free.extendleft(reversed(self._sealed))
        self._sealed.clear()
        self.checkpoint = self.last
        return self._begin()

    def _create(self) -> None:
        """Make one more free file."""
        taken = set(self._disk.names(self._path))
        taken |= {file.path.name for file in self._files}  # one that was moved away may come back
        number = next(n for n in range(len(taken) + 1) if f"{n}{_SUFFIX}" not in taken)
        path = self._path / f"{number}{_SUFFIX}"
        fd = self._disk.open_write(path)
        try:
            self._disk.sync_directory(self._path)
        except FailedSync as error:
            self._disk.close(fd)
            raise SyncFailed(f"syncing the journal's directory failed: {error}") from error
        except OSError:  # out of descriptors, say: there will be another time
            self._disk.close(fd)
            self._disk.unlink(path)
            raise
        self._free.append(self._opened(_File(path, fd, 0)))

    def _opened(self, file: _File) -> _File:
        self._files.append(file)
        return file

    def _begin(self) -> _File:
        """Make a free file, or a new one, the one to write to."""
        while self._free and self._is_linked(self._free[0]):
            linked = self._free.popleft()
            self._files.remove(linked)
            self._disk.close(linked.fd)
            self._disk.unlink(linked.path)
        if not self._free:
            self._create()
        file = self._free[0]
        file.header = fmt.FileHeader(
            self._generation, self.last + 1, int.from_bytes(secrets.token_bytes(8), "little")
        )
        file.position = fmt.FILE_HEADER_BYTES
        file.last = self.last
        self._generation += 1
        self._zero_ahead(file, _ZEROED_AHEAD)
        self._disk.pwrite(file.fd, fmt.pack_header(file.header), 0)
        self._sync_file(file)
        self._free.popleft()
        return file

    def _is_linked(self, file: _File) -> bool:
        """Whether somebody else has the file under another name."""
        return self._disk.file_status(file.fd).links > 1

    def is_in_place(self) -> bool:
        """Whether what is open is what a recovery would read, by name; for any thread."""
        for file in (*self._sealed, self._active):
            status = self._disk.status(file.path)
            if status is None or status.identity != self._disk.file_status(file.fd).identity:
                return False
        return True

    def _zero_ahead(self, file: _File, end: int) -> None:
        if min(end, self._file_bytes) <= file.allocated:
            return
        target = min(self._file_bytes, max(end, file.allocated + _ZEROED_AHEAD))
        self._disk.pwrite(file.fd, bytes(target - file.allocated), file.allocated)
        file.allocated = target

    def has_room(self, payload_bytes: int) -> bool:
        """Whether a batch of at most so many bytes can be written now."""
        if not self._must_turn(payload_bytes):
            return True
        return bool(self._free) or len(self._sealed) + 1 < self._max_files

    def _must_turn(self, payload_bytes: int) -> bool:
        size = fmt.BATCH_HEADER_BYTES + payload_bytes
        active = self._active
        return (
            self._abandoned or active.position + size > self._file_bytes or self._is_linked(active)
        )

    def write(self, records: list[Record]) -> int:
        """Write one batch; durable when this returns (if the journal syncs). Its number.

        A batch that makes room, as it only has deletions, may take the directory's reserve.

        ``OSError``, :class:`Unpackable`: nothing was stored and later writes may work;
        :class:`SyncFailed`: final.
        """
        if not self._disk.file_status(self._active.fd).links:
            raise OSError(errno.ESTALE, "its file was removed", str(self._active.path))
        try:
            return self._write(records)
        except OSError as error:
            frees = bool(records) and all(isinstance(r, fmt.DeleteRecord) for r in records)
            if not (frees and error.errno in FULL and self._directory.give_up_reserve()):
                raise
        return self._write(records)

    def _write(self, records: list[Record]) -> int:
        payload = _pack(records)
        payload_bytes = sum(map(len, payload))
        if self._must_turn(payload_bytes):
            self._turn()
        file = self._active
        number = self.last + 1
        pieces = fmt.pack_batch(file.header, number, self.synced, self.checkpoint, payload)
        end = file.position + fmt.BATCH_HEADER_BYTES + payload_bytes
        try:
            if payload_bytes < _WORTH_GROWING:
                self._zero_ahead(file, end)
            self._write_pieces(file, pieces)
        except OSError as error:
            # Of a batch for which there was no room, too little is there to be taken for it.
            self._abandoned = error.errno not in FULL
            raise
        if self._sync:
            self._sync_file(file)
            self.synced = number
        if not self._disk.file_status(file.fd).links:  # whoever replaced it may have read it before
            raise SyncFailed(f"{file.path} was replaced while it was written")
        file.allocated = max(file.allocated, end)
        file.position = end
        file.last = self.last = number
        return number

    def _write_pieces(self, file: _File, pieces: list[bytes]) -> None:
        position = file.position
        for piece in pieces:
            self._disk.pwrite(file.fd, piece, position)
            position += len(piece)

    def sync(self) -> None:
        """Make everything written so far durable."""
        self._sync_file(self._active)
        self.synced = self.last

    def _sync_file(self, file: _File) -> None:
        try:
            self._disk.sync(file.fd)
        except FailedSync as error:
            raise SyncFailed(f"syncing the journal failed: {error}") from error

    def _turn(self) -> None:
        """Go on in another file."""
        if not self._sync:
            self.sync()
        fresh = self._begin()
        self._sealed.append(self._active)
        self._active, self._abandoned = fresh, False

    def full_files(self) -> int:
        """How many files wait for a checkpoint."""
        return len(self._sealed)

    def checkpointed(self, number: int) -> None:
        """Every batch up to ``number`` is durable in the streams' files: free journal files."""
        self.checkpoint = max(self.checkpoint, number)
        while self._sealed and self._sealed[0].last <= number:
            self._free.append(self._sealed.popleft())

    def close(self) -> None:
        """Close the files."""
        while self._files:
            self._disk.close(self._files.pop().fd)


def _pack(records: Sequence[Record]) -> list[bytes]:
    try:
        return fmt.pack_records(records)
    except Exception as error:
        raise Unpackable(f"a write cannot be packed: {error}") from error


def can_pack(records: Sequence[Record]) -> bool:
    """Whether records can be written, whatever is in them."""
    try:
        _pack(records)
    except Unpackable:
        return False
    return True


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
    applied: int = 0
    damage: list[str] = field(default_factory=list)
    newest: Piece | None = None


def _paths(disk: Disk, directory: Path) -> list[Path]:
    """The journal's files; a directory is none, whatever its name, and a pipe would block us."""
    named = sorted(directory / name for name in disk.names(directory) if name.endswith(_SUFFIX))
    return [path for path in named if not disk.is_no_file(path)]


def _by_age(disk: Disk, directory: Path) -> list[tuple[FileHeader | None, Path]]:
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
    aged = _by_age(disk, directory.journal)
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
        content.applied = max(content.applied, batch.applied)
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
