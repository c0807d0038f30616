"""What other files prove to be missing from a stream, and what proves nothing."""

import asyncio
import logging
from pathlib import Path

import pytest

import durable_streams
from durable_streams.filestore.files import names
from durable_streams.filestore.files.directory import DataDirectory
from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.files.recovery import recover
from durable_streams.filestore.files.stream_files import (
    LoadedStream,
    NewerFiles,
    load,
    load_sidecar,
)
from durable_streams.filestore.files.writer import StreamWriter
from durable_streams.model.errors import StreamDamaged, StreamNotFound
from durable_streams.settings import Settings
from tests.filestore.files.history import ID, OTHER_ID, History
from tests.filestore.files.recovering import FILES, applied, journaled
from tests.filestore.files.recovering import home as home_of
from tests.tags import assert_agree, tags

SEGMENTS = [b"one.two.", b"three.four.", b"five.six."]


class Home:
    """A stream's directory with three segments."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.history = history = History()
        (directory / names.SIDECAR).write_bytes(history.create().sidecar)
        for number, content in enumerate(SEGMENTS):
            first, second = content[: content.index(b".") + 1], content[content.index(b".") + 1 :]
            history.append(first, roll=number > 0)
            history.append(second)
            self.file(number, "seg").write_bytes(content)
            self.file(number, "idx").write_bytes(history.index)

    def file(self, number: int, kind: str) -> Path:
        name = names.segment_file if kind == "seg" else names.index_file
        return self.directory / name(number, ID)

    def load(self, *, verify: bool = False) -> LoadedStream:
        loaded = load(Disk(), self.directory, verify=verify)
        assert loaded is not None
        return loaded


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_nothing_is_missing_from_a_whole_stream(home: Home) -> None:
    assert home.load().missing == ""


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("kind", ["seg", "idx"])
def test_a_sealed_file_that_is_gone_is_missing(home: Home, number: int, kind: str) -> None:
    home.file(number, kind).unlink()
    loaded = home.load()
    later = number + 1
    assert loaded.missing == (
        f"{home.file(number, kind).name}: it is gone, though segment {later} is there"
    )


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("kind", ["seg", "idx"])
def test_a_sealed_file_that_was_cut_anywhere_is_missing_what_was_cut_off(
    home: Home, number: int, kind: str
) -> None:
    file = home.file(number, kind)
    sound = file.read_bytes()
    for size in range(len(sound)):
        file.write_bytes(sound[:size])
        missing = home.load().missing
        assert missing.startswith(f"{file.name}: it "), size
        assert f"though segment {number + 1} is there" in missing, size


@pytest.mark.parametrize("number", [0, 1])
def test_segment_and_index_that_are_gone_together_are_missing(home: Home, number: int) -> None:
    for kind in ("seg", "idx"):
        home.file(number, kind).unlink()
    assert home.load().missing.startswith(home.file(number, "idx").name)


def test_a_later_segment_without_an_index_proves_that_the_one_before_had_its_bytes(
    home: Home,
) -> None:
    home.file(2, "idx").unlink()
    home.file(1, "seg").write_bytes(SEGMENTS[1][:8])
    assert home.load().missing == (
        f"{home.file(1, 'seg').name}: it has 8 bytes, fewer than its index says, "
        "though segment 2 is there"
    )


@pytest.mark.parametrize("kind", ["seg", "idx"])
def test_the_last_segment_may_end_anywhere_and_be_gone(home: Home, kind: str) -> None:
    file = home.file(2, kind)
    sound = file.read_bytes()
    for size in range(len(sound)):
        file.write_bytes(sound[:size])
        assert home.load().missing == "", size
    file.unlink()
    assert home.load().missing == ""


def test_files_of_another_stream_prove_nothing(home: Home) -> None:
    for name in (names.index_file, names.segment_file):
        (home.directory / name(7, OTHER_ID)).write_bytes(b"")
    assert home.load().missing == ""


def test_a_segment_that_continues_another_history_proves_nothing(home: Home) -> None:
    other = History()
    other.append(b"another ")
    other.append(b"beginning, shorter", roll=True)
    home.file(1, "idx").write_bytes(other.index)
    home.file(2, "idx").unlink()
    home.file(2, "seg").unlink()
    assert home.load().missing == ""


def test_after_an_unclean_end_of_a_mode_that_does_not_sync_it_was_lost_as_expected(
    home: Home,
) -> None:
    home.file(1, "seg").write_bytes(SEGMENTS[1][:8])
    loaded = home.load(verify=True)
    assert (loaded.missing, loaded.tail.position) == ("", 6)
    assert loaded.notes


def test_a_stream_whose_sidecar_is_gone_is_said_to_be_incomplete(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    (home.directory / names.SIDECAR).unlink()
    assert load(Disk(), home.directory) is None
    assert "incomplete: meta.json is gone, segments are there" in caplog.text


class DeletingDisk(Disk):
    """Something takes a stream away while its files are looked at."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def names(self, path: Path | str) -> list[str]:
        found = super().names(path)
        if Path(path) == self.directory:
            for file in self.directory.iterdir():
                if not file.name.startswith("0000000000000002"):
                    file.unlink()
        return found


def test_a_stream_that_is_deleted_while_it_is_opened_is_not_incomplete(home: Home) -> None:
    loaded = load(DeletingDisk(home.directory), home.directory)
    assert loaded is not None
    assert loaded.missing == ""


def newer(home: Path) -> bytes:
    sidecar = home / names.SIDECAR
    data = sidecar.read_bytes().replace(b'"format": 1', b'"format": 3', 1)
    data = data.replace(b'"cuts": 0', b'"cuts": 0,\n  "new": true', 1)
    sidecar.write_bytes(data)
    return data


def test_a_sidecar_of_a_newer_version_is_neither_damaged_nor_missing(home: Home) -> None:
    newer(home.directory)
    with pytest.raises(NewerFiles, match=r"meta\.json: format 3 .* written by a newer version"):
        load_sidecar(Disk(), home.directory)


def test_an_index_of_a_newer_version_is_named_as_such(home: Home) -> None:
    text = home.file(0, "idx").read_bytes()
    home.file(0, "idx").write_bytes(text.replace(b'{"index":2,', b'{"index":3,"new":1,', 1))
    for verify in (False, True):
        with pytest.raises(NewerFiles, match=r"\.idx: index format 3 .* newer version"):
            home.load(verify=verify)


# -- what the server makes of it -----------------------------------------------------------

SMALL = Settings(segment_bytes=20)


async def filled(data: Path) -> Path:
    async with durable_streams.open(data, SMALL) as streams:
        await streams.create("s", content_type="text/plain")
        for number in range(6):
            await streams.append("s", b"append %d of ten" % number)
    return data / "streams" / "s@"


@pytest.mark.parametrize("kind", ["seg", "idx"])
async def test_an_incomplete_stream_is_told_loudly_and_gets_new_etags(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    stream = await filled(tmp_path)
    async with durable_streams.open(tmp_path, SMALL) as streams:
        before = await tags(streams.engine, "s")
    lost = sorted(stream.glob(f"*.{kind}"))[1]
    lost.unlink()
    async with durable_streams.open(tmp_path, SMALL) as streams:
        assert (await streams.read("s")).data.startswith(b"append 0 of ten")
        for _ in range(5):
            await streams.append("s", b"other bytes now")
        after = await tags(streams.engine, "s")
    assert_agree(before, after)
    [told] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "stream s: incomplete, it ends at " in told.getMessage()
    assert lost.name in told.getMessage()


async def test_a_whole_stream_keeps_its_etags(tmp_path: Path) -> None:
    await filled(tmp_path)
    seen = set()
    for _ in range(2):
        async with durable_streams.open(tmp_path, SMALL) as streams:
            seen.add(tuple(await tags(streams.engine, "s")))
    assert len(seen) == 1


@pytest.mark.parametrize("unsynced", [False, True])
async def test_a_newer_version_s_stream_is_refused_and_never_overwritten(
    tmp_path: Path, unsynced: bool
) -> None:
    stream = await filled(tmp_path)
    (tmp_path / "journal" / "0.journal").unlink()  # the stream alone came from elsewhere
    if unsynced:
        (tmp_path / "UNSYNCED").touch()
    written = newer(stream)
    async with durable_streams.open(tmp_path, SMALL) as streams:
        with pytest.raises(StreamDamaged):
            await streams.read("s")
        with pytest.raises(StreamDamaged):
            await streams.append("s", b"x")
        with pytest.raises(StreamDamaged):
            await streams.create("s", content_type="text/plain")
    assert await asyncio.to_thread((stream / names.SIDECAR).read_bytes) == written
    assert len(list(stream.iterdir())) == 13


def test_a_newer_version_s_sidecar_is_not_replaced_from_the_journal(
    directory: DataDirectory,
) -> None:
    """Nor is anything else: the stream is out of service, and the journal's records stay."""
    history = History()
    created, changed = history.create(b"first"), history.change(soft_deleted=True)
    applied(directory, created)
    journaled(directory, created, changed)
    written = newer(home_of(directory))
    recovery = recover(directory, FILES)
    ((key, kept),) = recovery.kept.items()
    assert key == (created.path, created.id)
    assert "written by a newer version" in kept.reason
    assert kept.records == [created, changed]
    assert (home_of(directory) / names.SIDECAR).read_bytes() == written
    writer = StreamWriter(directory, FILES)
    with pytest.raises(NewerFiles):
        writer.replace_sidecar(changed)
    with pytest.raises(NewerFiles):
        writer.create(created)
    writer.close()
    assert (home_of(directory) / names.SIDECAR).read_bytes() == written


async def test_a_stream_without_its_sidecar_is_no_stream(tmp_path: Path) -> None:
    stream = await filled(tmp_path)
    (stream / names.SIDECAR).unlink()
    async with durable_streams.open(tmp_path, SMALL) as streams:
        with pytest.raises(StreamNotFound):
            await streams.read("s")
