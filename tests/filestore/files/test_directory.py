"""Opening a data directory: begun, found again, refused."""

import errno
import fcntl
import logging
import os
from itertools import count
from pathlib import Path

import pytest

from durable_streams.filestore.files.directory import LONGEST_DIRECTORY, DataDirectory
from durable_streams.filestore.files.disk import Disk, FileStatus, StrPath
from durable_streams.filestore.files.format_file import check_format
from durable_streams.model.errors import DataDirectoryError, DataDirectoryInUse
from tests.filestore.files.staged_disk import StagedDisk


class RemoteDisk(Disk):
    """A disk that is on a network file system."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.elsewhere: dict[Path, str] = {}

    def file_system(self, path: StrPath) -> str:
        return self.elsewhere.get(Path(path), self.kind)


class RecordingDisk(Disk):
    """Remembers, in order, what got a name and what was synced; a parent may not be read."""

    def __init__(self, unreadable: Path | None = None) -> None:
        self.events: list[tuple[str, Path]] = []
        self.unreadable = unreadable

    def make_directory(self, path: StrPath) -> None:
        super().make_directory(path)
        self.events.append(("make", Path(path)))

    def rename(self, source: StrPath, target: StrPath) -> None:
        super().rename(source, target)
        self.events.append(("rename", Path(target)))

    def sync_directory(self, path: StrPath) -> None:
        if Path(path) == self.unreadable:
            raise PermissionError(errno.EACCES, "Permission denied")
        super().sync_directory(path)
        self.events.append(("sync", Path(path)))

    def sync_file_system(self, fd: int) -> None:
        super().sync_file_system(fd)
        self.events.append(("sync all", Path()))


class OthersComeDisk(Disk):
    """Somebody else opens the directory, and closes it again, before the system call number n."""

    def __init__(self, root: Path, before: int) -> None:
        self.root = root
        self.left = before
        self.came = self.found_it_in_use = False

    def _come(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.came = True
            try:
                opened(self.root)
            except DataDirectoryInUse:
                self.found_it_in_use = True

    def open_read(self, path: StrPath) -> int:
        self._come()
        return super().open_read(path)

    def open_write(self, path: StrPath) -> int:
        self._come()
        return super().open_write(path)

    def names(self, path: StrPath) -> list[str]:
        self._come()
        return super().names(path)

    def status(self, path: StrPath) -> FileStatus | None:
        self._come()
        return super().status(path)

    def is_directory(self, path: StrPath) -> bool:
        self._come()
        return super().is_directory(path)

    def make_directory(self, path: StrPath) -> None:
        self._come()
        super().make_directory(path)

    def lock(self, fd: int) -> None:
        self._come()
        super().lock(fd)


def opened(root: Path, disk: Disk | None = None) -> None:
    DataDirectory.open(disk or Disk(), root).close()


def test_a_directory_is_begun_and_found_again(data_dir: Path) -> None:
    opened(data_dir / "deep" / "down")
    before = (data_dir / "deep" / "down" / "FORMAT.json").read_bytes()
    opened(data_dir / "deep" / "down")
    assert (data_dir / "deep" / "down" / "FORMAT.json").read_bytes() == before
    names = {path.name for path in (data_dir / "deep" / "down").iterdir() if path.is_dir()}
    assert names == {"streams", "journal", "tmp", "trash", "aside"}


def test_every_directory_on_the_way_to_a_new_one_is_durable_before_it_is_one(
    data_dir: Path,
) -> None:
    disk, root = RecordingDisk(), data_dir / "deep" / "down"
    opened(root, disk)
    begun = disk.events.index(("rename", root / "FORMAT.json"))
    for made in (data_dir, data_dir / "deep", root):
        named = disk.events.index(("make", made))
        assert ("sync", made.parent) in disk.events[named:begun]


def test_what_an_earlier_first_start_left_unsynced_is_durable_before_it_is_used(
    data_dir: Path,
) -> None:
    root = data_dir / "deep" / "down"
    root.mkdir(parents=True)  # and that start ended before it had synced the names
    disk = RecordingDisk()
    opened(root, disk)
    begun = disk.events.index(("rename", root / "FORMAT.json"))
    assert ("sync all", Path()) in disk.events[:begun]


def test_the_name_of_a_directory_is_made_durable_at_every_start(data_dir: Path) -> None:
    opened(data_dir)
    disk = RecordingDisk()
    opened(data_dir, disk)
    assert ("sync", data_dir.parent) in disk.events


def test_a_name_in_a_directory_that_may_not_be_read_is_made_durable_all_the_same(
    data_dir: Path,
) -> None:
    disk = RecordingDisk(unreadable=data_dir.parent)
    opened(data_dir, disk)
    assert ("sync all", Path()) in disk.events


def test_what_a_backup_left_out_is_made_again(data_dir: Path) -> None:
    opened(data_dir)
    for name in ("journal", "tmp", "trash", "aside", "streams"):
        (data_dir / name).rmdir()
    (data_dir / "LOCK").unlink()
    opened(data_dir)
    assert (data_dir / "streams").is_dir()


@pytest.mark.parametrize("name", ["README.md", ".gitkeep", "lost+found"])
def test_some_files_may_be_there_before(data_dir: Path, name: str) -> None:
    data_dir.mkdir()
    (data_dir / name).write_text("")
    opened(data_dir)


def test_a_directory_of_somebody_else_is_refused_and_untouched(data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / "thesis.txt").write_text("years of work")
    with pytest.raises(DataDirectoryError, match=r"no FORMAT\.json but other files"):
        opened(data_dir)
    assert [path.name for path in data_dir.iterdir()] == ["thesis.txt"]


def test_a_file_is_refused(data_dir: Path) -> None:
    data_dir.write_text("")
    with pytest.raises(DataDirectoryError, match="is not a directory"):
        opened(data_dir)


@pytest.mark.parametrize(
    ("text", "told"),
    [('{"format": 3, "id": "x"}', "format 3"), ("{", "unreadable"), ("\udcff", "unreadable")],
)
def test_an_unknown_format_is_refused_by_name(data_dir: Path, text: str, told: str) -> None:
    opened(data_dir)
    (data_dir / "FORMAT.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataDirectoryError, match=told):
        opened(data_dir)


def test_what_stands_in_the_way_is_named(data_dir: Path) -> None:
    opened(data_dir)
    (data_dir / "tmp").rmdir()
    (data_dir / "tmp").write_text("")
    with pytest.raises(DataDirectoryError, match=r"File exists: .*/data/tmp$"):
        opened(data_dir)


def test_files_of_another_user_are_named_and_whose_they_should_be(data_dir: Path) -> None:
    disk = StagedDisk()
    disk.fail("open_write", errno.EACCES, "LOCK")
    told = rf"Permission denied: .*/data/LOCK; .*belong to us \(user id {os.geteuid()}\)"
    with pytest.raises(DataDirectoryError, match=told):
        opened(data_dir, disk)


def test_a_part_that_is_on_a_remote_file_system_is_warned_about(
    data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = RemoteDisk("ext4")
    disk.elsewhere = {data_dir / "journal": "ceph"}
    opened(data_dir, disk)
    [record] = caplog.records
    assert f"{data_dir}/journal is on ceph" in record.getMessage()


OF_0_1 = b'{"format":1,"id":"0123456789abcdef"}\n'


def begun_by_0_1(data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / "FORMAT.json").write_bytes(OF_0_1)


def test_a_directory_of_format_1_is_of_format_2_from_the_first_start_on(
    data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    begun_by_0_1(data_dir)
    opened(data_dir)
    raised = OF_0_1.replace(b"1", b"2", 1)
    assert (data_dir / "FORMAT.json").read_bytes() == raised
    assert ["of format 1" in record.message for record in caplog.records] == [True]
    opened(data_dir)
    assert (data_dir / "FORMAT.json").read_bytes() == raised
    assert len(caplog.records) == 1


def test_the_new_number_is_durable_before_anything_else_is_made(data_dir: Path) -> None:
    begun_by_0_1(data_dir)
    disk = RecordingDisk()
    opened(data_dir, disk)
    raised = disk.events.index(("rename", data_dir / "FORMAT.json"))
    first = disk.events.index(("make", data_dir / "streams"))
    assert ("sync", data_dir) in disk.events[raised:first]


def test_looking_at_a_directory_of_format_1_leaves_it_as_it_is(data_dir: Path) -> None:
    begun_by_0_1(data_dir)
    assert check_format(Disk(), data_dir)
    assert (data_dir / "FORMAT.json").read_bytes() == OF_0_1


def test_a_start_that_is_refused_leaves_the_format_as_it_is(data_dir: Path) -> None:
    begun_by_0_1(data_dir)
    lock = os.open(data_dir / "LOCK", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(DataDirectoryError, match="in use"):
        opened(data_dir)
    os.close(lock)
    assert (data_dir / "FORMAT.json").read_bytes() == OF_0_1


def test_on_a_full_disk_the_reserve_makes_room_for_the_new_number(data_dir: Path) -> None:
    begun_by_0_1(data_dir)
    (data_dir / "RESERVE").write_bytes(b"nothing")
    disk = StagedDisk()
    disk.fail("pwrite", errno.ENOSPC, ".FORMAT.json", times=1)
    opened(data_dir, disk)
    assert not (data_dir / "RESERVE").exists()
    assert (data_dir / "FORMAT.json").read_bytes() == OF_0_1.replace(b"1", b"2", 1)


def test_a_path_that_leaves_no_room_for_streams_is_refused(data_dir: Path) -> None:
    with pytest.raises(DataDirectoryError, match="too long"):
        opened(data_dir / ("x" * 200) / ("y" * 200) / ("z" * LONGEST_DIRECTORY))


def test_a_directory_in_use_is_refused(data_dir: Path) -> None:
    directory = DataDirectory.open(Disk(), data_dir)
    with pytest.raises(DataDirectoryInUse, match="in use by this very process"):
        opened(data_dir)
    directory.close()
    opened(data_dir)


def test_what_somebody_else_began_before_we_had_the_lock_is_kept(data_dir: Path) -> None:
    class LateDisk(Disk):
        """Another one opens and closes the directory for the first time before we lock it."""

        begun = b""

        def lock(self, fd: int) -> None:
            if not self.begun:
                opened(data_dir)
                self.begun = (data_dir / "FORMAT.json").read_bytes()
            super().lock(fd)

    disk = LateDisk()
    opened(data_dir, disk)
    assert (data_dir / "FORMAT.json").read_bytes() == disk.begun


def test_who_begins_one_at_the_same_time_may_be_faster_at_every_step(tmp_path: Path) -> None:
    found = set()
    for step in count(1):
        disk = OthersComeDisk(tmp_path / str(step) / "deep" / "down", step)
        opened(disk.root, disk)
        if not disk.came:
            break
        found.add(disk.found_it_in_use)
    assert found == {False, True}  # before we had the lock, and with it


def test_a_file_that_came_in_the_way_a_moment_ago_is_named(data_dir: Path) -> None:
    class FileComesDisk(Disk):
        def make_directory(self, path: StrPath) -> None:
            Path(path).write_text("")
            super().make_directory(path)

    with pytest.raises(DataDirectoryError, match="File exists"):
        opened(data_dir, FileComesDisk())


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "ceph"])
def test_a_remote_file_system_is_warned_about_by_name(
    data_dir: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    opened(data_dir, RemoteDisk(kind))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert kind in caplog.text


def test_a_local_file_system_is_not_warned_about(
    data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened(data_dir, RemoteDisk("ext4"))
    assert not caplog.records


def test_the_mark_of_unsynced_writes_comes_and_goes(data_dir: Path) -> None:
    directory = DataDirectory.open(Disk(), data_dir)
    assert not directory.is_marked_unsynced()
    directory.mark_unsynced()
    assert directory.is_marked_unsynced()
    directory.unmark_unsynced()
    assert not directory.is_marked_unsynced()
    directory.close()
