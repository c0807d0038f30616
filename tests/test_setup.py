"""``scripts/setup`` finds a Python, or says what is missing; here with a Python that pretends."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.server_process import ROOT

PRETENDER = """#!/bin/sh
here=$(dirname "$0")
case $* in
    *"import pip"*) [ ! -e "$here/no-pip" ] ;;
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && echo "$0" >>made-by ;;
    --version) echo "Python 3.12.0" ;;
esac
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What the script needs of a clone."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "setup", tmp_path / "scripts")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.fixture
def pretender(tmp_path: Path) -> Path:
    program = tmp_path / "a python" / "python3"
    program.parent.mkdir()
    program.write_text(PRETENDER)
    program.chmod(0o755)
    return program


def set_up(project: Path, python: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [project / "scripts" / "setup", "serve"],
        env={**os.environ, "PYTHON": python},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_python_that_was_named_is_used_whatever_its_path(
    project: Path, pretender: Path
) -> None:
    for _ in range(2):  # the second time there is nothing to do
        done = set_up(project, str(pretender))
        assert done.returncode == 0, done.stderr
        assert (project / "made-by").read_text() == f"{pretender}\n"


@pytest.mark.parametrize("named", ["/nowhere/python3", "/bin/false"])
def test_a_named_python_that_cannot_serve_is_refused_and_no_other_is_taken(
    project: Path, named: str
) -> None:
    done = set_up(project, named)
    assert done.returncode == 1
    assert f"setup: PYTHON={named} is no Python 3.11 or newer" in done.stderr
    assert not (project / ".venv").exists()


def test_an_environment_that_has_lost_pip_is_made_anew(project: Path, pretender: Path) -> None:
    set_up(project, str(pretender))
    (project / ".venv" / "bin" / "no-pip").touch()
    done = set_up(project, str(pretender))
    assert done.returncode == 0, done.stderr
    assert (project / "made-by").read_text() == f"{pretender}\n" * 2
    assert not (project / ".venv" / "bin" / "no-pip").exists()
