"""System calls that some hosts do not have: which answers mean that, and what is done instead.

Older container engines forbid calls (``EPERM``), kernels and emulators lack them (``ENOSYS``), file
systems do not implement them (``EOPNOTSUPP``, ``EINVAL``).  A row of :data:`REFUSALS` says for one
call which errors are such a refusal.  Every other error is what it says, and is raised; so is
whatever goes wrong in what is done instead.  Nothing is remembered: what a host refuses it refuses
quickly, each time, and one file system may have what another has not.

The errors of a *sync* are chosen with care: one that may mean that bytes were lost must never be
taken for a refusal, as the next sync would succeed and prove nothing.  So ``EIO``, ``ENOSPC`` and
``EDQUOT`` are in no such row, nor is ``EROFS``, with which ext4 answers when it has given up on its
journal, and ``EINVAL`` only for directories.

Not used at all, as many hosts lack them: ``fallocate``, ``O_DIRECT``, ``O_TMPFILE``,
``renameat2``, and memory-mapped files.

For ``disk`` only, but for the row :data:`LINK`.  Stateless, safe to call from several threads.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import stat
import sys
from dataclasses import dataclass
from typing import Final

_COPY_BYTES: Final = 1024 * 1024
_VOLUME_TO_THE_DISK_AND_WAIT: Final = 0x01 | 0x02
"""``SYNC_VOLUME_FULLSYNC | SYNC_VOLUME_WAIT`` of macOS's ``unistd.h``."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """``errnos``: the errors that mean that the host does not have ``call``.

    :data:`ANY`, if it does not matter why: what is done instead shows what is really wrong.
    """

    call: str
    errnos: frozenset[int]
    instead: str

    def covers(self, error: OSError) -> bool:
        """Whether the call was refused, rather than tried in vain."""
        return error.errno in self.errnos


ANY: Final = frozenset(errno.errorcode)
_MISSING: Final = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})

LINK: Final = Refusal(
    "link",
    _MISSING | {errno.EPERM, errno.EACCES, errno.EMLINK, errno.EXDEV, errno.EINVAL},
    "copy",
)
FDATASYNC: Final = Refusal("fdatasync", frozenset({errno.ENOSYS}), "fsync")
FULLFSYNC: Final = Refusal("F_FULLFSYNC", _MISSING | {errno.ENOTTY, errno.EINVAL}, "fsync")
FSYNC_DIRECTORY: Final = Refusal(
    "fsync of a directory", _MISSING | {errno.EINVAL, errno.EBADF}, "syncfs"
)
SYNCFS: Final = Refusal("syncfs", _MISSING | {errno.EPERM, errno.EINVAL}, "sync")
SYNC_VOLUME: Final = Refusal(
    "fsync_volume_np", _MISSING | {errno.EPERM, errno.EINVAL, errno.ENOTTY}, "each file"
)
STATVFS: Final = Refusal("statvfs", _MISSING | {errno.EPERM, errno.EOVERFLOW}, "room for all")
FLOCK: Final = Refusal("flock", _MISSING | {errno.ENOLCK, errno.EINVAL}, "no start")

REFUSALS: Final = (
    Refusal("copy_file_range", ANY, "read and write"),
    LINK,
    Refusal("preadv2", ANY, "pread in a thread"),
    FDATASYNC,
    FULLFSYNC,
    FSYNC_DIRECTORY,
    SYNCFS,
    SYNC_VOLUME,
    STATVFS,
    Refusal("open below /proc", ANY, "not known"),
    FLOCK,
)
"""Every row; docs/operations.rst has the same table for whoever runs a server."""


def copy_within(source: int, target: int, size: int) -> int:
    """Copy the first ``size`` bytes in the kernel, sharing blocks where the file system can.

    How many it copied: fewer where it refused, or said nothing was left.  Some kernels and network
    file systems say that long before the end, so the rest, and whatever is really wrong, is for
    whoever reads and writes it.
    """
    copied = 0
    while copied < size and hasattr(os, "copy_file_range"):
        step = min(size - copied, _COPY_BYTES)
        try:
            step = os.copy_file_range(source, target, step, copied, copied)
        except OSError:
            break
        if step == 0:
            break
        copied += step
    return copied


def sync_file(fd: int) -> None:
    """``fdatasync``, or what the host has in its place."""
    if sys.platform == "darwin":
        sync_fully(fd)
        return
    try:
        os.fdatasync(fd)
    except OSError as error:
        if not FDATASYNC.covers(error):
            raise
        os.fsync(fd)


def sync_fully(fd: int) -> None:
    """``fsync``; on macOS that which reaches the disk, where the file system has it."""
    if sys.platform == "darwin":
        try:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        except OSError as error:
            if not FULLFSYNC.covers(error):
                raise
        else:
            return
    os.fsync(fd)


def sync_file_system(fd: int) -> None:
    """``syncfs``, or ``sync``, which waits on Linux but tells of no write that failed.

    On macOS ``sync`` does not wait: it is ``fsync_volume_np``, or each file from the directory
    ``fd`` downwards.
    """
    if sys.platform == "darwin":
        try:
            _call("fsync_volume_np", fd, _VOLUME_TO_THE_DISK_AND_WAIT)
        except OSError as error:
            if not SYNC_VOLUME.covers(error):
                raise
            _sync_tree(fd)
        return
    try:
        _call("syncfs", fd)
    except OSError as error:
        if not SYNCFS.covers(error):
            raise
        os.sync()


def _sync_tree(fd: int) -> None:
    """Sync each file and directory from an open directory downwards; what goes meanwhile may."""
    for _, _, files, here in os.fwalk(".", onerror=_raise_unless_gone, dir_fd=fd):
        sync_fully(here)  # first: where directories cannot be synced, it need not be tried on files
        for name in files:
            try:
                if not stat.S_ISREG(os.stat(name, dir_fd=here, follow_symlinks=False).st_mode):
                    continue  # a link has no bytes of its own, and a pipe would be waited for
                file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            except FileNotFoundError:
                continue
            try:
                sync_fully(file)
            finally:
                os.close(file)


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def syncfs_reports_failed_writes() -> bool:
    """Whether it does: it is there, and the system is Linux 5.8 or later."""
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    if sys.platform != "linux" or release is None:
        return False
    if (int(release[1]), int(release[2])) < (5, 8):
        return False
    try:
        _call("syncfs", -1)
    except OSError as error:
        return error.errno == errno.EBADF
    return False


def _call(name: str, *arguments: int) -> None:
    """Call a function of the C library that Python does not have."""
    try:
        function = getattr(ctypes.CDLL(None, use_errno=True), name)
    except (AttributeError, OSError):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
