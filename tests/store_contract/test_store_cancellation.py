"""Each coroutine, cancelled wherever it waits: done or not done, and the store goes on."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import pytest

from durable_streams.model.errors import StreamError, StreamNotFound
from durable_streams.model.offsets import Start
from tests.store_contract.words import (
    BINARY,
    OTHER,
    ROOM,
    SOURCE,
    append,
    at,
    by,
    close,
    content,
    create,
    fork,
    text_of,
)
from tools.cancelling import When, cut_off

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from durable_streams.model.paths import StreamPath
    from durable_streams.store import Store

LARGE: Final = bytes(number * 31 % 251 for number in range(100_000))
MOST_SUSPENSIONS: Final = 200


async def cut_everywhere(
    when: When, attempt: Callable[[StreamPath], Coroutine[Any, Any, Any]]
) -> AsyncIterator[tuple[StreamPath, bool]]:
    """Cancel what ``attempt`` gives for a new path at one suspension after the other.

    Gives the path and whether it was done, up to the first that was not cancelled.
    """
    for number in range(1, MOST_SUSPENSIONS):
        path = at(f"s{number}")
        cut_at, _ = await cut_off(attempt(path), number, when)
        yield path, not cut_at
        if not cut_at:
            return
    raise AssertionError("it never ends")


def fork_at(path: StreamPath) -> StreamPath:
    """Where the fork of a stream is."""
    return at(f"forks/{text_of(path)}")


async def works(store: Store, path: StreamPath) -> None:
    """Every verb does what it does, at a path where nothing is."""
    await create(store, path, b"a")
    tail = (await append(store, b"b", path)).tail
    await fork(store, fork_at(path), path)
    assert await content(store, fork_at(path)) == b"ab"
    stream = await store.open(path)
    assert not await store.wait(stream, tail, 0)
    assert (await store.head(path)).tail == tail
    await close(store, path)
    assert await store.wait(stream, tail, 60)
    await store.delete(fork_at(path))
    await store.delete(path)


@pytest.mark.parametrize("when", When)
async def test_a_create_is_done_whole_or_not_at_all(store: Store, when: When) -> None:
    def attempt(path: StreamPath) -> Coroutine[Any, Any, Any]:
        return create(store, path, LARGE, content_type=BINARY, closed=True)

    async for path, is_done in cut_everywhere(when, attempt):
        again = await create(store, path, LARGE, content_type=BINARY, closed=True)
        assert not (is_done and again.created)
        assert await content(store, path) == LARGE
    await works(store, OTHER)


@pytest.mark.parametrize("when", When)
async def test_a_fork_is_made_whole_or_not_at_all(store: Store, when: When) -> None:
    await create(store, SOURCE, LARGE, content_type=BINARY)

    def attempt(path: StreamPath) -> Coroutine[Any, Any, Any]:
        return fork(store, path, SOURCE, body=b"more")

    async for path, is_done in cut_everywhere(when, attempt):
        again = await fork(store, path, SOURCE, body=b"more")
        assert not (is_done and again.created)
        assert await content(store, path) == LARGE + b"more"
    await works(store, OTHER)


@pytest.mark.parametrize("body", [b"new", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("when", When)
async def test_an_append_is_there_whole_or_not_at_all(
    store: Store, when: When, body: bytes
) -> None:
    async def attempt(path: StreamPath) -> None:
        await create(store, path, content_type=BINARY)
        await append(store, body, path, content_type=BINARY)

    async for path, is_done in cut_everywhere(when, attempt):
        await create(store, path, content_type=BINARY)
        found = await content(store, path)
        assert found == body or (found == b"" and not is_done)
        await append(store, b"behind", path, content_type=BINARY)
        assert await content(store, path) in {body + b"behind", b"behind"}
    await works(store, OTHER)


@pytest.mark.parametrize("when", When)
async def test_a_producer_repeats_what_was_cancelled_and_it_is_stored_once(
    store: Store, when: When
) -> None:
    async def attempt(path: StreamPath) -> None:
        await create(store, path)
        await append(store, b"0", path, producer=by(0))

    async for path, is_done in cut_everywhere(when, attempt):
        await create(store, path)
        again = await append(store, b"0", path, producer=by(0))
        assert again.duplicate or not is_done
        assert await content(store, path) == b"0"
    await works(store, OTHER)


@pytest.mark.parametrize("when", When)
async def test_a_close_is_done_or_can_be(store: Store, when: When) -> None:
    async def attempt(path: StreamPath) -> None:
        await create(store, path, b"some")
        await close(store, path)

    async for path, is_done in cut_everywhere(when, attempt):
        if not is_done:
            closed = (await created_or_closed(store, path)).duplicate
            assert closed in {True, False}
        assert (await store.head(path)).closed
        assert await content(store, path) == b"some"
    await works(store, OTHER)


async def created_or_closed(store: Store, path: StreamPath) -> Any:
    try:
        return await close(store, path)
    except StreamNotFound:
        await create(store, path, b"some")
        return await close(store, path)


@pytest.mark.parametrize("when", When)
async def test_a_delete_is_done_or_can_be(store: Store, when: When) -> None:
    async def attempt(path: StreamPath) -> None:
        await create(store, path, b"some")
        await store.delete(path)

    async for path, is_done in cut_everywhere(when, attempt):
        try:
            await store.delete(path)
        except StreamNotFound:
            pass
        else:
            assert not is_done
        assert (await create(store, path, b"other")).created
        assert await content(store, path) == b"other"
    await works(store, OTHER)


@pytest.mark.parametrize("when", When)
async def test_a_chain_of_forks_ends_whenever_its_last_delete_is_cancelled(
    store: Store, when: When
) -> None:
    async def attempt(path: StreamPath) -> None:
        await create(store, path, b"some")
        await fork(store, fork_at(path), path)
        await store.delete(path)
        await store.delete(fork_at(path))

    async for path, _ in cut_everywhere(when, attempt):
        with suppress(StreamError):  # one that is on its way is there then
            await fork(store, fork_at(path), path)
        for left in (path, fork_at(path)):
            with suppress(StreamError):  # it is gone, or kept for the other
                await store.delete(left)
        await works(store, path)


async def read_all(store: Store, path: StreamPath) -> None:
    assert await content(store, path, max_bytes=100) == LARGE * 2


async def read_pieces(store: Store, path: StreamPath) -> None:
    stream = await store.open(path)
    with await store.read(stream, Start.BEGINNING, max_bytes=100) as chunk:
        assert await store.sizes(chunk) == [len(LARGE)]
        assert b"".join([piece async for piece in store.pieces(chunk, 999)]) == LARGE


async def look(store: Store, path: StreamPath) -> None:
    assert (await store.head(path)).content_type == BINARY


async def wait(store: Store, path: StreamPath) -> None:
    stream = await store.open(path)
    with store.following(stream):
        assert not await store.wait(stream, (await store.head(path)).tail, 0.001)


@pytest.mark.parametrize("when", When)
@pytest.mark.parametrize("verb", [read_all, read_pieces, look, wait])
async def test_whoever_stops_reading_leaves_nothing_behind(
    store: Store, verb: Callable[[Store, StreamPath], Coroutine[Any, Any, None]], when: When
) -> None:
    await create(store, ROOM, LARGE, content_type=BINARY)
    await append(store, LARGE, ROOM, content_type=BINARY)
    async for _ in cut_everywhere(when, lambda _: verb(store, ROOM)):
        await verb(store, ROOM)
    await works(store, OTHER)


async def test_a_store_that_was_cancelled_while_closing_can_be_closed(store: Store) -> None:
    await create(store)
    closing = asyncio.create_task(store.close())
    await asyncio.sleep(0)
    closing.cancel()
    with suppress(asyncio.CancelledError):
        await closing
    await store.close()
    assert store.closed
