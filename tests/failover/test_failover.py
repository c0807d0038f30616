"""A database under load, whose primary is killed: ``scripts/prove-cluster`` in small."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

import pytest

from tools.cluster import clocks, problem
from tools.node import running_in_ci
from tools.server_process import ROOT

FAULTS: Final = ("node", "standby", "postgres", "clocks")


@pytest.fixture(autouse=True)
def everything_is_installed() -> None:
    missing = problem() or clocks.problem()
    if missing is None:
        return
    if running_in_ci():
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)


@pytest.mark.node
def test_nothing_is_lost_when_nodes_and_the_primary_are_killed() -> None:
    """The cheapest faults, once each; nodes of the tests' own, on loopback."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tools.proofs.prove_cluster", "--loopback", "--minutes", "0"),
            *("--producers", "16", "--readers", "24", "--pause-ms", "300"),
            *("--faults", *FAULTS),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert last == "0 lost, 0 doubled, 0 out of order, 0 other promises broken"
    for fault in FAULTS:
        assert f"\n{fault} " in done.stdout, "its outage is printed"
