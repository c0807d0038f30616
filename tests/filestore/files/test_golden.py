"""Data directories of each format, as killed processes left them: every version reads them.

Made once, through the engine, and never again; a new format gets a directory of its own beside
these.  ``format-1`` is of a server in the mode ``fsync``; ``format-1-killed`` of one in the mode
``none``, with two small journal files, that had lost bytes before: it has what the first lacks.
``format-1-percent`` has what looks like escapes in its names, and is of a killed server too.
``format-2`` has marks of forks: ``source`` was deleted but for two, a third is gone; that ``other``
was forked only the journal knows.  ``format-2-recreated`` has streams where others were removed:
``s`` begins at segment 3, which its file of removed paths says, and ``f``, a fork of it, at 7, with
files that were begun as 3 to 5; that ``late`` was removed as well only the journal knows.
"""

import asyncio
import shutil
from pathlib import Path
from typing import get_args

import pytest

from durable_streams.filestore.files.directory import Layout
from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.files.fork_marks import some_marks
from durable_streams.filestore.files.journal_reader import JournalContent, read_journal
from durable_streams.filestore.files.stream_files import load_sidecar
from durable_streams.filestore.format import journal as fmt
from durable_streams.library import Streams, open_streams
from durable_streams.model.commands import ProducerClaim
from durable_streams.model.errors import OffsetGone, StreamGone, StreamNotFound
from durable_streams.model.offsets import Offset
from durable_streams.model.paths import parse_path_text, path_text

GOLDEN = Path(__file__).parent / "golden" / "format-1"
KILLED = GOLDEN.with_name("format-1-killed")
PERCENT = GOLDEN.with_name("format-1-percent")
FORKED = GOLDEN.with_name("format-2")
RECREATED = GOLDEN.with_name("format-2-recreated")
SOURCE = b"0123456789" * 4 + b"next segment."
BYTES = b"first.second.third, in a segment of its own."


@pytest.fixture(params=["with its journal", "without its journal"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    copy = tmp_path / "data"
    shutil.copytree(GOLDEN, copy)
    if request.param == "without its journal":
        shutil.rmtree(copy / "journal")
    return copy


@pytest.fixture
def killed(tmp_path: Path) -> Layout:
    shutil.copytree(KILLED, tmp_path / "killed")
    return Layout(Disk(), tmp_path / "killed")


async def whole(streams: Streams, path: str) -> bytes:
    parts, offset, more = [], "-1", True
    while more:
        result = await streams.read(path, offset)
        parts.append(result.data)
        offset, more = result.next_offset, result.has_more
    return b"".join(parts)


async def test_the_directory_of_format_1_is_read(data: Path) -> None:
    async with open_streams(data) as streams:
        messages = [message.data async for message in streams.tail("Json/room 1")]
        assert messages == [b'{"a": 1}', b"2", b'"last"']
        metadata = await streams.get_metadata("Json/room 1")
        assert (metadata.closed, metadata.ttl_s) == (True, 3_000_000_000)
        for path, content in (("bytes", BYTES), ("fork", BYTES + b"own.")):
            assert await whole(streams, path) == content


async def test_its_records_are_told(data: Path) -> None:
    async with open_streams(data) as streams:
        for path, content in (("bytes", BYTES), ("fork", BYTES + b"own.")):
            found = await streams.records(path)
            assert found.up_to_date
            assert sum(record.size_bytes for record in found.records) == len(content)
            assert all(record.time_ms > 1_700_000_000_000 for record in found.records)
        named = [record.producer for record in (await streams.records("bytes")).records]
        assert ProducerClaim("p", 0, 1) in named
        messages = await streams.records("Json/room 1")
        assert [record.size_bytes for record in messages.records] == [8, 1, 6]
        assert [record.closed for record in messages.records] == [False, False, True]
        details = await streams.details("bytes")
        assert details.segments == 2
        assert "p" in [producer.id for producer in details.last_producers]


async def test_its_producers_are_known(data: Path) -> None:
    async with open_streams(data) as streams:
        again = await streams.append("bytes", b"a retry", producer=ProducerClaim("p", 0, 1))
        assert again.duplicate


def test_the_journal_of_the_killed_server_has_every_kind_of_record(killed: Layout) -> None:
    content = JournalContent()
    kinds = {
        type(record)
        for batch in read_journal(killed, content)
        for record in fmt.unpack_records(batch.payload)
        if batch.number > 41  # what a checkpoint had made durable
    }
    assert kinds == set(get_args(fmt.Record)) - {fmt.ForkRecord}
    assert (content.generation, content.last, content.checkpointed) == (4, 51, 41)
    assert content.damage == []


def test_its_second_journal_file_had_been_used_before(killed: Layout) -> None:
    data = (killed.journal / "1.journal").read_bytes()
    header = fmt.unpack_header(data)
    assert header is not None
    position = fmt.FILE_HEADER_BYTES
    while (batch := fmt.unpack_batch(memoryview(data), position, header)) is not None:
        position += batch.size_bytes
    older = data.index(fmt.BATCH_MAGIC, position) + 8
    assert int.from_bytes(data[older : older + 8], "little") == header.generation - 2


def test_it_was_to_verify_its_streams_and_had_cut_one(killed: Layout) -> None:
    assert (killed.root / "UNSYNCED").exists()
    cut = load_sidecar(killed.disk, killed.stream_directory(("cut",)))
    source = load_sidecar(killed.disk, killed.stream_directory(("source",)))
    assert cut is not None
    assert source is not None
    assert (cut.cuts, source.soft_deleted, list(source.forks.values())) == (1, True, ["fork"])
    assert list(Path(killed.stream_directory(("pending",))).glob("*.seg")) == []
    [torn] = Path(killed.stream_directory(("torn",))).glob("*.idx")
    assert not torn.read_bytes().endswith(b"\n")


async def test_the_directory_of_the_killed_server_is_read_and_written(killed: Layout) -> None:
    expected = {
        "cut": b"one.again.",
        "torn": b"one.two.",
        "fork": SOURCE + b"own.",
        "pending": b"in no file yet.",
    }
    async with open_streams(killed.root) as streams:
        for path, content in expected.items():
            assert await whole(streams, path) == content
        with pytest.raises(StreamGone):
            await streams.read("source")
        for path in ("gone", "filler"):
            with pytest.raises(StreamNotFound):
                await streams.read(path)
        assert (await streams.get_metadata("pending")).closed
        for path in ("cut", "torn", "fork"):
            await streams.append(path, b"new.")
        await streams.delete("fork")
    async with open_streams(killed.root) as streams:
        for path in ("cut", "torn"):
            assert await whole(streams, path) == expected[path] + b"new."
        for path in ("fork", "source"):
            with pytest.raises(StreamNotFound):
                await streams.read(path)


async def test_an_escape_in_a_name_of_0_1_is_as_literal_as_it_was(tmp_path: Path) -> None:
    data = Path(shutil.copytree(PERCENT, tmp_path / "data"))
    async with open_streams(data) as streams:
        assert await whole(streams, "100%/%2525") == b"percent.in no file yet."
        assert await whole(streams, "fork%252Fof") == b"a literal escape.own."
        with pytest.raises(StreamGone):
            await streams.read("runs%252F1")
        for path in ("runs%2F1", "runs/1", "fork%2Fof"):
            with pytest.raises(StreamNotFound):
                await streams.read(path)
        await streams.append("fork%252Fof", b"new.")
        await streams.delete("fork%252Fof")
    async with open_streams(data) as streams:
        with pytest.raises(StreamNotFound):
            await streams.read("runs%252F1")
        assert await whole(streams, "100%/%2525") == b"percent.in no file yet."


@pytest.fixture
def forked(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FORKED, tmp_path / "forked"))


def marks(data: Path, path: str) -> set[str]:
    """The forks that a stream has marks of."""
    layout = Layout(Disk(), data)
    home = layout.stream_directory(parse_path_text(path))
    sidecar = load_sidecar(layout.disk, home)
    assert sidecar is not None
    found = some_marks(layout.disk, home, sidecar.id, 10, ())
    return {path_text(path or ()) for _, path in found}


async def test_the_directory_of_format_2_is_read(forked: Path) -> None:
    expected = {
        "other": b"other.more.",
        "forks/a": SOURCE + b"own.",
        "forks/B": SOURCE + b"own.",
        "late": b"other.more.in no file yet.",
    }
    async with open_streams(forked) as streams:
        for path, content in expected.items():
            assert await whole(streams, path) == content
        with pytest.raises(StreamGone):
            await streams.read("source")
        with pytest.raises(StreamNotFound):
            await streams.read("forks/gone")
    marked = [await asyncio.to_thread(marks, forked, path) for path in ("source", "other")]
    assert marked == [{"forks/a", "forks/B"}, {"late"}]


async def test_its_sources_go_with_their_last_forks(forked: Path) -> None:
    async with open_streams(forked) as streams:
        await streams.delete("other")
        for source, forks in (("source", ("forks/B", "forks/a")), ("other", ("late",))):
            for path in forks:
                with pytest.raises(StreamGone):
                    await streams.read(source)
                await streams.delete(path)
            with pytest.raises(StreamNotFound):
                await streams.read(source)


@pytest.fixture(params=["with its journal", "without its journal"])
def recreated(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    copy = Path(shutil.copytree(RECREATED, tmp_path / "recreated"))
    if request.param == "without its journal":
        shutil.rmtree(copy / "journal")
    return copy


async def test_streams_begin_where_their_files_do(recreated: Path) -> None:
    async with open_streams(recreated) as streams:
        for path, content, first in (("s", b"n" * 70, 3), ("f", b"n" * 70 + b"f" * 30, 7)):
            assert await whole(streams, path) == content
            with pytest.raises(OffsetGone) as caught:
                await streams.read(path, Offset(2, 10).token)
            assert caught.value.begin == Offset(first, 0)
            await streams.append(path, b"more")
            assert await whole(streams, path) == content + b"more"


async def test_the_journal_knows_what_was_removed(recreated: Path) -> None:
    has_journal = (recreated / "journal").is_dir()
    async with open_streams(recreated) as streams:
        made = await streams.create("late")
    assert made.next_offset == Offset(1 if has_journal else 0, 0).token


async def test_the_file_knows_what_was_removed(recreated: Path) -> None:
    shutil.rmtree(recreated / "streams")
    shutil.rmtree(recreated / "journal", ignore_errors=True)
    async with open_streams(recreated) as streams:
        made = [await streams.create(path) for path in ("s", "f")]
    assert [each.next_offset for each in made] == [Offset(3, 0).token, Offset(0, 0).token]


@pytest.mark.parametrize(
    "golden", [GOLDEN, KILLED, PERCENT, FORKED, RECREATED], ids=lambda path: path.name
)
async def test_each_is_of_the_present_format_once_it_was_opened(
    tmp_path: Path, golden: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(golden, data)
    before = (data / "FORMAT.json").read_text()
    async with open_streams(data):
        pass
    after = (data / "FORMAT.json").read_text()
    assert after == before.replace('"format":1', '"format":2')
