"""The official conformance suite, whole, against the real server on a real data directory."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any, Final

import pytest

from tools.node import CONFORMANCE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartServer

CORE_TESTS: Final = 332
LONG_POLL_TIMEOUT_S: Final = 2
"""Two tests of the suite wait for a long-poll to end, within the 5 s that a test has."""

SUBSCRIPTIONS: Final = "Reserved subscription APIs"
"""The one group that the suite itself leaves out unless a server announces subscriptions."""


def run_suite(base_url: str, report: Path) -> list[dict[str, Any]]:
    """Run the suite and return what its runner reports of each test."""
    command = ["node_modules/.bin/vitest", "run", "--reporter=json", f"--outputFile={report}"]
    environment = os.environ | {"CONFORMANCE_TEST_URL": base_url}
    run = subprocess.run(
        command, cwd=CONFORMANCE, env=environment, capture_output=True, text=True, check=False
    )
    assert report.exists(), run.stdout + run.stderr
    files = json.loads(report.read_text())["testResults"]
    return [test for file in files for test in file["assertionResults"]]


@pytest.mark.node
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_all_332_tests_of_the_official_suite_pass(
    loop: str, start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server("--loop", loop, "--long-poll-timeout", str(LONG_POLL_TIMEOUT_S))

    tests = run_suite(server.base_url, tmp_path / "report.json")

    core = [test for test in tests if SUBSCRIPTIONS not in test["ancestorTitles"]]
    not_passed = [
        f"{test['status']}: {test['fullName']}\n{''.join(test['failureMessages'])[:600]}"
        for test in core
        if test["status"] != "passed"
    ]
    assert not not_passed, "\n".join(not_passed)
    assert len(core) == CORE_TESTS
