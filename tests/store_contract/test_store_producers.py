"""A producer may repeat what it is not sure of: everything is stored once, and in order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.model.errors import (
    EpochWithoutStart,
    InvalidJson,
    ProducerGap,
    StaleEpoch,
    TooManyProducers,
)
from durable_streams.model.results import Appended
from durable_streams.rules.producer_table import producer_bytes
from durable_streams.rules.producers import IDLE_MS
from tests.store_contract.conftest import PRODUCERS_BYTES
from tests.store_contract.words import JSON, OTHER, append, by, close, content, create

if TYPE_CHECKING:
    from durable_streams.store import Store
    from tests.store_contract.conftest import Clock

MOST: Final = PRODUCERS_BYTES // producer_bytes("00")
"""Of those with names as short as that."""


async def test_its_appends_are_numbered_from_0(store: Store) -> None:
    await create(store)
    for number in range(3):
        done = await append(store, b"%d" % number, producer=by(number))
        assert done == Appended(done.tail, False, wrote_data=True, producer=(0, number))
    assert await content(store) == b"012"


async def test_what_was_stored_is_not_stored_again(store: Store) -> None:
    await create(store)
    await append(store, b"0", producer=by(0))
    one = await append(store, b"1", producer=by(1))
    for number in (1, 0):
        again = await append(store, b"another body", producer=by(number))
        assert again == Appended(one.tail, False, False, duplicate=True, producer=(0, 1))
    assert await content(store) == b"01"


async def test_a_repetition_is_told_where_the_stream_ends_by_then(store: Store) -> None:
    await create(store)
    await append(store, b"0", producer=by(0))
    tail = (await append(store, b"more")).tail
    assert (await append(store, b"0", producer=by(0))).tail == tail


async def test_nobody_looks_at_the_body_of_a_repetition(store: Store) -> None:
    await create(store, content_type=JSON)
    await append(store, b"0", content_type=JSON, producer=by(0))
    assert (await append(store, b"{", content_type=JSON, producer=by(0))).duplicate


@pytest.mark.parametrize("seen", [0, 1])
async def test_a_number_must_not_be_skipped(store: Store, seen: int) -> None:
    await create(store)
    for number in range(seen):
        await append(store, b"x", producer=by(number))
    with pytest.raises(ProducerGap) as raised:
        await append(store, b"y", producer=by(seen + 1))
    assert (raised.value.expected, raised.value.received) == (seen, seen + 1)
    assert await content(store) == b"x" * seen


async def test_a_newer_epoch_fences_the_older_one_off(store: Store) -> None:
    await create(store)
    await append(store, b"0", producer=by(0))
    await append(store, b"1", producer=by(1))
    await append(store, b"new", producer=by(0, epoch=3))
    with pytest.raises(StaleEpoch) as raised:
        await append(store, b"2", producer=by(2))
    assert raised.value.current == 3
    await append(store, b"er", producer=by(1, epoch=3))
    assert await content(store) == b"01newer"


async def test_a_new_epoch_begins_with_0(store: Store) -> None:
    await create(store)
    await append(store, b"0", producer=by(0))
    with pytest.raises(EpochWithoutStart):
        await append(store, b"1", producer=by(1, epoch=1))
    assert (await append(store, b"1", producer=by(1))).wrote_data


async def test_an_unknown_producer_may_begin_with_any_epoch(store: Store) -> None:
    await create(store)
    assert (await append(store, b"0", producer=by(0, epoch=9))).producer == (9, 0)


async def test_producers_are_apart_and_those_of_each_stream(store: Store) -> None:
    await create(store)
    await create(store, OTHER)
    await append(store, b"a", producer=by(0))
    await append(store, b"b", producer=by(0, name="second"))
    await append(store, b"c", OTHER, producer=by(0))
    assert await content(store) == b"ab"
    assert await content(store, OTHER) == b"c"


async def test_a_close_is_numbered_as_well(store: Store) -> None:
    await create(store)
    await append(store, b"0", producer=by(0))
    with pytest.raises(ProducerGap):
        await close(store, producer=by(2))
    assert (await close(store, producer=by(1))).producer == (0, 1)


async def test_what_was_refused_takes_no_number(store: Store) -> None:
    await create(store, content_type=JSON)
    with pytest.raises(InvalidJson):
        await append(store, b"{", content_type=JSON, producer=by(0))
    assert (await append(store, b"0", content_type=JSON, producer=by(0))).wrote_data


async def test_of_the_same_append_sent_many_times_at_once_one_is_stored(store: Store) -> None:
    await create(store)
    outcomes = await asyncio.gather(*[append(store, b"0", producer=by(0)) for _ in range(10)])
    assert [outcome.wrote_data for outcome in outcomes].count(True) == 1
    assert {(outcome.tail, outcome.producer) for outcome in outcomes} == {
        (outcomes[0].tail, (0, 0))
    }
    assert await content(store) == b"0"


async def test_numbers_sent_one_behind_the_other_are_all_stored(store: Store) -> None:
    await create(store)
    sent = [append(store, b"%d" % number, producer=by(number)) for number in range(10)]
    await asyncio.gather(*sent)
    assert await content(store) == b"0123456789"


# -- as many as there is room for ----------------------------------------------------------


async def send(store: Store, number: int, seq: int = 0) -> Appended:
    return await append(store, b"x", producer=by(seq, name=f"{number:02}"))


async def filled(store: Store) -> None:
    """A stream with as many producers as it can have."""
    await create(store)
    for number in range(MOST):
        await send(store, number)


async def test_one_more_than_there_is_room_for_is_refused_and_changes_nothing(
    store: Store,
) -> None:
    await filled(store)
    with pytest.raises(TooManyProducers) as raised:
        await send(store, MOST)
    assert (raised.value.producers, raised.value.limit_bytes) == (MOST, PRODUCERS_BYTES)
    for number in range(MOST):
        assert (await send(store, number)).duplicate
    assert (await send(store, 0, 1)).wrote_data
    assert await content(store) == b"x" * (MOST + 1)


async def test_after_seven_days_and_not_before_the_longest_idle_makes_room(
    store: Store, clock: Clock
) -> None:
    await filled(store)
    idle = MOST // 2
    clock.passes(0.001)
    for number in range(MOST):
        if number != idle:
            await send(store, number, 1)
    clock.passes(IDLE_MS / 1000 - 0.001)
    with pytest.raises(TooManyProducers):
        await send(store, MOST)
    clock.passes(0.001)
    assert (await send(store, MOST)).wrote_data
    for number in range(MOST):
        if number != idle:
            assert (await send(store, number, 1)).duplicate
    with pytest.raises(ProducerGap) as raised:
        await send(store, idle, 1)
    assert (raised.value.expected, raised.value.received) == (0, 1)


async def test_for_what_is_refused_nobody_is_forgotten(store: Store, clock: Clock) -> None:
    await create(store, content_type=JSON)
    for number in range(MOST):
        await append(store, b"1", content_type=JSON, producer=by(0, name=f"{number:02}"))
    clock.passes(2 * IDLE_MS / 1000)
    for body, error, seq in ((b"{", InvalidJson, 0), (b"1", ProducerGap, 1)):
        with pytest.raises(error):
            await append(store, body, content_type=JSON, producer=by(seq, name="new"))
    for number in range(MOST):
        again = await append(store, b"1", content_type=JSON, producer=by(0, name=f"{number:02}"))
        assert again.duplicate
