"""What is begun now comes to the same as what is waited for, or is said to be not now."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import pytest

from durable_streams.model.commands import Append, Create, ForkRequest
from durable_streams.model.errors import (
    InvalidJson,
    InvalidRequest,
    PayloadTooLarge,
    ProducerGap,
    StreamClosed,
    StreamError,
    StreamExists,
    StreamNotFound,
)
from durable_streams.model.offsets import Offset, Start
from tests.store_contract.conftest import MAX_APPEND_BYTES
from tests.store_contract.words import (
    FORK,
    JSON,
    NOWHERE,
    OTHER,
    ROOM,
    SECOND,
    TEXT,
    append,
    by,
    content,
    create,
    outcome,
    settled,
)

if TYPE_CHECKING:
    from durable_streams.model.results import Appended, Created
    from durable_streams.store import Store, Ticket


async def begun(store: Store, command: Append, body: bytes) -> Appended:
    """An append, now if that is to be."""
    done: Appended = await outcome(store.append_now(command, body), store.append(command, body))
    return done


async def begun_create(store: Store, command: Create, body: bytes = b"") -> Created:
    """A create, now if that is to be."""
    done: Created = await outcome(store.create_now(command, body), store.create(command, body))
    return done


async def test_an_append_begun_now_is_the_same_append(store: Store) -> None:
    await create(store)
    done = await begun(store, Append(ROOM, TEXT, producer=by(0)), b"one")
    assert (done.wrote_data, done.duplicate, done.producer) == (True, False, (0, 0))
    assert (await store.head(ROOM)).tail == done.tail
    again = await begun(store, Append(ROOM, TEXT, producer=by(0)), b"one")
    assert (again.wrote_data, again.duplicate, again.tail) == (False, True, done.tail)
    assert await content(store) == b"one"


async def test_what_is_refused_now_is_refused_for_the_same_reason(store: Store) -> None:
    await create(store, content_type=JSON)
    await create(store, SECOND, closed=True)
    refused: list[tuple[Append, bytes, type[StreamError]]] = [
        (Append(ROOM, JSON), b"", InvalidRequest),
        (Append(ROOM, JSON), b"{", InvalidJson),
        (Append(ROOM, JSON), b"1" * (MAX_APPEND_BYTES + 1), PayloadTooLarge),
        (Append(ROOM, JSON, producer=by(5)), b"1", ProducerGap),
        (Append(SECOND, TEXT), b"1", StreamClosed),
        (Append(NOWHERE, TEXT), b"1", StreamNotFound),
    ]
    for command, body, error in refused:
        with pytest.raises(error) as raised:
            await begun(store, command, body)
        assert type(raised.value) is error
    assert await content(store) == b""


async def test_a_pending_write_calls_back_once_and_is_pending_no_more(store: Store) -> None:
    await create(store)
    for ticket in (
        store.append_now(Append(ROOM, TEXT), b"one"),
        store.create_now(Create(OTHER, TEXT), b"one"),
    ):
        if ticket is None or not ticket.pending:
            continue
        called: list[bool] = []
        ticket.when_settled(partial(_note, called, ticket))
        assert called == []
        await settled(ticket)
        for _ in range(3):
            await asyncio.sleep(0)
        assert called == [False]


def _note(called: list[bool], ticket: Ticket[object]) -> None:
    called.append(ticket.pending)


async def test_everybody_who_asks_is_called_back(store: Store) -> None:
    await create(store)
    ticket = store.append_now(Append(ROOM, TEXT), b"one")
    if ticket is None or not ticket.pending:
        return
    called: list[int] = []
    for number in range(3):
        ticket.when_settled(partial(called.append, number))
    await settled(ticket)
    await asyncio.sleep(0)
    assert sorted(called) == [0, 1, 2]


async def test_the_outcome_can_be_asked_for_again(store: Store) -> None:
    await create(store)
    for command, body in ((Append(ROOM, TEXT), b"one"), (Append(ROOM, TEXT, True), b"")):
        ticket = store.append_now(command, body)
        if ticket is not None:
            await settled(ticket)
            assert ticket.outcome() == ticket.outcome()
    ticket = store.append_now(Append(ROOM, TEXT, producer=by(3)), b"two")
    if ticket is not None:
        await settled(ticket)
        for _ in range(2):
            with pytest.raises(StreamError):
                ticket.outcome()


async def test_what_was_begun_goes_on_although_nobody_waits_for_it(store: Store) -> None:
    created = await create(store)
    stream = await store.open(ROOM)
    if store.append_now(Append(ROOM, TEXT), b"one") is None:
        await append(store, b"one")
    assert await store.wait(stream, created.info.tail, 60)
    assert await content(store) == b"one"


async def test_appends_that_are_begun_one_after_the_other_are_in_this_order(
    store: Store,
) -> None:
    await create(store)
    tickets = [store.append_now(Append(ROOM, TEXT), b"%d" % number) for number in range(9)]
    tails: list[Offset] = []
    for number, ticket in enumerate(tickets):
        command = Append(ROOM, TEXT)
        done: Appended = await outcome(ticket, store.append(command, b"%d" % number))
        tails.append(done.tail)
    assert tails == sorted(set(tails))
    assert await content(store) == b"012345678"


async def test_a_create_begun_now_is_the_same_create(store: Store) -> None:
    created = await begun_create(store, Create(ROOM, TEXT), b"one")
    assert created.created
    assert await store.head(ROOM) == created.info
    assert not (await begun_create(store, Create(ROOM, TEXT))).created
    forked = await begun_create(store, Create(FORK, fork=ForkRequest(ROOM)))
    assert (forked.created, forked.info.tail) == (True, created.info.tail)
    assert await content(store, FORK) == b"one"


async def test_a_create_that_is_refused_now_is_refused_for_the_same_reason(store: Store) -> None:
    await create(store)
    refused: list[tuple[Create, bytes, type[StreamError]]] = [
        (Create(ROOM, JSON), b"", StreamExists),
        (Create(OTHER, JSON), b"{", InvalidJson),
        (Create(OTHER, TEXT), b"1" * (MAX_APPEND_BYTES + 1), PayloadTooLarge),
        (Create(FORK, fork=ForkRequest(NOWHERE)), b"", StreamNotFound),
    ]
    for command, body, error in refused:
        with pytest.raises(error) as raised:
            await begun_create(store, command, body)
        assert type(raised.value) is error


async def test_a_stream_opened_now_is_the_one_that_is_opened(store: Store) -> None:
    info = (await create(store)).info
    opened = store.open_now(ROOM) or await store.open(ROOM)
    assert (opened.id, opened.path, opened.content_type) == (info.id, ROOM, TEXT)
    assert not opened.is_json
    with pytest.raises(StreamNotFound):
        _ = store.open_now(NOWHERE) or await store.open(NOWHERE)


async def test_what_is_read_now_is_what_is_read(store: Store) -> None:
    starts: list[Offset | Start] = [Start.BEGINNING, Start.NOW, (await create(store)).info.tail]
    starts += [(await append(store, body)).tail for body in (b"one", b"two")]
    for start in starts:
        stream = await store.open(ROOM)
        with await store.read(stream, start) as chunk:
            expected = (chunk.start, chunk.end, chunk.at_tail, await store.bytes_of(chunk))
        stream = await store.open(ROOM)
        now = store.read_now(stream, start)
        if now is not None:
            with now as chunk:
                found = (chunk.start, chunk.end, chunk.at_tail, await store.bytes_of(chunk))
            assert found == expected
