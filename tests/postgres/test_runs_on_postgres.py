"""Runs in a database: the tests of ``tests/runs``, two nodes, and one that is killed.

Those that have two processes have two nodes here, each with connections of its own.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import pytest

import durable_streams
from durable_streams.postgres import versions
from durable_streams.postgres.urls import parse
from durable_streams.runs import JSON, End, Runs, State
from tests.runs import test_runs as promised
from tests.runs.conftest import LEASE_S, Led
from tests.runs.test_runs import all_of, first_of
from tools.proofs.runs_application import TOKENS
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from durable_streams import Streams
    from tests.postgres.conftest import Database


@pytest.fixture
async def url(database: Database) -> str:
    await versions.initialise(parse(database.url))
    return database.url


@pytest.fixture
async def streams(url: str) -> AsyncIterator[Streams]:
    async with durable_streams.open(url) as opened:
        yield opened


@pytest.fixture
async def runs(streams: Streams) -> AsyncIterator[Runs]:
    async with Runs(streams, drain_s=0) as opened:
        yield opened


@pytest.fixture
async def others(url: str) -> AsyncIterator[Runs]:
    """Those of another node."""
    async with durable_streams.open(url) as opened, Runs(opened, lease_s=LEASE_S) as runs:
        yield runs


test_every_item_is_there_once_in_order_and_then_the_end = (
    promised.test_every_item_is_there_once_in_order_and_then_the_end
)
test_who_reads_on_from_an_offset_gets_the_rest = (
    promised.test_who_reads_on_from_an_offset_gets_the_rest
)
test_a_run_goes_on_when_who_started_it_is_cancelled = (
    promised.test_a_run_goes_on_when_who_started_it_is_cancelled
)
test_what_was_never_started_cannot_be_stopped = (
    promised.test_what_was_never_started_cannot_be_stopped
)
test_runs_of_a_process_that_ends_are_ended_and_it_leaves_nothing = (
    promised.test_runs_of_a_process_that_ends_are_ended_and_it_leaves_nothing
)
test_runs_of_a_process_without_a_sign_of_life_are_ended = (
    promised.test_runs_of_a_process_without_a_sign_of_life_are_ended
)
test_a_process_that_was_paused_too_long_cannot_go_on_with_its_run = (
    promised.test_a_process_that_was_paused_too_long_cannot_go_on_with_its_run
)
test_a_crash_between_any_two_steps_leaves_what_somebody_ends = (
    promised.test_a_crash_between_any_two_steps_leaves_what_somebody_ends
)
test_the_end_that_came_first_stays = promised.test_the_end_that_came_first_stays
test_the_latest_run_of_a_group_is_found = promised.test_the_latest_run_of_a_group_is_found


async def test_a_second_start_on_another_node_finds_the_first(runs: Runs, others: Runs) -> None:
    first, second = Led(), Led()
    begun = await runs.start("r", first, format=JSON)
    again = await others.start("r", second, format=JSON)
    assert (begun.is_new, again.is_new, again.path) == (True, False, begun.path)
    first.give("a", None)
    assert await all_of(others, "r") == (["a"], End(State.DONE))
    assert second.begun == 0


async def test_of_many_that_start_a_run_on_two_nodes_at_once_one_does(
    runs: Runs, others: Runs
) -> None:
    led = Led()
    led.give("x", None)
    starts = [some.start("r", led) for some in (runs, others) for _ in range(5)]
    assert sum(run.is_new for run in await asyncio.gather(*starts)) == 1
    assert await all_of(others, "r") == (["x"], End(State.DONE))
    assert led.begun == 1


async def test_another_node_stops_a_run_and_its_source_is_closed(runs: Runs, others: Runs) -> None:
    led = Led()
    await runs.start("r", led)
    led.give("half")
    assert (await first_of(others, "r")).value == "half"
    status = await others.stop("r", "enough")
    assert (status.state, status.reason) == (State.STOPPED, "enough")
    await led.closed.wait()
    assert await all_of(runs, "r") == (["half"], End(State.STOPPED, "enough"))


async def test_the_run_of_a_node_that_is_killed_is_found_and_ended(
    url: str, others: Runs, tmp_path: Path
) -> None:
    program = ("-m", "tools.proofs.runs_application", url, str(tmp_path / "ledger"), str(LEASE_S))
    node = await asyncio.create_subprocess_exec(
        *(sys.executable, *program),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert node.stdin is not None
        assert node.stdout is not None
        node.stdin.write(b"r\n")
        assert (await node.stdout.readline()).split() == [b"r", b"True"]
        numbers, end = [], None
        async for piece in others.read("r"):
            end = piece.end
            if end is None:
                numbers.append(piece.value["number"])
            if len(numbers) == TOKENS // 4 and node.returncode is None:
                node.kill()
                await node.wait()
    finally:
        if node.returncode is None:
            node.kill()
        await node.communicate()
    assert end is not None
    assert end.state is State.ABANDONED
    assert "no sign of life" in end.reason
    assert numbers == list(range(len(numbers)))
    assert not (await others.start("r", Led(), format=JSON)).is_new
