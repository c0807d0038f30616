"""A stream that is deleted is gone for good, or kept for its forks only."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.model.errors import (
    StreamError,
    StreamExists,
    StreamGone,
    StreamNotFound,
)
from durable_streams.model.offsets import Start
from tests.store_contract.words import (
    BINARY,
    FORK,
    OTHER,
    ROOM,
    SECOND,
    Listener,
    append,
    at,
    close,
    content,
    create,
    fork,
    text_of,
)

if TYPE_CHECKING:
    from durable_streams.model.paths import StreamPath
    from durable_streams.store import Store


STEPS: Final = [at(f"step{number}") for number in range(5)]
"""Each will be a fork of the one before."""


async def is_refused(store: Store, path: StreamPath, error: type[StreamError]) -> None:
    """Every use of a path, but for creating, raises this."""
    for use in (
        store.head(path),
        store.open(path),
        append(store, b"x", path),
        close(store, path),
        store.delete(path),
    ):
        with pytest.raises(error) as raised:
            await use
        assert type(raised.value) is error
        assert raised.value.path == text_of(path)  # type: ignore[attr-defined]


async def test_a_deleted_stream_is_not_there(store: Store) -> None:
    await create(store, body=b"some")
    await store.delete(ROOM)
    await is_refused(store, ROOM, StreamNotFound)


async def test_nor_is_one_that_never_was(store: Store) -> None:
    await is_refused(store, ROOM, StreamNotFound)


async def test_who_holds_it_learns_that_it_is_gone(store: Store) -> None:
    await create(store, body=b"some")
    stream = await store.open(ROOM)
    await store.delete(ROOM)
    with pytest.raises(StreamNotFound):
        await store.read(stream, Start.BEGINNING)
    with pytest.raises(StreamNotFound):
        _ = store.read_now(stream, Start.BEGINNING) or await store.read(stream, Start.NOW)


async def test_its_path_is_free_for_another(store: Store) -> None:
    old = await create(store, body=b"some", closed=True)
    stream = await store.open(ROOM)
    await store.delete(ROOM)
    new = await create(store, content_type=BINARY)
    assert new.created
    assert new.info.id != old.info.id
    assert await content(store) == b""
    with pytest.raises(StreamNotFound):
        await store.read(stream, Start.BEGINNING)
    await append(store, b"other", content_type=BINARY)
    assert await content(store) == b"other"


async def test_a_closed_stream_can_be_deleted(store: Store) -> None:
    await create(store, closed=True)
    await store.delete(ROOM)
    await is_refused(store, ROOM, StreamNotFound)


async def test_of_those_who_delete_it_at_once_all_find_it_gone(store: Store) -> None:
    await create(store)
    outcomes = await asyncio.gather(*[store.delete(ROOM) for _ in range(5)], return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} <= {type(None), StreamNotFound}
    assert None in outcomes
    await is_refused(store, ROOM, StreamNotFound)


async def test_those_who_wait_for_it_are_told(store: Store) -> None:
    tail = (await create(store)).info.tail
    stream = await store.open(ROOM)
    waiting = asyncio.create_task(store.wait(stream, tail, 60))
    listener = Listener()
    assert store.subscribe(stream, tail, listener)
    await asyncio.sleep(0)
    await store.delete(ROOM)
    with pytest.raises(StreamNotFound):
        await waiting
    await listener.told()
    assert isinstance(listener.reason, StreamNotFound)
    assert listener.heard == []
    with pytest.raises(StreamNotFound):
        await store.wait(stream, tail, 60)
    with pytest.raises(StreamNotFound):
        store.subscribe(stream, tail, Listener())
    store.unsubscribe(stream, listener)


# -- forks ---------------------------------------------------------------------------------


async def test_while_a_fork_lives_its_source_is_kept_for_it_only(store: Store) -> None:
    await create(store, body=b"some")
    await fork(store)
    await store.delete(ROOM)
    await is_refused(store, ROOM, StreamGone)
    with pytest.raises(StreamExists) as raised:
        await create(store, body=b"some")
    assert raised.value.path == text_of(ROOM)
    assert await content(store, FORK) == b"some"
    await append(store, b" more", FORK)
    assert await content(store, FORK) == b"some more"


async def test_readers_of_what_is_kept_for_its_forks_are_told(store: Store) -> None:
    tail = (await create(store)).info.tail
    await fork(store)
    stream = await store.open(ROOM)
    waiting = asyncio.create_task(store.wait(stream, tail, 60))
    listener = Listener()
    assert store.subscribe(stream, tail, listener)
    await asyncio.sleep(0)
    await store.delete(ROOM)
    with pytest.raises(StreamGone):
        await waiting
    await listener.told()
    assert isinstance(listener.reason, StreamGone)
    with pytest.raises(StreamGone):
        await store.read(stream, Start.BEGINNING)


async def test_the_last_fork_takes_it_along(store: Store) -> None:
    await create(store, body=b"some")
    await fork(store, FORK)
    await fork(store, SECOND)
    await store.delete(ROOM)
    await store.delete(FORK)
    await is_refused(store, ROOM, StreamGone)
    await store.delete(SECOND)
    await is_refused(store, ROOM, StreamNotFound)
    assert (await create(store, content_type=BINARY)).created


async def test_a_fork_leaves_a_source_that_was_not_deleted(store: Store) -> None:
    await create(store, body=b"some")
    await fork(store)
    await store.delete(FORK)
    assert await content(store) == b"some"
    await store.delete(ROOM)
    await is_refused(store, ROOM, StreamNotFound)


async def test_a_chain_of_what_waited_ends_with_its_last_fork(store: Store) -> None:
    await create(store, STEPS[0], b"some")
    for number in range(1, 5):
        await fork(store, STEPS[number], STEPS[number - 1])
    for number in range(4):
        await store.delete(STEPS[number])
        await is_refused(store, STEPS[number], StreamGone)
    assert await content(store, STEPS[4]) == b"some"
    await store.delete(STEPS[4])
    for number in range(5):
        await is_refused(store, STEPS[number], StreamNotFound)


async def test_a_chain_ends_at_what_somebody_else_needs(store: Store) -> None:
    await create(store, STEPS[0], b"some")
    await fork(store, STEPS[1], STEPS[0])
    await fork(store, STEPS[2], STEPS[1])
    await fork(store, OTHER, STEPS[0])
    await store.delete(STEPS[0])
    await store.delete(STEPS[1])
    await store.delete(STEPS[2])
    await is_refused(store, STEPS[1], StreamNotFound)
    await is_refused(store, STEPS[0], StreamGone)
    assert await content(store, OTHER) == b"some"
