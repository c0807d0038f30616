"""The official conformance suite against the ASGI front, in servers and frameworks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance.suite import LONG_POLL_TIMEOUT_S, assert_all_pass, run_suite

if TYPE_CHECKING:
    from pathlib import Path

    from tests.asgi.conftest import StartAsgi


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
