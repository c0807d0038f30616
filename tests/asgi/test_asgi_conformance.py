"""The official conformance suite against the ASGI front, in servers and frameworks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.conformance.suite import LONG_POLL_TIMEOUT_S, assert_all_pass, run_suite

if TYPE_CHECKING:
    from pathlib import Path

    from tests.asgi.conftest import StartAsgi
    from tests.asgi.servers import AsgiServer


PART: Final = (
    "Basic Stream Operations|SSE Mode|JSON Mode|Idempotent Producer Operations|Fork - Creation"
)
"""Some of each kind, which take seconds."""

LEAST: Final = 100
"""So many tests are in these."""


def run_part(server: AsgiServer, report: Path) -> None:
    tests = [t for t in run_suite(server.base_url, report, only=PART) if t["status"] != "skipped"]
    assert len(tests) > LEAST
    assert [test["fullName"] for test in tests if test["status"] != "passed"] == []


@pytest.mark.node
@pytest.mark.parametrize(
    ("kind", "app"),
    # Each server and each way to mount, once: all pairs take minutes, and pass as well.
    [("uvicorn", "fastapi"), ("hypercorn", "in_django")],
)
def test_all_332_tests_of_the_official_suite_pass(
    kind: str, app: str, start_asgi: StartAsgi, tmp_path: Path
) -> None:
    server = start_asgi(kind, app, STREAMS_LONG_POLL_S=str(LONG_POLL_TIMEOUT_S))
    assert_all_pass(run_suite(server.base_url, tmp_path / "report.json"))


@pytest.mark.node
@pytest.mark.parametrize(("kind", "app"), [("uvicorn", "plain"), ("hypercorn", "starlette")])
def test_many_of_them_pass_before_a_kill_and_after_it(
    kind: str, app: str, start_asgi: StartAsgi, tmp_path: Path
) -> None:
    server = start_asgi(kind, app, STREAMS_LONG_POLL_S=str(LONG_POLL_TIMEOUT_S))
    run_part(server, tmp_path / "before.json")
    server.kill_and_restart()
    run_part(server, tmp_path / "after.json")
