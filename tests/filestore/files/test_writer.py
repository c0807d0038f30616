"""The writer of streams' files: records applied once, again, over leftovers and with faults."""

import errno
import os
from pathlib import Path

import pytest

from durable_streams.filestore.files import names
from durable_streams.filestore.files.aside import cut, move_aside
from durable_streams.filestore.files.directory import DataDirectory
from durable_streams.filestore.files.dirty import sync_dirty
from durable_streams.filestore.files.identity import FilesLost
from durable_streams.filestore.files.stream_files import load, load_sidecar
from durable_streams.filestore.files.writer import StreamWriter
from durable_streams.filestore.format.journal import AdoptRecord
from tests.filestore.files.history import ID, OTHER_ID, History
from tests.filestore.files.staged_disk import StagedDisk
from tests.filestore.files.written import FILES, apply, home, index, segment, tree


def test_records_become_the_files_that_the_stream_is_loaded_from(
    directory: DataDirectory, writer: StreamWriter
) -> None:
    history = History("a/b")
    writer.create(history.create(b"one"))
    apply(writer, history.append(b"two"))
    apply(writer, history.append(b"three", roll=True))
    writer.replace_sidecar(history.change(cuts=1))
    loaded = load(directory.disk, home(directory, "a/b"))

    assert loaded is not None
    assert loaded.notes == []
    assert loaded.segments.sizes == (6,)
    assert (loaded.tail.segment, loaded.tail.position) == (1, 5)
    assert loaded.sidecar.cuts == 1
    contents = sorted(path.read_bytes() for path in home(directory, "a/b").glob("*.seg"))
    assert contents == [b"onetwo", b"three"]


def test_applying_everything_again_changes_nothing(
    directory: DataDirectory, writer: StreamWriter
) -> None:
    history = History()
    created = history.create(b"one")
    first, second = history.append(b"two"), history.append(b"three", roll=True)
    changed = history.change(cuts=1)
    before: dict[str, bytes] = {}
    for _ in range(3):
        again = StreamWriter(directory, FILES, trim=False)
        again.create(created)
        apply(again, first)
        apply(again, second)
        again.replace_sidecar(changed)
        again.close()
        assert before in ({}, tree(directory))
        before = tree(directory)


def test_a_torn_end_is_moved_aside_before_the_next_write(
    directory: DataDirectory, writer: StreamWriter
) -> None:
    history = History()
    writer.create(history.create(b"one"))
    segment(directory).write_bytes(b"one" + b"torn")
    index(directory).write_bytes(index(directory).read_bytes() + b'{"end":7,"mess')
    apply(writer, history.append(b"two"))

    assert segment(directory).read_bytes() == b"onetwo"
    [torn] = directory.aside.glob(f"{segment(directory).name}.3.*")
    assert torn.read_bytes() == b"torn"
    assert b'{"end":7,"mess' in [path.read_bytes() for path in directory.aside.iterdir()]


def test_what_was_moved_aside_before_stays_as_it_is(directory: DataDirectory) -> None:
    history = History()
    applier = StreamWriter(directory, FILES)
    applier.create(history.create(b"one"))
    applier.close()
    record = history.append(b"two")
    for torn in (b"first evidence", b"second"):
        segment(directory).write_bytes(b"one" + torn)
        applier = StreamWriter(directory, FILES)
        apply(applier, record)
        applier.close()
    kept = sorted(path.read_bytes() for path in directory.aside.glob("*.seg*"))
    assert kept == [b"first evidence", b"second"]


def test_the_longest_name_can_be_moved_aside(directory: DataDirectory) -> None:
    longest = Path(directory.stream_directory(("s" * 240,)))
    longest.mkdir()
    target = move_aside(directory, longest)
    assert target.is_dir()
    assert not longest.exists()


def test_a_torn_end_is_moved_aside_before_a_new_segment_seals_it(
    directory: DataDirectory, disk: StagedDisk, writer: StreamWriter
) -> None:
    history = History()
    writer.create(history.create(b"one"))
    line = index(directory).read_bytes()
    segment(directory).write_bytes(b"one" + b"torn")
    index(directory).write_bytes(line + b'{"end":7,"mess')
    apply(writer, history.append(b"two", roll=True))

    assert (segment(directory).read_bytes(), index(directory).read_bytes()) == (b"one", line)
    kept = sorted(path.read_bytes() for path in directory.aside.iterdir())
    assert kept == [b"torn", b'{"end":7,"mess']
    disk.calls.clear()
    apply(writer, history.append(b"three", roll=True))
    assert (disk.calls["open_write"], disk.calls["sync"]) == (2, 0)  # nothing torn costs nothing


def test_files_that_lost_what_was_written_are_not_written_to(
    directory: DataDirectory, writer: StreamWriter
) -> None:
    history = History()
    writer.create(history.create(b"one"))
    segment(directory).write_bytes(b"o")
    with pytest.raises(FilesLost, match="1 bytes, expected 3"):
        apply(writer, history.append(b"two"))
    assert segment(directory).read_bytes() == b"o"


@pytest.mark.parametrize("suffix", [".seg", ".idx"])
def test_a_file_with_another_name_is_copied_before_it_is_written(
    directory: DataDirectory, writer: StreamWriter, tmp_path: Path, suffix: str
) -> None:
    history = History()
    writer.create(history.create(b"one"))
    apply(writer, history.append(b"two"))
    file = next(home(directory).glob(f"*{suffix}"))
    backup = tmp_path / "backup"
    os.link(file, backup)
    before = backup.read_bytes()
    apply(writer, history.append(b"three"))

    assert backup.read_bytes() == before
    assert file.read_bytes().startswith(before)
    assert len(file.read_bytes()) > len(before)
    assert file.stat().st_nlink == 1


@pytest.mark.parametrize("suffix", [".seg", ".idx"])
def test_a_file_with_another_name_is_copied_before_it_is_cut(
    directory: DataDirectory, writer: StreamWriter, tmp_path: Path, suffix: str
) -> None:
    history = History()
    writer.create(history.create(b"one"))
    apply(writer, history.append(b"two"))
    segment(directory).write_bytes(b"oneTWO")
    file = next(home(directory).glob(f"*{suffix}"))
    backup = tmp_path / "backup"
    os.link(file, backup)
    before = backup.read_bytes()
    loaded = load(directory.disk, home(directory), verify=True)
    assert loaded is not None
    cut(directory, loaded, home(directory))

    assert backup.read_bytes() == before
    assert segment(directory).read_bytes() == b"one"
    assert len(file.read_bytes()) < len(before)


@pytest.mark.parametrize(
    ("call", "where"),
    [("open_write", ".idx"), ("open_write", ".seg"), ("pwrite", ".seg"), ("pwrite", ".idx")],
)
def test_a_refused_append_leaves_no_file_open_and_can_be_repeated(
    directory: DataDirectory, disk: StagedDisk, writer: StreamWriter, call: str, where: str
) -> None:
    history = History()
    writer.create(history.create())
    record = history.append(b"one")
    disk.fail(call, errno.EMFILE, where, times=3)
    for _ in range(3):
        with pytest.raises(OSError, match="Too many open files"):
            apply(writer, record)
    apply(writer, record)
    assert segment(directory).read_bytes() == b"one"


@pytest.mark.parametrize("call", ["open_write", "sync", "rename"])
def test_a_refused_copy_of_a_linked_file_leaves_no_file_open(
    directory: DataDirectory, disk: StagedDisk, writer: StreamWriter, tmp_path: Path, call: str
) -> None:
    history = History()
    writer.create(history.create(b"one"))
    os.link(segment(directory), tmp_path / "backup")
    record = history.append(b"two")
    disk.fail(call, errno.EIO, ".seg", times=1)
    with pytest.raises(OSError, match="Input/output"):
        apply(writer, record)
    apply(writer, record)
    assert segment(directory).read_bytes() == b"onetwo"
    assert (tmp_path / "backup").read_bytes() == b"one"


def test_a_deletion_does_not_look_at_all_that_is_beside(
    directory: DataDirectory, writer: StreamWriter, disk: StagedDisk
) -> None:
    for path in ("ns/a", "ns/b"):
        writer.create(History(path).create(b"one"))
    disk.fail("names", errno.EIO, "streams/ns")
    writer.delete(History("ns/a").delete())
    assert [path.name for path in (directory.streams / "ns").iterdir()] == ["b@"]
    writer.delete(History("ns/b").delete())
    assert list(directory.streams.iterdir()) == []


def test_a_directory_of_another_stream_is_left_alone(
    directory: DataDirectory, writer: StreamWriter
) -> None:
    writer.create(History().create(b"one"))
    before = tree(directory)
    other = History(stream_id=OTHER_ID)
    with pytest.raises(FilesLost, match="another stream"):
        writer.create(other.create(b"other"))
    (directory.tmp / OTHER_ID).mkdir()
    with pytest.raises(FilesLost, match="another stream"):
        writer.adopt(AdoptRecord("s", OTHER_ID))
    writer.delete(other.delete())
    writer.replace_sidecar(other.change(cuts=1))
    assert tree(directory) == before


def test_a_sidecar_is_replaced_by_a_higher_version_only(
    directory: DataDirectory, disk: StagedDisk, writer: StreamWriter
) -> None:
    history = History()
    writer.create(history.create())
    first, second = history.change(cuts=1), history.change(cuts=2)
    writer.replace_sidecar(second)
    writer.replace_sidecar(first)
    sidecar = load_sidecar(disk, home(directory))
    assert sidecar is not None
    assert sidecar.cuts == 2
    (home(directory) / names.SIDECAR).write_bytes(b"{")
    writer.replace_sidecar(first)
    sidecar = load_sidecar(disk, home(directory))
    assert sidecar is not None
    assert sidecar.cuts == 1


def test_a_deleted_stream_is_in_trash_and_empty_namespaces_are_gone(
    directory: DataDirectory, writer: StreamWriter
) -> None:
    history, neighbour = History("a/b/c"), History("a/d", OTHER_ID)
    writer.create(history.create(b"one"))
    writer.create(neighbour.create(b"other"))
    writer.delete(history.delete())
    writer.delete(history.delete())
    assert [path.name for path in directory.trash.iterdir()] == [ID]
    assert not home(directory, "a/b/c").parent.exists()
    assert home(directory, "a/d").exists()


def test_open_files_are_bounded_and_what_is_closed_unsynced_is_synced_with_the_file_system(
    directory: DataDirectory, disk: StagedDisk
) -> None:
    writer = StreamWriter(directory, 8)
    for number in range(20):
        history = History(f"s{number}", f"{number:024x}")
        writer.create(history.create())
        apply(writer, history.append(b"one"))
    streams = [path for path in disk.open_files if directory.streams in path.parents]
    assert len(streams) <= 8
    dirty = writer.take_dirty()
    assert dirty.everything
    disk.calls.clear()
    sync_dirty(directory, dirty)
    writer.synced(dirty)
    assert disk.calls["sync_file_system"] == 1
    writer.close()


def test_open_files_are_bounded_while_a_checkpoint_needs_some_of_them(
    directory: DataDirectory, disk: StagedDisk
) -> None:
    writer = StreamWriter(directory, 16)

    def fill(first: int) -> None:
        for number in range(first, first + 20):
            history = History(f"s{number}", f"{number:024x}")
            writer.create(history.create(b"one"))
            apply(writer, history.append(b"two"))
            if number % 3 == 0:
                writer.delete(history.delete())
            assert len([path for path in disk.open_files if path.suffix != ""]) <= 16 + 2

    fill(0)
    dirty = writer.take_dirty()
    fill(100)
    sync_dirty(directory, dirty)
    writer.synced(dirty)
    fill(200)
    writer.synced(writer.take_dirty())
    writer.close()


def test_what_is_left_of_a_stream_that_was_never_durable_makes_way_for_a_fork(
    directory: DataDirectory, writer: StreamWriter
) -> None:
    writer.create(History().create(b"lost"))
    (home(directory) / names.SIDECAR).unlink()
    born = directory.tmp / OTHER_ID
    born.mkdir()
    (born / names.SIDECAR).write_bytes(History("s", OTHER_ID).create().sidecar)
    writer.adopt(AdoptRecord("s", OTHER_ID))
    sidecar = load_sidecar(directory.disk, home(directory))
    assert sidecar is not None
    assert sidecar.id == OTHER_ID
    [kept] = directory.aside.rglob("*.seg")
    assert kept.read_bytes() == b"lost"


def test_a_cut_takes_later_segments_out_of_the_way(
    directory: DataDirectory, writer: StreamWriter
) -> None:
    history = History()
    writer.create(history.create(b"one."))
    apply(writer, history.append(b"two.", roll=True))
    segment(directory).write_bytes(b"0ne.")
    loaded = load(directory.disk, home(directory), verify=True)
    assert loaded is not None
    cut(directory, loaded, home(directory))
    assert {path.name for path in home(directory).iterdir()} == {
        names.SIDECAR,
        segment(directory).name,
        index(directory).name,
    }
    kept = [path.read_bytes() for path in directory.aside.iterdir()]
    assert b"0ne." in kept
    assert b"two." in kept
