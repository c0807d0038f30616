"""A fork begins with what its source had, and goes its own way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from durable_streams.model.commands import Lifetime
from durable_streams.model.errors import (
    ContentTypeMismatch,
    InvalidJson,
    InvalidOffset,
    InvalidRequest,
    ProducerGap,
    SourceGone,
    StreamExists,
    StreamNotFound,
)
from durable_streams.model.offsets import Offset
from tests.store_contract.words import (
    BINARY,
    FORK,
    JSON,
    OTHER,
    ROOM,
    SECOND,
    TEXT,
    append,
    beyond,
    by,
    content,
    create,
    ends,
    fork,
    text_of,
)

if TYPE_CHECKING:
    from durable_streams.store import Store
    from tests.store_contract.conftest import Clock


async def test_a_fork_has_all_of_its_source_and_its_tail(store: Store) -> None:
    *_, tail = await ends(store, b"one", b"two")
    created = await fork(store)
    assert (created.created, created.info.tail) == (True, tail)
    assert created.info.content_type == TEXT
    assert await content(store, FORK) == b"onetwo"


async def test_each_goes_its_own_way(store: Store) -> None:
    await ends(store, b"one")
    await fork(store)
    await append(store, b" source")
    await append(store, b" fork", FORK)
    assert await content(store) == b"one source"
    assert await content(store, FORK) == b"one fork"


@pytest.mark.parametrize("number", [0, 1, 2, 3])
async def test_a_fork_is_cut_where_an_append_ended(store: Store, number: int) -> None:
    found = await ends(store, b"one", b"two", b"three")
    await fork(store, offset=found[number])
    assert await content(store, FORK) == b"".join((b"one", b"two", b"three")[:number])


@pytest.mark.parametrize("content_type", [TEXT, BINARY])
async def test_a_fork_of_bytes_may_be_cut_inside_an_append(store: Store, content_type: str) -> None:
    start, *_ = await ends(store, b"one", b"two", content_type=content_type)
    await fork(store, offset=beyond(start, 2))
    assert await content(store, FORK) == b"on"


async def test_offsets_of_both_mean_the_same_up_to_the_cut(store: Store) -> None:
    _, one, two, _ = await ends(store, b"one", b"two", b"three")
    await fork(store, offset=two)
    assert await content(store, FORK, start=one) == b"two"
    assert await content(store, start=one) == b"twothree"


async def test_a_sub_offset_counts_bytes_in_the_append_there(store: Store) -> None:
    _, one, *_ = await ends(store, b"one", b"two")
    await fork(store, offset=one, sub_offset=2)
    assert await content(store, FORK) == b"onetw"


async def test_a_sub_offset_counts_messages_in_the_append_there(store: Store) -> None:
    _, one, *_ = await ends(store, b"[0]", b'[1,"2,",[3]]', content_type=JSON)
    await fork(store, offset=one, sub_offset=2)
    assert await content(store, FORK) == b'0,1,"2,",'


async def test_a_fork_that_ends_between_messages_is_read_from_there(store: Store) -> None:
    start, one = await ends(store, b"[10,20]", content_type=JSON)
    between = (await fork(store, offset=start, sub_offset=1)).info.tail
    assert await content(store, FORK) == b"10,"
    await append(store, b"30", FORK, content_type=JSON)
    assert await content(store, FORK, start=between) == b"30,"
    assert await content(store, start=one) == b""


@pytest.mark.parametrize(
    ("content_type", "body", "most"), [(TEXT, b"four", 4), (JSON, b"[1,2,3]", 3)]
)
async def test_a_sub_offset_stays_within_its_append(
    store: Store, content_type: str, body: bytes, most: int
) -> None:
    start, *_ = await ends(store, body, body, content_type=content_type)
    with pytest.raises(InvalidRequest):
        await fork(store, offset=start, sub_offset=most + 1)
    await fork(store, offset=start, sub_offset=most)


@pytest.mark.parametrize("content_type", [TEXT, JSON])
async def test_behind_the_tail_there_is_nothing_to_count(store: Store, content_type: str) -> None:
    *_, tail = await ends(store, b"1", content_type=content_type)
    with pytest.raises(InvalidRequest):
        await fork(store, offset=tail, sub_offset=1)


async def test_an_offset_beyond_the_tail_is_none_to_fork_at(store: Store) -> None:
    *_, tail = await ends(store, b"one")
    for offset in (beyond(tail, 1), Offset(tail.segment + 1, 1)):
        with pytest.raises(InvalidOffset):
            await fork(store, offset=offset)


async def test_a_fork_is_not_cut_inside_a_message(store: Store) -> None:
    start, *_ = await ends(store, b"[10,20]", content_type=JSON)
    with pytest.raises(InvalidOffset):
        await fork(store, offset=beyond(start, 1))
    with pytest.raises(StreamNotFound):
        await store.head(FORK)


async def test_a_fork_may_get_more_at_once_and_be_closed(store: Store) -> None:
    await ends(store, b"one")
    created = await fork(store, body=b"more", closed=True)
    assert created.info.closed
    assert await content(store, FORK) == b"onemore"
    assert not (await store.head(ROOM)).closed


async def test_what_it_gets_must_be_of_its_sources_type(store: Store) -> None:
    await ends(store, b"1", content_type=JSON)
    with pytest.raises(InvalidJson):
        await fork(store, body=b"{")
    with pytest.raises(StreamNotFound):
        await store.head(FORK)


async def test_a_fork_has_its_sources_type_or_none(store: Store) -> None:
    await create(store)
    with pytest.raises(ContentTypeMismatch) as raised:
        await fork(store, content_type=BINARY)
    assert (raised.value.expected, raised.value.received) == (TEXT, BINARY)
    assert (await fork(store, content_type=TEXT)).created


async def test_a_fork_of_a_closed_stream_is_open(store: Store) -> None:
    await create(store, body=b"one", closed=True)
    assert not (await fork(store)).info.closed
    await append(store, b"two", FORK)
    assert await content(store, FORK) == b"onetwo"


async def test_a_fork_knows_none_of_its_sources_writers(store: Store) -> None:
    await create(store)
    await append(store, b"0", producer=by(0), stream_seq="b")
    await fork(store)
    with pytest.raises(ProducerGap):
        await append(store, b"1", FORK, producer=by(1))
    assert not (await append(store, b"0", FORK, producer=by(0), stream_seq="a")).duplicate


async def test_a_fork_may_be_forked(store: Store) -> None:
    await ends(store, b"one")
    await fork(store)
    await append(store, b"two", FORK)
    await fork(store, SECOND, FORK)
    await append(store, b"three", SECOND)
    assert await content(store, SECOND) == b"onetwothree"


# -- its source ----------------------------------------------------------------------------


async def test_what_is_not_there_cannot_be_forked(store: Store) -> None:
    with pytest.raises(StreamNotFound) as raised:
        await fork(store)
    assert raised.value.path == text_of(ROOM)


async def test_what_was_deleted_cannot_be_forked_once_more(store: Store) -> None:
    await create(store, body=b"one")
    await fork(store)
    await store.delete(ROOM)
    with pytest.raises(SourceGone) as raised:
        await fork(store, SECOND)
    assert raised.value.path == text_of(ROOM)


async def test_what_has_expired_cannot_be_forked(store: Store, clock: Clock) -> None:
    await create(store, lifetime=Lifetime(ttl_s=10))
    clock.passes(10)
    with pytest.raises(StreamNotFound):
        await fork(store)


async def test_forking_is_no_use_of_the_source(store: Store, clock: Clock) -> None:
    await create(store, lifetime=Lifetime(ttl_s=10))
    clock.passes(6)
    await fork(store, lifetime=Lifetime(ttl_s=1000))
    stream = await store.open(FORK)
    assert store.left_s(stream) == 1000
    clock.passes(4)
    assert await content(store, FORK) == b""


# -- the same again ------------------------------------------------------------------------


async def test_the_same_fork_again_is_found_although_its_source_went_on(store: Store) -> None:
    await ends(store, b"one")
    first = await fork(store)
    await append(store, b"two")
    again = await fork(store)
    assert (again.created, again.info) == (False, first.info)
    await store.delete(ROOM)
    assert not (await fork(store)).created


async def test_a_fork_at_another_place_is_another(store: Store) -> None:
    start, one, *_ = await ends(store, b"one", b"two")
    await fork(store, offset=one)
    await create(store, OTHER)
    assert not (await fork(store, offset=one)).created
    assert not (await fork(store)).created  # who names no offset takes the one it has
    for difference in (
        fork(store, offset=start),
        fork(store, offset=one, sub_offset=1),
        fork(store, source=OTHER),
        create(store, FORK),
        fork(store, offset=one, lifetime=Lifetime(ttl_s=5)),
        fork(store, offset=one, closed=True),
    ):
        with pytest.raises(StreamExists):
            await difference


async def test_a_fork_lives_as_long_as_its_source_does_or_as_it_was_asked_to(
    store: Store, clock: Clock
) -> None:
    await create(store, lifetime=Lifetime(ttl_s=10))
    assert (await fork(store)).info.lifetime == Lifetime(ttl_s=10)
    assert not (await fork(store)).created
    assert (await fork(store, OTHER, lifetime=Lifetime(ttl_s=90))).info.lifetime.ttl_s == 90
    clock.passes(11)
    with pytest.raises(StreamNotFound):
        await store.head(FORK)
    await store.head(OTHER)


async def test_of_many_who_make_the_same_fork_at_once_one_does(store: Store) -> None:
    await ends(store, b"one")
    outcomes = await asyncio.gather(*[fork(store) for _ in range(8)])
    assert [outcome.created for outcome in outcomes].count(True) == 1
    assert len({outcome.info.id for outcome in outcomes}) == 1
