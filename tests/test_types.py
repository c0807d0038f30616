"""Types as users meet them: two strict checkers agree with programs, and find what is wrong in one.

``typed/right.py`` is what programs do; in ``typed/wrong.txt`` lines with mistakes are marked.  Of
the client there are ten programs, ``typed/client``, which are right as they are: above some of
their lines is what somebody might write instead, by mistake.  The package is found as an installed
one is, by what it says of itself (``py.typed``).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

TYPED: Final = ROOT / "tests" / "typed"
CLIENT: Final = sorted((TYPED / "client").glob("*.py"))
CACHE: Final = ROOT / ".mypy_cache" / "programs"
_MYPY_LINE: Final = re.compile(r"^(?P<file>[^:\n]+):(?P<line>\d+): error: ", re.MULTILINE)
_MISTAKE: Final = re.compile(r"(?m)^( *)# by mistake: `(.*)`\n.*$")
_ON_A_VALUE: Final = "reportUnusedExpression"  # of a line that looks at an attribute alone
_UNKNOWN: Final = "reportUnknown"  # what comes of another mistake

Mistakes = dict[str, set[int]]
"""For each file, the lines where something is wrong."""


def run(directory: Path, *command: str) -> str:
    """What a checker says of the programs there, for which the package is one of many."""
    found = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode in {0, 1}, found.stderr
    return found.stdout


def mypy(directory: Path) -> Mistakes:
    programs = sorted(path.name for path in directory.glob("*.py"))
    printed = run(directory, "mypy", "--strict", "--cache-dir", str(CACHE), *programs)
    found: Mistakes = {}
    for error in _MYPY_LINE.finditer(printed):
        found.setdefault(error["file"], set()).add(int(error["line"]))
    return found


def pyright(directory: Path) -> Mistakes:
    (directory / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    told = json.loads(run(directory, "pyright", "--outputjson", "--pythonpath", sys.executable))
    found: Mistakes = {}
    for error in told["generalDiagnostics"]:
        if error.get("rule") == _ON_A_VALUE or error.get("rule", "").startswith(_UNKNOWN):
            continue
        found.setdefault(Path(error["file"]).name, set()).add(error["range"]["start"]["line"] + 1)
    return found


@pytest.mark.parametrize("checker", [mypy, pytest.param(pyright, marks=pytest.mark.needs("node"))])
def test_strict_checkers_find_what_is_wrong_and_nothing_else(
    tmp_path: Path, checker: Callable[[Path], Mistakes]
) -> None:
    programs = {"right.py": (TYPED / "right.py").read_text()}
    planted = {"wrong.py": (TYPED / "wrong.txt").read_text()}
    for path in CLIENT:
        programs[path.name] = text = path.read_text()
        planted[f"wrong_{path.name}"] = _MISTAKE.sub(r"\n\1\2  # WRONG", text)
    for name, text in {**programs, **planted}.items():
        (tmp_path / name).write_text(text)
    assert checker(tmp_path) == {name: marked(text) for name, text in planted.items()}


def marked(text: str) -> set[int]:
    return {number for number, line in enumerate(text.splitlines(), 1) if "# WRONG" in line}


def test_there_are_ten_programs_of_the_client_with_a_mistake_each() -> None:
    assert len(CLIENT) == 10
    assert all(_MISTAKE.search(path.read_text()) for path in CLIENT)
