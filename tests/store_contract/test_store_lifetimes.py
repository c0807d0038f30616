"""Streams end by themselves: when nobody uses them, or at an instant."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.model.commands import Lifetime
from durable_streams.model.errors import (
    ContentTypeMismatch,
    StreamExists,
    StreamGone,
    StreamNotFound,
)
from durable_streams.model.offsets import Start
from tests.store_contract.conftest import NOW_MS
from tests.store_contract.words import (
    BINARY,
    FORK,
    ROOM,
    Listener,
    append,
    by,
    content,
    create,
    fork,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from durable_streams.model.paths import StreamPath
    from durable_streams.store import Store
    from tests.store_contract.conftest import Clock

TTL_S: Final = 10
IDLE: Final = Lifetime(ttl_s=TTL_S)


def until(seconds: float) -> Lifetime:
    """A stream's that ends after so many seconds, whoever uses it."""
    return Lifetime(None, "some instant", NOW_MS + round(seconds * 1000))


async def is_gone(store: Store, path: StreamPath = ROOM) -> None:
    for use in (store.head(path), store.open(path), append(store, b"x", path), store.delete(path)):
        with pytest.raises(StreamNotFound):
            await use


@pytest.mark.parametrize("lifetime", [IDLE, until(TTL_S)], ids=["idle", "instant"])
async def test_a_stream_ends_when_its_time_is_over_and_not_before(
    store: Store, clock: Clock, lifetime: Lifetime
) -> None:
    await create(store, lifetime=lifetime, body=b"some")
    clock.passes(TTL_S - 0.001)
    await store.head(ROOM)
    clock.passes(0.001)
    await is_gone(store)


async def test_a_stream_without_a_lifetime_stays(store: Store, clock: Clock) -> None:
    await create(store, body=b"some")
    stream = await store.open(ROOM)
    assert store.left_s(stream) is None
    clock.passes(10 * 365 * 86_400)
    assert await content(store) == b"some"


async def test_a_ttl_of_nothing_is_over_at_once(store: Store) -> None:
    await create(store, lifetime=Lifetime(ttl_s=0))
    await is_gone(store)


async def repeat(store: Store) -> None:
    assert (await append(store, b"x", producer=by(0))).duplicate


USES: Final[dict[str, Callable[[Store], Awaitable[object]]]] = {
    "open": lambda store: store.open(ROOM),
    "append": lambda store: append(store, b"x"),
    "repetition": repeat,
}


@pytest.mark.parametrize("use", USES)
async def test_a_use_renews_a_ttl(store: Store, clock: Clock, use: str) -> None:
    await create(store, lifetime=IDLE)
    await append(store, b"x", producer=by(0))
    clock.passes(TTL_S - 1)
    await USES[use](store)
    clock.passes(TTL_S - 1)
    await store.head(ROOM)
    clock.passes(1)
    await is_gone(store)


async def no_use_to_append_another_type(store: Store) -> None:
    with pytest.raises(ContentTypeMismatch):
        await append(store, b"x", content_type=BINARY)


async def no_use_to_create_another(store: Store) -> None:
    with pytest.raises(StreamExists):
        await create(store)


NO_USES: Final[dict[str, Callable[[Store], Awaitable[object]]]] = {
    "head": lambda store: store.head(ROOM),
    "the same create": lambda store: create(store, lifetime=IDLE),
    "another create": no_use_to_create_another,
    "a refused append": no_use_to_append_another_type,
}


@pytest.mark.parametrize("use", NO_USES)
async def test_looking_is_no_use_nor_is_what_is_refused(
    store: Store, clock: Clock, use: str
) -> None:
    await create(store, lifetime=IDLE)
    clock.passes(TTL_S - 1)
    await NO_USES[use](store)
    clock.passes(1)
    await is_gone(store)


async def test_nothing_renews_an_instant(store: Store, clock: Clock) -> None:
    await create(store, lifetime=until(TTL_S))
    clock.passes(TTL_S - 1)
    await append(store, b"x")
    stream = await store.open(ROOM)
    with store.following(stream):
        assert store.left_s(stream) == 1
        clock.passes(1)
        await is_gone(store)


async def test_it_is_told_how_many_seconds_are_left(store: Store, clock: Clock) -> None:
    await create(store, lifetime=IDLE)
    stream = await store.open(ROOM)
    found = []
    for _ in range(4):
        found.append(store.left_s(stream))
        clock.passes(2.5)
    assert found == [10, 7, 5, 2]
    clock.passes(100)
    assert store.left_s(stream) == 0


# -- following -----------------------------------------------------------------------------


async def test_while_somebody_follows_a_stream_its_ttl_stands_still(
    store: Store, clock: Clock
) -> None:
    await create(store, lifetime=IDLE)
    stream = await store.open(ROOM)
    with store.following(stream):
        with store.following(stream):
            clock.passes(5 * TTL_S)
        clock.passes(5 * TTL_S)
        assert store.left_s(stream) == TTL_S
        await store.head(ROOM)
    clock.passes(TTL_S - 1)
    await store.head(ROOM)
    clock.passes(1)
    await is_gone(store)


async def test_an_exception_ends_the_following_as_well(store: Store, clock: Clock) -> None:
    await create(store, lifetime=IDLE)
    stream = await store.open(ROOM)
    with pytest.raises(KeyError), store.following(stream):
        raise KeyError
    clock.passes(TTL_S)
    await is_gone(store)


# -- what has expired ----------------------------------------------------------------------


async def test_who_holds_it_learns_that_it_has_ended(store: Store, clock: Clock) -> None:
    tail = (await create(store, lifetime=IDLE, body=b"some")).info.tail
    stream = await store.open(ROOM)
    clock.passes(TTL_S)
    with pytest.raises(StreamNotFound):
        await store.read(stream, Start.BEGINNING)
    with pytest.raises(StreamNotFound):
        await store.wait(stream, tail, 60)
    with pytest.raises(StreamNotFound):
        store.subscribe(stream, tail, Listener())


@pytest.mark.parametrize("lifetime", [Lifetime(ttl_s=1), until(1)], ids=["idle", "instant"])
async def test_readers_of_what_expires_are_told(
    store: Store, clock: Clock, lifetime: Lifetime
) -> None:
    tail = (await create(store, lifetime=lifetime)).info.tail
    stream = await store.open(ROOM)
    task = asyncio.create_task(store.wait(stream, tail, 600))
    listener = Listener()
    assert store.subscribe(stream, tail, listener)
    await asyncio.sleep(0)
    clock.passes(1)
    with pytest.raises(StreamNotFound):
        await task
    await listener.told()
    assert isinstance(listener.reason, StreamNotFound)


async def test_its_path_is_free_for_another(store: Store, clock: Clock) -> None:
    old = await create(store, lifetime=IDLE, body=b"old")
    clock.passes(TTL_S)
    new = await create(store, lifetime=IDLE, body=b"new")
    assert new.created
    assert new.info.id != old.info.id
    assert await content(store) == b"new"


async def test_what_has_expired_is_kept_for_its_forks(store: Store, clock: Clock) -> None:
    await create(store, lifetime=IDLE, body=b"some")
    await fork(store, lifetime=Lifetime(ttl_s=1000))
    clock.passes(TTL_S)
    for use in (store.head(ROOM), store.open(ROOM), append(store, b"x")):
        with pytest.raises(StreamGone):
            await use
    with pytest.raises(StreamExists):
        await create(store, lifetime=IDLE)
    assert await content(store, FORK) == b"some"
    await store.delete(FORK)
    assert (await create(store, lifetime=IDLE)).created
