"""A store has as many streams, and producers in a stream, as it was told to, and not one more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.model.commands import Create, Lifetime
from durable_streams.model.errors import (
    InvalidJson,
    InvalidOffset,
    ProducerGap,
    StreamExists,
    StreamGone,
    StreamNotFound,
    TooManyRequests,
)
from durable_streams.model.offsets import Offset
from durable_streams.rules.producers import IDLE_MS
from tests.store_contract.conftest import Limits
from tests.store_contract.words import (
    BINARY,
    FORK,
    JSON,
    NOWHERE,
    OTHER,
    ROOM,
    SECOND,
    TEXT,
    append,
    at,
    by,
    content,
    create,
    fork,
    outcome,
)

if TYPE_CHECKING:
    from durable_streams.model.paths import StreamPath
    from durable_streams.store import Store
    from tests.store_contract.conftest import Clock

# -- streams -------------------------------------------------------------------------------

TWO_IN_THE_HOUSE = pytest.mark.parametrize(
    "limits", [Limits(max_streams=("house=2", "=4"))], ids=["two in the house, four in all"]
)
HALL: Final = at("house/hall")
HOUSE: Final = at("house")
STREET: Final = at("household/street")
ONE_MORE: Final = at("house/upstairs/one more")


async def is_full(store: Store, path: StreamPath = ONE_MORE, limit: str = "2.*'house'") -> None:
    """One more is refused, in every way, and told why; nothing comes of it."""
    for body in (b"", b"some"):
        with pytest.raises(TooManyRequests, match=limit) as refusal:
            await create(store, path, body)
        assert refusal.value.retry_after_s == 60
    command = Create(path, TEXT)
    with pytest.raises(TooManyRequests, match=limit):
        await outcome(store.create_now(command, b""), store.create(command, b""))
    with pytest.raises(StreamNotFound):
        await store.head(path)


@TWO_IN_THE_HOUSE
async def test_one_stream_more_than_there_may_be_is_refused(store: Store) -> None:
    await create(store, ROOM)
    await create(store, HALL)
    await is_full(store)
    assert (await create(store, OTHER)).created


@TWO_IN_THE_HOUSE
async def test_the_stream_at_a_prefix_counts_and_one_of_a_longer_name_does_not(
    store: Store,
) -> None:
    await create(store, STREET)
    await create(store, HOUSE)
    await create(store, ROOM)
    await is_full(store)


@TWO_IN_THE_HOUSE
async def test_every_limit_holds_of_those_that_a_path_has(store: Store) -> None:
    for path in (HOUSE, OTHER, SECOND, STREET):
        await create(store, path)
    await is_full(store, ROOM, "may be 4 streams, and there are")
    await store.delete(OTHER)
    await create(store, ROOM)
    await is_full(store, OTHER, "may be 4 streams, and there are")


@TWO_IN_THE_HOUSE
async def test_a_create_of_what_is_there_is_never_refused(store: Store) -> None:
    await create(store, ROOM)
    await fork(store, HALL, ROOM)
    for _ in range(3):
        assert not (await create(store, ROOM)).created
        assert not (await fork(store, HALL, ROOM)).created
    with pytest.raises(StreamExists):
        await create(store, ROOM, content_type=BINARY)
    await is_full(store)


@TWO_IN_THE_HOUSE
async def test_a_deletion_makes_room_at_once_and_for_one(store: Store) -> None:
    await create(store, ROOM)
    await create(store, HALL)
    for _ in range(3):
        await store.delete(ROOM)
        with pytest.raises(StreamNotFound):
            await store.delete(ROOM)
        await create(store, ROOM)
        await is_full(store)
    await store.delete(HALL)
    await create(store, ONE_MORE)
    await is_full(store, HALL)


@TWO_IN_THE_HOUSE
async def test_a_fork_is_one_more(store: Store) -> None:
    await create(store, ROOM, b"some")
    await fork(store, FORK, ROOM)
    await is_full(store)
    for _ in range(3):
        with pytest.raises(TooManyRequests):
            await fork(store, HALL, ROOM)
    await fork(store, OTHER, ROOM)
    assert await content(store, FORK) == await content(store, OTHER) == b"some"


@TWO_IN_THE_HOUSE
async def test_no_source_waits_for_a_fork_that_was_refused(store: Store) -> None:
    await create(store, ROOM)
    await create(store, HALL)
    with pytest.raises(TooManyRequests):
        await fork(store, FORK, ROOM)
    await store.delete(ROOM)
    with pytest.raises(StreamNotFound):
        await store.head(ROOM)
    assert (await create(store, FORK)).created


@TWO_IN_THE_HOUSE
async def test_what_forks_keep_alive_counts_until_it_is_gone(store: Store) -> None:
    await create(store, ROOM)
    await fork(store, FORK, ROOM)
    await store.delete(ROOM)
    with pytest.raises(StreamGone):
        await store.head(ROOM)
    await is_full(store)
    await store.delete(FORK)
    await create(store, HALL)
    await create(store, ROOM)
    await is_full(store)


@TWO_IN_THE_HOUSE
async def test_what_has_expired_counts_until_another_takes_its_place(
    store: Store, clock: Clock
) -> None:
    await create(store, ROOM, lifetime=Lifetime(ttl_s=10))
    await create(store, HALL)
    clock.passes(11)
    await is_full(store)
    assert (await create(store, ROOM)).created
    await is_full(store)


@TWO_IN_THE_HOUSE
async def test_what_came_to_nothing_takes_no_room(store: Store) -> None:
    await create(store, OTHER, b"some")
    for _ in range(5):
        with pytest.raises(InvalidJson):
            await create(store, ROOM, b"{", content_type=JSON)
        with pytest.raises(StreamNotFound):
            await fork(store, ROOM, NOWHERE)
        with pytest.raises(InvalidOffset):
            await fork(store, ROOM, OTHER, offset=Offset(9, 9))
    await create(store, ROOM)
    await create(store, HALL)


@TWO_IN_THE_HOUSE
async def test_of_those_that_come_at_once_as_many_are_made_as_there_is_room_for(
    store: Store,
) -> None:
    await create(store, OTHER, b"some")
    paths = [at(f"house/{number}") for number in range(10)]
    outcomes = await asyncio.gather(
        *(create(store, path) for path in paths[:5]),
        *(fork(store, path, OTHER) for path in paths[5:]),
        return_exceptions=True,
    )
    made = [path for path, got in zip(paths, outcomes, strict=True) if not _is_refusal(got)]
    assert len(made) == 2
    await is_full(store)
    for path in made:
        await store.head(path)


def _is_refusal(outcome: object) -> bool:
    if isinstance(outcome, BaseException) and not isinstance(outcome, TooManyRequests):
        raise outcome
    return isinstance(outcome, TooManyRequests)


# -- producers -----------------------------------------------------------------------------

THREE_PRODUCERS = pytest.mark.parametrize("limits", [Limits(max_producers=3)], ids=["3"])


@THREE_PRODUCERS
async def test_one_producer_more_than_there_may_be_is_refused_and_changes_nothing(
    store: Store,
) -> None:
    await create(store)
    for name in "abc":
        await append(store, b"x", producer=by(0, name=name))
    with pytest.raises(TooManyRequests, match="may have 3") as refusal:
        await append(store, b"y", producer=by(0, name="d"))
    assert refusal.value.retry_after_s == 60
    assert await content(store) == b"xxx"


@THREE_PRODUCERS
async def test_producers_that_are_known_are_never_refused(store: Store) -> None:
    await create(store)
    for name in "abc":
        await append(store, b"x", producer=by(0, name=name))
    for name in "abc":
        assert (await append(store, b"x", producer=by(0, name=name))).duplicate
        assert (await append(store, b"y", producer=by(1, name=name))).wrote_data
        assert (await append(store, b"z", producer=by(0, epoch=1, name=name))).wrote_data
    await append(store, b"!")  # nor who is no producer
    assert await content(store) == b"xxx" + 3 * b"yz" + b"!"


@THREE_PRODUCERS
async def test_each_stream_has_producers_of_its_own(store: Store) -> None:
    for path in (OTHER, ("house", "other")):
        await create(store, path)
        for name in "abc":
            await append(store, b"x", path, producer=by(0, name=name))


@THREE_PRODUCERS
async def test_a_producer_that_was_idle_for_seven_days_makes_room_for_one(
    store: Store, clock: Clock
) -> None:
    await create(store)
    for name in "abc":
        await append(store, b"x", producer=by(0, name=name))
        clock.passes(1)
    clock.passes(IDLE_MS / 1000 - 3)
    with pytest.raises(TooManyRequests):
        await append(store, b"y", producer=by(0, name="d"))
    clock.passes(0.001)
    assert (await append(store, b"y", producer=by(0, name="d"))).wrote_data
    with pytest.raises(TooManyRequests):
        await append(store, b"y", producer=by(0, name="e"))
    with pytest.raises(ProducerGap):
        await append(store, b"y", producer=by(1, name="a"))
    assert (await append(store, b"y", producer=by(1, name="b"))).wrote_data
