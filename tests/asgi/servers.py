"""Servers of ASGI as processes, with one of ``tests.asgi.apps``."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PATIENCE_S: Final = 60

PREFIXES: Final = {
    "plain": "",
    "fastapi": "/v1/stream",
    "starlette": "/v1/stream",
    "in_django": "/v1/stream",
}
"""The applications, and below what each has its streams."""

COMMANDS: Final = {
    # Clients that compute for long find their connections open yet.
    "uvicorn": ("uvicorn", "--fd", "{fd}", "--timeout-keep-alive", "75"),
    "hypercorn": ("hypercorn", "--bind", "fd://{fd}", "--workers", "0"),
}

_GUNICORN: Final = ("gunicorn", "--workers", "1", "--no-control-socket", "--bind", "fd://{fd}")
UNDER_GUNICORN: Final = {
    "its own worker": (*_GUNICORN, "--worker-class", "asgi"),
    "uvicorn's worker": (*_GUNICORN, "--worker-class", "uvicorn_worker.UvicornWorker"),
}
"""Servers of one process that is replaced, sometimes before it has ended."""


class AsgiServer:
    """One that is given a socket which listens already: who asks it waits until it serves."""

    def __init__(
        self,
        kind: str,
        app: str,
        data_dir: Path,
        log: Path,
        *,
        options: Sequence[str] = (),
        program: Path | None = None,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """``options``: more of the server's.  ``program``: the file of another application."""
        self.log = log
        self.prefix = PREFIXES.get(app, "/v1/stream")
        self._command = (*{**COMMANDS, **UNDER_GUNICORN}[kind], *options)
        self._target = f"tests.asgi.apps:{app}" if program is None else f"{program.stem}:{app}"
        self._directory = ROOT if program is None else program.parent
        self.environment = {**os.environ, "STREAMS_DATA": str(data_dir), **environment}
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = int(self._listening.getsockname()[1])
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        number = self._listening.fileno()
        command = [part.format(fd=number) for part in self._command]
        with self.log.open("ab") as file:
            return subprocess.Popen(
                [sys.executable, "-m", *command, self._target],
                cwd=self._directory,
                env=self.environment,
                stdout=file,
                stderr=file,
                pass_fds=[number],
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def url(self, path: str) -> str:
        return f"{self.base_url}{self.prefix}/{path}"

    def kill_and_restart(self) -> None:
        """End it as a crash does, and start its successor."""
        self.kill()
        self.process = self._start()

    def kill(self) -> None:
        if self.running:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        self.process.terminate()
        self.process.wait(PATIENCE_S)

    def close(self) -> None:
        self.kill()
        self._listening.close()
