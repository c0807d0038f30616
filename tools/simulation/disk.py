"""A file system in memory that forgets, tears and fails: the test double of the storage's seam.

Every file and directory has a present state and the changes since it was last synced.  A power cut
keeps an arbitrary part of those changes: each write whole, not at all, as a prefix or as zeros, in
any combination; each change of a directory whole or not at all.  Bytes that are on the platter stay
there while they are written once more.  A rename is one change of both its
directories and becomes durable when either is synced; a directory is at one place only.  Nothing
else is assumed atomic.

Long because it stands for every call of ``Disk``.
"""

from __future__ import annotations

import errno
import os
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from durable_streams.filestore.files.disk import Disk, FailedRead, FileStatus, StrPath

if TYPE_CHECKING:
    from collections.abc import Callable


class PowerCut(BaseException):
    """The machine stopped in the middle of a system call."""


Write = tuple[int, bytes | None]  # where and what; without bytes: the size it was cut to


@dataclass(eq=False)
class File:
    """A regular file: what programs see, what is on the platter, and the writes between."""

    data: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    writes: list[Write] = field(default_factory=list)
    links: int = 0

    def write(self, data: bytes, position: int) -> None:
        self.writes.append((position, data))
        _put(self.data, self.writes[-1])

    def truncate(self, size: int) -> None:
        self.writes.append((size, None))
        _put(self.data, self.writes[-1])

    def sync(self) -> None:
        for write in self.writes:
            _put(self.durable, write)
        self.writes.clear()

    def fail_sync(self, random: Random) -> None:
        """Some of it may be on the platter; no later sync will bring the rest there."""
        self.durable = self.after_power_cut(random).durable
        self.writes.clear()

    def after_power_cut(self, random: Random) -> File:
        left = bytearray(self.durable)
        for position, data in self.writes:
            fate = random.choice(("keep", "keep", "lose", "tear", "zero"))
            if data is None:
                if fate == "keep":
                    _put(left, (position, None))
            elif fate == "keep":
                _put(left, (position, data))
            elif fate == "tear":
                _put(left, (position, data[: random.randrange(len(data) + 1)]))
            elif fate == "zero" and left[position : position + len(data)] != data:
                _put(left, (position, bytes(len(data))))
        return File(bytearray(left), left)


def _put(content: bytearray, write: Write) -> None:
    position, data = write
    if len(content) < position:
        content.extend(bytes(position - len(content)))
    if data is None:
        del content[position:]
    else:
        content[position : position + len(data)] = data


@dataclass(eq=False)
class Change:
    """One change of names: in each directory, what a name refers to from now on."""

    parts: list[tuple[Directory, str, File | Directory | None]]


@dataclass(eq=False)
class Directory:
    """A directory."""

    names: dict[str, File | Directory] = field(default_factory=dict)
    durable: dict[str, File | Directory] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)

    def sync(self) -> None:
        """All changes of this directory are durable, with their other halves."""
        for change in list(self.changes):
            _settle(change)


def _settle(change: Change) -> None:
    """Make a change durable, after those before it that touch the same names."""
    for directory, name, _ in change.parts:
        for earlier in list(directory.changes):
            if earlier is change:
                break
            if any(part[0] is directory and part[1] == name for part in earlier.parts):
                _settle(earlier)
    for directory, name, target in change.parts:
        if change in directory.changes:
            directory.changes.remove(change)
        _set(directory.durable, name, target)


def _set(names: dict[str, File | Directory], name: str, target: File | Directory | None) -> None:
    if target is None:
        names.pop(name, None)
    else:
        names[name] = target


class SimulatedDisk(Disk):
    """The engine's disk; ``before`` is called ahead of every call and may raise.

    ``calls`` counts those that change or sync something.  ``short``: how many of so many bytes a
    write takes.  ``random`` decides what a failed sync leaves.  ``free``: how many bytes and inodes
    there are.  ``syncs_as_a_whole``: whether that is sooner.
    """

    def __init__(self, root: Path) -> None:
        self.top = Directory()
        self.root = root
        self.calls = 0
        self.before: Callable[[str, StrPath], None] = lambda _call, _path: None
        self.short: Callable[[int], int] = lambda size: size
        self.random = Random(0)
        self.free: Callable[[], tuple[int, int]] = lambda: (1 << 40, 1 << 30)
        self.syncs_as_a_whole = False
        self._fds: dict[int, tuple[File | Directory, Path]] = {}
        self._next_fd = 1000

    # -- names -----------------------------------------------------------------------------

    def _parts(self, path: StrPath) -> list[str]:
        return list(Path(path).relative_to(self.root).parts)

    def _lookup(self, path: StrPath) -> File | Directory | None:
        node: File | Directory | None = self.top
        for part in self._parts(path):
            if not isinstance(node, Directory):
                return None
            node = node.names.get(part)
        return node

    def _directory(self, path: StrPath) -> Directory:
        node = self._lookup(path)
        if not isinstance(node, Directory):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return node

    def _change(self, *parts: tuple[Directory, str, File | Directory | None]) -> None:
        change = Change(list(parts))
        for directory, name, target in change.parts:
            old = directory.names.get(name)
            if isinstance(old, File):
                old.links -= 1
            if isinstance(target, File):
                target.links += 1
            _set(directory.names, name, target)
        for directory in {id(part[0]): part[0] for part in change.parts}.values():
            directory.changes.append(change)

    def _call(self, name: str, path: Path) -> None:
        self.calls += 1
        self.before(name, path)

    @property
    def open_files(self) -> list[Path]:
        """What nobody closed."""
        return [path for _, path in self._fds.values()]

    # -- the seam --------------------------------------------------------------------------

    def open_read(self, path: StrPath) -> int:
        path = Path(path)
        self.before("open", path)
        node = self._lookup(path)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return self._fd(node, path)

    def open_write(self, path: StrPath) -> int:
        path = Path(path)
        self.before("open", path)
        if self._lookup(path) is None:
            self._call("create", path)
        node = self._lookup(path)
        if node is None:
            node = File()
            self._change((self._directory(path.parent), path.name, node))
        return self._fd(node, path)

    def _fd(self, node: File | Directory, path: Path) -> int:
        self._next_fd += 1
        self._fds[self._next_fd] = (node, path)
        return self._next_fd

    def _file(self, fd: int) -> File:
        node = self._fds[fd][0]
        assert isinstance(node, File)
        return node

    def close(self, fd: int) -> None:
        del self._fds[fd]

    def pread(self, fd: int, size: int, position: int) -> bytes:
        self.before("read", self._fds[fd][1])
        return bytes(self._file(fd).data[position : position + size])

    def pread_cached(self, fd: int, size: int, position: int) -> bytes | None:
        data = self.pread(fd, size, position)
        return data if len(data) == size else None

    def pwrite_some(self, fd: int, data: bytes | memoryview, position: int) -> int:
        self._call("write", self._fds[fd][1])
        size = self.short(len(data))
        self._file(fd).write(bytes(data[:size]), position)
        return size

    def truncate(self, fd: int, size: int) -> None:
        if len(self._file(fd).data) != size:
            self._call("truncate", self._fds[fd][1])
            self._file(fd).truncate(size)

    def sync(self, fd: int) -> None:
        file = self._file(fd)
        try:
            self._call("sync", self._fds[fd][1])
        except OSError as error:
            file.fail_sync(self.random)
            raise self.failed_sync(error) from error
        file.sync()

    def sync_directory(self, path: StrPath) -> None:
        path = Path(path)
        self.before("open", path)
        directory = self._directory(path)
        try:
            self._call("sync_directory", path)
        except OSError as error:
            raise self.failed_sync(error) from error
        directory.sync()

    def sync_file_system(self, fd: int) -> None:
        try:
            self._call("sync_file_system", self._fds[fd][1])
        except OSError as error:
            raise self.failed_sync(error) from error
        seen: set[int] = set()
        waiting: list[File | Directory] = [self.top, *(node for node, _ in self._fds.values())]
        while waiting:
            node = waiting.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if isinstance(node, Directory):
                waiting.extend(node.names.values())
            node.sync()

    def status(self, path: StrPath) -> FileStatus | None:
        self.before("look", path)
        node = self._lookup(path)
        if node is None:
            return None
        if isinstance(node, Directory):
            return FileStatus(0, 1, (1, id(node)))
        return FileStatus(len(node.data), node.links, (1, id(node)))

    def file_status(self, fd: int) -> FileStatus:
        self.before("look", self._fds[fd][1])
        file = self._file(fd)
        return FileStatus(len(file.data), file.links, (1, id(file)))

    def size_of(self, fd: int) -> int:
        return self.file_status(fd).size_bytes

    def is_directory(self, path: StrPath) -> bool:
        self.before("look", path)
        return isinstance(self._lookup(path), Directory)

    def is_no_file(self, path: StrPath) -> bool:
        return self.is_directory(path)

    def names(self, path: StrPath) -> list[str]:
        path = Path(path)
        self.before("open", path)
        node = self._lookup(path)
        return list(node.names) if isinstance(node, Directory) else []

    def some_names(self, path: StrPath, most: int) -> list[str]:
        return self.names(path)[:most]

    def make_directory(self, path: StrPath) -> None:
        path = Path(path)
        self._call("make_directory", path)
        parent = self._directory(path.parent)
        if path.name in parent.names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        self._change((parent, path.name, Directory()))

    def rename(self, source: StrPath, target: StrPath) -> None:
        source, target = Path(source), Path(target)
        self._call("rename", target)
        origin, goal = self._directory(source.parent), self._directory(target.parent)
        node = origin.names.get(source.name)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(source))
        self._change((origin, source.name, None), (goal, target.name, node))

    def link(self, source: StrPath, target: StrPath) -> None:
        target = Path(target)
        self._call("link", target)
        node = self._lookup(source)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(source))
        assert isinstance(node, File)
        self._change((self._directory(target.parent), target.name, node))

    def unlink(self, path: StrPath) -> None:
        path = Path(path)
        if isinstance(self._lookup(path), File):
            self._call("unlink", path)
        node = self._lookup(path)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        if isinstance(node, Directory):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        self._change((self._directory(path.parent), path.name, None))

    def remove_directory(self, path: StrPath) -> None:
        path = Path(path)
        node = self._lookup(path)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        assert isinstance(node, Directory)
        if node.names:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(path))
        self._call("remove_directory", path)
        self._change((self._directory(path.parent), path.name, None))

    def copy(self, source: int, target: int, size: int) -> None:
        try:
            data = self.pread(source, size, 0)
        except OSError as error:
            raise FailedRead(*error.args) from error
        if len(data) < size:
            raise FailedRead(errno.ESTALE, f"is shorter than {size} bytes")
        self.pwrite(target, data, 0)

    def syncs_sooner_as_a_whole(self, syncs: int) -> bool:
        return self.syncs_as_a_whole

    def volume_bytes(self, path: StrPath) -> int:
        return 1 << 40

    def room(self, path: StrPath) -> tuple[int, int]:
        return self.free()

    def file_system(self, path: StrPath) -> str:
        return "simulated"

    def lock(self, fd: int) -> None:
        """Whoever held it is gone."""

    def unlock(self, fd: int) -> None:
        """There is none."""

    # -- what other programs do, at any moment ----------------------------------------------

    def list_files(self, top: Path) -> list[Path]:
        """Every file below a directory, or at a path."""
        node = self._lookup(top)
        if isinstance(node, Directory):
            return [path for name in node.names for path in self.list_files(top / name)]
        return [] if node is None else [top]

    def has_bytes(self, path: Path) -> bool:
        """Whether a file is at a path that is not empty."""
        node = self._lookup(path)
        return isinstance(node, File) and bool(node.data)

    def outlasts_power(self, path: Path) -> bool:
        """Whether a file's name is in its directory after a power cut, whatever is in it."""
        return path.name in self._directory(path.parent).durable

    def keep(self, path: Path) -> None:
        """Make a file and its name durable."""
        file = self._lookup(path)
        assert isinstance(file, File)
        file.sync()
        self._directory(path.parent).sync()

    def move(self, source: Path, target: Path) -> None:
        """Rename a file, durably: what comes to its name later cannot take it along."""
        origin, goal = self._directory(source.parent), self._directory(target.parent)
        self._change((origin, source.name, None), (goal, target.name, origin.names[source.name]))
        _settle(goal.changes[-1])

    def put_copy(self, source: Path, target: Path) -> None:
        """Put a copy of a file, synced, in its own place or in another's, by a rename."""
        file, goal = self._lookup(source), self._directory(target.parent)
        assert isinstance(file, File)
        self._change((goal, target.name, File(bytearray(file.data), bytearray(file.data))))
        if source != target:
            _settle(goal.changes[-1])  # before the source goes
            self._change((self._directory(source.parent), source.name, None))

    # -- power cuts ------------------------------------------------------------------------

    def after_kill(self) -> SimulatedDisk:
        """What the next process finds: all that was written, synced or not.  A copy."""
        left = SimulatedDisk(self.root)
        left.top = deepcopy(self.top)
        return left

    def files(self, top: Path) -> dict[Path, bytes]:
        """Every file below a directory, and its bytes."""
        found: dict[Path, bytes] = {}
        node = self._lookup(top)
        if isinstance(node, File):
            return {top: bytes(node.data)}
        if isinstance(node, Directory):
            for name in node.names:
                found |= self.files(top / name)
        return found

    def after_power_cut(self, random: Random) -> SimulatedDisk:
        """What a machine finds that is switched on again; this object is not changed."""
        fates: dict[int, bool] = {}
        known: dict[int, File | Directory] = {}
        left = SimulatedDisk(self.root)
        copied = self._survivor(self.top, random, fates, known)
        assert isinstance(copied, Directory)
        left.top = copied
        return left

    def _survivor(
        self,
        node: File | Directory,
        random: Random,
        fates: dict[int, bool],
        known: dict[int, File | Directory],
    ) -> File | Directory:
        if id(node) in known:
            return known[id(node)]
        if isinstance(node, File):
            file = node.after_power_cut(random)
            known[id(node)] = file
            return file
        directory = Directory()
        known[id(node)] = directory
        names = dict(node.durable)
        for change in node.changes:
            if fates.setdefault(id(change), random.random() < 0.5):
                for place, name, target in change.parts:
                    if place is node:
                        _set(names, name, target)
        for name, target in names.items():
            if isinstance(target, Directory) and id(target) in known:
                continue  # it was moved twice, and has one name, as directories have
            directory.names[name] = self._survivor(target, random, fates, known)
            survivor = directory.names[name]
            if isinstance(survivor, File):
                survivor.links += 1
        directory.durable = dict(directory.names)
        return directory


def power_cut_at(disk: SimulatedDisk, call: int) -> Callable[[str, StrPath], None]:
    """What to have before every call so that the power fails at the call of that number."""

    def before(_call: str, _path: StrPath) -> None:
        if disk.calls >= call:
            raise PowerCut

    return before
