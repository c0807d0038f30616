"""Files that somebody took the names of: what was written to them is put back, or kept once."""

from __future__ import annotations

import errno
import os
import shutil
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.files import names
from durable_streams.filestore.files.identity import FilesLost
from durable_streams.filestore.files.writer import StreamWriter
from tests.filestore.files.history import ID, History

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable_streams.filestore.files.directory import DataDirectory
    from durable_streams.filestore.format.journal import AppendRecord
    from tests.filestore.files.staged_disk import StagedDisk


@pytest.fixture
def writer(directory: DataDirectory) -> Iterator[StreamWriter]:
    """It has written ``one.two.`` to the stream ``s``, and holds its files open."""
    writer = StreamWriter(directory, 64)
    history = History()
    writer.create(history.create(b"one."))
    apply(writer, history.append(b"two."))
    yield writer
    writer.close()


def apply(writer: StreamWriter, record: AppendRecord) -> None:
    writer.append(record, record.data, record.index)


@pytest.fixture
def files(directory: DataDirectory) -> tuple[Path, Path]:
    """Segment and index."""
    home = Path(directory.stream_directory(("s",)))
    return home / names.segment_file(0, ID), home / names.index_file(0, ID)


def test_a_file_that_cannot_be_put_back_yet_stays_open_when_its_stream_is_tried_again(
    disk: StagedDisk, writer: StreamWriter, files: tuple[Path, Path]
) -> None:
    segment, _ = files
    older = segment.with_suffix(".old")
    older.write_bytes(b"one.")
    older.rename(segment)
    disk.fail("open_write", errno.EIO, "/tmp/", times=1)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        writer.forget("s", ID)
    assert segment.read_bytes() == b"one."
    writer.forget("s", ID)
    assert segment.read_bytes() == b"one.two."


@pytest.mark.parametrize("is_older", [True, False], ids=["an older copy", "something else"])
@pytest.mark.parametrize("gives_back", [True, False], ids=["descriptors", "room"])
def test_what_has_to_make_room_for_other_files_is_put_where_somebody_will_find_it(
    directory: DataDirectory,
    writer: StreamWriter,
    files: tuple[Path, Path],
    is_older: bool,
    gives_back: bool,
) -> None:
    """Its files are closed, and nobody else has what was written to the one that was replaced."""
    segment, _ = files
    other = segment.with_suffix(".other")
    other.write_bytes(b"one." if is_older else b"another.")
    other.rename(segment)
    if gives_back:
        assert writer.give_back()
    else:
        for number in range(64):
            history = History(path=f"other/{number}", stream_id=f"{number:024x}")
            writer.create(history.create(b"one."))
            apply(writer, history.append(b"two."))
    told = [key for key, _ in writer.strayed()]
    assert told == ([] if is_older else [("s", ID, 0)])
    assert segment.read_bytes() == (b"one.two." if is_older else b"another.")
    kept = [file.read_bytes() for file in directory.aside.iterdir()]
    assert kept == ([] if is_older else [b"one.two."])


REFUSALS_OF_ASIDE = pytest.mark.parametrize(
    "number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO], ids=errno.errorcode.get
)


@REFUSALS_OF_ASIDE
def test_what_cannot_be_kept_holds_up_nothing_and_is_kept_when_it_can_be(
    directory: DataDirectory,
    disk: StagedDisk,
    writer: StreamWriter,
    files: tuple[Path, Path],
    number: int,
) -> None:
    written = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()
    disk.fail("open_write", number, "/aside/")
    [(key, reason)] = writer.strayed()
    assert key == ("s", ID, 0)
    assert "only this process has it; let us write there" in reason
    for _ in range(2):
        dirty = writer.take_dirty()
        assert not dirty.pairs
        writer.synced(dirty)
        assert list(writer.strayed()) == []
    assert not list(directory.aside.iterdir())
    disk.heal()
    assert list(writer.strayed()) == []
    assert sorted(kept.read_bytes() for kept in directory.aside.iterdir()) == sorted(written)
    assert not {file for file in disk.open_files if file in files}


def test_what_a_checkpoint_syncs_stays_open_though_its_files_have_no_home(
    disk: StagedDisk, writer: StreamWriter, files: tuple[Path, Path]
) -> None:
    under_way = writer.take_dirty()
    writer.append(record := History().append(b"one."), record.data, record.index)
    files[0].unlink()
    disk.fail("open_write", errno.EACCES, "/aside/")
    assert len(list(writer.strayed())) == 1
    writer.synced(under_way)
    assert set(files) <= set(disk.open_files)
    disk.heal()
    assert list(writer.strayed()) == []
    assert not set(files) & set(disk.open_files)


@pytest.mark.parametrize("more", [0, 1])
def test_so_many_files_without_a_home_stay_open_and_the_oldest_are_given_up(
    directory: DataDirectory, disk: StagedDisk, more: int
) -> None:
    writer = StreamWriter(directory, max_files=32)  # 12 pairs, of which 3 may be homeless
    disk.fail("open_write", errno.EACCES, "/aside/")
    for number in range(3 + more):
        history = History(f"t/{number}", f"{number:024x}")
        writer.create(history.create(b"one."))
        record = history.append(b"two.")
        writer.append(record, record.data, record.index)
        for file in Path(directory.home_of(history.path)).glob("*.seg"):
            file.unlink()
    assert len(list(writer.strayed())) == 3 + more
    open_ones = [file for file in disk.open_files if file.is_relative_to(directory.streams)]
    assert len({file.parent for file in open_ones}) == 3
    writer.synced(writer.take_dirty())
    writer.close()


def test_what_waits_for_room_to_be_kept_is_kept_once_and_takes_none_meanwhile(
    directory: DataDirectory, disk: StagedDisk, writer: StreamWriter, files: tuple[Path, Path]
) -> None:
    written = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()
    disk.fail("rename", errno.ENOSPC, ".idx.")
    for _ in range(3):
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            list(writer.strayed())
        assert [kept.read_bytes() for kept in directory.aside.iterdir()] == written[:1]
    disk.heal()
    [(key, _)] = writer.strayed()
    assert key == ("s", ID, 0)
    assert sorted(kept.read_bytes() for kept in directory.aside.iterdir()) == sorted(written)
    dirty = writer.take_dirty()
    assert not dirty.pairs
    writer.synced(dirty)


def by_an_older_copy(segment: Path) -> None:
    older = segment.with_suffix(".old")
    older.write_bytes(b"one.")
    older.rename(segment)


def made_homeless(disk: StagedDisk, writer: StreamWriter, file: Path) -> None:
    file.unlink()
    disk.fail("open_write", errno.EACCES, "/aside/")
    assert len(list(writer.strayed())) == 1
    writer.synced(writer.take_dirty())


def test_what_is_put_back_after_all_is_for_the_next_sync(
    directory: DataDirectory, disk: StagedDisk, writer: StreamWriter, files: tuple[Path, Path]
) -> None:
    segment, _ = files
    made_homeless(disk, writer, segment)
    segment.write_bytes(b"one.")  # somebody puts an older copy there
    assert list(writer.strayed()) == []
    assert not writer.has_homeless
    assert segment.read_bytes() == b"one.two."
    dirty = writer.take_dirty()
    assert {str(segment.parent), str(directory.tmp)} <= dirty.directories
    writer.synced(dirty)


def test_what_has_no_home_is_put_into_no_other_directory_at_our_name(
    directory: DataDirectory, disk: StagedDisk, writer: StreamWriter, files: tuple[Path, Path]
) -> None:
    segment, _ = files
    made_homeless(disk, writer, segment)
    disk.heal()
    root, away = directory.root, directory.root.with_name("away")
    root.rename(away)
    shutil.copytree(away, root)
    segment.write_bytes(b"one.")
    list(writer.strayed())
    assert segment.read_bytes() == b"one."
    assert not list((root / "aside").iterdir())
    assert writer.has_homeless
    shutil.rmtree(root)
    away.rename(root)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
@pytest.mark.parametrize("call", ["open_write", "rename"])
def test_a_file_that_we_may_not_put_back_holds_up_nothing_and_is_put_back_when_we_may(
    disk: StagedDisk,
    writer: StreamWriter,
    files: tuple[Path, Path],
    call: str,
    number: int,
) -> None:
    segment, _ = files
    by_an_older_copy(segment)
    disk.fail(call, number, "/tmp/" if call == "open_write" else str(segment))
    [(key, reason)] = writer.strayed()
    assert key == ("s", ID, 0)
    assert "only this process has it; let us write there" in reason
    writer.synced(writer.take_dirty())
    assert segment.read_bytes() == b"one."
    disk.heal()
    assert list(writer.strayed()) == []
    assert segment.read_bytes() == b"one.two."


def test_what_was_lost_grows_by_no_try(
    disk: StagedDisk, writer: StreamWriter, files: tuple[Path, Path]
) -> None:
    for file in files:
        file.unlink()
    disk.fail("rename", errno.ENOSPC, ".idx.")
    for _ in range(3):
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            list(writer.strayed())
    disk.heal()
    with pytest.raises(FilesLost) as lost:
        writer.forget("s", ID)
    frames = [frame.name for frame in traceback.extract_tb(lost.tb)]
    assert len(frames) == len(set(frames))


def test_what_is_kept_where_we_may_write_and_not_look_is_kept_once(
    directory: DataDirectory,
    disk: StagedDisk,
    writer: StreamWriter,
    files: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a directory of mode 0300: no sync of it can be tried."""
    sync_directory, synced = disk.sync_directory, disk.calls["sync_file_system"]

    def refusing(path: Path | str) -> None:
        if Path(path) == directory.aside:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        sync_directory(path)

    monkeypatch.setattr(disk, "sync_directory", refusing)
    segment, _ = files
    segment.unlink()
    [(_, reason)] = writer.strayed()
    assert "kept in" in reason
    assert disk.calls["sync_file_system"] == synced + 1
    assert [kept.read_bytes() for kept in directory.aside.iterdir()] == [b"one.two."]


def test_a_deletion_lets_go_of_what_has_no_home_though_the_directory_was_removed(
    disk: StagedDisk, writer: StreamWriter, files: tuple[Path, Path]
) -> None:
    shutil.rmtree(files[0].parent)
    disk.fail("open_write", errno.EACCES, "/aside/")
    assert len(list(writer.strayed())) == 1
    writer.synced(writer.take_dirty())
    assert set(files) <= set(disk.open_files)
    writer.delete(History().delete())
    assert not set(files) & set(disk.open_files)
    assert not writer.has_homeless
