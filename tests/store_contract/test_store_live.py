"""Who waits for more is told as soon as there is some, in order, and nothing twice."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from durable_streams.model.offsets import Start
from tests.store_contract.words import (
    JSON,
    OTHER,
    ROOM,
    Listener,
    append,
    close,
    content,
    create,
    ends,
)

if TYPE_CHECKING:
    from durable_streams.model.offsets import Offset
    from durable_streams.model.results import StreamRef
    from durable_streams.store import Store


async def at_tail(store: Store, *bodies: bytes) -> tuple[StreamRef, Offset]:
    """A stream and where it ends."""
    *_, tail = await ends(store, *bodies)
    return await store.open(ROOM), tail


async def waiting(store: Store, stream: StreamRef, at: Offset) -> asyncio.Task[bool]:
    """Somebody who waits already."""
    task = asyncio.create_task(store.wait(stream, at, 60))
    await asyncio.sleep(0)
    assert not task.done()
    return task


# -- waiting -------------------------------------------------------------------------------


async def test_who_waits_at_the_tail_is_told_of_an_append(store: Store) -> None:
    stream, tail = await at_tail(store, b"one")
    tasks = [await waiting(store, stream, tail) for _ in range(3)]
    await append(store, b"two")
    assert await asyncio.gather(*tasks) == [True, True, True]


async def test_who_waits_is_told_of_the_close(store: Store) -> None:
    stream, tail = await at_tail(store, b"one")
    task = await waiting(store, stream, tail)
    await close(store)
    assert await task


async def test_nobody_waits_for_what_is_there(store: Store) -> None:
    start, tail = await ends(store, b"one")
    stream = await store.open(ROOM)
    assert await store.wait(stream, start, 60)
    await close(store)
    assert await store.wait(stream, tail, 60)


async def test_a_wait_ends_with_its_time(store: Store) -> None:
    stream, tail = await at_tail(store, b"one")
    assert not await store.wait(stream, tail, 0)
    assert not await store.wait(stream, tail, 0.001)


async def test_after_a_wait_there_is_something_to_read(store: Store) -> None:
    stream, tail = await at_tail(store, b"one")
    for number in range(5):
        task = await waiting(store, stream, tail)
        await append(store, b"%d" % number)
        assert await task
        with await store.read(stream, tail, is_end=True) as chunk:
            assert await store.bytes_of(chunk) == b"%d" % number
        tail = chunk.end


async def test_appends_to_other_streams_wake_nobody(store: Store) -> None:
    stream, tail = await at_tail(store, b"one")
    await create(store, OTHER)
    task = await waiting(store, stream, tail)
    await append(store, b"two", OTHER)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    await append(store, b"two")
    assert await task


async def test_who_leaves_while_waiting_disturbs_nobody(store: Store) -> None:
    stream, tail = await at_tail(store, b"one")
    leaves, stays = await waiting(store, stream, tail), await waiting(store, stream, tail)
    leaves.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaves
    await append(store, b"two")
    assert await stays


# -- subscribing ---------------------------------------------------------------------------


async def test_a_subscriber_is_handed_everything_once_and_in_order(store: Store) -> None:
    stream, tail = await at_tail(store, b"before")
    listener = Listener()
    assert store.subscribe(stream, tail, listener)
    bodies = [b"<%d>" % number for number in range(30)]
    await asyncio.gather(*[append(store, body) for body in bodies])
    while len(listener.data) < len(b"".join(bodies)) and not listener.was_overtaken:
        await listener.told()
    assert not listener.was_overtaken
    assert listener.data == await content(store, start=tail)
    end = tail
    for publication in listener.heard:
        assert publication.start == end
        assert publication.end.position >= len(publication.data)
        assert not publication.closed
        end = publication.end
    assert end == (await store.head(ROOM)).tail


async def test_where_a_publication_ended_is_a_place_to_read_on_from(store: Store) -> None:
    stream, tail = await at_tail(store, b"before")
    listener = Listener()
    assert store.subscribe(stream, tail, listener)
    await append(store, b"one")
    await listener.told()
    store.unsubscribe(stream, listener)
    await append(store, b"two")
    with await store.read(stream, listener.heard[-1].end, is_end=True) as chunk:
        assert await store.bytes_of(chunk) == b"two"


async def test_messages_are_published_as_they_are_stored(store: Store) -> None:
    await create(store, content_type=JSON)
    stream, tail = await store.open(ROOM), (await store.head(ROOM)).tail
    listener = Listener()
    assert store.subscribe(stream, tail, listener)
    await append(store, b"[1, 2]", content_type=JSON)
    await listener.told()
    assert listener.data == b"1,2,"


async def test_subscribers_are_told_of_the_close(store: Store) -> None:
    stream, tail = await at_tail(store, b"before")
    listener = Listener()
    assert store.subscribe(stream, tail, listener)
    done = await append(store, b"last", close=True)
    await listener.told()
    (publication,) = listener.heard
    assert (publication.data, publication.closed, publication.end) == (b"last", True, done.tail)


async def test_a_close_without_data_is_published_as_well(store: Store) -> None:
    stream, tail = await at_tail(store, b"before")
    listener = Listener()
    assert store.subscribe(stream, tail, listener)
    await close(store)
    await listener.told()
    (publication,) = listener.heard
    assert (publication.data, publication.closed) == (b"", True)
    assert (publication.start, publication.end) == (tail, tail)


async def test_only_at_the_tail_can_one_subscribe(store: Store) -> None:
    start, tail = await ends(store, b"one")
    stream = await store.open(ROOM)
    assert not store.subscribe(stream, start, Listener())
    assert store.subscribe(stream, tail, Listener())
    await close(store)
    assert not store.subscribe(stream, tail, Listener())


async def test_who_came_later_is_not_told_of_what_was_before(store: Store) -> None:
    stream, tail = await at_tail(store, b"before")
    first, second = Listener(), Listener()
    assert store.subscribe(stream, tail, first)
    tail = (await append(store, b"one")).tail
    assert store.subscribe(stream, tail, second)
    await append(store, b"two")
    await second.told()
    while first.data != b"onetwo":
        await first.told()
    assert second.data == b"two"


async def test_who_left_is_told_nothing_more(store: Store) -> None:
    stream, tail = await at_tail(store, b"before")
    leaves, stays = Listener(), Listener()
    for listener in (leaves, stays):
        assert store.subscribe(stream, tail, listener)
    store.unsubscribe(stream, leaves)
    store.unsubscribe(stream, leaves)
    await append(store, b"one")
    await stays.told()
    assert stays.data == b"one"
    assert (leaves.heard, leaves.was_overtaken, leaves.reason) == ([], False, None)


async def test_what_shares_a_publication_shares_what_was_made_of_it(store: Store) -> None:
    stream, tail = await at_tail(store, b"before")
    listeners = Listener(), Listener()
    for listener in listeners:
        assert store.subscribe(stream, tail, listener)
    await append(store, b"one")
    for listener in listeners:
        await listener.told()
    one, two = (listener.heard[0] for listener in listeners)
    assert one is two


async def test_whoever_was_overtaken_reads_on_and_misses_nothing(store: Store) -> None:
    """However much is published at once: each byte comes once, one way or the other."""
    stream, tail = await at_tail(store, b"before")
    listeners = [Listener() for _ in range(100)]
    for listener in listeners:
        assert store.subscribe(stream, tail, listener)
    bodies = [b"<%d>" % number for number in range(100)]
    for body in bodies:
        await append(store, body)
    everything = b"".join(bodies)
    for listener in listeners:
        while listener.data != everything and not listener.was_overtaken:
            await listener.told()
        end = listener.heard[-1].end if listener.heard else tail
        assert listener.data + await content(store, start=end) == everything


async def test_one_reader_after_the_other_may_subscribe(store: Store) -> None:
    stream, tail = await at_tail(store, b"before")
    for number in range(5):
        listener = Listener()
        assert store.subscribe(stream, tail, listener)
        tail = (await append(store, b"%d" % number)).tail
        await listener.told()
        assert listener.data == b"%d" % number
        store.unsubscribe(stream, listener)
    with await store.read(stream, Start.NOW) as chunk:
        assert chunk.end == tail
