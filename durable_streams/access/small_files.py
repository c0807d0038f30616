"""Small files that people and programs edit: read whole, and replaced at once.

Blocking code.  Whoever reads has all of the old file or all of the new one, and so does a crash
between any two steps: what is new is written beside it, synced, and renamed.  Editors take turns
by a lock (``flock``) on the file itself; as a rename leaves whoever waited with a lock on the file
that was, it is looked after the lock whether the name still leads to it.  A symbolic link is
followed.
"""

from __future__ import annotations

import os
import secrets
import stat
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_T = TypeVar("_T")
_R = TypeVar("_R")

NEW_MODE: Final = 0o600
"""Of a file that was not there."""

PATIENCE_S: Final = 30.0
"""How long an editor waits for others, each of which takes a second or two at the most."""

_MAY_BE_READ_OR_CHANGED: Final = 0o026
"""By others, or changed by the group; a group that reads is how several users share a file."""

_LOOK_AGAIN_S: Final = 0.02

_HOW_TO_CHANGE: Final = (
    "nothing was changed; where it is mounted (a Secret of Kubernetes, say) change its source"
)


class FileProblem(Exception):
    """A file cannot be read, used or changed; the text is one line that says what to do."""


class Edited(NamedTuple, Generic[_T, _R]):
    """A file that was changed: its bytes, what they mean, and what the caller is told."""

    content: bytes
    value: _T
    told: _R


def read_small(path: Path, max_bytes: int) -> bytes:
    """The bytes of a regular file of at most ``max_bytes``; :class:`FileProblem` without one."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not hold us
    except OSError as error:
        raise FileProblem(f"{path} cannot be opened: {error.strerror}") from None
    try:
        return _content(path, fd, max_bytes)
    finally:
        os.close(fd)


def is_open_to_others(path: Path) -> bool:
    """Whether others may read or change a file; False if it cannot be looked at."""
    try:
        return bool(path.stat().st_mode & _MAY_BE_READ_OR_CHANGED)
    except OSError:
        return False


def edit_small(
    path: Path,
    change: Callable[[bytes | None], bytes],
    *,
    max_bytes: int,
    patience_s: float = PATIENCE_S,
) -> bytes:
    """Have ``change`` make the new content of the old one, None if there is no file; returns it.

    It is durable then.  ``change`` may be called more than once, and may raise: nothing was changed
    then, nor after a :class:`FileProblem` that does not say so.
    """
    gives_up_s = time.monotonic() + patience_s
    while True:
        try:
            place = path.resolve()
            done = _change(place, change, max_bytes, gives_up_s)
        except (OSError, RuntimeError) as error:  # the latter for links that lead in a circle
            said = getattr(error, "strerror", None) or str(error)
            raise FileProblem(f"{path} cannot be changed: {said}; {_HOW_TO_CHANGE}") from None
        if done is not None:
            return done


def _change(
    place: Path, change: Callable[[bytes | None], bytes], max_bytes: int, gives_up_s: float
) -> bytes | None:
    """Change a file if it is the one that was locked; None if all has to be done again."""
    try:
        fd = os.open(place, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return _create(place, _bounded(place, change(None), max_bytes))
    with _locked(place, fd, gives_up_s):
        old = os.fstat(fd)
        try:
            there = place.stat()
        except FileNotFoundError:
            return None
        if (there.st_dev, there.st_ino) != (old.st_dev, old.st_ino):
            return None
        content = _bounded(place, change(_content(place, fd, max_bytes)), max_bytes)
        with _fresh(place, content, old) as name:
            name.rename(place)
        _sync_directory(place)
        return content


def _create(place: Path, content: bytes) -> bytes | None:
    """Make a file that was not there; None if it is by now."""
    with _fresh(place, content, None) as name:
        try:
            os.link(name, place)  # unlike a rename it replaces nothing
        except FileExistsError:
            return None
    _sync_directory(place)
    return content


@contextmanager
def _locked(place: Path, fd: int, gives_up_s: float) -> Iterator[None]:
    """Hold the lock of a descriptor, which is closed at the end."""
    import fcntl  # noqa: PLC0415 - reading is possible where there is none, which others tell

    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= gives_up_s:
                    raise FileProblem(
                        f"{place} is locked by another program that edits it: try again"
                    ) from None
                time.sleep(_LOOK_AGAIN_S)
        try:
            yield
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)  # a child that was forked meanwhile has it as well
    finally:
        os.close(fd)


@contextmanager
def _fresh(place: Path, content: bytes, old: os.stat_result | None) -> Iterator[Path]:
    """A file beside ``place``, durable, with the owner and mode of the old one; removed if left."""
    name = place.with_name(f".{place.name}.{secrets.token_hex(8)}.new")
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, NEW_MODE)
    try:
        try:
            _write(fd, content)
            _alike(place, fd, old)
            os.fsync(fd)
        finally:
            os.close(fd)
        yield name
    finally:
        with suppress(FileNotFoundError):
            name.unlink()


def _write(fd: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(fd, left) :]


def _alike(place: Path, fd: int, old: os.stat_result | None) -> None:
    """Give a file the owner and mode of the old one; whoever reads that has to read this."""
    if old is None:
        os.fchmod(fd, NEW_MODE)  # whatever the umask says
        return
    new = os.fstat(fd)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        try:
            os.fchown(fd, old.st_uid, old.st_gid)
        except PermissionError:
            raise FileProblem(
                f"{place} belongs to user {old.st_uid}, group {old.st_gid}, and would not any "
                "more: change it as that user; nothing was changed"
            ) from None
    os.fchmod(fd, stat.S_IMODE(old.st_mode))


def _sync_directory(place: Path) -> None:
    """Make the new name durable."""
    try:
        fd = os.open(place.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise FileProblem(
            f"{place} was changed, and may be as it was after a power cut: {error.strerror}"
        ) from None


def _content(path: Path, fd: int, max_bytes: int) -> bytes:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise FileProblem(f"{path} is no regular file: give one that is")
    pieces: list[bytes] = []
    size_bytes = 0
    try:
        while piece := os.read(fd, max_bytes + 1 - size_bytes):
            pieces.append(piece)
            size_bytes += len(piece)
            if size_bytes > max_bytes:
                break
    except OSError as error:
        raise FileProblem(f"{path} cannot be read: {error.strerror}") from None
    return _bounded(path, b"".join(pieces), max_bytes)


def _bounded(path: Path, content: bytes, max_bytes: int) -> bytes:
    """Neither is more read, nor anything written that could not be read."""
    if len(content) > max_bytes:
        raise FileProblem(f"{path} is, or would be, larger than {max_bytes} bytes: shorten it")
    return content
