"""What was written is synced by checkpoints: files, directories, and the names of both."""

import errno
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from durable_streams.filestore.files import names
from durable_streams.filestore.files.directory import DataDirectory
from durable_streams.filestore.files.dirty import sync_dirty
from durable_streams.filestore.files.disk import Disk, FailedSync, StrPath
from durable_streams.filestore.files.writer import StreamWriter
from durable_streams.filestore.format.journal import AdoptRecord
from tests.filestore.files.history import OTHER_ID, History
from tests.filestore.files.staged_disk import StagedDisk
from tests.filestore.files.written import FILES, apply, segment


def test_a_checkpoint_syncs_every_file_and_name_that_was_touched(
    directory: DataDirectory, disk: StagedDisk, writer: StreamWriter
) -> None:
    history = History("a/b")
    writer.create(history.create(b"one"))
    apply(writer, history.append(b"two"))
    disk.calls.clear()
    dirty = writer.take_dirty()
    sync_dirty(directory, dirty)
    writer.synced(dirty)
    touched = {Path(path).relative_to(directory.root).parts[0] for path in dirty.directories}
    assert touched == {"streams", "tmp"}
    assert disk.calls["sync"] == 5  # the sidecar, and both files as made and as appended to
    assert disk.calls["sync_directory"] == len(dirty.directories)
    assert not writer.take_dirty()


class RecordingDisk(Disk):
    """Remembers which directories were synced; ``refusal`` is raised instead."""

    def __init__(self) -> None:
        self.synced: list[Path] = []
        self.file_system_syncs = 0
        self.refusal: OSError | None = None

    def sync_directory(self, path: StrPath) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.synced.append(Path(path))
        super().sync_directory(path)

    def sync_file_system(self, fd: int) -> None:
        self.file_system_syncs += 1
        super().sync_file_system(fd)


@pytest.fixture
def recorded(data_dir: Path) -> Iterator[tuple[RecordingDisk, DataDirectory]]:
    disk = RecordingDisk()
    directory = DataDirectory.open(disk, data_dir)
    disk.file_system_syncs = 0  # since it was opened
    yield disk, directory
    directory.close()


def test_the_way_to_a_fork_is_durable_before_it_is_moved_there(
    recorded: tuple[RecordingDisk, DataDirectory],
) -> None:
    disk, directory = recorded
    writer = StreamWriter(directory, FILES)
    writer.create(History("a/b/c").create())
    born = directory.tmp / OTHER_ID
    born.mkdir()
    (born / names.SIDECAR).write_bytes(History("a/b/fork", OTHER_ID).create().sidecar)
    writer.adopt(AdoptRecord("a/b/fork", OTHER_ID))
    assert {directory.streams, directory.streams / "a"} <= set(disk.synced)
    writer.close()


@pytest.mark.parametrize(
    ("unwritten", "at_once"), [(0, True), (1 << 28, True), (1 << 30, False), (None, False)]
)
def test_a_large_checkpoint_syncs_the_file_system_at_once_unless_others_write_much_there(
    directory: DataDirectory,
    disk: StagedDisk,
    monkeypatch: pytest.MonkeyPatch,
    unwritten: int | None,
    at_once: bool,
) -> None:
    monkeypatch.setattr(disk, "unwritten_bytes", lambda: unwritten)
    writer = StreamWriter(directory, 10 * FILES)
    for number in range(12):
        history = History(f"s{number}", f"{number:024x}")
        writer.create(history.create(b"one"))
    dirty = writer.take_dirty()
    disk.calls.clear()
    sync_dirty(directory, dirty)
    writer.synced(dirty)
    syncs = (disk.calls["sync_file_system"], disk.calls["sync"], disk.calls["sync_directory"])
    assert syncs == ((1, 0, 0) if at_once else (0, 36, 14))
    writer.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_the_system_tells_what_it_has_yet_to_write() -> None:
    unwritten = Disk().unwritten_bytes()
    assert unwritten is not None
    assert unwritten >= 0


def test_a_checkpoint_without_descriptors_syncs_the_file_system(
    recorded: tuple[RecordingDisk, DataDirectory],
) -> None:
    disk, directory = recorded
    writer = StreamWriter(directory, FILES)
    writer.create(History().create(b"one"))
    disk.refusal = OSError(errno.EMFILE, "Too many open files")
    dirty = writer.take_dirty()
    sync_dirty(directory, dirty)
    writer.synced(dirty)
    assert disk.file_system_syncs == 1
    writer.close()


def test_after_a_failed_sync_no_checkpoint_succeeds(
    directory: DataDirectory, disk: StagedDisk, writer: StreamWriter
) -> None:
    writer.create(History().create(b"one"))
    fd = disk.open_read(segment(directory))
    disk.fail("sync", errno.EIO, times=1)
    with pytest.raises(FailedSync):
        disk.sync(fd)  # somebody else's, building a fork
    disk.close(fd)
    dirty = writer.take_dirty()
    with pytest.raises(FailedSync, match="earlier sync failed"):
        sync_dirty(directory, dirty)
    writer.synced(dirty)
