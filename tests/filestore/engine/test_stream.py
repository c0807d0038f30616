"""Streams with many producers: what their table costs in files and in memory."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from durable_streams.filestore.files import names
from durable_streams.filestore.format.index import unpack_opening
from durable_streams.filestore.store import FileStore
from durable_streams.filestore.streams.stream import STREAM_BYTES, Payload
from durable_streams.model.commands import Append, Create, ProducerClaim
from durable_streams.model.errors import TooManyProducers
from durable_streams.model.paths import parse_path_text
from durable_streams.settings import KIB, MIB, Settings
from tools.inside import catalog, in_files

BYTES = "application/octet-stream"
SETTINGS = Settings(
    max_append_bytes=4 * KIB, journal_file_bytes=MIB + 8 * KIB, index_bytes=4000, max_open_streams=4
)
MOST = SETTINGS.journal_file_bytes // 4
TEXT = 250 + 2 + 54  # of a producer in the opening of an index, at most
LARGEST = 2**53 - 1  # 16 digits: an epoch, while the sequence has one


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[FileStore]:
    engine = await FileStore.at(tmp_path / "data", SETTINGS)
    await engine.create(Create(("s",), BYTES), b"")
    yield engine
    await engine.close()


async def append(engine: FileStore, producer: int | None = None, path: str = "s") -> None:
    claim = None if producer is None else ProducerClaim(f"{producer:0250}", LARGEST, 0)
    await engine.append(Append(parse_path_text(path), BYTES, producer=claim), b"x")


async def test_an_index_is_not_begun_for_less_than_the_table_it_opens_with(
    engine: FileStore, tmp_path: Path
) -> None:
    await asyncio.gather(*(append(engine, producer) for producer in range(100)))
    await asyncio.gather(*(append(engine) for _ in range(1000)))
    await in_files(engine, "s")
    indexes = sorted((tmp_path / "data" / "streams" / names.directory_of(("s",))).glob("*.idx"))
    openings = [path.read_bytes().partition(b"\n")[0] for path in indexes]
    lines = sum(path.stat().st_size for path in indexes) - sum(map(len, openings))
    assert len(indexes) > 2
    assert sum(map(len, openings)) <= lines
    opening, _ = unpack_opening(openings[-1])
    assert len(opening.producers) == 100
    assert 100 * (TEXT - 22) <= len(openings[-1]) <= 100 * TEXT + 200


async def test_a_stream_takes_as_many_producers_as_their_table_has_room_for(
    tmp_path: Path,
) -> None:
    engine = await FileStore.at(tmp_path / "data", SETTINGS)
    await engine.create(Create(("s",), BYTES), b"")
    await asyncio.gather(*(append(engine, producer) for producer in range(MOST // TEXT)))
    for _ in range(2):
        with pytest.raises(TooManyProducers, match=f"{MOST // TEXT} producers and no room"):
            await append(engine, -1)
        await append(engine, 0)  # a retry
        await append(engine)
        await engine.close()
        engine = await FileStore.at(tmp_path / "data", SETTINGS)
    await engine.close()


async def test_streams_with_many_producers_take_the_place_of_others(engine: FileStore) -> None:
    for path in ("a", "b", "c"):
        await engine.create(Create(parse_path_text(path), BYTES), b"")
    assert len(catalog(engine)) == 4
    for producer in range(2):
        await append(engine, producer)
    assert len(catalog(engine)) == 2
    for producer in range(2, 50):
        await append(engine, producer)
    assert len(catalog(engine)) == 1
    for path in ("a", "b", "c"):
        await append(engine, path=path)
    assert len(catalog(engine)) == 3
    stream = await engine._find(("s",))
    assert len(catalog(engine)) == 1
    assert len(stream.producers.states) == 50
    assert catalog(engine)._bytes == stream.cost_bytes


async def test_a_deep_path_counts_in_the_memory_of_its_stream(engine: FileStore) -> None:
    for path in (("s",), ("s",) * 300):
        await engine.create(Create(path, BYTES), b"")
    shallow, deep = [await engine._find(path) for path in (("s",), ("s",) * 300)]
    assert shallow.cost_bytes == STREAM_BYTES
    assert deep.cost_bytes > STREAM_BYTES + 290 * 64


async def test_an_append_that_failed_does_not_count(engine: FileStore) -> None:
    stream = await engine._find(("s",))
    claim = ProducerClaim("p", 0, 0)
    append = Append(("s",), BYTES, producer=claim)
    _, before = stream.reserve(append, Payload(b"x", 1, 0), 0, SETTINGS)
    assert stream.producers.size_bytes > 0
    stream.take_back(before)
    assert stream.producers.size_bytes == 0
