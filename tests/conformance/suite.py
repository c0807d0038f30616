"""The official conformance suite, run against any server."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any, Final

from tools.node import CONFORMANCE

if TYPE_CHECKING:
    from pathlib import Path

CORE_TESTS: Final = 332
LONG_POLL_TIMEOUT_S: Final = 2
"""Two tests of the suite wait for a long-poll to end, within the 5 s that a test has."""

SUBSCRIPTIONS: Final = "Reserved subscription APIs"
"""The one group that the suite itself leaves out unless a server announces subscriptions."""


def run_suite(
    base_url: str,
    report: Path,
    token: str = "",
    certificate: Path | None = None,
    *,
    only: str = "",
) -> list[dict[str, Any]]:
    """Run the suite, with a token if there is one; what its runner reports of each test.

    ``certificate``: one that its clients trust.  ``only``: tests whose names match a pattern.
    """
    command = ["node_modules/.bin/vitest", "run", "--reporter=json", f"--outputFile={report}"]
    if only:
        command += ["--testNamePattern", only]
    told = {"CONFORMANCE_TEST_URL": base_url, "CONFORMANCE_TEST_TOKEN": token}
    if certificate is not None:
        told["NODE_EXTRA_CA_CERTS"] = str(certificate)
    environment = os.environ | told
    run = subprocess.run(
        command, cwd=CONFORMANCE, env=environment, capture_output=True, text=True, check=False
    )
    assert report.exists(), run.stdout + run.stderr
    files = json.loads(report.read_text())["testResults"]
    return [test for file in files for test in file["assertionResults"]]


def assert_all_pass(tests: list[dict[str, Any]]) -> None:
    """All tests of the suite ran, and passed."""
    core = [test for test in tests if SUBSCRIPTIONS not in test["ancestorTitles"]]
    not_passed = [
        f"{test['status']}: {test['fullName']}\n{''.join(test['failureMessages'])[:600]}"
        for test in core
        if test["status"] != "passed"
    ]
    assert not not_passed, "\n".join(not_passed)
    assert len(core) == CORE_TESTS
