"""How a store goes down: nothing new is taken, what was accepted is finished, all are told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from durable_streams.model.commands import Append, Create
from durable_streams.model.errors import Draining, NotOpen, StreamError
from durable_streams.model.offsets import Start
from tests.store_contract.words import (
    FORK,
    OTHER,
    ROOM,
    TEXT,
    Listener,
    append,
    close,
    content,
    create,
    fork,
    outcome,
)

if TYPE_CHECKING:
    from durable_streams.store import Store


async def test_an_open_store_takes_writes_and_has_nothing_to_complain_of(store: Store) -> None:
    await create(store, body=b"some")
    assert store.refusal() is None
    assert store.bug is None
    assert not store.closed
    assert store.out_of_service() == []


async def test_the_line_of_writers_is_empty_when_nobody_writes(store: Store) -> None:
    await create(store)
    await asyncio.gather(*[append(store, b"x") for _ in range(20)])
    assert not store.writes_wait()


async def begun(store: Store, command: Append | Create) -> None:
    """A write, now if that is to be."""
    if isinstance(command, Append):
        await outcome(store.append_now(command, b"x"), store.append(command, b"x"))
    else:
        await outcome(store.create_now(command, b""), store.create(command, b""))


async def writes_raise(store: Store, error: type[StreamError]) -> None:
    for write in (
        create(store, OTHER),
        create(store),
        fork(store),
        append(store, b"x"),
        close(store),
        store.delete(ROOM),
        begun(store, Append(ROOM, TEXT)),
        begun(store, Create(OTHER, TEXT)),
    ):
        with pytest.raises(error) as raised:
            await write
        assert type(raised.value) is error


async def test_a_store_that_drains_refuses_new_writes_and_is_read(store: Store) -> None:
    await create(store, body=b"some")
    store.drain()
    store.drain()
    assert type(store.refusal()) is Draining
    await writes_raise(store, Draining)
    assert await content(store) == b"some"
    assert (await store.head(ROOM)).content_type == TEXT
    assert not store.closed


async def test_when_a_store_drains_those_who_wait_are_told(store: Store) -> None:
    tail = (await create(store)).info.tail
    stream = await store.open(ROOM)
    waiting = asyncio.create_task(store.wait(stream, tail, 600))
    listener = Listener()
    assert store.subscribe(stream, tail, listener)
    await asyncio.sleep(0)
    store.drain()
    assert not await waiting
    await listener.told()
    assert isinstance(listener.reason, Draining)
    assert not await store.wait(stream, tail, 600)
    with pytest.raises(Draining):
        store.subscribe(stream, tail, Listener())


async def test_what_was_accepted_before_is_stored(store: Store) -> None:
    await create(store)
    writing = [asyncio.create_task(append(store, b"x")) for _ in range(10)]
    await asyncio.sleep(0)
    store.drain()
    outcomes = await asyncio.gather(*writing, return_exceptions=True)
    stored = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    assert all(isinstance(outcome, Draining) for outcome in outcomes if outcome not in stored)
    assert await content(store) == b"x" * len(stored)


async def test_a_closed_store_does_nothing_more(store: Store) -> None:
    tail = (await create(store, body=b"some")).info.tail
    stream = await store.open(ROOM)
    await store.close()
    assert store.closed
    assert type(store.refusal()) is NotOpen
    await writes_raise(store, NotOpen)
    for read in (
        store.head(ROOM),
        store.open(ROOM),
        store.read(stream, Start.BEGINNING),
        store.wait(stream, tail, 600),
    ):
        with pytest.raises(NotOpen):
            await read
    with pytest.raises(NotOpen):
        store.subscribe(stream, tail, Listener())
    store.unsubscribe(stream, Listener())


async def test_closing_tells_everybody_before_it_is_done(store: Store) -> None:
    tail = (await create(store)).info.tail
    stream = await store.open(ROOM)
    listeners = [Listener() for _ in range(500)]
    for listener in listeners:
        assert store.subscribe(stream, tail, listener)
    waiting = [asyncio.create_task(store.wait(stream, tail, 600)) for _ in range(50)]
    await asyncio.sleep(0)
    await store.close()
    assert {type(listener.reason) for listener in listeners} == {Draining}
    assert await asyncio.gather(*waiting) == [False] * 50


async def test_closing_again_changes_nothing(store: Store) -> None:
    await asyncio.gather(store.close(), store.close())
    await store.close()
    assert store.closed


async def test_what_is_read_while_it_closes_is_no_bug(store: Store) -> None:
    await create(store, body=b"some")
    stream = await store.open(ROOM)
    reading = [asyncio.create_task(store.read(stream, Start.BEGINNING)) for _ in range(5)]
    await store.close()
    for task in reading:
        try:
            with await task as chunk:
                assert chunk.size_bytes == 4
        except NotOpen:
            pass


async def test_a_source_and_its_fork_end_with_their_store(store: Store) -> None:
    await create(store)
    await fork(store, FORK)
    await store.delete(ROOM)
    await store.close()
    with pytest.raises(NotOpen):
        await store.head(FORK)
