"""Instructions are counted of a real server."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tools.bench.catalog import Entry
from tools.bench.compare import Plan
from tools.bench.instructions import per_request
from tools.bench.servers import our_server
from tools.bench.workloads import Appends

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.patient
@pytest.mark.needs("valgrind")
def test_an_append_takes_some_ten_thousand_instructions(program: Path, tmp_path: Path) -> None:
    entry, plan = Entry("appends", "", Appends(3, 2)), Plan(seconds=0.5)
    took = per_request(entry, our_server(sys.executable, ""), program, plan, tmp_path)
    assert 10_000 < took < 10_000_000
