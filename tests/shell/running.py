"""The command line as a shell runs it, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

from durable_streams.program import PROGRAM
from tools.server_process import ROOT

if TYPE_CHECKING:
    from pathlib import Path

COMMAND: Final = [sys.executable, "-W", "default", "-m", "durable_streams"]


class Shell:
    """Runs verbs in an environment where nothing else is said of streams."""

    def __init__(self, home: Path, url: str = "") -> None:
        """``home``: what is kept of them is below it.  ``url``: what ``STREAM_URL`` is."""
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("STREAM_", "XDG_", "DURABLE_STREAMS_"))
        } | {"HOME": str(home)}
        if url:
            self.environment["STREAM_URL"] = url
        self.home = home

    def run(
        self, *arguments: str | Path, given: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a verb to its end; ``given``: what comes by a pipe."""
        what: dict[str, Any] = {"stdin": subprocess.DEVNULL} if given is None else {"input": given}
        return subprocess.run(
            [*COMMAND, *map(str, arguments)],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            **what,
        )

    def told(self, *arguments: str | Path, given: str | None = None) -> str:
        """What a verb prints that does what it should."""
        done = self.run(*arguments, given=given)
        assert (done.returncode, done.stderr) == (0, ""), (arguments, done)
        return done.stdout

    def refused(self, *arguments: str | Path, given: str | None = None) -> tuple[int, str]:
        """The status of a verb that prints nothing, and the line that it says why in."""
        done = self.run(*arguments, given=given)
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        start = f"{PROGRAM}: error: "
        assert line.startswith(start), line
        return done.returncode, line.removeprefix(start)

    def started(self, *arguments: str | Path, **how: Any) -> subprocess.Popen[str]:
        """Begin a verb."""
        return subprocess.Popen(
            [*COMMAND, *map(str, arguments)], cwd=ROOT, env=self.environment, text=True, **how
        )
