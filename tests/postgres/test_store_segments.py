"""Streams of several segments in a database: their sizes, and their records from anywhere."""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from durable_streams.model.commands import Create, ForkRequest, Last, Since
from durable_streams.model.details import StreamDetails
from durable_streams.model.offsets import ZERO, Offset, Start
from durable_streams.postgres.reading import CACHE_BYTES, RunCache
from durable_streams.settings import MIB
from tests.driving import append, put
from tests.postgres.stores import nodes_of

if TYPE_CHECKING:
    from durable_streams.postgres.store import PostgresStore
    from tests.postgres.conftest import Database

BODY = b"x" * (8 * MIB)


async def sizes_of(store: PostgresStore, path: str) -> list[int]:
    found = await store.details((path,))
    assert isinstance(found, StreamDetails)
    assert found.segments == len(found.segment_bytes)
    assert sum(found.segment_bytes) == found.row.size_bytes
    return [size // MIB for size in found.segment_bytes]


async def test_records_and_sizes_go_across_segments_and_forks(database: Database) -> None:
    async with nodes_of(database) as nodes:
        store = await nodes.node()
        await put(store, "s")
        for _ in range(5):
            await append(store, "s", BODY)
        assert await sizes_of(store, "s") == [16, 16, 8]
        cut = Offset(1, 8 * MIB)
        await store.create(Create(("fork",), fork=ForkRequest(("s",), cut)), b"")
        assert await sizes_of(store, "fork") == [16, 8]
        await append(store, "fork", b"own")
        assert [row.path for row in (await store.list_streams((), (), 9)).rows] == [
            ("fork",),
            ("s",),
        ]
        for path, count, tail in (("s", 5, Offset(2, 8 * MIB)), ("fork", 4, (1, 8 * MIB + 3))):
            found = await store.records((path,), Start.BEGINNING, 100)
            records = found.records
            assert (len(records), found.next, found.at_tail) == (count, tail, True)
            assert records[0].start == ZERO
            assert all(before.end == after.start for before, after in pairwise(records))
            for last in range(1, count + 1):
                assert (await store.records((path,), Last(last), 100)).records == records[-last:]
            for at, record in enumerate(records):
                behind = await store.records((path,), record.start, 100)
                assert behind.records == records[at:]
                since = await store.records((path,), Since(record.time_ms), 100)
                assert since.records == [each for each in records if each.time_ms >= record.time_ms]
            later = await store.records((path,), Since(records[-1].time_ms + 1), 100)
            assert (later.records, later.next) == ([], tail)


async def test_runs_of_tiny_appends_take_no_more_memory_than_others() -> None:
    """Where each append ends takes many times of what a byte does."""

    async def fetch(*_: object) -> list[Any]:
        return [{"data": bytes(1000), "ends": [1_000_000 + at for at in range(1000)]}]

    cache = RunCache(fetch)
    for segment in range(1500):
        await cache.runs(1, segment, 0, 1000)
    kept = [each["ends"] for (each,) in cache._found.values()]
    assert kept
    assert sum([sys.getsizeof(ends) + sum(map(sys.getsizeof, ends)) for ends in kept]) < CACHE_BYTES
