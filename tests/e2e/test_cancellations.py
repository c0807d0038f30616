"""Cancellations and Ctrl-C; `scripts/prove-cancellations` has thousands of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.proofs.cancellations import Run
from tools.proofs.interrupts import of_program, of_server

if TYPE_CHECKING:
    from pathlib import Path


async def test_cancellations_at_chosen_points_lose_and_hold_nothing(data_dir: Path) -> None:
    seen = await Run(data_dir, seed=1).run(600)
    assert seen.faults == []
    assert seen.lives > 1
    assert seen.by_suspension.keys() >= {1, 2}


async def test_control_c_at_random_moments_ends_a_program_quietly(data_dir: Path) -> None:
    seen = await of_program(data_dir, 4, seed=1)
    assert seen.faults == []
    assert seen.acknowledged


async def test_control_c_at_random_moments_ends_the_server_quietly(data_dir: Path) -> None:
    seen = await of_server(data_dir, 4, seed=1)
    assert seen.faults == []
    assert seen.acknowledged
