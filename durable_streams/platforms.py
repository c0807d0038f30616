"""Where no files can be served: said in one sentence, before what is not there is imported.

All that works with files is imported through ``filestore``, which checks first; so a program that
only asks for ``durable_streams.open`` or ``mount`` is told, and one that uses none of it is not.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Final

_NEEDED: Final = {
    "fcntl": "the locks that keep a second server out of a data directory",
    "resource": "the limit of open files",
}
"""Modules of Python that some systems have not, and what they are for."""


class CannotRunHere(ImportError):
    """This system has not what it takes; the text says what it is, and what to use."""


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


def check() -> None:
    """Raise :class:`CannotRunHere` if this system will not do."""
    found = problem()
    if found is not None:
        raise CannotRunHere(found)
