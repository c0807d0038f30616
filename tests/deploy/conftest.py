"""What a release is made of, built once and installed as anybody installs it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tools.server_process import ROOT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the wheel and the source distribution of this checkout."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run([ROOT / "scripts" / "build", out], check=True, stdout=subprocess.DEVNULL)
    return out


@pytest.fixture(scope="session")
def wheel(distributions: Path) -> Path:
    (found,) = distributions.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the programs of the wheel are, in an environment of their own."""
    place = tmp_path_factory.mktemp("installed") / "opt"
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    pip = [str(place / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install"]
    subprocess.run([*pip, "--quiet", f"{wheel}[speed,jwt]"], check=True)
    return place / "bin"
