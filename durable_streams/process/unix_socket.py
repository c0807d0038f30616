"""A unix socket that the server makes, and removes at its end.

What a server that was killed left behind is a socket on which nobody listens: it is replaced.
Nothing else is: no other file, no symbolic link, no socket that somebody listens on.  Two servers
that start at once could both find the same one dead, and the second remove what the first has made
by then; so each looks and binds under a lock of the directory.

Whoever may write to a unix socket may connect, so its mode is 0660, from its first moment on: the
server's user and group.  At the end it is removed only if it is the one that was made: who has put
another in its place keeps that.  A duplicate stays open until then, so that nobody finds it dead,
and no other file gets its number.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from durable_streams.process.addresses import CannotListen

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOT_FOR_OTHERS: Final = 0o117
"""The umask that makes the mode 0660."""

MAX_PATH_BYTES: Final = 103 if sys.platform == "darwin" else 107
"""What the address of a unix socket has room for, without the NUL at its end."""

_ADVICE: Final = {
    errno.ENOENT: "make its directory first",
    errno.ENOTDIR: "give a path in a directory",
    errno.EACCES: "let the server's user write to its directory",
    errno.EPERM: "let the server's user write to its directory",
    errno.EROFS: "give a path on a file system that can be written",
}


class UnixSocket:
    """A socket at a path; ``bound`` does not listen yet, and is the caller's to close."""

    def __init__(self, path: Path, bound: socket.socket) -> None:
        self.bound = bound
        self._path = path
        self._held = bound.dup()
        self._made = _identity(path)

    @classmethod
    def at(cls, path: str) -> Self:
        """Make one; :class:`CannotListen` if it cannot be, or would have to replace something."""
        where = _place(path)
        bound = socket.socket(socket.AF_UNIX)
        try:
            with _alone_in(where.parent):
                _remove_dead(where)
                _bind(bound, where)
                return cls(where, bound)
        except OSError as error:
            bound.close()
            raise _cannot(where, error) from error
        except BaseException:
            bound.close()
            raise

    def remove(self) -> None:
        """Remove the file if it is still ours."""
        with self._held, suppress(OSError):
            if _identity(self._path) == self._made:
                self._path.unlink()


def check(path: str) -> None:
    """Raise :class:`CannotListen` if no server could listen there; nothing is made or removed.

    One that listens there now is no reason: it may be the one that is to be started again.
    """
    where = _place(path)
    try:
        os.scandir(where.parent).close()
        if not os.access(where.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if len(os.fsencode(where)) > MAX_PATH_BYTES:
            raise OSError("AF_UNIX path too long")
        with suppress(FileNotFoundError):
            _refuse_other(where, where.lstat())
    except OSError as error:
        raise _cannot(where, error) from error


def _place(path: str) -> Path:
    if not path or "\0" in path:
        raise CannotListen(f"cannot listen on unix:{path!r}: give --unix-socket a path")
    return Path(path).absolute()


def _cannot(where: Path, error: OSError) -> CannotListen:
    reason = error.strerror or str(error)
    advice = _ADVICE.get(error.errno or 0, "give another --unix-socket")
    return CannotListen(f"cannot listen on unix:{where}: {reason}: {advice}")


def _refuse_other(where: Path, found: os.stat_result) -> None:
    if not stat.S_ISSOCK(found.st_mode):
        raise CannotListen(
            f"cannot listen on unix:{where}: a file is there that is no socket: remove it, or give "
            "another --unix-socket"
        )


def _bind(bound: socket.socket, where: Path) -> None:
    before = os.umask(_NOT_FOR_OTHERS)
    try:
        bound.bind(os.fspath(where))
    finally:
        os.umask(before)


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Keep other servers from making sockets in a directory."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotListen(
                f"cannot make a unix socket in {directory}: somebody has a lock on it, "
                "a server that starts or one whose data directory it is: try again, or give "
                "another --unix-socket"
            ) from None
        yield
    finally:
        os.close(descriptor)


def _remove_dead(where: Path) -> None:
    """Remove a socket on which nobody listens; :class:`CannotListen` if there is anything else."""
    try:
        found = where.lstat()
    except FileNotFoundError:
        return
    _refuse_other(where, found)
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # a full backlog is an answer, too
        try:
            probe.connect(os.fspath(where))
        except ConnectionRefusedError:
            where.unlink()
            return
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != errno.EPROTOTYPE:  # a socket of datagrams is somebody's as well
                raise
    raise CannotListen(
        f"cannot listen on unix:{where}: somebody listens there: stop that server, or give another "
        "--unix-socket"
    )


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino
