"""What a read gives from each kind of offset, and in which pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from durable_streams.model.errors import InvalidOffset
from durable_streams.model.offsets import Offset, Start
from tests.store_contract.words import (
    BINARY,
    JSON,
    ROOM,
    TEXT,
    append,
    beyond,
    close,
    content,
    create,
    ends,
)

if TYPE_CHECKING:
    from durable_streams.model.results import Chunk
    from durable_streams.store import Store


async def read(
    store: Store, start: Offset | Start, *, is_end: bool = False, max_bytes: int | None = None
) -> tuple[bytes, Chunk]:
    """The bytes of a chunk, and the chunk."""
    stream = await store.open(ROOM)
    with await store.read(stream, start, is_end=is_end, max_bytes=max_bytes) as chunk:
        return await store.bytes_of(chunk), chunk


async def test_a_chunk_says_what_it_is(store: Store) -> None:
    start, end = await ends(store, b"one")
    data, chunk = await read(store, Start.BEGINNING)
    assert (data, chunk.size_bytes) == (b"one", 3)
    assert (chunk.start, chunk.end) == (start, end)
    assert (chunk.at_tail, chunk.closed) == (True, False)
    assert chunk.stream.path == ROOM


async def test_every_end_of_an_append_is_a_place_to_read_on_from(store: Store) -> None:
    bodies = [b"one", b"two", b"three"]
    found = await ends(store, *bodies)
    for number, offset in enumerate(found):
        assert await content(store, start=offset) == b"".join(bodies[number:])


async def test_reading_chunk_after_chunk_misses_nothing_and_repeats_nothing(
    store: Store,
) -> None:
    bodies = [b"<%d>" % number * (number % 7 + 1) for number in range(40)]
    found = await ends(store, *bodies)
    assert await content(store, max_bytes=10) == b"".join(bodies)
    assert await content(store, start=found[11], max_bytes=1) == b"".join(bodies[11:])


@pytest.mark.parametrize("content_type", [TEXT, BINARY, JSON])
async def test_at_the_tail_and_from_now_there_is_nothing_yet(
    store: Store, content_type: str
) -> None:
    *_, tail = await ends(store, b"1", b"2", content_type=content_type)
    for start in (tail, Start.NOW):
        data, chunk = await read(store, start)
        assert (data, chunk.size_bytes, list(chunk.parts)) == (b"", 0, [])
        assert (chunk.start, chunk.end) == (tail, tail)
        assert (chunk.at_tail, chunk.closed) == (True, False)


async def test_an_empty_stream_is_empty_from_everywhere(store: Store) -> None:
    tail = (await create(store)).info.tail
    for start in (Start.BEGINNING, Start.NOW, tail, beyond(tail, 5)):
        data, chunk = await read(store, start)
        assert (data, chunk.end, chunk.at_tail) == (b"", tail, True)


async def test_beyond_the_tail_is_the_tail(store: Store) -> None:
    *_, tail = await ends(store, b"one")
    for offset in (beyond(tail, 1), Offset(tail.segment + 1, 0), Offset(tail.segment + 9, 7)):
        data, chunk = await read(store, offset)
        assert (data, chunk.end, chunk.at_tail) == (b"", tail, True)


async def test_only_the_last_chunk_of_a_closed_stream_is_its_end(store: Store) -> None:
    await ends(store, b"one", b"two")
    await close(store)
    _, first = await read(store, Start.BEGINNING, max_bytes=3)
    assert (first.at_tail, first.closed) == (False, False)
    data, last = await read(store, first.end, is_end=True)
    assert (data, last.at_tail, last.closed) == (b"two", True, True)
    data, end = await read(store, last.end)
    assert (data, end.at_tail, end.closed) == (b"", True, True)


# -- inside an append ----------------------------------------------------------------------


async def test_text_can_be_entered_at_every_byte(store: Store) -> None:
    start, *_ = await ends(store, b"hello", b" you")
    for count in range(6):
        data, chunk = await read(store, beyond(start, count), max_bytes=1)
        assert data == (b"hello"[count:] or b" you")
        assert chunk.size_bytes == len(data)


async def test_json_can_be_entered_between_two_messages_only(store: Store) -> None:
    start, *_ = await ends(store, b'[10, "a,b"]', b"3", content_type=JSON)
    assert await content(store) == b'10,"a,b",3,'
    assert await content(store, start=beyond(start, 3)) == b'"a,b",3,'
    for count in (1, 2, 4, 6, 8):
        with pytest.raises(InvalidOffset):
            await read(store, beyond(start, count))


async def test_other_bytes_are_read_in_whole_appends(store: Store) -> None:
    start, one, *_ = await ends(store, b"hello", b" you", content_type=BINARY)
    for count in range(1, 5):
        data, chunk = await read(store, beyond(start, count), max_bytes=1)
        assert (data, chunk.start, chunk.size_bytes) == (b"hello", start, 5)
    assert await content(store, start=one) == b" you"


# -- bounds --------------------------------------------------------------------------------


@pytest.mark.parametrize("max_bytes", [1, 3, 4, 5, 6, 7, 100])
async def test_a_bounded_chunk_ends_where_an_append_does(store: Store, max_bytes: int) -> None:
    *_, tail = await ends(store, b"one", b"two", b"3")
    data, chunk = await read(store, Start.BEGINNING, max_bytes=max_bytes)
    assert chunk.size_bytes == len(data)
    assert len(data) <= max(max_bytes, 3)
    assert data in {b"one", b"onetwo", b"onetwo3"}
    assert await content(store, start=chunk.end) == b"onetwo3"[len(data) :]
    assert chunk.at_tail == (chunk.end == tail) == (len(data) == 7)


async def test_an_append_that_is_larger_comes_whole(store: Store) -> None:
    large = b"x" * 100_000
    await ends(store, b"a", large, b"b")
    _, first = await read(store, Start.BEGINNING, max_bytes=10)
    data, second = await read(store, first.end, is_end=True, max_bytes=10)
    assert (data, second.at_tail) == (large, False)
    data, last = await read(store, second.end, is_end=True, max_bytes=10)
    assert (data, last.at_tail) == (b"b", True)


async def test_what_lies_before_the_tail_stays_the_same_answer(store: Store) -> None:
    """Caches keep it, by its bytes and by its checksum."""
    found = await ends(store, b"one", b"two", b"three", b"four")
    before = [await read(store, offset, max_bytes=7) for offset in found[:3]]
    for number in range(20):
        await append(store, b"%d" % number)
    after = [await read(store, offset, max_bytes=7) for offset in found[:3]]
    for (data, chunk), (data_now, chunk_now) in zip(before, after, strict=True):
        if not chunk.at_tail:
            assert data == data_now
            assert (chunk.start, chunk.end, chunk.chain) == (
                chunk_now.start,
                chunk_now.end,
                chunk_now.chain,
            )
            assert not chunk_now.at_tail


async def test_other_bytes_have_another_checksum(store: Store) -> None:
    await create(store)
    chains = []
    for body in (b"a", b"b", b"a", b"ab"):
        tail = (await append(store, body)).tail
        chains += [(await read(store, tail))[1].chain for _ in range(2)]
    assert chains[::2] == chains[1::2]
    assert len(set(chains)) == 4


async def test_a_chunk_has_the_checksum_of_where_it_ends(store: Store) -> None:
    found = await ends(store, b"one", b"two")
    at_one = (await read(store, Start.BEGINNING, max_bytes=3))[1]
    at_two = (await read(store, found[1]))[1]
    assert at_one.chain != at_two.chain
    assert at_two.chain == (await read(store, found[2]))[1].chain


# -- what a chunk holds --------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 30])
async def test_the_sizes_of_a_chunk_are_those_of_its_appends(store: Store, count: int) -> None:
    bodies = [b"x" * (number % 5 + 1) for number in range(count)]
    await ends(store, *bodies)
    stream, start, found = await store.open(ROOM), Start.BEGINNING, []
    at: Offset | Start = start
    while True:
        with await store.read(stream, at, max_bytes=20) as chunk:
            sizes = await store.sizes(chunk)
        assert sum(sizes) == chunk.size_bytes
        found += sizes
        at = chunk.end
        if chunk.at_tail:
            break
    assert found == [len(body) for body in bodies]


async def test_a_close_is_no_append_of_nothing(store: Store) -> None:
    await ends(store, b"one")
    await close(store)
    stream = await store.open(ROOM)
    with await store.read(stream, Start.BEGINNING) as chunk:
        assert await store.sizes(chunk) == [3]


async def test_the_sizes_of_what_begins_inside_an_append_begin_there(store: Store) -> None:
    start, *_ = await ends(store, b"hello")
    stream = await store.open(ROOM)
    with await store.read(stream, beyond(start, 2)) as chunk:
        assert await store.sizes(chunk) == [3]


@pytest.mark.parametrize("size", [1, 7, 1000, 10**6])
async def test_the_pieces_of_a_chunk_are_its_bytes(store: Store, size: int) -> None:
    large = bytes(number * 31 % 251 for number in range(5000))
    await ends(store, b"before", large, content_type=BINARY)
    stream = await store.open(ROOM)
    with await store.read(stream, Start.BEGINNING, max_bytes=6) as first:
        pass
    with await store.read(stream, first.end, is_end=True) as chunk:
        found = [piece async for piece in store.pieces(chunk, size)]
    assert b"".join(found) == large
    assert {len(piece) for piece in found[:-1]} <= {size}
    assert list(chunk.parts) == []


async def test_whoever_takes_no_more_pieces_leaves_nothing_behind(store: Store) -> None:
    await ends(store, b"0123456789")
    stream = await store.open(ROOM)
    with await store.read(stream, Start.BEGINNING) as chunk:
        pieces = store.pieces(chunk, 4)
        assert await anext(pieces) == b"0123"
        await store.delete(ROOM)
    await create(store, body=b"other")
    assert await content(store) == b"other"


async def test_a_chunk_can_be_released_more_than_once(store: Store) -> None:
    await ends(store, b"x" * 200_000)
    stream = await store.open(ROOM)
    chunk = await store.read(stream, Start.BEGINNING)
    with chunk:
        assert len(await store.bytes_of(chunk)) == 200_000
    chunk.release()


async def test_many_large_chunks_are_read_one_after_the_other(store: Store) -> None:
    """What a chunk holds is free again when it is released, or there would be none left."""
    await ends(store, b"x" * 200_000)
    stream = await store.open(ROOM)
    for _ in range(2000):
        with await store.read(stream, Start.BEGINNING) as chunk:
            assert chunk.size_bytes == 200_000


async def test_a_stream_of_another_store_is_refused(store: Store) -> None:
    class Stranger:
        id, path, content_type, is_json = "1", ROOM, TEXT, False

    tail = (await create(store)).info.tail
    with pytest.raises(TypeError):
        await store.read(Stranger(), Start.BEGINNING)
    with pytest.raises(TypeError):
        await store.wait(Stranger(), tail, 1)
