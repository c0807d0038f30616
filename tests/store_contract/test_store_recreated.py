"""A stream made where another one was removed shares no offset with it, for as long as it is said.

Caches may still have pieces of the one before, by path and offset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from durable_streams.model.commands import Lifetime
from durable_streams.model.errors import OffsetGone
from durable_streams.model.offsets import ZERO, Offset, Start
from tests.store_contract.words import (
    FORK,
    JSON,
    ROOM,
    SECOND,
    TEXT,
    append,
    beyond,
    content,
    create,
    ends,
    fork,
    text_of,
)

if TYPE_CHECKING:
    from durable_streams.store import Store
    from tests.store_contract.conftest import Clock


async def recreated(store: Store, *bodies: bytes, content_type: str = TEXT) -> list[Offset]:
    """The ends of a stream's appends where another one was, of which there are those, too."""
    before = await ends(store, b"old", b"older", content_type=TEXT)
    await store.delete(ROOM)
    return [*before, *await ends(store, *bodies, content_type=content_type)]


async def test_its_offsets_lie_above_all_of_the_one_before(store: Store) -> None:
    assert store.remember_removed_s > 0
    *before, begin, end = await recreated(store, b"new")
    assert before[-1] < begin < end
    assert await content(store) == b"new"


async def test_its_beginning_is_where_it_always_is(store: Store) -> None:
    *_, begin, end = await recreated(store, b"new")
    for start in (Start.BEGINNING, ZERO, begin):
        assert await content(store, start=start) == b"new"
    assert await content(store, start=end) == b""


async def test_whoever_read_the_one_before_is_told_so(store: Store) -> None:
    _, one, two, begin, _ = await recreated(store, b"new")
    stream = await store.open(ROOM)
    for offset in (one, two, beyond(one, 1)):
        with pytest.raises(OffsetGone) as raised:
            await store.read(stream, offset)
        assert (raised.value.path, raised.value.offset) == (text_of(ROOM), offset)
        assert raised.value.begin == begin


async def test_an_empty_one_leaves_no_offset_that_means_something_else(store: Store) -> None:
    """A fork of nothing begins where its source does, and clients are told of that offset."""
    await recreated(store, b"new")
    tail = (await fork(store, FORK, offset=ZERO)).info.tail
    await store.delete(FORK)
    await create(store, FORK, b"fork")
    assert await content(store, FORK, start=tail) == b"fork"


async def test_each_of_many_begins_above_the_one_before(store: Store) -> None:
    found: list[Offset] = []
    for _ in range(4):
        found += await ends(store, b"some")
        await store.delete(ROOM)
    assert found == sorted(set(found))


async def test_one_that_ended_by_itself_is_removed_as_well(store: Store, clock: Clock) -> None:
    end = (await create(store, body=b"old", lifetime=Lifetime(ttl_s=1))).info.tail
    clock.passes(2)
    begin, _ = await ends(store, b"new")
    assert end < begin
    with pytest.raises(OffsetGone):
        await content(store, start=end)


async def test_a_source_that_went_with_its_last_fork_is_removed_as_well(store: Store) -> None:
    *_, last = await ends(store, b"one", b"two")
    await fork(store)
    await store.delete(ROOM)
    await store.delete(FORK)
    for path in (ROOM, FORK):
        assert (await create(store, path)).info.tail > last


async def test_one_without_content_leaves_nothing_to_be_mixed_up(store: Store) -> None:
    tail = (await create(store)).info.tail
    await store.delete(ROOM)
    assert (await create(store)).info.tail == tail


async def test_a_fork_has_the_offsets_of_its_source(store: Store) -> None:
    *_, begin, middle, end = await recreated(store, b"one", b"two")
    assert (await fork(store)).info.tail == end
    for start, expected in ((ZERO, b"onetwo"), (begin, b"onetwo"), (middle, b"two"), (end, b"")):
        assert await content(store, FORK, start=start) == expected


async def test_a_fork_counts_from_its_beginning(store: Store) -> None:
    *_, begin, _ = await recreated(store, b"[10,20,30]", content_type=JSON)
    for path, offset in ((FORK, ZERO), (SECOND, begin)):
        await fork(store, path, offset=offset, sub_offset=2)
        assert await content(store, path) == b"10,20,"
        assert not (await fork(store, path, offset=offset, sub_offset=2)).created


async def test_it_cannot_be_forked_where_the_one_before_ended(store: Store) -> None:
    _, one, *_ = await recreated(store, b"new")
    with pytest.raises(OffsetGone):
        await fork(store, offset=one)


async def test_a_fork_shares_no_offset_with_what_was_at_its_path(store: Store) -> None:
    await create(store, FORK, b"old")
    last = (await append(store, b"older", FORK)).tail
    await store.delete(FORK)
    await ends(store, b"one", b"two")
    tail = (await fork(store)).info.tail
    assert tail > last
    assert await content(store, FORK) == b"onetwo"
    with pytest.raises(OffsetGone):
        await content(store, FORK, start=last)
    await append(store, b"three", FORK)
    assert await content(store, FORK, start=tail) == b"three"
