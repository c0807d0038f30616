"""The processes of a directory: those that work there, as all of a PostgreSQL server's do.

A server's children are process groups of their own, and those of one that was killed belong to
nobody; but each works in the server's data directory, so that is what tells them.

Run as a program, by its path, it is the reaper of a directory: it waits for the end of stdin, a
pipe that whoever started it holds and never writes to, however that one ends; then nothing is left.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LOOK_S: Final = 0.002
_STOPPED: Final = "T"
_ENDED: Final = "Z"


def working_in(directory: Path) -> Iterator[int]:
    """Which processes work in a directory or below it, by their ids; none of them has ended."""
    wanted = str(directory)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):  # it has ended, or is another user's
            place = str((entry / "cwd").readlink()).removesuffix(" (deleted)")
            if place == wanted or place.startswith(f"{wanted}/"):
                yield int(entry.name)


def state(pid: int) -> str:
    """The state of a process as the kernel writes it: ``R``, ``S``, ``T``; ``Z`` if it ended."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return _ENDED
    return status.rpartition(")")[2].split()[0]


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def kill_all(directory: Path) -> None:
    """SIGKILL whatever works in a directory, and wait until nothing does."""
    while found := list(working_in(directory)):
        for pid in found:
            send(pid, signal.SIGKILL)
        time.sleep(_LOOK_S)


def stop_all(directory: Path, first: int) -> None:
    """SIGSTOP all that works in a directory, from ``first``, which starts the others."""
    pids = [first]
    while True:
        for pid in pids:
            send(pid, signal.SIGSTOP)
        pids = [pid for pid in working_in(directory) if state(pid) not in (_STOPPED, _ENDED)]
        if not pids:
            return
        time.sleep(_LOOK_S)


def continue_all(directory: Path) -> None:
    """SIGCONT whatever was stopped in a directory."""
    for pid in working_in(directory):
        send(pid, signal.SIGCONT)


def wait_until(holds: Callable[[], object], what: str, within_s: float = 30) -> None:
    """Return as soon as something holds.

    :raises TimeoutError: it did not in time; names ``what``.
    """
    end = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {within_s} s: {what}")
        time.sleep(_LOOK_S)


def start_reaper(directory: Path) -> subprocess.Popen[bytes]:
    """Have a directory removed, and what runs there ended, as soon as this process has ended.

    To have that now, close the ``stdin`` of what is returned and wait for it.
    """
    return subprocess.Popen(
        [sys.executable, "-I", __file__, str(directory)],
        stdin=subprocess.PIPE,
        cwd="/",
        start_new_session=True,  # Ctrl-C is not meant for it
    )


def _reap(directory: Path) -> None:
    sys.stdin.buffer.read()
    kill_all(directory)
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    _reap(Path(sys.argv[1]))
