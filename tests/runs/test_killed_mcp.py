"""An MCP server killed amid a call; ``scripts/prove-mcp`` does it for a minute."""

from __future__ import annotations

from tools.proofs.prove_mcp import ANSWER, PER_S, prove


def test_a_call_answered_by_a_run_outlives_its_server() -> None:
    seen = prove(kills=4, seconds=5, seed=1)  # of which the streams are one
    assert set(seen["killed"]) == {"mcp", "streams"}
    assert sum(seen["killed"].values()) == 4
    assert (seen["notifications"], seen["answer"]) == (5 * PER_S, ANSWER)
