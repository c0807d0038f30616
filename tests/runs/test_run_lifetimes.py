"""Until when a run is there, and what is found in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import durable_streams
from durable_streams import StreamNotFound
from durable_streams.filestore.store import FileStore
from durable_streams.runs import JSON, End, Runs, State, wire
from tests.runs.conftest import Led
from tests.runs.test_runs import all_of
from tools import inside

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from durable_streams import Streams

TTL_S = 100


class Clock:
    """The wall clock of the streams."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms

    def passes(self, seconds: float) -> None:
        self.now_ms += round(seconds * 1000)


@pytest.fixture
async def streams(tmp_path: Path) -> AsyncIterator[Streams]:
    async with durable_streams.open(tmp_path / "data") as opened:
        yield opened


@pytest.fixture
async def clock(streams: Streams) -> Clock:
    engine = streams.engine
    assert isinstance(engine, FileStore)
    made = Clock(inside.now_ms(engine))
    inside.set_clock(engine, made)
    return made


@pytest.fixture
async def runs(streams: Streams, clock: Clock) -> AsyncIterator[Runs]:
    async with Runs(streams, ttl_s=TTL_S, drain_s=0) as opened:
        yield opened


async def carried(runs: Runs, *items: object) -> None:
    """Have the run of the chat carried to its end."""
    led = Led()
    led.give(*items, None)
    assert (await runs.start("chat/1", led, format=JSON, group="chat", limit_s=TTL_S / 2)).is_new
    assert await all_of(runs, "chat/1") == (list(items), End(State.DONE))


async def test_a_run_is_gone_its_time_after_its_last_use(
    runs: Runs, streams: Streams, clock: Clock
) -> None:
    await carried(runs, "first")
    clock.passes(TTL_S - 1)
    assert (await all_of(runs, "chat/1"))[0] == ["first"]  # which is a use
    clock.passes(TTL_S - 1)
    assert (await runs.status("chat/1")).state is State.DONE
    clock.passes(TTL_S)
    for asking in (runs.status("chat/1"), runs.stop("chat/1"), all_of(runs, "chat/1")):
        with pytest.raises(StreamNotFound):
            await asking
    assert await runs.latest("chat") is None
    for reply in (await wire.events(runs, "chat/1"), await wire.text(runs, "chat/1")):
        assert reply.status == 404
    left = [stream.path async for stream in streams.list("runs")]
    assert all(path.startswith("runs/~workers/") for path in left)


async def test_the_name_of_a_run_that_is_gone_is_free_and_old_offsets_give_nothing_of_the_old(
    runs: Runs, clock: Clock
) -> None:
    await carried(runs, "first", "second")
    (first, *_) = [piece async for piece in runs.read("chat/1")]
    clock.passes(TTL_S)
    await carried(runs, "another")
    assert await all_of(runs, "chat/1") == (["another"], End(State.DONE))
    reply = await wire.events(runs, "chat/1", first.offset)
    told = b"".join([part async for part in reply.body])
    assert b"second" not in told
    assert b"event: end\n" in told
