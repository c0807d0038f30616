"""Streams that expire: not while somebody follows them (protocol §5.1); in virtual time."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.files import names
from durable_streams.filestore.pipeline.pipeline import Pipeline
from durable_streams.filestore.streams.stream import Stream
from durable_streams.filestore.tuning import Tuning
from durable_streams.filestore.verbs import uses
from durable_streams.filestore.verbs.wheel import HORIZON_S
from durable_streams.library import Streams
from durable_streams.model.commands import Create, ForkRequest, Lifetime
from durable_streams.model.errors import StreamExists, StreamGone, StreamNotFound
from durable_streams.model.paths import parse_path_text
from durable_streams.settings import Settings
from tests.filestore.engine.test_lifetimes import BYTES, CountingDisk, live, make, on_disk, passes
from tools.inside import catalog, hold_back_what_is_submitted, loaded, now_ms, set_clock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path
    from weakref import ref

    from durable_streams.filestore.store import FileStore
    from durable_streams.model.paths import StreamPath
    from tools.simulation.scheduler import Scheduler

TTL_S = 60


@pytest.fixture(autouse=True)
def nothing_blocks_the_loop() -> None:
    """The simulated executor does its jobs on the loop's thread, so everything does."""


async def long_poll(engine: FileStore) -> None:
    stream = await engine.open(("s",))
    with engine.following(stream):
        await engine.wait(stream, stream.info().tail, 3 * TTL_S)  # type: ignore[attr-defined]


async def live_read(engine: FileStore) -> None:
    await Streams(engine).read("s", "now", live=True, timeout_s=3 * TTL_S)


async def tail(engine: FileStore) -> None:
    messages = Streams(engine).tail("s")
    await anext(messages)
    await passes(3 * TTL_S)  # its consumer is busy with the first message
    await messages.aclose()


READERS = pytest.mark.parametrize("reader", [long_poll, live_read, tail])


@READERS
def test_a_ttl_counts_from_the_end_of_the_last_reader_that_follows(
    tmp_path: Path, reader: Callable[[FileStore], Awaitable[None]]
) -> None:
    async def life(engine: FileStore, _: Scheduler) -> None:
        await make(engine, "s")
        await reader(engine)
        await passes(TTL_S - 1)
        await engine.head(("s",))
        with pytest.raises(StreamExists):
            await engine.create(Create(("s",), "text/plain"), b"")
        await passes(2)
        with pytest.raises(StreamNotFound):
            await engine.head(("s",))

    live(tmp_path, CountingDisk(), life)


def test_it_counts_from_the_end_of_the_last_not_of_the_first(tmp_path: Path) -> None:
    async def life(engine: FileStore, _: Scheduler) -> None:
        await make(engine, "s")
        stream = await engine.open(("s",))
        with engine.following(stream):
            with engine.following(stream):
                await passes(TTL_S * 2)
            await passes(TTL_S * 2)
        await passes(TTL_S - 1)
        await engine.head(("s",))

    live(tmp_path, CountingDisk(), life)


def test_a_followed_stream_is_not_reclaimed_and_can_be_forked(tmp_path: Path) -> None:
    async def life(engine: FileStore, _: Scheduler) -> None:
        await make(engine, "s")
        with engine.following(await engine.open(("s",))):
            await passes(10 * TTL_S)
            assert on_disk(tmp_path, "s")
            await engine.create(Create(("fork",), BYTES, fork=ForkRequest(("s",))), b"")
        await passes(10 * TTL_S)
        with pytest.raises((StreamGone, StreamNotFound)):
            await engine.head(("s",))

    soon = Settings(reclaim_delay_s=TTL_S, reclaim_interval_s=TTL_S)
    live(tmp_path, CountingDisk(), life, settings=soon)


def last_use_on_disk_s(data: Path, path: str) -> float:
    """What is on disk a moment before the end is what a killed server would have left."""
    text = (
        data / "streams" / names.directory_of(parse_path_text(path)) / names.SIDECAR
    ).read_text()
    return int(text.partition('"last_use_ms":')[2].partition(",")[0]) / 1000


def test_a_crash_takes_some_seconds_at_most_of_the_time_that_a_stream_was_used(
    tmp_path: Path,
) -> None:
    async def life(engine: FileStore, _: Scheduler) -> None:
        await make(engine, "s", Lifetime(ttl_s=3600))
        for _second in range(100):
            await passes(1)
            await engine.open(("s",))
        now_s = now_ms(engine) / 1000
        assert now_s - 6 <= last_use_on_disk_s(tmp_path, "s") <= now_s

    live(tmp_path, CountingDisk(), life)


def test_a_crash_takes_a_minute_at_most_of_the_time_that_a_stream_was_followed(
    tmp_path: Path,
) -> None:
    async def life(engine: FileStore, _: Scheduler) -> None:
        await make(engine, "s", Lifetime(ttl_s=3600))
        with engine.following(await engine.open(("s",))):
            await passes(10_000)
            now_s = now_ms(engine) / 1000
            assert now_s - 62 <= last_use_on_disk_s(tmp_path, "s") <= now_s

    live(tmp_path, CountingDisk(), life)


def test_a_stream_whose_deletion_failed_late_is_watched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def life(engine: FileStore, _: Scheduler) -> None:
        await make(engine, "s", Lifetime(ttl_s=3600))
        stream = await engine.open(("s",))
        waiting = hold_back_what_is_submitted(engine, monkeypatch.setattr)
        engine._endings._delete(await engine._find(("s",)))
        await passes(10 * HORIZON_S)
        monkeypatch.undo()
        waiting[0].undo()
        with engine.following(stream):
            await passes(10 * HORIZON_S)
            now_s = now_ms(engine) / 1000
            assert now_s - 2 * HORIZON_S <= last_use_on_disk_s(tmp_path, "s") <= now_s

    live(tmp_path, CountingDisk(), life)


def test_idle_followers_cost_a_write_a_minute(tmp_path: Path) -> None:
    async def life(engine: FileStore, _: Scheduler) -> None:
        await make(engine, "s", Lifetime(ttl_s=100_000))
        with engine.following(await engine.open(("s",))):
            before = (await engine._find(("s",))).sidecar.version
            await passes(3600)
            written = (await engine._find(("s",))).sidecar.version - before
        assert 50 <= written <= 60

    live(tmp_path, CountingDisk(), life)


def test_many_followed_streams_are_written_a_few_at_a_time_and_not_while_writers_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def life(engine: FileStore, _: Scheduler) -> None:
        streams = []
        with ExitStack() as following:
            for number in range(300):
                await make(engine, f"s/{number}", Lifetime(ttl_s=3600))
                streams.append(await engine._find(("s", f"{number}")))
                following.enter_context(engine.following(streams[-1]))
            await passes(40)
            written, most = sum(stream.sidecar.version for stream in streams), 0
            for _tick in range(100):
                await passes(0.5)
                now = sum(stream.sidecar.version for stream in streams)
                most, written = max(most, now - written), now
            assert 0 < most <= 64
            assert {stream.sidecar.version for stream in streams} == {2}
            with monkeypatch.context() as patch:
                patch.setattr(Pipeline, "is_held_up", lambda _self: True)
                await passes(200)
            assert sum(stream.sidecar.version for stream in streams) == written

    live(tmp_path, CountingDisk(), life)


def test_the_last_use_of_a_stream_that_the_cache_has_dropped_is_remembered(tmp_path: Path) -> None:
    async def life(engine: FileStore, _: Scheduler) -> None:
        await make(engine, "s", Lifetime(ttl_s=16))
        with engine.following(await engine.open(("s",))):
            for number in range(5):
                await make(engine, f"other/{number}")
            await passes(100.3)
        left_ms = now_ms(engine)
        await passes(1)
        assert loaded(engine, "s") is None
        assert (await engine._find(("s",))).last_use_ms >= left_ms

    live(tmp_path, CountingDisk(), life, settings=Settings(max_open_streams=1))


def test_a_drain_remembers_when_followed_streams_were_last_used(tmp_path: Path) -> None:
    async def follow_to_the_end(engine: FileStore, _: Scheduler) -> None:
        await make(engine, "s")
        engine.following(await engine.open(("s",))).__enter__()
        await passes(10 * TTL_S)

    async def restarted(engine: FileStore, _: Scheduler) -> None:
        await passes(TTL_S - 2)
        await engine.head(("s",))

    ended = live(tmp_path, CountingDisk(), follow_to_the_end)
    live(tmp_path, CountingDisk(), restarted, now=ended)


def test_an_expiry_time_ends_a_stream_and_its_readers_all_the_same(tmp_path: Path) -> None:
    async def life(engine: FileStore, _: Scheduler) -> None:
        end_ms = now_ms(engine) + TTL_S * 1000
        await make(engine, "s", Lifetime(None, "as the client wrote it", end_ms))
        stream = await engine.open(("s",))
        with engine.following(stream):
            with pytest.raises(StreamNotFound):
                await engine.wait(stream, (await engine._find(("s",))).durable.offset, 1000.0)
            with pytest.raises(StreamNotFound):  # one that was catching up, too
                await engine.read(stream, (await engine._find(("s",))).durable.offset)

    live(tmp_path, CountingDisk(), life)


def test_only_the_streams_that_were_used_or_whose_time_has_come_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[StreamPath] = []
    is_expired = Stream.is_expired
    unwritten = uses._unwritten_too_long

    def noted(stream: Stream, now_ms: int) -> bool:
        looked.append(stream.path)
        return is_expired(stream, now_ms)

    def noted_too(stream: Stream) -> bool:
        looked.append(stream.path)
        return unwritten(stream)

    async def life(engine: FileStore, _: Scheduler) -> None:
        for number in range(200):
            await make(engine, f"s/{number}", Lifetime(ttl_s=100_000))
        readers = [
            asyncio.ensure_future(engine.wait(stream, stream.info().tail, 1e9))
            for stream in catalog(engine).mortal()
        ]
        await passes(HORIZON_S)
        looked.clear()
        monkeypatch.setattr(Stream, "is_expired", noted)
        monkeypatch.setattr(uses, "_unwritten_too_long", noted_too)
        await passes(HORIZON_S + 2)
        assert len(set(looked)) == 200
        assert len(looked) <= 2 * 200  # once or twice each, where it was 120 times
        await engine.open(("s", "7"))
        looked.clear()
        await passes(1)
        assert looked.count(("s", "7")) <= 4
        assert ("s", "7") in looked
        for reader in readers:
            reader.cancel()

    live(tmp_path, CountingDisk(), life)


def test_streams_that_are_due_together_are_looked_at_in_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices: list[int] = []

    async def life(engine: FileStore, _: Scheduler) -> None:
        look = engine._uses._look

        def noted(due: list[ref[Stream]]) -> None:
            slices.append(len(due))
            look(due)

        monkeypatch.setattr(engine._uses, "_look", noted)
        for number in range(33):
            await make(engine, f"s/{number}", Lifetime(ttl_s=100_000))
        await passes(HORIZON_S + 2)
        assert sum(slices) == 33
        assert max(slices) == 5

    live(tmp_path, CountingDisk(), life, tuning=Tuning(uses_slice=5))


@pytest.mark.parametrize("most", [3, 2])
def test_so_many_uses_wait_to_be_written_and_others_for_the_next_use(
    tmp_path: Path, most: int
) -> None:
    async def used(engine: FileStore) -> int:
        """Use all streams; how many of them have it in their sidecar then."""
        for number in range(3):
            await engine.open(("s", f"{number}"))
        await passes(2)
        return sum(stream.sidecar.version > 1 for stream in catalog(engine).mortal())

    async def life(engine: FileStore, _: Scheduler) -> None:
        for number in range(3):
            await make(engine, f"s/{number}", Lifetime(ttl_s=3600))
        await passes(10)
        assert await used(engine) == most
        assert await used(engine) == 3

    live(tmp_path, CountingDisk(), life, tuning=Tuning(most_unwritten=most))


def test_a_jump_of_the_clock_sends_readers_of_expired_streams_away_at_once(tmp_path: Path) -> None:
    async def life(engine: FileStore, scheduler: Scheduler) -> None:
        end_ms = now_ms(engine) + 1000 * 86_400
        await make(engine, "s", Lifetime(None, "as the client wrote it", end_ms))
        stream = await engine.open(("s",))
        waiting = asyncio.ensure_future(
            engine.wait(stream, (await engine._find(("s",))).durable.offset, 1000.0)
        )
        await passes(2)
        wall_ms = scheduler.now_ms
        jumped = lambda: wall_ms() + 2 * 1000 * 86_400  # noqa: E731
        set_clock(engine, jumped)
        await passes(2)
        assert waiting.done()
        with pytest.raises(StreamNotFound):
            await waiting

    live(tmp_path, CountingDisk(), life)
