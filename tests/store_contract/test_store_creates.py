"""Streams come to be once, as they were asked for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from durable_streams.model.commands import FOREVER, Create, Lifetime
from durable_streams.model.errors import (
    InvalidJson,
    PayloadTooLarge,
    StreamExists,
    StreamNotFound,
)
from tests.store_contract.conftest import MAX_APPEND_BYTES
from tests.store_contract.words import (
    BINARY,
    JSON,
    OTHER,
    ROOM,
    SOURCE,
    TEXT,
    append,
    at,
    close,
    content,
    create,
    fork,
    text_of,
)

if TYPE_CHECKING:
    from durable_streams.store import Store
    from tests.store_contract.conftest import Clock


async def test_a_created_stream_is_empty_and_as_it_was_asked_for(
    store: Store, clock: Clock
) -> None:
    created = await create(store)
    assert created.created
    info = created.info
    assert (info.path, info.content_type, info.lifetime) == (ROOM, TEXT, FOREVER)
    assert (info.closed, info.created_ms) == (False, clock.now_ms)
    assert await content(store) == b""


async def test_head_tells_what_the_create_did(store: Store) -> None:
    lifetime = Lifetime(ttl_s=60)
    created = await create(store, lifetime=lifetime, body=b"some", closed=True)
    assert await store.head(ROOM) == created.info
    assert created.info.lifetime == lifetime
    assert created.info.closed


async def test_a_stream_of_no_type_is_of_bytes(store: Store) -> None:
    assert (await create(store, content_type=None)).info.content_type == BINARY


async def test_each_stream_has_an_id_of_its_own(store: Store) -> None:
    one, two = await create(store), await create(store, OTHER)
    assert one.info.id != two.info.id


async def test_paths_that_begin_alike_are_apart(store: Store) -> None:
    await create(store, at("a"), b"1")
    await create(store, at("a/b"), b"2")
    await create(store, at("a/b/c"), b"3")
    assert [await content(store, at(path)) for path in ("a", "a/b", "a/b/c")] == [b"1", b"2", b"3"]


# -- the same again ------------------------------------------------------------------------


async def test_the_same_create_again_finds_the_stream(store: Store) -> None:
    first = await create(store, body=b"one")
    again = await create(store, body=b"other")
    assert (again.created, again.info) == (False, first.info)
    assert await content(store) == b"one"


async def test_it_is_told_as_it_is_by_then(store: Store) -> None:
    await create(store)
    tail = (await append(store, b"more")).tail
    assert (await create(store)).info.tail == tail


async def test_parameters_make_no_other_type(store: Store) -> None:
    await create(store, content_type="text/plain;charset=utf-8")
    assert not (await create(store, content_type="text/plain")).created


async def test_a_stream_that_was_closed_since_is_not_the_open_one(store: Store) -> None:
    await create(store)
    await close(store)
    with pytest.raises(StreamExists):
        await create(store)
    assert not (await create(store, closed=True)).created


OTHERS = {
    "type": Create(ROOM, BINARY, Lifetime(ttl_s=60)),
    "no type": Create(ROOM, None, Lifetime(ttl_s=60)),
    "charset": Create(ROOM, "text/plain;charset=latin1", Lifetime(ttl_s=60)),
    "TTL": Create(ROOM, TEXT, Lifetime(ttl_s=61)),
    "no lifetime": Create(ROOM, TEXT),
    "expiry": Create(ROOM, TEXT, Lifetime(None, "2100-01-01T00:00:00Z", 4_102_444_800_000)),
    "closed": Create(ROOM, TEXT, Lifetime(ttl_s=60), closed=True),
}


@pytest.mark.parametrize("other", OTHERS)
async def test_another_configuration_is_a_conflict(store: Store, other: str) -> None:
    first = await create(store, lifetime=Lifetime(ttl_s=60), body=b"first")
    with pytest.raises(StreamExists) as raised:
        await store.create(OTHERS[other], b"second")
    assert raised.value.path == text_of(ROOM)
    assert await store.head(ROOM) == first.info


async def test_a_fork_is_not_the_stream_that_is_none(store: Store) -> None:
    await create(store)
    await create(store, SOURCE)
    with pytest.raises(StreamExists):
        await fork(store, ROOM, SOURCE)


async def test_the_same_expiry_may_be_spelled_in_two_ways(store: Store) -> None:
    await create(store, lifetime=Lifetime(None, "2100-01-01T00:00:00Z", 4_102_444_800_000))
    other = Lifetime(None, "2100-01-01T01:00:00+01:00", 4_102_444_800_000)
    again = await create(store, lifetime=other)
    assert not again.created
    assert again.info.lifetime.expires_at == "2100-01-01T00:00:00Z"


async def test_of_many_who_create_it_at_once_one_does(store: Store) -> None:
    bodies = [b"%d" % number for number in range(20)]
    outcomes = await asyncio.gather(*[create(store, body=body) for body in bodies])
    assert [outcome.created for outcome in outcomes].count(True) == 1
    assert len({outcome.info.id for outcome in outcomes}) == 1
    assert await content(store) in bodies


# -- what it begins with -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "body", "stored"),
    [
        (TEXT, b"one", b"one"),
        (BINARY, b"\0\xff", b"\0\xff"),
        (JSON, b'{"a": 1}', b'{"a": 1},'),
        (JSON, b" [1, [2] ,3]\n", b"1,[2],3,"),
        (JSON, b"[]", b""),
        (JSON, b"", b""),
    ],
)
async def test_a_stream_begins_with_what_it_is_given(
    store: Store, content_type: str, body: bytes, stored: bytes
) -> None:
    created = await create(store, body=body, content_type=content_type)
    assert await content(store) == stored
    assert (await store.head(ROOM)).tail == created.info.tail


async def test_a_stream_may_be_closed_from_the_beginning(store: Store) -> None:
    created = await create(store, body=b"all", closed=True)
    assert created.info.closed
    stream = await store.open(ROOM)
    with await store.read(stream, created.info.tail) as chunk:
        assert chunk.closed
    assert await content(store) == b"all"


async def test_what_is_no_json_makes_no_stream(store: Store) -> None:
    with pytest.raises(InvalidJson):
        await create(store, body=b"[1,", content_type=JSON)
    with pytest.raises(StreamNotFound):
        await store.head(ROOM)


async def test_where_the_stream_is_already_nobody_looks_at_the_body(store: Store) -> None:
    await create(store, content_type=JSON)
    assert not (await create(store, body=b"[1,", content_type=JSON)).created


async def test_the_largest_body_is_taken_and_one_byte_more_is_not(store: Store) -> None:
    assert store.max_append_bytes == MAX_APPEND_BYTES
    with pytest.raises(PayloadTooLarge) as raised:
        await create(store, body=b"x" * (MAX_APPEND_BYTES + 1))
    assert raised.value.limit_bytes == MAX_APPEND_BYTES
    largest = b"x" * MAX_APPEND_BYTES
    await create(store, body=largest)
    assert await content(store) == largest


async def test_a_body_that_could_change_is_refused(store: Store) -> None:
    with pytest.raises(TypeError):
        await create(store, body=bytearray(b"x"))  # type: ignore[arg-type]
    with pytest.raises(StreamNotFound):
        await store.head(ROOM)
