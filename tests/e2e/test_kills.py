"""SIGKILL under load, the short form of ``scripts/prove-kills``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tools.proofs.kills import Run
from tools.proofs.load import Plan

if TYPE_CHECKING:
    from tests.conftest import StartServer

PLAN = Plan(lasting=6, changing=6, pause_s=0.01, appends=(3, 30), seed=1)


@pytest.mark.parametrize("durability", ["fsync", "interval", "none"])
async def test_nothing_is_lost_doubled_or_moved_when_the_server_is_killed_under_load(
    durability: str, start_server: StartServer
) -> None:
    server = start_server("--segment-bytes", "8192", "--durability", durability)

    report = await Run(server, PLAN).run(iter([0.3, 0.1, 0.5, 0.2]), javascript=0)

    assert report.faults == []
    assert report.kills >= 4
    assert report.counters.acknowledged > 0
    assert report.streams >= PLAN.lasting + PLAN.changing
