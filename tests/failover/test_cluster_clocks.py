"""A program that is given another clock goes by it, and by it alone where that is asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from tools.cluster import clocks
from tools.node import running_in_ci

ASK = """
import ctypes, json, time
library = ctypes.CDLL(None)
print(json.dumps([
    time.clock_gettime(time.CLOCK_REALTIME),
    library["time"](None),
    [library["gettimeofday"](told := (ctypes.c_long * 2)(), None), *told][1],
    time.clock_gettime(time.CLOCK_MONOTONIC),
    time.clock_gettime(time.CLOCK_BOOTTIME),
]))
"""
COARSE_S = 1
"""What tells seconds may be a tick behind what tells their fractions."""


@pytest.fixture(autouse=True)
def a_compiler_is_there() -> None:
    problem = clocks.problem()
    if problem is None:
        return
    if running_in_ci():
        pytest.fail(problem, pytrace=False)
    pytest.skip(problem)


@pytest.mark.parametrize("which", ["ahead", "behind"])
def test_the_time_of_day_differs_and_nothing_else(which: str) -> None:
    clock = dict(zip(("ahead", "behind"), clocks.apart(), strict=True))[which]
    asked = _now()
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env={**os.environ, **clock.environment},
        capture_output=True,
        text=True,
        check=True,
    )
    answered = _now()
    assert clock.ahead_s == {"ahead": 60, "behind": -60}[which]
    moved = [clock.ahead_s] * 3 + [0, 0]
    for before, told, after, by in zip(
        asked, json.loads(done.stdout), answered, moved, strict=True
    ):
        assert before - COARSE_S <= told - by <= after
    assert not done.stderr, "the library was found"


def _now() -> list[float]:
    """What the program is asked for, by our own clocks."""
    day, *steady = (
        time.clock_gettime(clock)
        for clock in (time.CLOCK_REALTIME, time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME)
    )
    return [day] * 3 + steady
