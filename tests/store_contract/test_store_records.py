"""What each store tells of appends: where they are, when they were made, and by whom."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from durable_streams.model.commands import Last, Lifetime, Place, ProducerClaim, Since
from durable_streams.model.errors import OffsetGone, StreamNotFound
from durable_streams.model.offsets import ZERO, Offset, Start
from tests.store_contract.conftest import NOW_MS
from tests.store_contract.words import (
    BINARY,
    FORK,
    JSON,
    NOWHERE,
    ROOM,
    TEXT,
    append,
    beyond,
    by,
    close,
    content,
    create,
    ends,
    fork,
)

if TYPE_CHECKING:
    from durable_streams.model.records import Record, RecordsPage
    from durable_streams.store import Store
    from tests.store_contract.conftest import Clock


async def page(store: Store, place: Place = Start.BEGINNING, limit: int = 100) -> RecordsPage:
    return await store.records(ROOM, place, limit)


async def sizes(store: Store, place: Place, limit: int = 100) -> list[int]:
    return [record.size_bytes for record in (await page(store, place, limit)).records]


async def all_by_pages(store: Store, limit: int) -> list[Record]:
    """All records, page by page; each page goes on where the one before ended."""
    found: list[Record] = []
    place: Place = Start.BEGINNING
    while True:
        one = await page(store, place, limit)
        assert len(one.records) <= limit
        found += one.records
        if one.at_tail:
            return found
        assert one.records
        place = one.next


async def test_a_record_says_what_an_append_was(store: Store, clock: Clock) -> None:
    begin = (await create(store)).info.tail
    clock.passes(1)
    middle = (await append(store, b"first")).tail
    clock.passes(1)
    end = (await append(store, b"the second", producer=by(0), close=True)).tail
    found = await page(store)
    first, second = found.records
    assert (first.start, first.end) == (begin, middle)
    assert (first.time_ms, first.size_bytes) == (NOW_MS + 1000, 5)
    assert (first.producer, first.closed) == (None, False)
    assert (second.start, second.end) == (middle, end)
    assert (second.time_ms, second.size_bytes) == (NOW_MS + 2000, 10)
    assert (second.producer, second.closed) == (ProducerClaim("writer", 0, 0), True)
    assert (found.next, found.at_tail, found.closed) == (end, True, True)


async def test_a_stream_without_appends_has_no_records(store: Store) -> None:
    begin = (await create(store)).info.tail
    for place in (Start.BEGINNING, Start.NOW, begin, Since(0), Last(5)):
        found = await page(store, place)
        assert (found.records, found.next) == ([], begin)
        assert (found.at_tail, found.closed) == (True, False)


async def test_what_a_create_brings_is_a_record(store: Store) -> None:
    await create(store, body=b"data", closed=True)
    (record,) = (await page(store)).records
    assert (record.time_ms, record.size_bytes, record.closed) == (NOW_MS, 4, True)


async def test_a_close_without_data_is_a_record_at_the_tail(store: Store) -> None:
    _, tail = await ends(store, b"data")
    assert (await close(store, producer=by(0))).tail == tail
    found = await page(store)
    assert [record.size_bytes for record in found.records] == [4, 0]
    last = found.records[-1]
    assert (last.start, last.end, last.closed) == (tail, tail, True)
    assert last.producer == by(0)
    assert (found.at_tail, found.closed) == (True, True)
    for place in (tail, Start.NOW, Last(1), Offset(tail.segment + 1, 7)):
        assert (await page(store, place)).records == [last]


async def test_a_page_that_ends_before_such_a_close_is_not_the_last(store: Store) -> None:
    _, tail = await ends(store, b"data")
    await close(store)
    found = await page(store, limit=1)
    assert (found.next, found.at_tail, found.closed) == (tail, False, False)
    assert [record.size_bytes for record in await all_by_pages(store, 1)] == [4, 0]


async def test_a_stream_that_is_born_closed_has_one_record(store: Store) -> None:
    await create(store, closed=True)
    for place in (Start.BEGINNING, Start.NOW, Last(1), Since(0)):
        found = await page(store, place)
        assert [(record.size_bytes, record.closed) for record in found.records] == [(0, True)]
        assert (found.at_tail, found.closed) == (True, True)


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
@pytest.mark.parametrize("content_type", [TEXT, BINARY, JSON])
async def test_pages_have_all_records_once(store: Store, content_type: str, limit: int) -> None:
    bodies = [b"1", b"22", b"[1,[2],3]" if content_type == JSON else b"333", b"4444"]
    await ends(store, *bodies, content_type=content_type)
    found = await all_by_pages(store, limit)
    expected = [1, 2, 1, 3, 1, 4] if content_type == JSON else [1, 2, 3, 4]
    assert [record.size_bytes for record in found] == expected
    for before, record in pairwise(found):
        assert record.start == before.end


async def test_each_message_of_a_json_append_is_a_record(store: Store) -> None:
    await create(store, content_type=JSON)
    await append(store, b'[{"a":"x,y"},[1,2],"]"]', content_type=JSON, producer=by(0), close=True)
    found = (await page(store)).records
    assert [record.size_bytes for record in found] == [11, 5, 3]
    assert [record.producer for record in found] == [by(0)] * 3
    assert [record.closed for record in found] == [False, False, True]
    for record in found:
        message = await content(store, start=record.start)
        assert len(message[: record.size_bytes]) == record.size_bytes
        assert message[record.size_bytes : record.size_bytes + 1] == b","


async def test_a_read_begins_with_a_record_where_that_starts(store: Store) -> None:
    await ends(store, b"a", b"bb", b"ccc", content_type=BINARY)
    rest = b"abbccc"
    for record in (await page(store)).records:
        assert await content(store, start=record.start) == rest
        rest = rest[record.size_bytes :]


async def test_an_offset_inside_an_append_begins_with_it(store: Store) -> None:
    begin, middle, _ = await ends(store, b"first", b"second")
    assert await sizes(store, beyond(begin, 3)) == [5, 6]
    assert (await page(store, middle)).records[0].size_bytes == 6


async def test_an_offset_inside_a_message_begins_with_it(store: Store) -> None:
    begin, _ = await ends(store, b'["first","second",3]', content_type=JSON)
    assert await sizes(store, beyond(begin, 3)) == [7, 8, 1]
    assert await sizes(store, beyond(begin, 8)) == [8, 1]
    assert await sizes(store, beyond(begin, 9)) == [8, 1]


@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_the_last_ones(store: Store, limit: int) -> None:
    await ends(store, *(b"x" * size for size in range(1, 7)))
    assert await sizes(store, Last(1), limit) == [6]
    assert await sizes(store, Last(3), limit) == [4, 5, 6][:limit]
    assert await sizes(store, Last(100), limit) == [1, 2, 3, 4, 5, 6][:limit]


async def test_the_last_messages(store: Store) -> None:
    await ends(store, b"[1,22]", b"[333,4444,55555]", b"666666", content_type=JSON)
    for count in range(1, 8):
        assert await sizes(store, Last(count)) == [1, 2, 3, 4, 5, 6][-count:]
        assert await sizes(store, Last(count), 1) == [max(1, 7 - count)]


async def test_what_was_appended_since(store: Store, clock: Clock) -> None:
    await create(store)
    for size in range(1, 5):
        clock.passes(1)
        await append(store, b"x" * size)
        await append(store, b"y" * size)
    assert await sizes(store, Since(0)) == [1, 1, 2, 2, 3, 3, 4, 4]
    assert await sizes(store, Since(NOW_MS + 1000)) == [1, 1, 2, 2, 3, 3, 4, 4]
    assert await sizes(store, Since(NOW_MS + 1001)) == [2, 2, 3, 3, 4, 4]
    assert await sizes(store, Since(NOW_MS + 3000), 3) == [3, 3, 4]
    assert await sizes(store, Since(NOW_MS + 4001)) == []


async def test_what_is_appended_behind_a_page_is_in_the_next(store: Store) -> None:
    await ends(store, b"1")
    first = await page(store, Last(1))
    await append(store, b"22")
    assert await sizes(store, first.next) == [2]


async def test_a_fork_has_the_records_of_its_source_up_to_the_cut(
    store: Store, clock: Clock
) -> None:
    begin, middle, *_ = await ends(store, b"first", b"second", b"third")
    clock.passes(5)
    await fork(store, offset=middle, sub_offset=3)
    await append(store, b"own", FORK, producer=by(0))
    found = (await store.records(FORK, Start.BEGINNING, 10)).records
    assert [record.size_bytes for record in found] == [5, 3, 3]
    assert [record.time_ms for record in found] == [NOW_MS, NOW_MS, NOW_MS + 5000]
    assert found[-1].producer == by(0)
    assert found[0].start == begin


async def test_a_fork_at_the_end_of_an_append_has_that_as_its_last_record(
    store: Store, clock: Clock
) -> None:
    begin, middle, *_ = await ends(store, b"first", b"second", b"third")
    await fork(store, offset=middle)
    places: list[Place] = [Start.BEGINNING, Last(1), Since(0)]
    for place in places:
        found = await store.records(FORK, place, 10)
        assert [(record.start, record.end) for record in found.records] == [(begin, middle)]
        assert (found.next, found.at_tail) == (middle, True)
    clock.passes(1)
    assert (await store.records(FORK, Since(NOW_MS + 1), 10)).records == []
    await append(store, b"own", FORK)
    for place in (middle, Last(1), Since(NOW_MS + 1)):
        found = await store.records(FORK, place, 10)
        assert [record.size_bytes for record in found.records] == [3]


async def test_it_is_no_use_of_a_stream(store: Store, clock: Clock) -> None:
    await create(store, lifetime=Lifetime(ttl_s=10))
    clock.passes(6)
    await page(store)
    clock.passes(6)
    with pytest.raises(StreamNotFound):
        await page(store)


async def test_of_a_stream_that_is_not_there(store: Store) -> None:
    with pytest.raises(StreamNotFound):
        await store.records(NOWHERE, Start.BEGINNING, 1)


async def test_an_offset_of_the_stream_before_is_gone(store: Store) -> None:
    _, old = await ends(store, b"old")
    await store.delete(ROOM)
    begin, _ = await ends(store, b"new one")
    with pytest.raises(OffsetGone):
        await page(store, old)
    for place in (begin, ZERO, Start.BEGINNING, Last(9)):
        assert await sizes(store, place) == [7]
