"""What each store tells of one stream: its row, and how it is kept, written and read."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from durable_streams.model.commands import Lifetime
from durable_streams.model.details import MOST_DETAILS, ProducerSeen, StreamDetails
from durable_streams.model.errors import NotOpen, StreamGone, StreamNotFound
from durable_streams.model.offsets import ZERO
from durable_streams.model.results import StreamRow
from tests.store_contract.conftest import NOW_MS
from tests.store_contract.words import (
    FORK,
    NOWHERE,
    OTHER,
    ROOM,
    SECOND,
    Listener,
    append,
    at,
    by,
    create,
    ends,
    fork,
)

if TYPE_CHECKING:
    from durable_streams.model.paths import StreamPath
    from durable_streams.store import Store
    from tests.store_contract.conftest import Clock


async def details(store: Store, path: StreamPath = ROOM) -> StreamDetails:
    found = await store.details(path)
    assert isinstance(found, StreamDetails)
    return found


async def test_the_row_is_that_of_the_list(store: Store, clock: Clock) -> None:
    await create(store, body=b"first", lifetime=Lifetime(ttl_s=60))
    clock.passes(10)
    await append(store, b"second", close=True)
    clock.passes(5)
    found = await details(store)
    (row,) = (await store.list_streams((), (), 10)).rows
    assert found.row == row
    assert isinstance(row, StreamRow)
    assert (row.size_bytes, row.closed) == (11, True)
    assert found.left_s == 55
    assert row.ends_at_ms == NOW_MS + 70_000


async def test_a_stream_that_nobody_uses_has_little(store: Store) -> None:
    begin = (await create(store)).info.tail
    found = await details(store)
    assert (found.begin, found.left_s) == (begin, None)
    assert (found.segments, list(found.segment_bytes)) == (1, [0])
    assert (found.producers, list(found.last_producers)) == (0, [])
    assert (list(found.forks), found.more_forks) == ([], False)
    assert (found.followers, found.long_polls, found.subscribers) == (0, 0, 0)


async def test_segments_have_all_bytes(store: Store) -> None:
    await ends(store, b"a", b"bb", b"ccc")
    found = await details(store)
    assert len(found.segment_bytes) == found.segments
    assert sum(found.segment_bytes) == found.row.size_bytes == 6
    assert found.row.tail == (found.begin.segment + found.segments - 1, found.segment_bytes[-1])


async def test_of_many_segments_the_last_are_told(store: Store) -> None:
    bodies = [b"x" * size for size in range(1, MOST_DETAILS + 12)]
    await ends(store, *bodies)
    found = await details(store)
    assert found.row.size_bytes == sum(map(len, bodies))
    assert len(found.segment_bytes) == min(found.segments, MOST_DETAILS)
    if found.segments > 1:
        assert list(found.segment_bytes) == [len(body) for body in bodies[-MOST_DETAILS:]]


async def test_producers_are_told_those_first_that_appended_last(
    store: Store, clock: Clock
) -> None:
    await create(store)
    for name in ("a", "b", "c"):
        await append(store, b"x", producer=by(0, epoch=2, name=name))
        clock.passes(1)
    await append(store, b"x", producer=by(1, epoch=2, name="a"))
    found = await details(store)
    assert found.producers == 3
    assert list(found.last_producers) == [
        ProducerSeen("a", 2, 1, NOW_MS + 3000),
        ProducerSeen("c", 2, 0, NOW_MS + 2000),
        ProducerSeen("b", 2, 0, NOW_MS + 1000),
    ]


async def test_forks_are_told_while_they_are_there(store: Store) -> None:
    await create(store, body=b"data")
    await fork(store, SECOND)
    await fork(store, FORK)
    await fork(store, OTHER, FORK)
    assert list((await details(store)).forks) == [FORK, SECOND]
    found = await details(store, FORK)
    assert found.row.fork is not None
    assert found.row.fork.source == ROOM
    assert list(found.forks) == [OTHER]
    await store.delete(SECOND)
    assert list((await details(store)).forks) == [FORK]
    await create(store, SECOND)  # which is no fork of it
    assert list((await details(store)).forks) == [FORK]
    await store.delete(FORK)  # which its own fork still needs
    assert list((await details(store)).forks) == [FORK]
    await store.delete(OTHER)
    assert list((await details(store)).forks) == []


async def test_readers_are_told_by_kind(store: Store) -> None:
    tail = (await create(store, body=b"data")).info.tail
    stream = await store.open(ROOM)
    listener = Listener()
    with store.following(stream):
        assert store.subscribe(stream, tail, listener)
        poll = asyncio.ensure_future(store.wait(stream, tail, 60))
        while not (found := await details(store)).long_polls:
            await asyncio.sleep(0)
        assert (found.followers, found.long_polls, found.subscribers) == (1, 1, 1)
        store.unsubscribe(stream, listener)
        await append(store, b"more")
        assert await poll
    found = await details(store)
    assert (found.followers, found.long_polls, found.subscribers) == (0, 0, 0)


async def test_a_stream_after_another_one_begins_above_it(store: Store) -> None:
    await create(store, body=b"old")
    await store.delete(ROOM)
    begin = (await create(store)).info.tail
    assert (await details(store)).begin == begin > ZERO


async def test_it_is_no_use(store: Store, clock: Clock) -> None:
    await create(store, lifetime=Lifetime(ttl_s=10))
    clock.passes(6)
    assert (await details(store)).left_s == 4
    clock.passes(6)
    with pytest.raises(StreamNotFound):
        await details(store)


async def test_of_what_is_not_there(store: Store) -> None:
    with pytest.raises(StreamNotFound):
        await details(store, NOWHERE)
    await create(store, body=b"data")
    await fork(store)
    await store.delete(ROOM)
    with pytest.raises(StreamGone):
        await details(store)
    await store.close()
    with pytest.raises(NotOpen):
        await details(store)


async def test_of_many_forks_some_are_told(store: Store) -> None:
    await create(store, body=b"data")
    paths = [at(f"forks/{number:03}") for number in range(MOST_DETAILS + 1)]
    for path in paths:
        await fork(store, path)
    found = await details(store)
    assert len(found.forks) == MOST_DETAILS
    assert found.more_forks
    assert set(found.forks) < set(paths)
