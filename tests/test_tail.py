"""A tail survives what a generator does not: timeouts around its steps, any number of them."""

from __future__ import annotations

import asyncio
import gc
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

import pytest

import durable_streams
from durable_streams import NotOpen, Settings, StreamNotFound, Streams, Tail
from durable_streams.settings import KIB
from tools.cancelling import When, cut_off
from tools.engines import file_store
from tools.inside import close_read_files, in_files, loaded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

JSON = "application/json"
SETTINGS = Settings(segment_bytes=4 * KIB, max_read_bytes=KIB)


@pytest.fixture
async def streams(tmp_path: Path) -> AsyncIterator[Streams]:
    async with durable_streams.open(tmp_path / "data", SETTINGS) as opened:
        yield opened


def followers(streams: Streams, path: str) -> int:
    stream = loaded(file_store(streams), path)
    assert stream is not None
    return stream.followers


@pytest.mark.parametrize("content_type", [JSON, "text/plain"])
@pytest.mark.parametrize("when", When)
async def test_every_step_may_be_cancelled_anywhere(
    streams: Streams, content_type: str, when: When
) -> None:
    """At its suspension 1, 2, 3 … until it has none to be cancelled at; so the next step."""
    await streams.create("s", content_type=content_type)
    for number in range(500):
        await streams.append("s", b"%d" % (10**100 + number))
    await streams.append("s", b"1" * 5000)
    await streams.close("s")
    await in_files(file_store(streams), "s")
    tail, found, cuts, at = streams.tail("s"), [], 0, 1
    with suppress(StopAsyncIteration):
        while True:
            close_read_files(file_store(streams))  # so that files are opened again
            cut_at, message = await cut_off(tail.__anext__(), at, when)
            cuts, at = (cuts + 1, at + 1) if cut_at else (cuts, 1)
            if message is not None:
                found.append(message)
    assert [message.data for message in found] == [
        *(b"%d" % (10**100 + number) for number in range(500)),
        b"1" * 5000,
    ]
    assert [message async for message in streams.tail("s")] == found
    assert cuts > 20
    with pytest.raises(StopAsyncIteration):
        await anext(tail)


async def test_a_heartbeat_is_a_timeout_around_a_step(streams: Streams) -> None:
    await streams.create("s")
    tail, found = streams.tail("s", "now"), []
    for number in range(20):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(tail), 0.001)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await anext(tail)
        for half in (b"a", b"b"):
            await streams.append("s", b"%d%b" % (number, half))
        found += [(await asyncio.wait_for(anext(tail), 60)).data for _ in range(2)]
    assert found == [b"%d%b" % (number, half) for number in range(20) for half in (b"a", b"b")]


async def test_news_and_a_timeout_at_the_same_time(streams: Streams) -> None:
    await streams.create("s")
    tail, found = streams.tail("s"), []
    for number in range(100):
        step = asyncio.create_task(tail.__anext__())
        await asyncio.sleep(0)
        append = asyncio.create_task(streams.append("s", b"%d" % number))
        while not append.done():
            await asyncio.sleep(0)
        for _ in range(number % 4):
            await asyncio.sleep(0)
        step.cancel()
        with suppress(asyncio.CancelledError):
            found.append((await step).data)
    await streams.close("s")
    found += [message.data async for message in tail]
    assert found == [b"%d" % number for number in range(100)]


async def test_it_ends_as_a_generator_does(streams: Streams) -> None:
    await streams.create("s", data=b"1")
    await streams.append("s", b"2")
    async with aclosing(streams.tail("s")) as tail:
        async for message in tail:
            assert message.data == b"1"
            break
        assert followers(streams, "s") == 1
    with pytest.raises(StopAsyncIteration):
        await anext(tail)
    await tail.aclose()
    assert followers(streams, "s") == 0
    never_used = streams.tail("s")
    await never_used.aclose()
    assert [message async for message in never_used] == []


async def test_one_that_is_dropped_follows_no_more(streams: Streams) -> None:
    await streams.create("s", data=b"1")
    async for _ in streams.tail("s"):
        assert followers(streams, "s") == 1
        break
    gc.collect()
    await asyncio.sleep(0)
    assert followers(streams, "s") == 0


@pytest.mark.parametrize("content_type", [JSON, "text/plain"])
async def test_one_that_does_not_wait_ends_at_the_tail(streams: Streams, content_type: str) -> None:
    await streams.create("s", content_type=content_type)
    assert [message async for message in streams.tail("s", live=False)] == []
    for number in range(500):
        await streams.append("s", b"%d" % number)
    tail = streams.tail("s", live=False)
    found = [await anext(tail)]
    last = await streams.append("s", b"500")  # before it is at the tail
    found += [message async for message in tail]
    assert [message.data for message in found] == [b"%d" % number for number in range(501)]
    await asyncio.sleep(0)
    assert followers(streams, "s") == 0
    assert [one async for one in streams.tail("s", last.next_offset, live=False)] == []
    assert [one async for one in streams.tail("s", "now", live=False)] == []
    await streams.close("s")
    assert [one async for one in streams.tail("s", live=False)] == found


async def test_it_is_for_one_reader(streams: Streams) -> None:
    await streams.create("s")
    tail = streams.tail("s")
    first = asyncio.create_task(tail.__anext__())
    await asyncio.sleep(0)
    for second in (anext(tail), tail.aclose()):
        with pytest.raises(RuntimeError, match=r"somebody else waits .* 's': call tail\(\) once"):
            await second
    await streams.append("s", b"1")
    assert (await first).data == b"1"
    await tail.aclose()


async def test_what_ends_it_is_said_every_time(tmp_path: Path) -> None:
    async with durable_streams.open(tmp_path) as streams:
        await streams.create("s", data=b"1")
        missing, deleted, left = (streams.tail(path) for path in ("missing", "s", "s"))
        assert (await anext(deleted)).data == b"1"
        await anext(left)
        await streams.delete("s")
        for _ in range(2):
            for tail in (missing, deleted):
                with pytest.raises(StreamNotFound):
                    await anext(tail)
        await streams.create("missing", data=b"now")  # whoever asks again
        assert (await anext(missing)).data == b"now"
    for _ in range(2):
        with pytest.raises(NotOpen):
            await anext(left)
    await left.aclose()


def test_it_is_exported() -> None:
    assert durable_streams.Tail is Tail
    assert "Tail" in durable_streams.__all__
