"""What a release is made of, built once and installed as anybody installs it.

All servers of these tests are of the wheel, none of them of the checkout; and those of the recipes
for caches and of the page in a browser, whose tests are in ``tests/caches`` and ``tests/browser``.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make a directory that all processes of this run share, when it is first asked for.

    What makes it is given its path, where there is nothing yet.
    """
    own = tmp_path_factory.getbasetemp()
    common = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def made(name: str, make: Callable[[Path], object]) -> Path:
        with (common / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            done = common / f"{name}.done"
            if not done.exists():
                make(common / name)
                done.touch()
        return common / name

    return made


@pytest.fixture(scope="session")
def distributions(made_once: Callable[..., Path]) -> Path:
    """The directory with the wheel and the source distribution of this checkout."""

    def build(out: Path) -> None:
        subprocess.run([ROOT / "scripts" / "build", out], check=True, stdout=subprocess.DEVNULL)

    return made_once("dist", build)


@pytest.fixture(scope="session")
def wheel(distributions: Path) -> Path:
    (found,) = distributions.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def programs(wheel: Path, made_once: Callable[..., Path]) -> Path:
    """Where the programs of the wheel are, in an environment of their own."""

    def install(place: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        pip = [str(place / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install"]
        subprocess.run([*pip, "--quiet", f"{wheel}[speed,jwt]"], check=True)

    return made_once("installed", install) / "bin"


@pytest.fixture
def served_by(programs: Path) -> Path:
    """So ``start_server`` starts what was installed."""
    return programs
