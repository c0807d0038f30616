"""Servers and applications killed amid answers; ``scripts/prove-runs`` does it for long."""

from __future__ import annotations

from tools.proofs.prove_runs import RUNS, prove


def test_every_token_is_there_once_whatever_is_killed() -> None:
    seen = prove(kills=3, seed=4)  # of which the server is one
    assert sum(seen["killed"].values()) == 3
    assert set(seen["killed"]) == {"server", "application"}
    assert sum(seen["runs"].values()) == 3 * RUNS
