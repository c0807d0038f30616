"""How bytes get into the files of a spool: behind what is there, or as a whole file; durably."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_NO_SPLICE: Final = {errno.EINVAL, errno.ENOSYS, errno.EPERM}


def moved(fd: int, to_fd: int, most: int) -> int:
    """Move bytes from a pipe to the end of a file, in the kernel if it can."""
    if hasattr(os, "splice"):
        try:
            return os.splice(fd, to_fd, most)
        except OSError as error:
            if error.errno not in _NO_SPLICE:
                raise
    data = os.read(fd, most)
    view = memoryview(data)
    while view:
        view = view[os.write(to_fd, view) :]
    return len(data)


def synced(fd: int) -> None:
    """Have what was written be durable; macOS knows but the one call."""
    getattr(os, "fdatasync", os.fsync)(fd)


def written(path: Path, data: bytes) -> None:
    """Have a whole file, durably, or none."""
    fresh = path.with_name(f".{path.name}")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    fresh.rename(path)
    directory_fd = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory_fd)
    finally:
        os.close(directory_fd)
