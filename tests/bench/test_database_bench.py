"""How fast the store on PostgreSQL is, is measured: in small, and what comes out of figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tools.bench.database.__main__ import measure
from tools.bench.database.measured import TARGETS, Figures, Target, Way, What
from tools.bench.database.plan import Sizes
from tools.postgres_cluster import in_memory

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.needs("postgres")
@pytest.mark.patient
@pytest.mark.usefixtures("program")
def test_everything_is_measured_and_no_answer_is_wrong(tmp_path: Path) -> None:
    plan = measure(tmp_path, Sizes(0.1, 1, 20, 64 * 1024), in_memory())

    assert not plan.errors
    assert None not in [plan.figures.judged(target) for target in TARGETS]
    tables = plan.figures.rst(["this machine"])
    assert all(what.value[0] in tables for what in What)


def test_a_figure_is_the_median_of_its_samples() -> None:
    figures = Figures()
    for value in (3.0, 1.0, 2.0):
        figures.add(What.HOT, Way.STORE, value)

    assert figures.of(What.HOT, Way.STORE) == 2.0
    assert figures.of(What.HOT, Way.NODE) is None


def test_a_share_of_a_time_is_how_much_shorter_the_other_one_is() -> None:
    figures = Figures()
    figures.add(What.ALONE, Way.BARE, 1.0)
    figures.add(What.ALONE, Way.STORE, 2.0)

    assert figures.judged(Target(What.ALONE, Way.STORE, 0.7, of=Way.BARE)) == 0.5


def test_what_is_not_as_it_should_be_is_said_and_what_was_not_measured_is_not() -> None:
    figures = Figures()
    figures.add(What.HOT, Way.STORE, 7999.0)
    figures.add(What.HOT_P99, Way.STORE, 51.0)
    figures.add(What.CATCH_UP, Way.STORE, 150.0)

    assert len(figures.missed()) == 2
    assert "7999.00, should be at least 8000" in figures.missed()[0]
    assert "at most 50" in figures.missed()[1]
