"""The one seam to the file system: every system call the storage makes.

Each method says what is durable when it returns; tests replace the object to make disks fail.
Methods raise ``OSError`` as the system does and are safe to call from several threads.
Assumptions about the system below: ``fsync``/``fdatasync`` returning means the bytes survive
power loss; ``rename`` is atomic; nothing else is assumed atomic.  Calls that some hosts refuse, and
what is done instead, are in ``system_calls``.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from heapq import nsmallest
from itertools import chain, islice
from typing import TYPE_CHECKING, Final, TypeVar, Union

import msgspec

from durable_streams.filestore.files import child_processes, file_systems, system_calls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

StrPath = Union["Path", str]
"""A path; text where many are made: making one of ``pathlib`` costs as much as opening a file."""

_COPY_BYTES: Final = 1024 * 1024
_UNWRITTEN: Final = re.compile(rb"^(?:Dirty|Writeback): *([0-9]+) kB$", re.MULTILINE)
_MANY_SYNCS: Final = 32
_LITTLE_UNWRITTEN_BYTES: Final = 512 * 1024 * 1024
_PLENTY: Final = 1 << 62
_STDERR: Final = 2
NO_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})
"""The process, or the system, has as many open files as it may."""


_T = TypeVar("_T")

Identity = tuple[int, int]
"""Device and inode: which file or directory it is, whatever its name."""


class FileStatus(msgspec.Struct, frozen=True, gc=False):
    """What ``stat`` said: size in bytes, number of names, and which file it is."""

    size_bytes: int
    links: int
    identity: Identity


class FailedSync(OSError):
    """A sync failed: what it was for may be lost, and no later sync can tell."""


class FailedRead(OSError):
    """A file that is to be copied cannot be read, or is shorter than what is copied of it."""


def _has_nothing() -> bool:
    return False


class Disk:
    """The real file system.

    ``give_back`` is called, in any thread, where there are no more descriptors: it closes what is
    only kept open, and tells whether there was any; then the call is tried again, until there is
    none: what is given back may go to another thread, or another part of the program.
    ``sync_failed``: whether any sync ever failed.  What it was for may be lost although a later
    sync succeeds, so from then on no sync proves anything.  ``nowait``: the flag of the system's
    that has a read not wait, 0 where there is none.
    """

    sync_failed = False
    nowait: int = getattr(os, "RWF_NOWAIT", 0)
    give_back: Callable[[], bool] = staticmethod(_has_nothing)

    def open_read(self, path: StrPath) -> int:
        """Open for reading."""
        return self._open(path, os.O_RDONLY)

    def open_write(self, path: StrPath) -> int:
        """Open for reading and writing, created if missing (the name is not yet durable)."""
        return self._open(path, os.O_RDWR | os.O_CREAT)

    def _open(self, path: StrPath, flags: int) -> int:
        return self._with_a_descriptor(lambda: _open(path, flags))

    def _with_a_descriptor(self, call: Callable[[], _T]) -> _T:
        while True:
            try:
                return call()
            except OSError as error:
                if error.errno not in NO_DESCRIPTORS or not self.give_back():
                    raise

    def close(self, fd: int) -> None:
        """Close a descriptor."""
        _close(fd)

    def pread(self, fd: int, size: int, position: int) -> bytes:
        """Read up to ``size`` bytes; less only at the end of the file."""
        return os.pread(fd, size, position)

    def pread_cached(self, fd: int, size: int, position: int) -> bytes | None:
        """Read without waiting for the disk; None where that is not possible.

        An error is no more than that: :meth:`pread` will show it, if there is one.
        """
        nowait = self.nowait
        if not nowait:
            return None
        buffer = bytearray(size)
        try:
            count = os.preadv(fd, [buffer], position, nowait)
        except OSError:
            return None
        return bytes(buffer) if count == size else None

    def is_cold(self, fd: int, position: int) -> bool:
        """Whether reading a byte has to wait for the disk; False where nobody can tell."""
        if not self.nowait:
            return False
        try:
            os.preadv(fd, [bytearray(1)], position, self.nowait)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def duplicate(self, fd: int) -> int:
        """One more descriptor of what is open for reading."""
        return child_processes.opened(_beyond_standard(os.dup(fd)))

    def pwrite(self, fd: int, data: bytes, position: int) -> None:
        """Write all of ``data``; not durable before a sync."""
        written = self.pwrite_some(fd, data, position)
        while written < len(data):
            written += self.pwrite_some(fd, memoryview(data)[written:], position + written)

    def pwrite_some(self, fd: int, data: bytes | memoryview, position: int) -> int:
        """Write as much as the system takes in one call; how many bytes that were."""
        return os.pwrite(fd, data, position)

    def truncate(self, fd: int, size: int) -> None:
        """Cut the file; not durable before a sync."""
        os.ftruncate(fd, size)

    def sync(self, fd: int) -> None:
        """The file's bytes and size are durable when this returns; else :class:`FailedSync`."""
        try:
            system_calls.sync_file(fd)
        except OSError as error:
            raise self.failed_sync(error) from error

    def sync_directory(self, path: StrPath) -> None:
        """The names in a directory are durable when this returns; else :class:`FailedSync`.

        A file system that cannot sync a directory, be it read-only or an automounter's, is synced
        as a whole.  Any other ``OSError``: the directory could not be opened, nothing was tried.
        """
        fd = self._open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            system_calls.sync_fully(fd)
        except OSError as error:
            if not system_calls.FSYNC_DIRECTORY.covers(error):
                raise self.failed_sync(error) from error
            self.sync_file_system(fd)
        finally:
            _close(fd)

    def sync_file_system(self, fd: int) -> None:
        """Everything on the file system of ``fd`` is durable when this returns.

        Else :class:`FailedSync`.
        """
        try:
            system_calls.sync_file_system(fd)
        except OSError as error:
            raise self.failed_sync(error) from error

    def syncs_sooner_as_a_whole(self, syncs: int) -> bool:
        """Whether :meth:`sync_file_system` is better than so many syncs one by one.

        Each of a file that grew is a commit of the file system's own journal; together they are
        one.  But it waits for what others have yet to write, too.
        """
        if syncs <= _MANY_SYNCS or not system_calls.syncfs_reports_failed_writes():
            return False
        unwritten = self.unwritten_bytes()
        return unwritten is not None and unwritten <= _LITTLE_UNWRITTEN_BYTES

    def unwritten_bytes(self) -> int | None:
        """What the system has yet to write, on all file systems together; None if not known."""
        try:
            with open("/proc/meminfo", "rb") as file:
                found = _UNWRITTEN.findall(file.read())
        except OSError:
            return None
        return 1024 * sum(map(int, found)) if found else None

    def failed_sync(self, error: OSError) -> FailedSync:
        """Remember that a sync failed; the error to raise."""
        self.sync_failed = True
        return FailedSync(*error.args)

    def status(self, path: StrPath) -> FileStatus | None:
        """Size, link count and identity; None if there is nothing at the path."""
        try:
            result = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return _status(result)

    def file_status(self, fd: int) -> FileStatus:
        """Size, link count and identity of an open file or directory."""
        return _status(os.fstat(fd))

    def size_of(self, fd: int) -> int:
        """Size of an open file in bytes: all that most reads ask for."""
        return os.fstat(fd).st_size

    def is_directory(self, path: StrPath) -> bool:
        """Whether a directory is at the path."""
        try:
            return stat.S_ISDIR(os.stat(path).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def is_no_file(self, path: StrPath) -> bool:
        """Whether what is at the path is not to be opened as a file: a directory, a pipe, a device.

        False for what is missing, or a link that leads nowhere: opening it tells.
        """
        try:
            return not stat.S_ISREG(os.stat(path).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def names(self, path: StrPath) -> list[str]:
        """The names in a directory, in no order; empty if there is none."""
        return self._listed(lambda: os.listdir(path))

    def each_name(self, path: StrPath) -> Iterator[str]:
        """The same, one after the other: the directory is open until the last one is taken.

        Whoever takes no more of them closes the iterator.
        """
        try:
            entries = self._with_a_descriptor(lambda: os.scandir(path))
        except (FileNotFoundError, NotADirectoryError):
            return
        with entries:
            for entry in entries:
                yield entry.name

    def some_names(self, path: StrPath, most: int) -> list[str]:
        """So many names of a directory, at most, in no order; costs nothing for those beyond."""
        return self._listed(lambda: _some_names(path, most))

    def names_behind(self, path: StrPath, name: str, most: int) -> list[str]:
        """The first so many names of a directory behind one, in order; others take no memory."""
        return self._listed(lambda: _names_behind(path, name, most))

    def _listed(self, names_of: Callable[[], list[str]]) -> list[str]:
        try:
            return self._with_a_descriptor(names_of)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def make_directory(self, path: StrPath) -> None:
        """Make one directory; the name is not yet durable."""
        os.mkdir(path, 0o755)

    def rename(self, source: StrPath, target: StrPath) -> None:
        """Atomically rename; not durable before both parents are synced."""
        os.rename(source, target)

    def link(self, source: StrPath, target: StrPath) -> None:
        """Give a file a second name; not durable before the parent is synced."""
        os.link(source, target, follow_symlinks=False)

    def unlink(self, path: StrPath) -> None:
        """Remove a file's name."""
        os.unlink(path)

    def remove_directory(self, path: StrPath) -> None:
        """Remove an empty directory."""
        os.rmdir(path)

    def copy(self, source: int, target: int, size: int) -> None:
        """Copy the first ``size`` bytes, sharing blocks where the file system can.

        :class:`FailedRead`, without a name, if it is the source that fails.
        """
        copied = system_calls.copy_within(source, target, size)
        while copied < size:
            try:
                data = self.pread(source, min(size - copied, _COPY_BYTES), copied)
            except OSError as error:
                raise FailedRead(*error.args) from error
            if not data:
                raise FailedRead(errno.ESTALE, f"is shorter than {size} bytes")
            self.pwrite(target, data, copied)
            copied += len(data)

    def room(self, path: StrPath) -> tuple[int, int]:
        """Free bytes and free inodes for an unprivileged user; plenty of what is not known.

        A file system that counts no blocks, or no inodes, has none in all either.
        """
        try:
            result = os.statvfs(path)
        except OSError as error:
            if not system_calls.STATVFS.covers(error):
                raise
            return _PLENTY, _PLENTY
        free = result.f_bavail * result.f_frsize if result.f_blocks else _PLENTY
        return free, result.f_favail if result.f_files else _PLENTY

    def volume_bytes(self, path: StrPath) -> int:
        """Size of the file system that a path is on; plenty if it is not known."""
        try:
            result = os.statvfs(path)
        except OSError as error:
            if not system_calls.STATVFS.covers(error):
                raise
            return _PLENTY
        return result.f_blocks * result.f_frsize or _PLENTY

    def file_system(self, path: StrPath) -> str:
        """The kind of file system a path is on (``ext4``, ``nfs4``); empty if not known."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return ""
        try:
            with (
                open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as info,
                open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts,
            ):
                return file_systems.kind_of(info.read(), mounts.read())
        except OSError:
            return ""
        finally:
            os.close(fd)

    def lock(self, fd: int) -> None:
        """Take the exclusive lock of an open file; ``BlockingIOError`` if another holds it.

        Nothing can stand in for a lock: where the file system has none, the error says so.
        """
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if not system_calls.FLOCK.covers(error):
                raise
            raise OSError(
                error.errno, f"its file system has no locks ({error.strerror})"
            ) from error

    def unlock(self, fd: int) -> None:
        """Give up the lock, of whatever copies of the descriptor there are."""
        fcntl.flock(fd, fcntl.LOCK_UN)


def _open(path: StrPath, flags: int) -> int:
    return child_processes.opened(_beyond_standard(os.open(path, flags | os.O_CLOEXEC, 0o644)))


def _close(fd: int) -> None:
    child_processes.closing(fd)
    os.close(fd)


def _some_names(path: StrPath, most: int) -> list[str]:
    with os.scandir(path) as entries:
        return [entry.name for entry in islice(entries, most)]


def _names_behind(path: StrPath, name: str, most: int) -> list[str]:
    with os.scandir(path) as entries:
        behind = (entry.name for entry in entries if entry.name > name)
        found = list(islice(behind, most))
        if len(found) < most:
            return sorted(found)
        return nsmallest(most, chain(found, behind))


def _status(result: os.stat_result) -> FileStatus:
    return FileStatus(result.st_size, result.st_nlink, (result.st_dev, result.st_ino))


def _beyond_standard(fd: int) -> int:
    """Move a descriptor away from 0 to 2: whoever prints writes there, closed or not."""
    if fd > _STDERR:
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _STDERR + 1)
    finally:
        os.close(fd)
