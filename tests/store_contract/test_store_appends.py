"""What an append does to a stream, and what is refused."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from durable_streams.model.errors import (
    ContentTypeMismatch,
    InvalidJson,
    InvalidRequest,
    PayloadTooLarge,
    ProducerGap,
    SequenceConflict,
    StreamClosed,
    StreamError,
    StreamNotFound,
)
from durable_streams.model.results import Appended
from tests.store_contract.conftest import MAX_APPEND_BYTES
from tests.store_contract.words import (
    BINARY,
    JSON,
    NOWHERE,
    OTHER,
    ROOM,
    TEXT,
    append,
    by,
    close,
    content,
    create,
    ends,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from durable_streams.store import Store


async def test_an_append_moves_the_tail(store: Store) -> None:
    start, one, two = await ends(store, b"one", b"two")
    assert start < one < two
    assert (await store.head(ROOM)).tail == two
    assert await content(store) == b"onetwo"


async def test_its_outcome_says_what_it_did(store: Store) -> None:
    await create(store)
    done = await append(store, b"one")
    assert done == Appended(done.tail, closed=False, wrote_data=True)


async def test_where_no_stream_is_nothing_is_appended(store: Store) -> None:
    with pytest.raises(StreamNotFound) as raised:
        await append(store, b"one")
    assert raised.value.path == text_of(ROOM)


async def test_an_append_needs_a_body_and_a_type(store: Store) -> None:
    await create(store)
    with pytest.raises(InvalidRequest):
        await append(store, b"")
    with pytest.raises(InvalidRequest):
        await append(store, b"one", content_type=None)
    assert await content(store) == b""


async def test_that_is_said_before_the_stream_is_looked_for(store: Store) -> None:
    with pytest.raises(InvalidRequest):
        await append(store, b"")


async def test_another_type_is_refused(store: Store) -> None:
    await create(store)
    with pytest.raises(ContentTypeMismatch) as raised:
        await append(store, b"one", content_type=BINARY)
    assert (raised.value.expected, raised.value.received) == (TEXT, BINARY)
    await append(store, b"one", content_type="text/plain;format=flowed")
    assert await content(store) == b"one"


@pytest.mark.parametrize("size", [1, 64 * 1024, 64 * 1024 + 1, MAX_APPEND_BYTES])
async def test_bodies_of_every_size_are_kept(store: Store, size: int) -> None:
    body = bytes(number * 31 % 251 for number in range(size))
    await ends(store, b"before", body, b"behind", content_type=BINARY)
    assert await content(store) == b"before" + body + b"behind"


async def test_one_byte_more_than_the_largest_is_refused(store: Store) -> None:
    await create(store)
    with pytest.raises(PayloadTooLarge) as raised:
        await append(store, b"x" * (MAX_APPEND_BYTES + 1))
    assert raised.value.limit_bytes == MAX_APPEND_BYTES
    assert await content(store) == b""


async def test_a_body_that_could_change_is_refused(store: Store) -> None:
    await create(store)
    with pytest.raises(TypeError):
        await append(store, bytearray(b"x"))  # type: ignore[arg-type]
    assert await content(store) == b""


async def test_appends_that_come_together_are_all_there_in_the_order_of_their_tails(
    store: Store,
) -> None:
    await create(store)
    bodies = [b"<%d>" % number for number in range(50)]
    outcomes = await asyncio.gather(*[append(store, body) for body in bodies])
    tails = [outcome.tail for outcome in outcomes]
    assert len(set(tails)) == len(tails)
    in_order = [body for _, body in sorted(zip(tails, bodies, strict=True))]
    assert await content(store) == b"".join(in_order)


# -- JSON ----------------------------------------------------------------------------------


async def test_messages_are_kept_byte_for_byte(store: Store) -> None:
    await create(store, content_type=JSON)
    for body in (b' {"b":1, "a":1.50} ', b'[1e2, "\\u00e9", []]', b"null"):
        await append(store, body, content_type=JSON)
    assert await content(store) == b'{"b":1, "a":1.50},1e2,"\\u00e9",[],null,'


@pytest.mark.parametrize("body", [b"[]", b"[1,", b"{]", b"\xff", b"1 2", b" "])
async def test_what_is_no_message_leaves_no_trace(store: Store, body: bytes) -> None:
    await create(store, content_type=JSON)
    with pytest.raises(InvalidJson):
        await append(store, body, content_type=JSON, producer=by(0), stream_seq="b", close=True)
    done = await append(store, b"1", content_type=JSON, producer=by(0), stream_seq="a")
    assert (done.duplicate, done.closed) == (False, False)
    assert await content(store) == b"1,"


# -- Stream-Seq ----------------------------------------------------------------------------


async def test_a_sequence_must_grow(store: Store) -> None:
    await create(store)
    await append(store, b"1", stream_seq="b")
    for late in ("b", "a", "B"):
        with pytest.raises(SequenceConflict) as raised:
            await append(store, b"2", stream_seq=late)
        assert (raised.value.last, raised.value.received) == ("b", late)
    await append(store, b"2")
    await append(store, b"3", stream_seq="ba")
    assert await content(store) == b"123"


# -- closing -------------------------------------------------------------------------------


async def test_a_closed_stream_takes_nothing_more_and_says_where_it_ends(store: Store) -> None:
    *_, tail = await ends(store, b"one")
    closed = await close(store)
    assert closed == Appended(tail, closed=True, wrote_data=False)
    with pytest.raises(StreamClosed) as raised:
        await append(store, b"two")
    assert raised.value.tail == tail
    assert (await store.head(ROOM)).closed
    assert await content(store) == b"one"


async def test_closing_again_changes_nothing(store: Store) -> None:
    *_, tail = await ends(store, b"one")
    await close(store)
    assert await close(store) == Appended(tail, closed=True, wrote_data=False, duplicate=True)


async def test_the_last_bytes_may_come_with_the_close(store: Store) -> None:
    await create(store)
    done = await append(store, b"last", close=True)
    assert done == Appended(done.tail, closed=True, wrote_data=True)
    assert await content(store) == b"last"
    with pytest.raises(StreamClosed):
        await append(store, b"last", close=True)


async def test_of_those_who_close_it_with_last_bytes_at_once_one_does(store: Store) -> None:
    await create(store)
    bodies = [b"%d" % number for number in range(10)]
    outcomes = await asyncio.gather(
        *[append(store, body, close=True) for body in bodies], return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == (
        ["Appended"] + ["StreamClosed"] * 9
    )
    assert await content(store) in bodies


async def test_who_closed_it_as_a_producer_may_say_so_again(store: Store) -> None:
    await create(store)
    first = await append(store, b"last", close=True, producer=by(0))
    again = await append(store, b"last", close=True, producer=by(0))
    assert again == Appended(first.tail, True, False, duplicate=True, producer=(0, 0))
    with pytest.raises(StreamClosed):
        await append(store, b"more", producer=by(1))
    with pytest.raises(StreamClosed):
        await close(store, producer=by(0, name="other"))
    assert (await close(store)).duplicate


# -- which of two faults is told -----------------------------------------------------------

ORDER: dict[str, tuple[Callable[[Store], Coroutine[object, object, Appended]], type[StreamError]]]
ORDER = {
    "that it needs a body before that there is no stream": (
        lambda store: append(store, b"", NOWHERE),
        InvalidRequest,
    ),
    "that it is closed before its type": (
        lambda store: append(store, b"x", OTHER, content_type=BINARY),
        StreamClosed,
    ),
    "the type before the producer": (
        lambda store: append(store, b"x", content_type=BINARY, producer=by(7)),
        ContentTypeMismatch,
    ),
    "the producer before the sequence": (
        lambda store: append(store, b"1", content_type=JSON, producer=by(7), stream_seq="a"),
        ProducerGap,
    ),
    "the sequence before the JSON": (
        lambda store: append(store, b"{", content_type=JSON, stream_seq="a"),
        SequenceConflict,
    ),
}


@pytest.mark.parametrize("told", ORDER)
async def test_of_two_faults_the_first_is_told(store: Store, told: str) -> None:
    await create(store, content_type=JSON)
    await append(store, b"1", content_type=JSON, stream_seq="b")
    await create(store, OTHER, closed=True)
    write, error = ORDER[told]
    with pytest.raises(error) as raised:
        await write(store)
    assert type(raised.value) is error
