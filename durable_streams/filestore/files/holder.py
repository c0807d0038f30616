"""Who has a data directory open: what LOCK holds, for people and for the message to a second one.

One line with spaces at its end, 256 bytes in all, so that it covers what was there::

    {"pid": 4711, "host": "web-1", "run": "5f0c9a1be2d34c77"}

``run`` is drawn by chance by each program, as processes in containers often have equal numbers.

The lock alone decides who has the directory; this is only told.  It is written, without a sync,
by whoever has the lock, and left there: what is in a file that nobody locks means nothing.  Version
0.1 writes nothing, a full disk takes nothing, and a hard-linked copy of the directory shares the
file, so it may be missing, or of somebody who has ended since.
"""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from durable_streams.filestore.files import whole_files
from durable_streams.model.errors import DataDirectoryInUse

if TYPE_CHECKING:
    from pathlib import Path

    from durable_streams.filestore.files.disk import Disk

SIZE_BYTES: Final = 256
_HOST_CHARACTERS: Final = 64  # as long as Linux has them
_RUN: Final = secrets.token_hex(8)

_WAYS_OUT: Final = (
    "or wait for its end (lock_wait_s); several processes share one server, over HTTP, or a "
    "PostgreSQL database"
)


class Holder(msgspec.Struct, frozen=True):
    """A process that has, or had, a data directory open."""

    pid: int
    host: str
    run: str


def sign(disk: Disk, lock_fd: int) -> None:
    """Write into the file whose lock we hold who we are, if that is possible."""
    line = msgspec.json.encode(_ourselves())
    if len(line) >= SIZE_BYTES:  # of a host whose name has to be escaped
        return
    with suppress(OSError):
        if disk.file_status(lock_fd).links == 1:
            disk.pwrite(lock_fd, line.ljust(SIZE_BYTES - 1) + b"\n", 0)


def in_use(disk: Disk, root: Path) -> DataDirectoryInUse:
    """The error for whoever finds the directory locked."""
    found = _read(disk, root)
    ours = _ourselves()
    text = f"the data directory {root} is in use by "
    if found == ours:
        text += (
            f"this very process (pid {ours.pid}), which opened it before: use that, or close it "
            "first"
        )
    elif found is None:
        text += f"another server; stop it first, {_WAYS_OUT}"
    elif found.host != ours.host:
        text += (
            f"another server (pid {found.pid} on {found.host!r}, this is {ours.host!r}); stop it "
            f"first, {_WAYS_OUT}"
        )
    elif _is_alive(found.pid):
        text += f"another server (pid {found.pid}); stop it first, {_WAYS_OUT}"
    else:
        text += (
            f"another server: pid {found.pid} had it and has ended, so by a process that it "
            f"started, or by one in another container; stop that first, {_WAYS_OUT}"
        )
    return DataDirectoryInUse(text, found.pid if found is not None else None)


def _ourselves() -> Holder:
    host = socket.gethostname()[:_HOST_CHARACTERS].encode("ascii", "replace").decode()
    return Holder(os.getpid(), host, _RUN)


def _read(disk: Disk, root: Path) -> Holder | None:
    try:
        data = whole_files.read_file(disk, root / "LOCK")
        return msgspec.json.decode(data or b"", type=Holder)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is another user's
        return True
    return True
