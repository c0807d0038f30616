"""The proof of what many forks cost, in small: that it measures what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.proofs.prove_forks import prove

if TYPE_CHECKING:
    from pathlib import Path


async def test_the_proof_forks_often_and_deletes_a_chain_to_its_beginning(tmp_path: Path) -> None:
    report = await prove(tmp_path / "data", forks=40, chain=5)
    assert list(report.cpu_ms) == [20, 40]
    assert report.ratio > 0
    assert report.copies == 0
    assert report.gone_s >= report.answered_s > 0
    assert {path.name for path in (tmp_path / "data" / "streams").iterdir()} == {"source@", "forks"}
