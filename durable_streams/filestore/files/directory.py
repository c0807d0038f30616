"""The data directory: its layout, its format version and its lock.

::

    FORMAT.json   {"format": 2, "id": "<random>"}; written first, the id never changed
    LOCK          flock'ed by the one process that has the directory open, and so is the directory
                  itself: whatever is removed from it, there is one server; see ``holder``
    journal/      see ``journal``
    tmp/          streams and files being made; what is here at start was never acknowledged
    trash/        streams being removed
    UNSYNCED      there while a server runs, or did not end properly, that acknowledges unsynced
                  writes: streams are verified when they are opened
    REMOVED.json  paths that were removed a moment ago, see ``format.removed``; no copy needs it
    RETIRED.json  the streams are served elsewhere, see ``retired_file``
    RESERVE       4 MiB of nothing, given up on a full disk, so that a deletion or a start has room;
                  not there, and not needed, where there was no room for it
    aside/        bytes that recovery or a first write took out of the way; never read again
    streams/      one directory per stream, see ``names``

A directory that is neither empty nor one of these is refused and left untouched.

Format 1, of version 0.1, is read as it is.  The first start on such a directory writes the new
number before anything else, so that no older version meets what it does not know; that has no way
back.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from durable_streams.filestore.files import file_systems, holder, names, whole_files
from durable_streams.filestore.files.child_processes import no_fork
from durable_streams.filestore.files.disk import FailedSync
from durable_streams.filestore.files.format_file import (
    FORMAT,
    check_format,
    read_format,
    write_format,
)
from durable_streams.filestore.format.stored_path import unpack_path
from durable_streams.model.errors import DataDirectoryError
from durable_streams.own_process import OwnProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from durable_streams.filestore.files.disk import Disk, Identity
    from durable_streams.model.paths import StreamPath

RESERVE_BYTES: Final = 4 * 1024 * 1024
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors of a disk without room, and of a quota."""

LONGEST_DIRECTORY: Final = 512  # bytes; with the longest stream path it stays below PATH_MAX

log = logging.getLogger("durable_streams.filestore.files")


class Layout:
    """Where things are in a data directory; opens and locks nothing."""

    def __init__(self, disk: Disk, root: Path) -> None:
        self.disk = disk
        self.root = root
        self.streams = root / "streams"
        self._streams_text = str(self.streams)
        self.journal = root / "journal"
        self.tmp = root / "tmp"
        self.trash = root / "trash"
        self.aside = root / "aside"

    def stream_directory(self, path: StreamPath) -> str:
        """The directory of the stream at a path."""
        return f"{self._streams_text}/{names.directory_of(path)}"

    def within(self, text: str) -> str:
        """A text for others, who are told of files here but not where the directory is."""
        return text.replace(f"{self.root}/", "")

    def home_of(self, stored: str) -> str:
        """The directory of the stream at a path as records hold it."""
        return self.stream_directory(unpack_path(stored))

    def stream_path(self, directory: Path) -> StreamPath | None:
        """The path of the stream in a directory below ``streams/``; None if it is no name."""
        return names.path_of(str(directory.relative_to(self.streams)))

    def stream_directories(
        self,
        unlisted: Callable[[Path, OSError], None],
        stranger: Callable[[Path], None] | None = None,
    ) -> Iterator[Path]:
        """Every stream's directory, lazily; blocks.

        ``unlisted`` is told of directories that cannot be listed, ``stranger`` of what is none.
        """
        waiting = [self.streams]
        while waiting:
            current = waiting.pop()
            try:
                found = sorted(self.disk.names(current))
            except OSError as error:
                unlisted(current, error)
                continue
            for path in (current / name for name in found):
                if stranger is not None and not self.disk.is_directory(path):
                    stranger(path)
                elif names.is_stream_directory(path.name):
                    yield path
                else:
                    waiting.append(path)


class DataDirectory(Layout):
    """An opened, locked data directory.

    ``replacing``: held while a sealed file is replaced by a copy of it that may have more names.
    ``torn_bytes``: how many were moved to ``aside/`` since it was opened.
    """

    def __init__(self, disk: Disk, root: Path, lock_fd: int) -> None:
        super().__init__(disk, root)
        self._lock_fd = lock_fd
        self._process = OwnProcess()
        self.root_fd = disk.open_read(root)
        self._streams_identity: Identity | None = None
        self.replacing = threading.Lock()
        self.torn_bytes = 0

    def is_there(self) -> bool:
        """Whether what was opened still is at its name.

        Not moved, removed or unmounted, nothing mounted over it, no link switched.
        """
        status = self.disk.status(self.streams)
        return status is not None and status.identity == self._streams_identity

    def check_place(self) -> None:
        """Raise ``OSError`` (ESTALE) unless :meth:`is_there`: what is there is not ours."""
        if not self.is_there():
            raise OSError(errno.ESTALE, "the data directory is not where it was", str(self.root))

    @classmethod
    def open(cls, disk: Disk, root: Path, *, was_there: bool = False) -> DataDirectory:
        """Open or begin a data directory and lock it; else :class:`DataDirectoryError`.

        ``was_there``: it was begun a moment ago, so whoever took it away may bring it, or another
        one, and finds none of ours there.
        """
        root = absolute(root)
        try:
            return cls._open(disk, root, was_there=was_there)
        except BlockingIOError:
            raise holder.in_use(disk, root) from None
        except OSError as error:
            told = f"cannot open the data directory {root}: {error.strerror}"
            if error.filename not in {None, str(root)}:
                told += f": {error.filename}"
            if isinstance(error, PermissionError):
                told += f"; it and its files have to belong to us (user id {os.geteuid()})"
            raise DataDirectoryError(told) from error

    @classmethod
    def _open(cls, disk: Disk, root: Path, *, was_there: bool) -> DataDirectory:
        if len(os.fsencode(root)) > LONGEST_DIRECTORY:
            raise DataDirectoryError(f"the path of the data directory is too long: {root}")
        if not check_format(disk, root) and was_there:
            raise DataDirectoryError(
                f"the data directory {root} was there while we waited for it, and is gone; start "
                "again when it is back, or to begin a new one"
            )
        directory = cls.locked(disk, root)
        try:
            directory.begin()
        except BaseException:
            directory.close()
            raise
        return directory

    @classmethod
    def locked(cls, disk: Disk, root: Path) -> DataDirectory:
        """Make a directory, if it is not there, and lock it; ``BlockingIOError`` if it is locked.

        Its name is durable then, and whatever is in it was not looked at.
        """
        made = whole_files.make_directories(disk, root, root.anchor)
        with no_fork:  # before anything that costs, as whoever waits for the lock tries often
            lock_fd = disk.open_write(root / "LOCK")
            try:
                disk.lock(lock_fd)
                directory = cls(disk, root, lock_fd)
            except BaseException:
                disk.close(lock_fd)
                raise
        try:
            directory._lock_itself()
            _keep_names(disk, root, {str(root.parent), *made})
        except BaseException:
            directory.close()
            raise
        return directory

    def begin(self) -> None:
        """Have it be of our format, whether it was before or has yet to be begun, and whole."""
        disk, root = self.disk, self.root
        if check_format(disk, root):  # who had the lock a moment ago may have begun it
            self._raise_format()
        else:
            # An earlier first start may have made some directories, and not synced them.
            _sync_file_system_of(disk, root)
            write_format(disk, root, secrets.token_hex(8))
        self.furnish()
        self._warn_of_remote()

    def furnish(self) -> None:
        """Have all directories in it, and who has it in LOCK; refuse what cannot be renamed."""
        self._make_missing()
        self._check_volumes()
        holder.sign(self.disk, self._lock_fd)

    def _lock_itself(self) -> None:
        """Lock the directory as well, where the file system can."""
        try:
            self.disk.lock(self.root_fd)
        except BlockingIOError:
            raise
        except OSError as error:
            log.debug("directories cannot be locked on this file system: %s", error)

    def _raise_format(self) -> None:
        """Have it say that it is of our format, durably, before anything of ours is in it."""
        found = read_format(self.disk, self.root)
        if found is None or found.format >= FORMAT:
            return
        try:
            write_format(self.disk, self.root, found.id)
        except OSError as error:
            if error.errno not in FULL or not self.give_up_reserve():
                raise
            write_format(self.disk, self.root, found.id)
        log.warning(
            "the data directory %s was of format %d and is of format %d from now on: versions "
            "that know only the former refuse it",
            self.root,
            found.format,
            FORMAT,
        )

    def _make_missing(self) -> None:
        """Have all directories in it, durably."""
        for path in (self.streams, self.journal, self.tmp, self.trash, self.aside):
            if not self.disk.is_directory(path):
                self.disk.make_directory(path)
        self.disk.sync_directory(self.root)
        status = self.disk.status(self.streams)
        self._streams_identity = status.identity if status else None

    def _check_volumes(self) -> None:
        """Refuse what cannot be renamed into place: parts on different file systems."""
        devices: dict[int, list[str]] = {}
        for path in (self.streams, self.tmp, self.trash, self.aside):
            status = self.disk.status(path)
            if status is not None:
                devices.setdefault(status.identity[0], []).append(f"{path.name}/")
        if len(devices) > 1:
            parts = " than ".join(", ".join(names) for names in devices.values())
            raise DataDirectoryError(
                f"in {self.root}, {parts} are on another file system; files have to be renamed "
                "between them: move them to one (to use a volume, put the whole directory on it)"
            )

    def _warn_of_remote(self) -> None:
        """Locks and fsync of network file systems cannot be relied on: say so."""
        kinds = {
            self.disk.file_system(path): path for path in (self.journal, self.streams, self.root)
        }
        for kind, path in kinds.items():
            if file_systems.is_remote(kind):
                log.warning(
                    "%s is on %s, a file system of a network or a program, whose locks and fsync "
                    "may not hold; acknowledged data may be lost: use a disk of this machine",
                    path,
                    kind,
                )

    def mend(self) -> bool:
        """Make again what somebody removed beside the streams; whether anything had to be made."""
        if not self.is_there():
            return False
        self._keep_lock()
        missing = [
            path for path in (self.tmp, self.trash, self.aside) if not self.disk.is_directory(path)
        ]
        for path in missing:
            log.error("%s was removed under the running server: made again", path)
            self.disk.make_directory(path)
        if missing:
            self.disk.sync_directory(self.root)
        return bool(missing)

    def _keep_lock(self) -> None:
        """Make LOCK again if somebody removed it: older versions look at nothing else."""
        path = self.root / "LOCK"
        status = self.disk.status(path)
        if status is not None and status.identity == self.disk.file_status(self._lock_fd).identity:
            return
        with no_fork:
            fd = self.disk.open_write(path)
            try:
                self.disk.lock(fd)
            except BaseException:
                self.disk.close(fd)
                raise
            self.disk.close(self._lock_fd)
            self._lock_fd = fd
        log.error("%s was removed under the running server: made and locked again", path)
        holder.sign(self.disk, fd)

    def fill_reserve(self) -> None:
        """Have some room that can be given up; where there is none for it, there is none."""
        path = self.root / "RESERVE"
        if self.disk.status(path) is not None:
            return
        try:
            # Of chance, as some file systems have no blocks for zeros.
            whole_files.write_file(self.disk, path, secrets.token_bytes(RESERVE_BYTES))
        except OSError:
            with suppress(OSError):
                self.disk.unlink(path)

    def give_up_reserve(self) -> bool:
        """Make room on a full disk, once; whether there was something to give up."""
        try:
            self.disk.unlink(self.root / "RESERVE")
        except OSError:
            return False
        self.disk.sync_file_system(self.root_fd)  # some give it back with their next commit only
        log.warning("gave up the reserve of %d bytes on a full disk", RESERVE_BYTES)
        return True

    def is_marked_unsynced(self) -> bool:
        """Whether writes may have been lost that were acknowledged before they were durable."""
        return self.disk.status(self.root / "UNSYNCED") is not None

    def mark_unsynced(self) -> None:
        """Such writes may be lost from now on."""
        whole_files.write_file(self.disk, self.root / "UNSYNCED", b"", sync=True)
        self.disk.sync_directory(self.root)

    def unmark_unsynced(self) -> None:
        """Everything that this run acknowledged is durable."""
        self.disk.unlink(self.root / "UNSYNCED")
        self.disk.sync_directory(self.root)

    def close(self) -> None:
        """Give up the lock, whatever happens."""
        with no_fork:
            try:
                self._close(self.root_fd)
            finally:
                self._close(self._lock_fd)

    def _close(self, locked_fd: int) -> None:
        """Close what may be locked: free at once, though a new child has a copy for a moment."""
        if self._process.is_here:
            with suppress(OSError):
                self.disk.unlock(locked_fd)
        self.disk.close(locked_fd)


def absolute(path: Path) -> Path:
    """The path from the root on; :class:`DataDirectoryError` if it begins at nothing."""
    try:
        return path.absolute()
    except OSError as error:
        raise DataDirectoryError(
            f"{path} cannot be found: the current directory, where it begins, is gone "
            f"({error.strerror}); change to another one, or give an absolute path"
        ) from error


def _keep_names(disk: Disk, root: Path, parents: set[str]) -> None:
    """The names in the directories above ``root`` are durable when this returns.

    That of ``root`` at every start: who made it may have been killed, or be a tool that copies.
    """
    for parent in sorted(parents):
        try:
            disk.sync_directory(parent)
        except FailedSync:
            raise
        except OSError:  # we may not read it: sync the file system that it shares with the root
            _sync_file_system_of(disk, root)


def _sync_file_system_of(disk: Disk, root: Path) -> None:
    fd = disk.open_read(root)
    try:
        disk.sync_file_system(fd)
    finally:
        disk.close(fd)
