"""``scripts/setup`` finds a Python, or says what is missing; here with Pythons that pretend."""

import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest

from tools.server_process import ROOT

PRETENDER: Final = """#!/bin/sh
here=$(dirname "$0")
echo "$*" >>"$here/started"
case $* in
    *"import pip"*) [ ! -e "$here/no-pip" ] ;;
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && echo "$0" >>made-by ;;
    --version) echo "Python 3.{minor}.0" ;;
    -c*) exec {real} -c 'import sys, venv, ensurepip
sys.version_info = (3, {minor}, 0)
exec(sys.argv[1])' "$2" ;;
esac
"""
CLASSIFIER: Final = "Programming Language :: Python :: 3."
TESTED: Final = [
    int(line.removeprefix(CLASSIFIER))
    for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    if line.startswith(CLASSIFIER)
]
"""The minor versions of Python 3 that we promise to work with."""

NO_PYTHON: Final = "setup: no Python 3.11 or newer with the venv and ensurepip modules found."


def write_program(program: Path, text: str) -> Path:
    program.parent.mkdir(exist_ok=True)
    program.write_text(text)
    program.chmod(0o755)
    return program


def pretend(program: Path, minor: int) -> Path:
    """A Python 3.``minor`` that makes environments of copies of itself and installs nothing."""
    return write_program(program, PRETENDER.format(minor=minor, real=shlex.quote(sys.executable)))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What the script needs of a clone, on a machine with ``system`` as the system's Python."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    text = (ROOT / "scripts" / "setup").read_text()
    real, ours = "system_python=/usr/bin/python3\n", f"system_python={shlex.quote(str(tmp_path))}"
    assert text.count(real) == 1
    write_program(tmp_path / "scripts" / "setup", text.replace(real, f"{ours}/programs/python3\n"))
    return tmp_path


@pytest.fixture
def programs(project: Path) -> Path:
    """The only directory of programs there is: no Python, nothing that installs any."""
    programs = project / "programs"
    programs.mkdir()
    for name in ("cat", "cksum", "cp", "dirname", "id", "mkdir", "rm"):
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    write_program(programs / "uname", "#!/bin/sh\necho Linux\n")
    return programs


@pytest.fixture
def system(programs: Path) -> Path:
    return programs / "python3"


@pytest.fixture
def mac(programs: Path) -> Path:
    """The machine is a Mac; returns what says whether its command line tools are installed."""
    write_program(programs / "uname", "#!/bin/sh\necho Darwin\n")
    return write_program(programs / "xcode-select", "#!/bin/sh\nexit 2\n")


def set_up(project: Path, python: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": str(project / "programs")}
    environment.pop("PYTHON", None)
    if python is not None:
        environment["PYTHON"] = python
    return subprocess.run(
        [project / "scripts" / "setup", "serve"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def made_by(project: Path, python: str | None = None) -> str:
    """Which Pythons made the environment, a line for each time."""
    done = set_up(project, python)
    assert done.returncode == 0, done.stderr
    return (project / "made-by").read_text()


@pytest.mark.parametrize("minor", [min(TESTED), max(TESTED), max(TESTED) + 1])
def test_the_python_that_was_named_is_used_whatever_its_path(
    project: Path, system: Path, minor: int
) -> None:
    pretend(system, max(TESTED))
    named = pretend(project / "a python" / "python3", minor)
    for _ in range(2):  # the second time there is nothing to do
        assert made_by(project, str(named)) == f"{named}\n"
    assert not (system.parent / "started").exists()


@pytest.mark.parametrize("named", ["/nowhere/a python3", "/bin/false", "{project}/old/python3"])
def test_a_named_python_that_cannot_serve_is_refused_and_no_other_is_taken(
    project: Path, system: Path, named: str
) -> None:
    pretend(system, max(TESTED))
    pretend(project / "old" / "python3", min(TESTED) - 1)
    named = named.format(project=project)
    done = set_up(project, named)
    assert done.returncode == 1
    assert done.stderr == (
        f"setup: PYTHON={named} is no Python 3.11 or newer with the venv and ensurepip modules. "
        "Name another, or unset PYTHON to have one found.\n"
    )
    assert not (project / ".venv").exists()
    assert not (system.parent / "started").exists()


def test_an_environment_that_has_lost_pip_is_made_anew(project: Path, system: Path) -> None:
    pretend(system, max(TESTED))
    assert made_by(project) == f"{system}\n"
    lost = project / ".venv" / "bin" / "no-pip"
    lost.touch()
    assert made_by(project) == f"{system}\n" * 2
    assert not lost.exists()


@pytest.mark.parametrize("minor", range(min(TESTED) - 1, max(TESTED) + 3))
def test_the_systems_python_comes_first_if_its_version_is_tested(
    project: Path, system: Path, minor: int
) -> None:
    pretend(system, minor)
    other = pretend(system.with_name(f"python3.{max(TESTED)}"), max(TESTED))
    assert made_by(project) == f"{system if minor in TESTED else other}\n"


def test_the_systems_python_is_taken_untested_if_there_is_no_other(
    project: Path, system: Path
) -> None:
    pretend(system, max(TESTED) + 2)
    assert made_by(project) == f"{system}\n"


def test_no_python_that_is_too_old_is_taken(project: Path, system: Path) -> None:
    pretend(system, min(TESTED) - 1)
    done = set_up(project)
    assert done.returncode == 1
    assert NO_PYTHON in done.stderr


def test_the_stand_in_of_a_mac_without_command_line_tools_is_not_started(
    project: Path, system: Path, mac: Path
) -> None:
    pretend(system, max(TESTED))
    done = set_up(project)  # as python3 it is on the search path, too
    assert done.returncode == 1
    assert NO_PYTHON in done.stderr
    assert not (system.parent / "started").exists()


def test_the_python_of_a_macs_command_line_tools_is_taken(
    project: Path, system: Path, mac: Path
) -> None:
    pretend(system, max(TESTED))
    write_program(mac, "#!/bin/sh\nexit 0\n")
    assert made_by(project) == f"{system}\n"
