"""The real disk with a director: calls fail or wait when a test says so."""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from durable_streams.filestore.files.disk import Disk, StrPath

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Fault:
    """The next ``times`` calls on a path with ``where`` in it raise ``OSError(number)``."""

    call: str
    number: int
    where: str
    times: int


@dataclass
class Gate:
    """Calls on a path with ``where`` in it wait at this gate until it is opened."""

    call: str
    where: str
    reached: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)

    def open(self) -> None:
        self.opened.set()


class StagedDisk(Disk):
    """Counts its calls; fails and holds those it is told to, by method and part of the path."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self._faults: list[Fault] = []
        self._gates: list[Gate] = []
        self._paths: dict[int, Path] = {}

    def fail(self, call: str, number: int, where: str = "", times: int = sys.maxsize) -> None:
        self._faults.append(Fault(call, number, where, times))

    def heal(self) -> None:
        """Nothing fails and nothing waits any more."""
        self._faults.clear()
        for gate in self._gates:
            gate.open()
        self._gates.clear()

    def hold(self, call: str, where: str = "") -> Gate:
        gate = Gate(call, where)
        self._gates.append(gate)
        return gate

    @property
    def open_files(self) -> list[Path]:
        return sorted(self._paths.values())

    def _stage(self, call: str, path: StrPath | None) -> None:
        text = str(path)
        for gate in list(self._gates):
            if gate.call == call and gate.where in text:
                gate.reached.set()
                gate.opened.wait()
        self.calls[call] += 1
        for fault in list(self._faults):
            if fault.call == call and fault.where in text and fault.times > 0:
                fault.times -= 1
                raise OSError(fault.number, os.strerror(fault.number), text)

    def _stage_sync(self, call: str, path: StrPath | None) -> None:
        try:
            self._stage(call, path)
        except OSError as error:
            raise self.failed_sync(error) from error

    def _opened(self, fd: int, path: Path) -> int:
        self._paths[fd] = path
        return fd

    def open_read(self, path: StrPath) -> int:
        self._stage("open_read", path)
        return self._opened(super().open_read(path), Path(path))

    def open_write(self, path: StrPath) -> int:
        path = Path(path)
        self._stage("open_write", path)
        return self._opened(super().open_write(path), path)

    def close(self, fd: int) -> None:
        del self._paths[fd]
        super().close(fd)

    def duplicate(self, fd: int) -> int:
        return self._opened(super().duplicate(fd), self._paths[fd])

    def pread(self, fd: int, size: int, position: int) -> bytes:
        self._stage("pread", self._paths.get(fd))
        return super().pread(fd, size, position)

    def pwrite(self, fd: int, data: bytes, position: int) -> None:
        self._stage("pwrite", self._paths.get(fd))
        super().pwrite(fd, data, position)

    def sync(self, fd: int) -> None:
        self._stage_sync("sync", self._paths.get(fd))
        super().sync(fd)

    def sync_directory(self, path: StrPath) -> None:
        self._stage_sync("sync_directory", path)
        super().sync_directory(path)

    def sync_file_system(self, fd: int) -> None:
        self._stage_sync("sync_file_system", None)
        super().sync_file_system(fd)

    def names(self, path: StrPath) -> list[str]:
        self._stage("names", path)
        return super().names(path)

    def each_name(self, path: StrPath) -> Iterator[str]:
        self._stage("each_name", path)
        return super().each_name(path)

    def some_names(self, path: StrPath, most: int) -> list[str]:
        self._stage("some_names", path)
        return super().some_names(path, most)

    def names_behind(self, path: StrPath, name: str, most: int) -> list[str]:
        self._stage("names_behind", path)
        return super().names_behind(path, name, most)

    def make_directory(self, path: StrPath) -> None:
        self._stage("make_directory", path)
        super().make_directory(path)

    def rename(self, source: StrPath, target: StrPath) -> None:
        self._stage("rename", target)
        super().rename(source, target)

    def link(self, source: StrPath, target: StrPath) -> None:
        self._stage("link", target)
        super().link(source, target)

    def room(self, path: StrPath) -> tuple[int, int]:
        self._stage("room", path)
        return super().room(path)
