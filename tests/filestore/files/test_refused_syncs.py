"""Syncs that a host does not have, and syncs that failed; the refusals are played."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.files import system_calls
from durable_streams.filestore.files.directory import DataDirectory
from durable_streams.filestore.files.dirty import Dirty, sync_dirty
from durable_streams.filestore.files.disk import Disk, FailedSync
from tests.filestore.files.refusing import LOST, Calls, fails
from tests.filestore.files.staged_disk import StagedDisk

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield file
    os.close(file)


@pytest.mark.parametrize("number", system_calls.FSYNC_DIRECTORY.errnos, ids=errno.errorcode.get)
def test_a_directory_that_cannot_be_synced_is_with_its_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    disk = StagedDisk()
    monkeypatch.setattr(system_calls, "sync_fully", fails(number))
    disk.sync_directory(tmp_path)
    assert disk.calls["sync_file_system"] == 1
    assert not disk.sync_failed


@pytest.mark.parametrize("number", LOST, ids=errno.errorcode.get)
def test_a_directory_whose_sync_failed_is_a_failed_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    disk = StagedDisk()
    monkeypatch.setattr(system_calls, "sync_fully", fails(number))
    with pytest.raises(FailedSync) as caught:
        disk.sync_directory(tmp_path)
    assert caught.value.errno == number
    assert disk.sync_failed
    assert disk.calls["sync_file_system"] == 0


def test_a_directory_and_a_file_system_that_fail_are_a_failed_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = StagedDisk()
    monkeypatch.setattr(system_calls, "sync_fully", fails(errno.EBADF))
    disk.fail("sync_file_system", errno.EIO)
    with pytest.raises(FailedSync):
        disk.sync_directory(tmp_path)
    assert disk.sync_failed


def test_a_data_directory_is_opened_below_directories_that_cannot_be_synced(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, above = os.fsync, data_dir.parent.stat()

    def fsync(fd: int) -> None:
        if os.path.samestat(os.fstat(fd), above):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        sync(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    disk = Disk()
    DataDirectory.open(disk, data_dir).close()
    assert not disk.sync_failed


@pytest.mark.parametrize("number", system_calls.FDATASYNC.errnos, ids=errno.errorcode.get)
def test_a_host_without_fdatasync_has_fsync(
    file: int, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fsync = Calls()
    monkeypatch.setattr(os, "fdatasync", fails(number), raising=False)
    monkeypatch.setattr(os, "fsync", fsync)
    Disk().sync(file)
    assert fsync.arguments == [(file,)]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EBADF, *LOST], ids=errno.errorcode.get)
def test_a_file_whose_sync_failed_is_a_failed_sync_and_not_tried_again(
    file: int, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    disk, fsync = Disk(), Calls()
    monkeypatch.setattr(os, "fdatasync", fails(number), raising=False)
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(FailedSync):
        disk.sync(file)
    assert disk.sync_failed
    assert fsync.arguments == []


def play_macos(monkeypatch: pytest.MonkeyPatch, number: int) -> Calls:
    """A host whose F_FULLFSYNC ends with this error, 0 for none; its ``fsync``."""
    full = fails(number) if number else Calls()
    fsync = Calls()
    monkeypatch.setattr(system_calls, "sys", SimpleNamespace(platform="darwin"))
    monkeypatch.setattr(system_calls, "fcntl", SimpleNamespace(F_FULLFSYNC=51, fcntl=full))
    monkeypatch.setattr(os, "fsync", fsync)
    return fsync


@pytest.mark.parametrize("call", ["sync", "sync_directory"])
@pytest.mark.parametrize("number", [0, *system_calls.FULLFSYNC.errnos], ids=errno.errorcode.get)
def test_a_disk_without_f_fullfsync_is_synced_as_elsewhere(
    file: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    fsync = play_macos(monkeypatch, number)
    disk = Disk()
    if call == "sync":
        disk.sync(file)
    else:
        disk.sync_directory(tmp_path)
    assert len(fsync.arguments) == (1 if number else 0)


def test_an_f_fullfsync_that_failed_is_a_failed_sync(
    file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = play_macos(monkeypatch, errno.EIO)
    with pytest.raises(FailedSync):
        Disk().sync(file)
    assert fsync.arguments == []


def play_volume(monkeypatch: pytest.MonkeyPatch, number: int) -> tuple[Calls, Calls, Calls]:
    """A Mac whose ``fsync_volume_np`` ends so: its calls, and those of F_FULLFSYNC and ``sync``."""

    def fsync_volume_np(_fd: int, _flags: int) -> int:
        ctypes.set_errno(number)
        return -1 if number else 0

    play_macos(monkeypatch, 0)
    volume, full, sync = Calls(fsync_volume_np), Calls(), Calls()
    monkeypatch.setattr(system_calls, "fcntl", SimpleNamespace(F_FULLFSYNC=51, fcntl=full))
    library = SimpleNamespace(fsync_volume_np=volume)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: library)
    monkeypatch.setattr(os, "sync", sync)
    return volume, full, sync


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[tuple[int, set[str]]]:
    """A directory that is open, and the paths of what is in it."""
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    files = {root / "one", root / "a" / "two", root / "a" / "b" / "three"}
    for file in files:
        file.write_bytes(b"x")
    (root / "link").symlink_to("nowhere")
    os.mkfifo(root / "pipe")
    fd = os.open(root, os.O_RDONLY)
    yield fd, {str(path) for path in {root, root / "a", root / "a" / "b", *files}}
    os.close(fd)


@pytest.mark.parametrize("number", [0, *system_calls.SYNC_VOLUME.errnos], ids=errno.errorcode.get)
def test_a_volume_of_macos_is_synced_to_the_disk_or_each_of_its_files_is(
    tree: tuple[int, set[str]], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    root, paths = tree
    volume, full, sync = play_volume(monkeypatch, number)
    synced: set[str] = set()
    full._action = lambda fd, _call: synced.add(str(Path(f"/proc/self/fd/{fd}").readlink()))
    disk = Disk()
    disk.sync_file_system(root)
    assert volume.arguments == [(root, 3)]  # to the disk, and wait
    assert synced == (paths if number else set())
    assert sync.arguments == []
    assert not disk.sync_failed


@pytest.mark.parametrize("number", LOST, ids=errno.errorcode.get)
@pytest.mark.parametrize("call", ["volume", "file"])
def test_a_volume_of_macos_whose_sync_failed_is_a_failed_sync(
    tree: tuple[int, set[str]], monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    _, full, sync = play_volume(monkeypatch, number if call == "volume" else errno.ENOTSUP)
    full._action = fails(number)
    disk = Disk()
    with pytest.raises(FailedSync) as caught:
        disk.sync_file_system(tree[0])
    assert caught.value.errno == number
    assert disk.sync_failed
    assert len(full.arguments) == (call == "file")
    assert sync.arguments == []


def test_a_checkpoint_of_everything_waits_for_the_disk_on_macos(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = DataDirectory.open(Disk(), data_dir)
    volume, _, sync = play_volume(monkeypatch, 0)
    sync_dirty(directory, Dirty(everything=True))
    assert volume.arguments == [(directory.root_fd, 3)]
    assert sync.arguments == []
    directory.close()


def play_syncfs(monkeypatch: pytest.MonkeyPatch, number: int | None) -> Calls:
    """A host whose ``syncfs`` ends with this error; None: there is no such function."""

    def syncfs(_fd: int) -> int:
        assert number is not None
        ctypes.set_errno(number)
        return -1

    library = SimpleNamespace() if number is None else SimpleNamespace(syncfs=syncfs)
    sync = Calls()
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: library)
    monkeypatch.setattr(os, "sync", sync)
    return sync


@pytest.mark.parametrize("number", [None, *system_calls.SYNCFS.errnos], ids=errno.errorcode.get)
def test_where_one_file_system_cannot_be_synced_all_are(
    file: int, monkeypatch: pytest.MonkeyPatch, number: int | None
) -> None:
    sync, disk = play_syncfs(monkeypatch, number), Disk()
    disk.sync_file_system(file)
    assert len(sync.arguments) == 1
    assert not disk.sync_failed


@pytest.mark.parametrize("number", [errno.EBADF, *LOST], ids=errno.errorcode.get)
def test_a_file_system_whose_sync_failed_is_a_failed_sync(
    file: int, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    sync, disk = play_syncfs(monkeypatch, number), Disk()
    with pytest.raises(FailedSync):
        disk.sync_file_system(file)
    assert disk.sync_failed
    assert sync.arguments == []


@pytest.mark.parametrize("number", [None, *system_calls.SYNCFS.errnos], ids=errno.errorcode.get)
def test_where_no_sync_of_a_file_system_tells_of_failed_writes_each_file_is_synced(
    monkeypatch: pytest.MonkeyPatch, number: int | None
) -> None:
    monkeypatch.setattr(system_calls, "sys", SimpleNamespace(platform="linux"))
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release="6.1.0"))
    disk = Disk()
    monkeypatch.setattr(disk, "unwritten_bytes", lambda: 0)
    play_syncfs(monkeypatch, errno.EBADF)
    assert disk.syncs_sooner_as_a_whole(1000)
    play_syncfs(monkeypatch, number)
    assert not disk.syncs_sooner_as_a_whole(1000)


@pytest.mark.parametrize(
    ("release", "platform"), [("5.7.19", "linux"), ("unknown", "linux"), ("23.1.0", "darwin")]
)
def test_systems_that_do_not_tell_of_failed_writes_sync_each_file(
    monkeypatch: pytest.MonkeyPatch, release: str, platform: str
) -> None:
    play_syncfs(monkeypatch, errno.EBADF)
    monkeypatch.setattr(system_calls, "sys", SimpleNamespace(platform=platform))
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release=release))
    assert not system_calls.syncfs_reports_failed_writes()
