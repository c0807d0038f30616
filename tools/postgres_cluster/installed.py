"""PostgreSQL's programs, which Debian has in no ``PATH``, and the user that may run them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM: Final = "postgres"
"""Where this is, the others are."""

_DEBIAN: Final = Path("/usr/lib/postgresql")
_USER: Final = "postgres"
"""Who is it instead of root, under whom the server refuses to run; Debian's packages make it."""


class NotInstalled(Exception):
    """A program is missing; the text says how to have it."""


def find(name: str) -> str | None:
    """Where a program of PostgreSQL is: on the ``PATH``, or the newest that Debian has."""
    debian = [path for path in _DEBIAN.glob("*/bin") if path.parent.name.isdigit()]
    newest_first = sorted(debian, key=lambda path: -int(path.parent.name))
    places = [os.environ.get("PATH", os.defpath), *map(str, newest_first), "/usr/sbin"]
    return shutil.which(name, path=os.pathsep.join(places))


def program(name: str) -> str:
    """Where a program is that is needed now."""
    found = find(name)
    if found is None:
        raise NotInstalled(f"{name} not found: run scripts/setup programs")
    return found


def beside_postgres(name: str) -> str:
    """Where a program is that has to be of the same version as the server."""
    return str(Path(program(PROGRAM)).resolve().parent / name)


def as_user() -> dict[str, Any]:
    """What makes ``subprocess`` start something as who may run PostgreSQL: not as root."""
    if os.geteuid() != 0:
        return {}
    return {"user": _USER, "group": _USER, "extra_groups": []}


def give(path: Path) -> None:
    """Make a directory that of who runs PostgreSQL."""
    if os.geteuid() == 0:
        shutil.chown(path, _USER, _USER)


def environment() -> dict[str, str]:
    """A copy of ours, without what would change what PostgreSQL's programs do."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C", "HOME": "/nonexistent", "TZ": "UTC"}


def run(command: Sequence[str], directory: Path) -> str:
    """Run a program in a directory as that user; what it printed.

    :raises RuntimeError: it ended with another status than 0; with what it said.
    """
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command,
        cwd=directory,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        **as_user(),
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout
