"""Who has a data directory open: written into LOCK, and told to a second one."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from durable_streams.filestore.files import holder
from durable_streams.filestore.files.directory import DataDirectory
from durable_streams.filestore.files.disk import Disk
from durable_streams.model.errors import DataDirectoryInUse

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from pathlib import Path


class FullDisk(Disk):
    """Takes nothing."""

    def pwrite(self, fd: int, data: bytes, position: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def refused(root: Path) -> DataDirectoryInUse:
    with pytest.raises(DataDirectoryInUse) as caught:
        DataDirectory.open(Disk(), root)
    return caught.value


def refused_by(root: Path, **fields: Any) -> DataDirectoryInUse:
    """What is said of a directory that somebody has locked who wrote this into LOCK."""
    DataDirectory.open(Disk(), root).close()
    found = json.loads((root / "LOCK").read_bytes())
    with (root / "LOCK").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(json.dumps(found | fields).encode().ljust(holder.SIZE_BYTES))
        lock.flush()
        return refused(root)


def hold(root: Path, told: Connection) -> None:
    directory = DataDirectory.open(Disk(), root)
    told.send(os.getpid())
    with suppress(EOFError):
        told.recv()
    directory.close()


def an_ended_process() -> int:
    process = multiprocessing.get_context("spawn").Process(target=os.getpid)
    process.start()
    process.join()
    assert process.pid is not None
    return process.pid


def test_the_lock_tells_people_who_has_it(data_dir: Path) -> None:
    directory = DataDirectory.open(Disk(), data_dir)
    line = (data_dir / "LOCK").read_bytes()
    directory.close()
    assert len(line) == holder.SIZE_BYTES
    assert line.endswith(b" \n")
    told = json.loads(line)
    assert (told["pid"], told["host"]) == (os.getpid(), socket.gethostname())


def test_a_directory_that_is_open_here_is_told_as_that(data_dir: Path) -> None:
    directory = DataDirectory.open(Disk(), data_dir)
    error = refused(data_dir)
    directory.close()
    assert f"in use by this very process (pid {os.getpid()})" in str(error)
    assert error.pid == os.getpid()


def test_a_directory_that_another_process_has_open_is_told_with_its_pid(data_dir: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=hold, args=(data_dir, theirs))
    process.start()
    pid = ours.recv()
    error = refused(data_dir)
    ours.send("end")
    process.join()
    assert f"in use by another server (pid {pid}); stop it first" in str(error)
    assert error.pid == pid == process.pid
    DataDirectory.open(Disk(), data_dir).close()


def test_the_same_pid_in_another_container_is_another_process(data_dir: Path) -> None:
    assert "another server (pid" in str(refused_by(data_dir, run="another"))
    elsewhere = refused_by(data_dir, host="web-2", pid=1)
    assert "(pid 1 on 'web-2'" in str(elsewhere)
    assert elsewhere.pid == 1


def test_a_process_that_has_ended_left_somebody_behind(data_dir: Path) -> None:
    pid = an_ended_process()
    assert f"pid {pid} had it and has ended" in str(refused_by(data_dir, pid=pid))


@pytest.mark.parametrize("content", [b"", b"\xff", b"{}", b'{"pid": "1"}', b" " * 256])
def test_a_lock_that_tells_nothing_is_respected(data_dir: Path, content: bytes) -> None:
    """Version 0.1 writes nothing into it."""
    DataDirectory.open(Disk(), data_dir).close()
    (data_dir / "LOCK").write_bytes(content)
    with (data_dir / "LOCK").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        error = refused(data_dir)
    assert "in use by another server; stop it first" in str(error)
    assert error.pid is None


def test_a_disk_that_takes_nothing_is_no_reason_not_to_start(data_dir: Path) -> None:
    DataDirectory.open(Disk(), data_dir).close()
    DataDirectory.open(FullDisk(), data_dir).close()


def test_a_lock_that_a_hard_linked_copy_shares_is_not_written(data_dir: Path) -> None:
    DataDirectory.open(Disk(), data_dir).close()
    (data_dir / "LOCK").write_bytes(b"as it was")
    (data_dir / "LOCK").with_name("LOCK.copy").hardlink_to(data_dir / "LOCK")
    DataDirectory.open(Disk(), data_dir).close()
    assert (data_dir / "LOCK").read_bytes() == b"as it was"


def test_a_lock_that_is_made_again_tells_it_again(data_dir: Path) -> None:
    directory = DataDirectory.open(Disk(), data_dir)
    (data_dir / "LOCK").unlink()
    assert not directory.mend()
    error = refused(data_dir)
    directory.close()
    assert error.pid == os.getpid()
