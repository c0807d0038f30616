"""The versions that ``docs/compatibility.rst`` names are those that are installed here."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

import pytest

from tools.node import COMPATIBILITY, CONFORMANCE, YJS
from tools.server_process import ROOT

if TYPE_CHECKING:
    from pathlib import Path

ROW: Final = re.compile(r"^   \* - ``([^`]+)``\n     - (\S+)\n", re.MULTILINE)
REQUIREMENT: Final = re.compile(r"^(\S+)==(\S+)$", re.MULTILINE)
LOCKS: Final = [
    directory / "package-lock.json"
    for directory in (COMPATIBILITY, CONFORMANCE, YJS, ROOT / "tools" / "bench" / "node")
]


def locked(directory: Path) -> dict[str, str]:
    """What the packages of a directory ask for by name, in the versions of its lock file."""
    packages = json.loads((directory / "package-lock.json").read_text())["packages"]
    return {
        name: packages[f"node_modules/{name}"]["version"]
        for name in packages[""]["devDependencies"]
    }


def required() -> dict[str, str]:
    """What the environment of Python clients is made of."""
    return dict(REQUIREMENT.findall((COMPATIBILITY / "requirements.txt").read_text()))


def test_the_page_names_the_versions_that_are_tested() -> None:
    told = dict(ROW.findall((ROOT / "docs" / "compatibility.rst").read_text()))
    there = locked(YJS) | locked(COMPATIBILITY) | required()
    assert told == {name: there.get(name) for name in told}
    clients = {name for name in there if "durable-streams" in name}
    clients.discard("@durable-streams/server")  # whose streams are imported
    assert clients <= set(told)


@pytest.mark.parametrize("directory", [COMPATIBILITY, CONFORMANCE, YJS], ids=lambda path: path.name)
def test_packages_are_asked_for_in_one_version_each(directory: Path) -> None:
    asked = json.loads((directory / "package.json").read_text())["devDependencies"]
    assert asked == locked(directory)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.parent.name)
def test_no_lock_file_says_where_packages_come_from(lock: Path) -> None:
    """Whoever installs them says that, in npm's own configuration."""
    packages = json.loads(lock.read_text())["packages"]
    assert [name for name, package in packages.items() if "resolved" in package] == []
