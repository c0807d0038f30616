"""Machines whose clocks differ: programs that ask a library of ours for the time of day.

It is preloaded, and ``clock.c`` says what it does.  libfaketime would do, but Debian 12's has a
semaphore for each process that is started with it, in ``/dev/shm``, which stays behind.

Programs that do not ask the C library are not reached, as etcd, which is in Go.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tools.compiler import compiled, find_compiler

if TYPE_CHECKING:
    from collections.abc import Mapping

APART_S: Final = 60
"""How far clocks differ, in seconds, where they do."""

_SOURCES: Final = Path(__file__).resolve().parent


def problem() -> str | None:
    """Why clocks cannot differ here; None if they can."""
    if sys.platform != "linux":
        return "it takes Linux"
    return None if find_compiler() else "there is no C compiler: run scripts/setup dev"


@dataclass(frozen=True, slots=True)
class Clock:
    """One that is so many seconds ahead of ours, or behind if that is negative.

    ``environment``: what a program has in its own that goes by it.
    """

    ahead_s: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)


OURS: Final = Clock()


def apart() -> tuple[Clock, Clock]:
    """Two clocks, a minute ahead and a minute behind.

    :raises NotCompiled: there is a :func:`problem`.
    """
    library = compiled("clock", _SOURCES, "-shared", "-fPIC")
    ahead, behind = (
        Clock(seconds, {"LD_PRELOAD": str(library), "CLOCK_AHEAD_S": str(seconds)})
        for seconds in (APART_S, -APART_S)
    )
    return ahead, behind
