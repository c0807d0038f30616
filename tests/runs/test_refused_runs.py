"""Runs whose store refuses something for a while: what was begun is ended all the same."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

import durable_streams
from durable_streams import DiskFull, Forbidden, StreamExists, Unavailable
from durable_streams.runs import JSON, End, Runs, State
from durable_streams.runs.abandoned import Sweeper
from durable_streams.runs.records import Records
from durable_streams.runs.states import Claim, Places
from durable_streams.settings import Settings
from tests.runs.conftest import LEASE_S, Led, Refusing
from tests.runs.test_runs import all_of, first_of

if TYPE_CHECKING:
    from pathlib import Path

    from durable_streams.listing import ListedStream
    from tests.client.conftest import AnyStreams


async def test_one_run_that_cannot_be_ended_keeps_no_other_from_its_end(
    streams: AnyStreams,
) -> None:
    """It has its next turn when its worker has been silent for one more lease."""
    places = Places("runs")
    refusing = Refusing(streams)
    records = Records(refusing, places, None)
    for worker, names in (("w1", ["bad", "hangs", "good"]), ("w2", ["fine"]), ("w3", [])):
        path = places.worker(worker)
        await streams.create(path, content_type="application/json")
        await streams.append_json(path, {"lease_s": LEASE_S}, *({"run": name} for name in names))
        for name in names:
            await records.claim(name, Claim(worker, "1", "text"))
            await records.open(name, "text")
    refusing.refuse("append", places.control("bad"), Forbidden("not yours"))
    refusing.refuse("append", places.control("hangs"), Unavailable("not now"))
    refusing.refuse("close", places.worker("w3"), Forbidden("not yours"))
    sweeper = Sweeper(records, LEASE_S, ending_s=0.05)
    for _ in range(4):
        await sweeper.look(set())
    ends = {name: (await records.find(name)).end for name in ("bad", "hangs", "good", "fine")}
    assert [name for name, end in ends.items() if end is None] == ["bad", "hangs"]
    left = [places.worker("w1"), places.worker("w3")]
    assert [s.path async for s in streams.list("runs/~workers")] == left
    refusing.allow()
    await sweeper.look(set())
    assert (await records.find("bad")).end is None
    for _ in range(3):
        await sweeper.look(set())
    assert (await records.find("bad")).end is not None
    assert (await records.find("hangs")).end is not None
    assert [s.path async for s in streams.list("runs/~workers")] == []


async def test_nobody_is_silent_while_nothing_can_be_written(streams: AnyStreams) -> None:
    """Streams can be read though the disk is full: then no worker can give a sign of life."""
    refusing = Refusing(streams)
    async with Runs(streams) as runs:
        await runs.hold("r", JSON)
        (worker,) = [s.path async for s in streams.list("runs/~workers")]
        sweeper = Sweeper(Records(refusing, Places("runs"), None), 15.0)
        await sweeper.look(set())
        refusing.refuse("append", "", DiskFull("no room"))
        for _ in range(10):
            with pytest.raises(DiskFull):
                await sweeper.look(set())
        refusing.allow()
        for _ in range(2):
            await sweeper.look(set())
        assert (await runs.status("r")).state is State.RUNNING
        await sweeper.look(set())
        assert (await runs.status("r")).state is State.ABANDONED
        left = [s.path async for s in streams.list("runs") if "/~" in s.path]
        assert worker not in left
        assert left == ["runs/r/~run"]


async def test_a_sign_of_life_that_comes_after_the_last_look_counts(
    streams: AnyStreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Runs(streams) as runs:
        await runs.hold("r", JSON)
        sweeper = Sweeper(Records(streams, Places("runs"), None), 15.0)
        as_listed = await sweeper._workers()

        async def listed() -> list[ListedStream]:
            return as_listed

        monkeypatch.setattr(sweeper, "_workers", listed)
        await streams.append_json(as_listed[0].path, {})
        for _ in range(4):
            await sweeper.look(set())
        assert (await runs.status("r")).state is State.RUNNING


async def test_a_group_may_have_more_runs_than_a_stream_may_have_producers(tmp_path: Path) -> None:
    settings = Settings(max_producers=3)
    async with (
        durable_streams.open(tmp_path / "data", settings) as streams,
        Runs(streams, drain_s=0) as runs,
        Runs(streams, drain_s=0) as others,
    ):
        for number in range(5):
            await runs.start(f"r/{number}", Led(), group="g")
            assert (await others.stop(f"r/{number}")).state is State.STOPPED
        latest = await runs.latest("g")
        assert latest is not None
        assert latest.name == "r/4"


async def test_who_ends_while_a_held_run_cannot_be_ended_leaves_it_to_others(
    streams: AnyStreams,
) -> None:
    refusing = Refusing(streams)
    async with Runs(refusing, drain_s=0) as runs:
        await runs.hold("r", JSON)
        refusing.refuse("append", "runs/r/~run", Unavailable("not now"))
    (worker,) = [s.path async for s in streams.list("runs/~workers")]
    await Sweeper(Records(streams, Places("runs"), None), LEASE_S).bury(worker)
    assert (await streams.get_metadata("runs/r")).closed


@pytest.mark.parametrize("path", ["runs/~workers/", "runs/r/~run", "runs/r"])
async def test_a_run_is_held_as_soon_as_the_store_is_back(streams: AnyStreams, path: str) -> None:
    refusing = Refusing(streams)
    async with Runs(refusing) as runs:
        refusing.refuse("create", path, Unavailable("not now"))
        holding = asyncio.create_task(runs.hold("r", JSON))
        await refusing.seen.wait()
        refusing.allow()
        assert await holding == "runs/r"
        assert (await runs.status("r")).state is State.RUNNING
        await runs.release("r")
        assert await all_of(runs, "r") == ([], End(State.DONE))


async def test_what_is_under_way_keeps_its_claim_for_longer_than_the_ttl(
    streams: AnyStreams,
) -> None:
    led, refusing = Led(), Refusing(streams)
    async with Runs(refusing, ttl_s=1) as runs:
        await runs.start("r", led, limit_s=None)
        refusing.refuse("tail", "runs/r/~run", Unavailable("not now"))
        await refusing.seen.wait()  # and the next time is not too late
        refusing.allow()
        refusing.refuse("tail", "runs/r", Unavailable("not now"), but="runs/r/~run")
        refusing.seen.clear()
        await refusing.seen.wait()
        refusing.allow()
        led.give("all", None)
        assert await all_of(runs, "r") == (["all"], End(State.DONE))


async def test_the_stream_of_a_run_whose_claim_is_gone_is_closed(streams: AnyStreams) -> None:
    async with Runs(streams) as runs:
        for name in ("released", "abandoned"):
            await runs.hold(name, JSON)
            await streams.delete(f"runs/{name}/~run")
        await runs.release("released")
        assert (await streams.get_metadata("runs/released")).closed
        (worker,) = [s.path async for s in streams.list("runs/~workers")]
        await Sweeper(Records(streams, Places("runs"), None), LEASE_S).bury(worker)
        assert (await streams.get_metadata("runs/abandoned")).closed


async def ended(streams: AnyStreams, name: str) -> None:
    """Wait until a run has ended, and its worker has said so."""
    (worker,) = [s.path async for s in streams.list("runs/~workers")]
    async with aclosing(streams.tail(worker)) as messages:
        async for message in messages:
            if message.json() == {"over": name}:
                return


async def test_a_run_that_could_not_be_held_is_ended(streams: AnyStreams) -> None:
    refusing = Refusing(streams)
    async with Runs(refusing, lease_s=LEASE_S) as runs:
        refusing.refuse("create", "runs/r", Forbidden("not yours"), but="runs/r/~run")
        with pytest.raises(Forbidden):
            await runs.hold("r", JSON)
        with pytest.raises(StreamExists):
            await runs.hold("r", JSON)
        refusing.allow()
        await ended(streams, "r")
        assert (await runs.status("r")).reason == "it could not be started"
        assert (await streams.get_metadata("runs/r")).closed


async def test_an_end_that_is_refused_comes_when_it_is_allowed(streams: AnyStreams) -> None:
    """As when a token has expired, and is replaced: nobody else ends the runs of who lives."""
    led, refusing = Led(), Refusing(streams)
    async with Runs(refusing, lease_s=LEASE_S) as runs:
        await runs.hold("held", JSON)
        await runs.start("carried", led)
        refusing.refuse("append", "runs/held/~run", Forbidden("not yours"))
        refusing.refuse("append", "runs/carried/~run", Forbidden("not yours"))
        with pytest.raises(Forbidden):
            await runs.release("held")
        led.give("all", None)
        await led.closed.wait()
        assert (await first_of(runs, "carried")).value == "all"
        refusing.allow()
        assert await all_of(runs, "carried") == (["all"], End(State.DONE))
        assert await all_of(runs, "held") == ([], End(State.DONE))
