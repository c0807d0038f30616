"""Streams that expire: not while somebody follows them (protocol §5.1); in virtual time."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from durable_streams.errors import StreamExists, StreamGone, StreamNotFound
from durable_streams.library import Streams
from durable_streams.protocol.commands import Create, ForkRequest, Lifetime
from durable_streams.settings import Settings
from durable_streams.storage import names
from tests.engine.test_lifetimes import BYTES, CountingDisk, live, make, on_disk, passes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from durable_streams.engine.engine import Engine
    from tests.simulation.scheduler import Scheduler

TTL_S = 60


@pytest.fixture(autouse=True)
def nothing_blocks_the_loop() -> None:
    """The simulated executor does its jobs on the loop's thread, so everything does."""


async def long_poll(engine: Engine) -> None:
    stream = await engine.open_stream("s")
    with engine.following(stream):
        await engine.wait(stream, stream.info().tail, 3 * TTL_S)  # type: ignore[attr-defined]


async def live_read(engine: Engine) -> None:
    await Streams(engine).read("s", "now", live=True, timeout_s=3 * TTL_S)


async def tail(engine: Engine) -> None:
    messages = Streams(engine).tail("s")
    await anext(messages)
    await passes(3 * TTL_S)  # its consumer is busy with the first message
    await messages.aclose()  # type: ignore[attr-defined]


READERS = pytest.mark.parametrize("reader", [long_poll, live_read, tail])


@READERS
def test_a_ttl_counts_from_the_end_of_the_last_reader_that_follows(
    tmp_path: Path, reader: Callable[[Engine], Awaitable[None]]
) -> None:
    async def life(engine: Engine, _: Scheduler) -> None:
        await make(engine, "s")
        await reader(engine)
        await passes(TTL_S - 1)
        await engine.head("s")
        with pytest.raises(StreamExists):
            await engine.create(Create("s", "text/plain"), b"")
        await passes(2)
        with pytest.raises(StreamNotFound):
            await engine.head("s")

    live(tmp_path, CountingDisk(), life)


def test_it_counts_from_the_end_of_the_last_not_of_the_first(tmp_path: Path) -> None:
    async def life(engine: Engine, _: Scheduler) -> None:
        await make(engine, "s")
        stream = await engine.open_stream("s")
        with engine.following(stream):
            with engine.following(stream):
                await passes(TTL_S * 2)
            await passes(TTL_S * 2)
        await passes(TTL_S - 1)
        await engine.head("s")

    live(tmp_path, CountingDisk(), life)


def test_a_followed_stream_is_not_reclaimed_and_can_be_forked(tmp_path: Path) -> None:
    async def life(engine: Engine, _: Scheduler) -> None:
        await make(engine, "s")
        with engine.following(await engine.open_stream("s")):
            await passes(10 * TTL_S)
            assert on_disk(tmp_path, "s")
            await engine.create(Create("fork", BYTES, fork=ForkRequest("s")), b"")
        await passes(10 * TTL_S)
        with pytest.raises((StreamGone, StreamNotFound)):
            await engine.head("s")

    soon = Settings(reclaim_delay_s=TTL_S, reclaim_interval_s=TTL_S)
    live(tmp_path, CountingDisk(), life, settings=soon)


def last_use_on_disk_s(data: Path, path: str) -> float:
    """What is on disk a moment before the end is what a killed server would have left."""
    text = (data / "streams" / names.directory_of(path) / names.SIDECAR).read_text()
    return int(text.partition('"last_use_ms":')[2].partition(",")[0]) / 1000


def test_a_crash_takes_some_seconds_at_most_of_the_time_that_a_stream_was_used(
    tmp_path: Path,
) -> None:
    async def life(engine: Engine, _: Scheduler) -> None:
        await make(engine, "s", Lifetime(ttl_s=3600))
        for _second in range(100):
            await passes(1)
            await engine.open_stream("s")
        now_s = engine._core.now_ms() / 1000
        assert now_s - 6 <= last_use_on_disk_s(tmp_path, "s") <= now_s

    live(tmp_path, CountingDisk(), life)


def test_a_crash_takes_a_minute_at_most_of_the_time_that_a_stream_was_followed(
    tmp_path: Path,
) -> None:
    async def life(engine: Engine, _: Scheduler) -> None:
        await make(engine, "s", Lifetime(ttl_s=3600))
        with engine.following(await engine.open_stream("s")):
            await passes(10_000)
            now_s = engine._core.now_ms() / 1000
            assert now_s - 62 <= last_use_on_disk_s(tmp_path, "s") <= now_s

    live(tmp_path, CountingDisk(), life)


def test_idle_followers_cost_a_write_a_minute(tmp_path: Path) -> None:
    async def life(engine: Engine, _: Scheduler) -> None:
        await make(engine, "s", Lifetime(ttl_s=100_000))
        with engine.following(await engine.open_stream("s")):
            before = (await engine._find("s")).sidecar.version
            await passes(3600)
            written = (await engine._find("s")).sidecar.version - before
        assert 50 <= written <= 60

    live(tmp_path, CountingDisk(), life)


def test_many_followed_streams_are_written_a_few_at_a_time_and_not_while_writers_wait(
    tmp_path: Path,
) -> None:
    async def life(engine: Engine, _: Scheduler) -> None:
        streams = []
        with ExitStack() as following:
            for number in range(300):
                await make(engine, f"s/{number}", Lifetime(ttl_s=3600))
                streams.append(await engine._find(f"s/{number}"))
                following.enter_context(engine.following(streams[-1]))
            await passes(40)
            written, most = sum(stream.sidecar.version for stream in streams), 0
            for _tick in range(100):
                await passes(0.5)
                now = sum(stream.sidecar.version for stream in streams)
                most, written = max(most, now - written), now
            assert 0 < most <= 64
            assert {stream.sidecar.version for stream in streams} == {2}
            engine._core.held_up = lambda: True  # type: ignore[method-assign]
            await passes(200)
            assert sum(stream.sidecar.version for stream in streams) == written
            del engine._core.held_up

    live(tmp_path, CountingDisk(), life)


def test_the_last_use_of_a_stream_that_the_cache_has_dropped_is_remembered(tmp_path: Path) -> None:
    async def life(engine: Engine, _: Scheduler) -> None:
        await make(engine, "s", Lifetime(ttl_s=16))
        with engine.following(await engine.open_stream("s")):
            for number in range(5):
                await make(engine, f"other/{number}")
            await passes(100.3)
        left_ms = engine._core.now_ms()
        await passes(1)
        assert engine._core.catalog.cached("s") is None
        assert (await engine._find("s")).last_use_ms >= left_ms

    live(tmp_path, CountingDisk(), life, settings=Settings(max_open_streams=1))


def test_a_drain_remembers_when_followed_streams_were_last_used(tmp_path: Path) -> None:
    async def follow_to_the_end(engine: Engine, _: Scheduler) -> None:
        await make(engine, "s")
        engine.following(await engine.open_stream("s")).__enter__()
        await passes(10 * TTL_S)

    async def restarted(engine: Engine, _: Scheduler) -> None:
        await passes(TTL_S - 2)
        await engine.head("s")

    ended = live(tmp_path, CountingDisk(), follow_to_the_end)
    live(tmp_path, CountingDisk(), restarted, now=ended)


def test_an_expiry_time_ends_a_stream_and_its_readers_all_the_same(tmp_path: Path) -> None:
    async def life(engine: Engine, _: Scheduler) -> None:
        end_ms = engine._core.now_ms() + TTL_S * 1000
        await make(engine, "s", Lifetime(None, "as the client wrote it", end_ms))
        stream = await engine.open_stream("s")
        with engine.following(stream):
            with pytest.raises(StreamNotFound):
                await engine.wait(stream, (await engine._find("s")).durable.offset, 1000.0)
            with pytest.raises(StreamNotFound):  # one that was catching up, too
                await engine.read(stream, (await engine._find("s")).durable.offset)

    live(tmp_path, CountingDisk(), life)
