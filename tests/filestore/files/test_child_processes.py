"""What a forked process has of its parent's data directories; with real processes: tests/e2e."""

from __future__ import annotations

import multiprocessing
import os
import threading
from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.files import child_processes
from durable_streams.filestore.files.directory import DataDirectory
from durable_streams.filestore.files.disk import Disk
from durable_streams.model.errors import OpenedElsewhere
from durable_streams.own_process import OwnProcess

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from pathlib import Path


class WatchedDisk(Disk):
    """Notes, when one that has a lock is opened or closed, whether a fork could come upon it."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, bool]] = []
        self.locked: set[int] = set()

    def open_read(self, path: Path | str) -> int:
        fd = super().open_read(path)
        if self.locked:  # LOCK comes first, and the directory itself is the next
            self.note("open", fd)
        return fd

    def open_write(self, path: Path | str) -> int:
        fd = super().open_write(path)
        if str(path).endswith("LOCK"):
            self.note("open", fd)
        return fd

    def close(self, fd: int) -> None:
        if fd in self.locked:
            self.note("close", fd)
        super().close(fd)

    def note(self, what: str, fd: int) -> None:
        self.locked ^= {fd}

        def fork() -> None:
            may_fork = child_processes.no_fork.acquire(blocking=False)
            self.noted.append((what, may_fork))
            if may_fork:
                child_processes.no_fork.release()

        thread = threading.Thread(target=fork)
        thread.start()
        thread.join()


def test_no_fork_comes_upon_the_opening_or_closing_of_what_has_a_lock(data_dir: Path) -> None:
    DataDirectory.open(Disk(), data_dir).close()
    disk = WatchedDisk()
    directory = DataDirectory.open(disk, data_dir)
    assert disk.locked >= {directory.root_fd, directory._lock_fd}
    disk.locked = {directory.root_fd, directory._lock_fd}
    assert disk.noted[:2] == [("open", False), ("open", False)]
    disk.noted.clear()
    (data_dir / "LOCK").unlink()
    directory.mend()
    assert disk.noted == [("open", False), ("close", False)]
    disk.noted.clear()
    directory.close()
    assert disk.noted == [("close", False), ("close", False)]


def test_what_is_closed_is_not_kept_from_children_any_more(data_dir: Path) -> None:
    before = set(child_processes._numbers)
    directory = DataDirectory.open(Disk(), data_dir)
    assert child_processes._numbers - before == {directory.root_fd, directory._lock_fd}
    directory.close()
    assert child_processes._numbers == before


def in_a_process(child: Callable[[Path, Connection], object], data_dir: Path) -> object:
    """Fork where there are no other threads; what ``child`` says in the child."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=child, args=(data_dir, theirs))
    process.start()
    theirs.close()
    said = ours.recv()
    process.join()
    return said


def use_copies(data_dir: Path, told: Connection) -> None:
    """Read, write and close in a child what was open in its parent."""
    disk = Disk()
    directory = DataDirectory.open(disk, data_dir)
    file = disk.open_write(data_dir / "file")
    disk.pwrite(file, b"parent's", 0)
    if os.fork() == 0:
        own = os.open(data_dir / "own", os.O_RDWR | os.O_CREAT)
        said = []
        uses: list[Callable[[], object]] = [
            lambda: disk.pwrite(file, b"child's", 0),
            lambda: disk.pread(file, 1, 0),
            lambda: disk.sync(file),
            lambda: disk.truncate(file, 0),
        ]
        for use in uses:
            try:
                use()
                said.append("done")
            except OSError:
                said.append("refused")
        disk.close(file)
        directory.close()
        os.pwrite(own, b"own", 0)
        os.close(own)
        told.send([said, (data_dir / "own").read_bytes(), (data_dir / "file").read_bytes()])
        os._exit(0)
    os.wait()
    disk.close(file)
    directory.close()


def test_what_a_child_does_with_its_copies_meets_neither_its_parent_s_files_nor_its_own(
    data_dir: Path,
) -> None:
    assert in_a_process(use_copies, data_dir) == [["refused"] * 4, b"own", b"parent's"]


def test_a_process_knows_itself() -> None:
    OwnProcess().check()
    other = OwnProcess()
    other.pid = os.getppid()
    assert not other.is_here
    with pytest.raises(OpenedElsewhere, match=rf"another process \(pid {os.getppid()}\)"):
        other.check()


def test_a_directory_is_free_at_once_though_a_child_has_not_let_go_of_its_copies_yet(
    tmp_path: Path,
) -> None:
    directory = DataDirectory.open(Disk(), tmp_path / "data")
    copies = [os.dup(directory.root_fd), os.dup(directory._lock_fd)]
    directory.close()
    DataDirectory.open(Disk(), tmp_path / "data").close()
    for copy in copies:
        os.close(copy)


def test_a_child_that_has_the_number_of_its_parent_is_another_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the first process of a container and its child in another one have."""
    own, number = OwnProcess(), os.getpid()
    pid = os.fork()
    if not pid:
        monkeypatch.setattr(os, "getpid", lambda: number)
        os._exit(own.is_here)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert own.is_here
