"""The comparison of clients runs, and prints a table that the documentation can take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.programs import CLIENTS_PYTHON
from tools.bench import clients
from tools.node import running_in_ci

if TYPE_CHECKING:
    from collections.abc import Sequence


def test_both_clients_are_measured_and_what_they_appended_is_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    if not CLIENTS_PYTHON.exists() and not running_in_ci():
        pytest.skip("PyPI's client is missing: run scripts/setup clients.")
    arguments: Sequence[str] = ["--messages", "300", "--runs", "1"]
    assert clients.main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(".. list-table::\n")
    assert [line for line in printed.splitlines() if line.startswith("     - ")][:2] == [
        "     - ours",
        "     - PyPI",
    ]
    assert printed.count("\n   * - ") == 1 + len(clients.WORKLOADS)
