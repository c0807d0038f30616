"""Two nodes on a database that delays, loses connections, crashes: seeded, on the real store."""

from __future__ import annotations

import logging

import pytest

from tools.simulation.nodes import run

SEEDS_A_TEST = 20


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """What goes wrong there is meant to."""
    caplog.set_level(logging.CRITICAL, "durable_streams.postgres")


@pytest.mark.parametrize("first", range(0, 60, SEEDS_A_TEST))
def test_nothing_is_lost_doubled_brought_back_or_left_waiting(first: int) -> None:
    for seed in range(first, first + SEEDS_A_TEST):
        try:
            assert run(seed) > 0
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
