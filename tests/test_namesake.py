"""The client whose package has our name, in one environment with ours; it is played here.

The real one is in ``tests/deploy/test_distributions.py``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from durable_streams.namesake import namesake_problem
from tools.server_process import ROOT

if TYPE_CHECKING:
    from pathlib import Path

IS_HERE = "the distribution durable-streams, a client by other authors, is installed here as well"


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A directory of packages that has ours."""
    place = tmp_path / "site"
    shutil.copytree(
        ROOT / "durable_streams",
        place / "durable_streams",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    (place / "durable_streams_server-0.2.0.dist-info").mkdir()
    return place


def run(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=installed.parent,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_alone_nothing_is_said(installed: Path) -> None:
    ended = run(installed, "-W", "error", "-c", "import durable_streams as d; print(d.__file__)")
    assert ended.stderr == ""
    assert ended.stdout.startswith(str(installed))
    assert namesake_problem() is None


def test_a_program_that_imports_it_is_warned_where_it_does(installed: Path) -> None:
    (installed / "durable_streams-0.1.0.dist-info").mkdir()
    (installed.parent / "program.py").write_text("\nimport durable_streams\n")
    ended = run(installed, "program.py")
    assert ended.returncode == 0
    first, *_ = ended.stderr.splitlines()
    assert "program.py:2: UserWarning: " in first
    assert IS_HERE in first
    assert "pip uninstall durable-streams, and then pip install --force-reinstall" in first


@pytest.mark.parametrize("theirs_came_last", [False, True])
def test_a_server_says_it_in_its_log(installed: Path, *, theirs_came_last: bool) -> None:
    (installed / "durable_streams-0.1.0.dist-info").mkdir()
    if theirs_came_last:
        (installed / "durable_streams" / "__init__.py").write_text("class DurableStream: ...\n")
    ended = run(installed, "-m", "durable_streams", "serve", "--host", "192.0.2.1")
    assert ended.returncode == 2  # no machine has that address: the log comes before
    assert f"WARNING {IS_HERE}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_server_says_what_uninstalling_the_other_has_taken_along(installed: Path) -> None:
    (installed / "durable_streams" / "__init__.py").unlink()
    ended = run(installed, "-m", "durable_streams", "serve", "--host", "192.0.2.1")
    assert ended.returncode == 2
    assert "has lost its __init__.py, as it does when the distribution" in ended.stderr
    assert "Traceback" not in ended.stderr
