"""Where this cannot run: said in one sentence, before anything is imported that is not there.

Importing this module is the check.  It ends with :class:`ImportError`; if we are the program that
was started, with a line on stderr and the exit status of what cannot start.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import PurePath
from typing import Final

_NEEDED: Final = {
    "fcntl": "the locks that keep a second server out of a data directory",
    "resource": "the limit of open files",
}
"""Modules of Python that some systems have not, and what they are for."""

_EXIT_NO_START: Final = 2


def problem() -> str | None:
    """Why this system will not do, and what will; None if it does."""
    missing = [f"{name} ({use})" for name, use in _NEEDED.items() if find_spec(name) is None]
    if not missing:
        return None
    here = "Windows" if sys.platform == "win32" else sys.platform
    return (
        f"durable_streams runs on Linux and macOS, and Python on {here} has no "
        f"{' and no '.join(missing)}: use WSL 2, or run the server in a Linux container"
    )


def _is_program() -> bool:
    """Whether ``durable-streams`` was started, or ``python -m durable_streams``."""
    return PurePath(sys.argv[0]).stem == "durable-streams" or (
        sys.argv[0] == "-m" and "durable_streams" in sys.orig_argv
    )


_problem: Final = problem()
if _problem is not None:
    if _is_program():
        sys.stderr.write(f"durable-streams: error: {_problem}\n")
        raise SystemExit(_EXIT_NO_START)
    raise ImportError(_problem)
