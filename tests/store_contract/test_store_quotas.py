"""A store has as many producers in a stream as it was told to, and refuses one more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from durable_streams.model.errors import ProducerGap, TooManyRequests
from durable_streams.rules.producers import IDLE_MS
from tests.store_contract.conftest import Limits
from tests.store_contract.words import OTHER, append, by, content, create

if TYPE_CHECKING:
    from durable_streams.store import Store
    from tests.store_contract.conftest import Clock

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
