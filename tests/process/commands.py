"""The command line in a shell, which closes and redirects as a supervisor does."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.programs import free_port
from tests.test_cli import request
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMAND: Final = [sys.executable, "-W", "default", "-m", "durable_streams"]

_POLL_S: Final = 0.02


def shell(
    redirections: str, *arguments: str | Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command with what a shell makes of its standard streams."""
    line = f"exec {shlex.join([*COMMAND, *map(str, arguments)])} {redirections}"
    return subprocess.run(
        ["bash", "-c", line],
        cwd=ROOT,
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


class QuietServer:
    """A server whose standard streams are not ours to read."""

    def __init__(
        self, data_dir: Path, redirections: str, *options: str, pass_fds: tuple[int, ...] = ()
    ) -> None:
        self.port = free_port()
        serve = ["serve", "--data-dir", str(data_dir), "--port", str(self.port), *options]
        self.process = subprocess.Popen(
            ["bash", "-c", f"exec {shlex.join([*COMMAND, *serve])} {redirections}"],
            cwd=ROOT,
            pass_fds=pass_fds,
            stderr=subprocess.DEVNULL,
        )

    def url(self, path: str) -> str:
        """The URL of the stream at ``path``."""
        return f"http://127.0.0.1:{self.port}/v1/stream/{path}"

    def wait_until_it_serves(self) -> None:
        """Return once it answers."""
        while True:
            with suppress(OSError):
                request("GET", f"http://127.0.0.1:{self.port}/healthz")
                return
            with suppress(subprocess.TimeoutExpired):
                raise AssertionError(f"it ended with {self.process.wait(_POLL_S)}")

    def standard_streams(self) -> list[str]:
        """What its descriptors 0 to 2 are."""
        return [str(Path(f"/proc/{self.process.pid}/fd/{fd}").readlink()) for fd in range(3)]

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.process.terminate()
        return self.process.wait()
