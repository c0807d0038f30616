"""Runs: started once, read by anybody, ended in one way, whoever is gone meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from durable_streams import InvalidRequest, NotOpen, StreamClosed, StreamNotFound
from durable_streams.runs import JSON, TEXT, UI_MESSAGES, End, Piece, RunFailed, Runs, State
from durable_streams.runs.abandoned import Sweeper
from durable_streams.runs.records import Records
from durable_streams.runs.states import Claim, Places
from tests.runs.conftest import LEASE_S, Led

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from durable_streams.runs import Format
    from tests.client.conftest import AnyStreams


async def all_of(runs: Runs, name: str, offset: str = "-1") -> tuple[list[Any], End]:
    """The items of a run, and its end; of text, all of it."""
    pieces = [piece async for piece in runs.read(name, offset)]
    end = pieces.pop().end
    assert end is not None
    return [piece.value for piece in pieces], end


async def first_of(runs: Runs, name: str) -> Piece:
    """What a run yields first, as soon as it is there."""
    reading = runs.read(name)
    try:
        return await anext(reading)
    finally:
        await reading.aclose()


async def test_every_item_is_there_once_in_order_and_then_the_end(runs: Runs) -> None:
    async def numbers() -> AsyncIterator[object]:
        for number in range(1000):
            yield {"number": number}
            if number % 100 == 0:
                await asyncio.sleep(0)

    begun = await runs.start("numbers", numbers(), format=JSON)
    assert begun.is_new
    items, end = await all_of(runs, "numbers")
    assert items == [{"number": number} for number in range(1000)]
    assert end == End(State.DONE)


async def test_who_reads_on_from_an_offset_gets_the_rest(runs: Runs) -> None:
    led = Led()
    await runs.start("r", led, format=JSON)
    led.give(1, 2, 3, 4, None)
    second = [piece async for piece in runs.read("r")][1]
    assert second.value == 2
    assert await all_of(runs, "r", second.offset) == ([3, 4], End(State.DONE))


async def test_a_second_start_finds_the_first_and_leaves_its_source_alone(
    runs: Runs, streams: AnyStreams
) -> None:
    first, second = Led(), Led()
    begun = await runs.start("r", first, format=JSON)
    async with Runs(streams) as others:
        again = await others.start("r", second, format=JSON)
        assert (begun.is_new, again.is_new, again.path) == (True, False, begun.path)
        first.give("a", None)
        assert await all_of(others, "r") == (["a"], End(State.DONE))
        assert not (await others.start("r", second)).is_new  # it has ended, and stays the answer
    assert second.begun == 0


async def test_of_many_that_start_a_run_at_once_one_does(streams: AnyStreams) -> None:
    led = Led()
    led.give("x", None)
    async with Runs(streams) as one, Runs(streams) as other:
        starts = [runs.start("r", led) for runs in (one, other) for _ in range(5)]
        assert sum(run.is_new for run in await asyncio.gather(*starts)) == 1
        assert await all_of(other, "r") == (["x"], End(State.DONE))
    assert led.begun == 1


async def test_a_run_goes_on_when_who_started_it_is_cancelled(runs: Runs) -> None:
    led = Led()
    led.give("x", None)
    starting = asyncio.ensure_future(runs.start("r", led))
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await runs.start("r", led)  # whichever of both it was
    assert await all_of(runs, "r") == (["x"], End(State.DONE))
    assert led.begun == 1


async def test_a_stop_from_elsewhere_ends_a_run_that_yields_nothing(
    runs: Runs, streams: AnyStreams
) -> None:
    led = Led()
    await runs.start("r", led)
    led.give("half")
    assert (await first_of(runs, "r")).value == "half"
    async with Runs(streams) as others:
        status = await others.stop("r", "enough")
        assert (status.state, status.reason) == (State.STOPPED, "enough")
        assert (await others.stop("r", "again")).reason == "enough"
    await led.closed.wait()
    assert await all_of(runs, "r") == (["half"], End(State.STOPPED, "enough"))


async def test_what_was_never_started_cannot_be_stopped(runs: Runs) -> None:
    with pytest.raises(StreamNotFound):
        await runs.stop("nothing")
    with pytest.raises(StreamNotFound):
        await runs.status("nothing")
    assert await runs.latest("nobody") is None


class Bad(Exception):
    """A failure that readers are not to see."""


@pytest.mark.parametrize(
    ("error", "reason"),
    [(RunFailed("the model is busy"), "the model is busy"), (Bad("secret"), "it failed: Bad")],
)
async def test_a_source_that_fails_fails_its_run(runs: Runs, error: Exception, reason: str) -> None:
    async def failing() -> AsyncIterator[str]:
        yield "half"
        raise error

    await runs.start("r", failing)
    assert await all_of(runs, "r") == (["half"], End(State.FAILED, reason))


async def test_a_source_that_takes_too_long_is_closed(runs: Runs) -> None:
    led = Led()
    led.give("half")
    await runs.start("r", led, limit_s=0.2)
    items, end = await all_of(runs, "r")
    assert items == ["half"]
    assert end == End(State.FAILED, "it took longer than the 0.2 s that it may take")
    await led.closed.wait()


async def test_a_run_ends_though_its_source_cannot_be_cancelled(runs: Runs) -> None:
    go_on = asyncio.Event()

    async def stubborn() -> AsyncIterator[str]:
        yield "half"
        while not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                continue
        yield "too late"

    await runs.start("r", stubborn)
    assert (await first_of(runs, "r")).value == "half"
    await runs.stop("r")
    assert await all_of(runs, "r") == (["half"], End(State.STOPPED, "it was stopped"))
    go_on.set()


async def test_runs_of_a_process_that_ends_are_ended_and_it_leaves_nothing(
    streams: AnyStreams,
) -> None:
    led = Led()
    async with Runs(streams, drain_s=0) as runs:
        await runs.start("r", led)
        led.give("half")
        assert (await first_of(runs, "r")).value == "half"
    assert led.closed.is_set()
    async with Runs(streams) as others:
        status = await others.status("r")
    assert (status.state, status.reason) == (
        State.ABANDONED,
        "the process that carried it was shut down",
    )
    assert [s.path async for s in streams.list("runs/~workers")] == []
    with pytest.raises(NotOpen):
        await others.start("s", led)


async def test_runs_of_a_process_without_a_sign_of_life_are_ended(streams: AnyStreams) -> None:
    """Here it never gives one; of killed ones see ``test_killed_runs``."""
    places = Places("runs")
    records = Records(streams, places, None)
    await streams.create(places.worker("gone"), content_type="application/json")
    await streams.append_json(places.worker("gone"), {"lease_s": LEASE_S}, {"run": "r"})
    await records.claim("r", Claim("gone", "1", "text"))
    await records.open("r", "text")
    await streams.append(places.answer("r"), b"half", content_type="text/plain; charset=utf-8")
    async with Runs(streams, lease_s=LEASE_S) as runs:
        reason = "the process that carried it gave no sign of life for 0.3 s"
        assert await all_of(runs, "r") == (["half"], End(State.ABANDONED, reason))


async def test_three_looks_without_a_sign_of_life_are_needed_to_end_a_run(
    streams: AnyStreams,
) -> None:
    async with Runs(streams) as one, Runs(streams) as other:
        await one.start("r", Led())
        assert one._worker is not None
        sweeper = Sweeper(other._records, other._lease_s)
        for _ in range(3):
            await sweeper.look(set())
            await sweeper.look(set())
            await sweeper.look(set())
            assert (await other.status("r")).state is State.RUNNING
            await one._worker.note()
        await sweeper.look(set())
        await sweeper.look(set())
        await sweeper.look(set())
        await sweeper.look(set())
        assert (await other.status("r")).state is State.ABANDONED


async def test_a_process_that_was_paused_too_long_cannot_go_on_with_its_run(
    streams: AnyStreams,
) -> None:
    led, another = Led(), Led()
    async with Runs(streams) as paused, Runs(streams) as others:
        await paused.start("r", led)
        led.give("half")
        assert (await first_of(others, "r")).value == "half"
        worker = paused._worker
        assert worker is not None
        await others._sweeper.bury(worker.path)
        led.give("too late", None)  # it knows nothing of that yet
        items, end = await all_of(others, "r")
        assert (items, end.state) == (["half"], State.ABANDONED)
        await led.closed.wait()
        assert (await paused.start("s", another)).is_new  # as another worker
        another.give("well", None)
        assert await all_of(others, "s") == (["well"], End(State.DONE))


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("form", [TEXT, UI_MESSAGES])
async def test_a_crash_between_any_two_steps_leaves_what_somebody_ends(
    streams: AnyStreams, steps: int, form: Format
) -> None:
    """Claimed, opened, its end written: and then the process is gone, and its worker forgotten."""
    records = Records(streams, Places("runs"), None)
    await records.claim("r", Claim("gone", "1", form.name))
    if steps > 1:
        await records.open("r", form.name)
    if steps > 2:
        data = b'{"state": "failed", "reason": "so"}'
        await streams.append("runs/r/~run", data, content_type="application/json", close=True)
    async with Runs(streams) as runs:
        led = Led()
        assert not (await runs.start("r", led)).is_new
        status = await runs.status("r")
        assert status.state is (State.FAILED if steps > 2 else State.ABANDONED)
        items, end = await all_of(runs, "r")
        told = [] if form is TEXT else [{"type": "error", "errorText": status.reason}]
        assert (items, end) == (told, End(status.state, status.reason))
        assert led.begun == 0
    assert (await streams.get_metadata("runs/r")).closed


async def test_the_end_that_came_first_stays(streams: AnyStreams) -> None:
    records = Records(streams, Places("runs"), None)
    await records.claim("r", Claim("w", "1", "json"))
    await records.open("r", "json")
    ends = [End(State.STOPPED, "a"), End(State.ABANDONED, "b"), End(State.DONE)]
    found = await asyncio.gather(*(records.end("r", end) for end in ends))
    assert len({(end.state, end.reason) for end in found}) == 1
    with pytest.raises(StreamClosed):
        await streams.append_json("runs/r", "too late")
    messages = [m.json() async for m in streams.tail("runs/r")]
    assert messages == [{"$run": found[0].plain()}]


async def test_the_latest_run_of_a_group_is_found(runs: Runs) -> None:
    led = Led()
    led.give(None)
    await runs.start("chat/1", led, group="chat")
    await runs.start("chat/2", led, group="chat")
    latest = await runs.latest("chat")
    assert latest is not None
    assert (latest.name, latest.path) == ("chat/2", "runs/chat/2")


@pytest.mark.parametrize("name", ["", "~run", "a/~run", "a//b", "/a", "a/"])
async def test_names_that_cannot_be_are_refused(runs: Runs, name: str) -> None:
    with pytest.raises(InvalidRequest):
        await runs.start(name, Led())


async def test_arguments_that_cannot_be_are_refused(runs: Runs, streams: AnyStreams) -> None:
    with pytest.raises(InvalidRequest):
        await runs.start("r", Led(), limit_s=0)
    with pytest.raises(TypeError):
        await runs.start("r", Led(), format="text")  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        Runs(streams, lease_s=0)
    with pytest.raises(ValueError):
        Runs(streams, drain_s=-1)
