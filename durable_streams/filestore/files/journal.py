"""Writing the shared journal, ahead of all files: what is durable in here is acknowledged.

Up to ``max_files`` files of ``file_bytes`` each, written front to back, zeroed ahead of the
writer and used again: overwriting allocated blocks makes a sync cheap.  The format is in
``format.journal``.

One thread writes (:meth:`Journal.write`); the owner asks for room before it lets a batch be written
and frees files (:meth:`Journal.note_checkpoint`), never while it asks.  A failed write abandons the
file, and the batch's number is given again in the next file: readers take from a file only batches
below the next file's first number.  A file that got another name (a hard-link backup) is left as it
is: writing goes on in another one, and where it would be used again it only loses our name.  A
failed sync is final (:class:`SyncFailed`): nothing may be acknowledged after it.
"""

from __future__ import annotations

import errno
import logging
import secrets
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from durable_streams.filestore.files.directory import FULL
from durable_streams.filestore.files.disk import FailedSync
from durable_streams.filestore.files.journal_reader import SUFFIX, by_age
from durable_streams.filestore.format import journal as fmt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from durable_streams.filestore.files.directory import DataDirectory
    from durable_streams.filestore.format.journal import FileHeader, Record

_ZEROED_AHEAD: Final = 1024 * 1024
_WORTH_GROWING: Final = 512 * 1024
"""Bytes of a batch that costs more to zero for first than its sync costs on a growing file."""

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
        checkpointed: int,
        sync: bool,
        kept: Sequence[Record] = (),
    ) -> None:
        """Begin to write behind batch ``number`` with a ``generation`` that was never used.

        It is a higher one if files have that by now.

        The first batch has what is ``kept`` for streams that could not be recovered; no file is
        used again before that is durable.

        Batches up to ``checkpointed`` are durable in the streams' files.  If those up to ``number``
        are not, the files that are there wait for a checkpoint.
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
        self.checkpointed = checkpointed
        # Oldest first: what can still be read is then always the end of the history.
        for header, path in by_age(self._disk, self._path):
            if header is not None:  # an earlier try to begin may have got as far as this
                self._generation = max(self._generation, header.generation + 1)
            fd = self._disk.open_write(path)
            file = self._opened(_File(path, fd, self._disk.file_status(fd).size_bytes, last=number))
            (self._sealed if header is not None and checkpointed < number else self._free).append(
                file
            )
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
        self.checkpointed = self.last
        return self._begin()

    def _create(self) -> None:
        """Make one more free file."""
        taken = set(self._disk.names(self._path))
        taken |= {file.path.name for file in self._files}  # one that was moved away may come back
        number = next(n for n in range(len(taken) + 1) if f"{n}{SUFFIX}" not in taken)
        path = self._path / f"{number}{SUFFIX}"
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
        if not self._must_turn(payload_bytes, is_linked=self._is_linked(self._active)):
            return True
        return bool(self._free) or len(self._sealed) + 1 < self._max_files

    def _must_turn(self, payload_bytes: int, *, is_linked: bool) -> bool:
        size = fmt.BATCH_HEADER_BYTES + payload_bytes
        return self._abandoned or is_linked or self._active.position + size > self._file_bytes

    def write(self, records: list[Record]) -> int:
        """Write one batch; durable when this returns (if the journal syncs). Its number.

        A batch that makes room, as it only has deletions, may take the directory's reserve.

        ``OSError``, :class:`Unpackable`: nothing was stored and later writes may work;
        :class:`SyncFailed`: final.
        """
        links = self._disk.file_status(self._active.fd).links
        if not links:
            raise OSError(errno.ESTALE, "its file was removed", str(self._active.path))
        try:
            return self._write(records, is_linked=links > 1)
        except OSError as error:
            frees = bool(records) and all(isinstance(r, fmt.DeleteRecord) for r in records)
            if not (frees and error.errno in FULL and self._directory.give_up_reserve()):
                raise
        return self._write(records, is_linked=links > 1)

    def _write(self, records: list[Record], *, is_linked: bool) -> int:
        payload = _pack(records)
        payload_bytes = sum(map(len, payload))
        if self._must_turn(payload_bytes, is_linked=is_linked):
            self._turn()
        file = self._active
        number = self.last + 1
        pieces = fmt.pack_batch(file.header, number, self.synced, self.checkpointed, payload)
        end = file.position + fmt.BATCH_HEADER_BYTES + payload_bytes
        try:
            if payload_bytes < _WORTH_GROWING:
                self._zero_ahead(file, end)
            position = file.position
            for piece in pieces:
                self._disk.pwrite(file.fd, piece, position)
                position += len(piece)
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

    def note_checkpoint(self, number: int) -> None:
        """Every batch up to ``number`` is durable in the streams' files: free journal files."""
        self.checkpointed = max(self.checkpointed, number)
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
