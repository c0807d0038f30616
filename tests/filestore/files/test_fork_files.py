"""Building a fork from its source's files: linked where that is possible, else copied."""

import errno
from pathlib import Path

import msgspec
import pytest

from durable_streams.filestore.files import names
from durable_streams.filestore.files.directory import DataDirectory
from durable_streams.filestore.files.disk import StrPath
from durable_streams.filestore.files.fork_files import ForkPlan, build
from durable_streams.filestore.files.stream_files import DamagedFiles, LoadedStream, load
from durable_streams.filestore.files.system_calls import LINK
from durable_streams.filestore.files.writer import StreamWriter
from durable_streams.filestore.format.sidecar import ForkOrigin
from durable_streams.model.commands import ProducerClaim
from durable_streams.model.offsets import Offset
from tests.filestore.files.history import ID, OTHER_ID, History, sidecar_of
from tests.filestore.files.staged_disk import StagedDisk


@pytest.fixture
def source(directory: DataDirectory) -> Path:
    """``one.two.`` and ``three.four.`` in two segments, with a producer and closed."""
    history = History()
    writer = StreamWriter(directory, 64)
    writer.create(history.create(b"one."))
    for record in (
        history.append(b"two.", producer=ProducerClaim("p", 1, 0), stream_seq="05"),
        history.append(b"three.", roll=True),
        history.append(b"four.", producer=ProducerClaim("p", 1, 1), close=True),
    ):
        writer.append(record, record.data, record.index)
    dirty = writer.take_dirty()
    writer.synced(dirty)
    writer.close()
    return Path(directory.stream_directory(("s",)))


def plan(
    directory: DataDirectory,
    cut: tuple[int, int],
    messages: int | None = None,
    fork_id: str = OTHER_ID,
) -> ForkPlan:
    origin = ForkOrigin(source="s", source_id=ID, offset=None, sub_offset=0, point="")
    sidecar = msgspec.structs.replace(
        sidecar_of("fork", fork_id), root=sidecar_of("s", ID).root, fork=origin
    )
    return ForkPlan(("s",), ID, sidecar, Offset(*cut), messages)


def fork_of(directory: DataDirectory) -> LoadedStream:
    loaded = load(directory.disk, directory.tmp / OTHER_ID, verify=True)
    assert loaded is not None
    assert loaded.notes == []
    assert not loaded.cut
    return loaded


def contents(directory: DataDirectory) -> list[bytes]:
    return [path.read_bytes() for path in sorted((directory.tmp / OTHER_ID).glob("*.seg"))]


@pytest.mark.parametrize(
    ("cut", "messages", "expected"),
    [
        ((0, 0), None, []),
        ((0, 4), None, [b"one."]),
        ((0, 8), None, [b"one.two."]),
        ((0, 6), 1, [b"one.tw"]),
        ((1, 6), None, [b"one.two.", b"three."]),
        ((1, 8), 1, [b"one.two.", b"three.fo"]),
        ((1, 11), None, [b"one.two.", b"three.four."]),
    ],
)
def test_a_fork_has_everything_up_to_its_point(
    directory: DataDirectory,
    source: Path,
    cut: tuple[int, int],
    messages: int | None,
    expected: list[bytes],
) -> None:
    tail = build(directory, plan(directory, cut, messages))
    loaded = fork_of(directory)
    assert contents(directory) == expected
    assert (loaded.tail.segment, loaded.tail.position) == cut == (tail.segment, tail.position)
    assert loaded.tail.chain == tail.chain


def test_the_source_s_writers_and_its_close_are_not_the_fork_s(
    directory: DataDirectory, source: Path
) -> None:
    build(directory, plan(directory, (1, 11)))
    loaded = fork_of(directory)
    assert loaded.producers == {}
    assert loaded.tail.stream_seq is None
    assert not loaded.tail.closed


def test_sealed_segments_are_shared_and_the_last_piece_is_not(
    directory: DataDirectory, source: Path
) -> None:
    build(directory, plan(directory, (1, 11)))
    links = {
        path.name.partition("-")[0] + path.suffix: path.stat().st_nlink
        for path in (directory.tmp / OTHER_ID).iterdir()
        if path.name != names.SIDECAR
    }
    assert {name: count for name, count in links.items() if name.startswith("0" * 16)} == {
        "0000000000000000.seg": 2,
        "0000000000000000.idx": 2,
    }
    assert set(links.values()) == {1, 2}


@pytest.mark.parametrize("number", LINK.errnos, ids=errno.errorcode.get)
def test_what_cannot_be_linked_is_copied(
    directory: DataDirectory, disk: StagedDisk, source: Path, number: int
) -> None:
    disk.fail("link", number)
    build(directory, plan(directory, (1, 11)))
    fork_of(directory)
    assert contents(directory) == [b"one.two.", b"three.four."]
    assert all(path.stat().st_nlink == 1 for path in (directory.tmp / OTHER_ID).iterdir())


@pytest.mark.parametrize(
    ("call", "where"),
    [
        ("link", ""),
        ("sync", ".seg"),
        ("sync", names.SIDECAR),
        ("open_write", ".idx"),
        ("pwrite", names.SIDECAR),
        ("open_read", ".idx"),
        ("pread", ".idx"),
        ("sync_directory", OTHER_ID),
        ("make_directory", OTHER_ID),
    ],
)
def test_a_fork_that_could_not_be_built_leaves_nothing(
    directory: DataDirectory, disk: StagedDisk, source: Path, call: str, where: str
) -> None:
    before = {path: path.read_bytes() for path in source.iterdir()}
    disk.fail(call, errno.ENOSPC, where, times=1)
    with pytest.raises(OSError, match="No space left"):
        build(directory, plan(directory, (1, 8), 1))
    assert list(directory.tmp.iterdir()) == []
    assert {path: path.read_bytes() for path in source.iterdir()} == before


def test_a_damaged_source_is_not_forked(directory: DataDirectory, source: Path) -> None:
    index = source / names.index_file(1, ID)
    index.write_bytes(index.read_bytes().replace(b'"end":6', b'"end":5'))
    with pytest.raises(DamagedFiles, match="running checksum"):
        build(directory, plan(directory, (1, 11)))
    assert list(directory.tmp.iterdir()) == []


MOST_NAMES = 3


class FewNamesDisk(StagedDisk):
    """A file system that allows a file few names; ``copied``: the files that were copied whole."""

    def __init__(self) -> None:
        super().__init__()
        self.copied: list[str] = []

    def link(self, source: StrPath, target: StrPath) -> None:
        if Path(source).stat().st_nlink == MOST_NAMES:
            raise OSError(errno.EMLINK, "Too many links", str(source))
        super().link(source, target)

    def copy(self, source: int, target: int, size: int) -> None:
        self.copied.append(self._paths[source].name)
        super().copy(source, target, size)


@pytest.mark.parametrize(
    ("forks", "copies"),
    [(MOST_NAMES - 1, 0), (MOST_NAMES, 1), (2 * MOST_NAMES - 2, 1), (2 * MOST_NAMES - 1, 2)],
)
def test_where_names_run_out_one_copy_is_made_for_all_further_forks(
    directory: DataDirectory, source: Path, monkeypatch: pytest.MonkeyPatch, forks: int, copies: int
) -> None:
    sealed = names.segment_file(0, ID)
    disk = FewNamesDisk()
    monkeypatch.setattr(directory, "disk", disk)
    for number in range(forks):
        build(directory, plan(directory, (1, 11), fork_id=f"{number:024x}"))
    assert disk.copied.count(sealed) == copies
    assert (source / sealed).read_bytes() == b"one.two."
    segments = [
        directory.tmp / f"{number:024x}" / names.segment_file(0, f"{number:024x}")
        for number in range(forks)
    ]
    assert {segment.read_bytes() for segment in segments} == {b"one.two."}
    assert len({path.stat().st_ino for path in [source / sealed, *segments]}) == copies + 1
    assert disk.open_files == []


def test_a_copy_for_which_there_is_no_room_leaves_the_source_as_it_was(
    directory: DataDirectory, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = source / names.segment_file(0, ID)
    disk = FewNamesDisk()
    monkeypatch.setattr(directory, "disk", disk)
    for number in range(MOST_NAMES - 1):
        build(directory, plan(directory, (1, 11), fork_id=f"{number:024x}"))
    before = sealed.stat().st_ino
    disk.fail("sync", errno.ENOSPC, f"{OTHER_ID}/")
    with pytest.raises(OSError, match="No space left"):
        build(directory, plan(directory, (1, 11)))
    assert sealed.stat().st_ino == before
    assert not (directory.tmp / OTHER_ID).exists()
    assert disk.open_files == []
