"""The servers that are compared: how each is started, watched and stopped."""

from __future__ import annotations

import http.client
import json
import re
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from durable_streams.settings import Durability
from tools.bench.client import pinned
from tools.server_process import ROOT

NODE_PACKAGE: Final = Path(__file__).resolve().parent / "node"
PREFIX: Final = "/v1/stream"
READY_TIMEOUT_S: Final = 300.0
STOP_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.002

OURS: Final = "ours"
NODE: Final = "node"
ON_UVICORN: Final = "ours, on uvicorn"


class ServerFailed(Exception):
    """A server did not start, or ended by itself."""


@dataclass(frozen=True)
class Contender:
    """A server as it can be started; its command has ``{port}`` and ``{data_dir}`` in it.

    ``directory``: where it is started, which is where Python finds our package first.
    ``acknowledged``: where a write is when it is acknowledged, if that is told.
    ``beside``: the server that it is compared with.
    """

    name: str
    command: tuple[str, ...]
    version: str = ""
    directory: str = str(ROOT)
    acknowledged: str = ""
    beside: str = OURS


def our_server(python: str, options: str, *, name: str = OURS, checkout: Path = ROOT) -> Contender:
    """This project's server, with its default settings unless options say otherwise."""
    serve = (python, "-m", "durable_streams", "serve")
    flags = ("--port", "{port}", "--data-dir", "{data_dir}", *shlex.split(options))
    asked = subprocess.run(
        [python, "-m", "durable_streams", "--version"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    if asked.returncode != 0:
        raise ServerFailed(f"our server does not run in {checkout}:\n{asked.stderr}")
    version = " ".join([*asked.stdout.split()[-1:], options]).strip()
    return Contender(name, serve + flags, version, str(checkout))


def our_server_on_uvicorn(python: str, durability: Durability = Durability.FSYNC) -> Contender:
    """The same as an ASGI application, with the default settings of both but for the durability."""
    asked = subprocess.run(
        [python, "-c", "import uvicorn; print(uvicorn.__version__)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if asked.returncode != 0:
        raise ServerFailed(f"uvicorn does not run here: {asked.stderr}")
    words = ("{port}", "{data_dir}", durability.value)
    command = (python, "-m", "tools.bench.on_uvicorn", *words)
    return Contender(ON_UVICORN, command, f"uvicorn {asked.stdout.strip()}")


def node_server(*, in_memory: bool = False) -> Contender | None:
    """The official Node server, if Node and the package are there."""
    package = NODE_PACKAGE / "node_modules" / "@durable-streams" / "server" / "package.json"
    node = shutil.which("node")
    if node is None or not package.exists():
        return None
    version = json.loads(package.read_text())["version"]
    script = str(NODE_PACKAGE / "serve.mjs")
    where = () if in_memory else ("{data_dir}",)
    name = f"{NODE}, memory" if in_memory else NODE
    return Contender(name, (node, script, "{port}", *where), f"@durable-streams/server {version}")


def other_server(description: str) -> Contender:
    """A server as given on the command line: ``NAME=COMMAND``."""
    name, separator, command = description.partition("=")
    if not separator or not name or "{port}" not in command:
        raise ValueError(f"{description!r} is not NAME='COMMAND with {{port}} and {{data_dir}}'")
    return Contender(name, tuple(shlex.split(command)), command)


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def raise_file_limit() -> int:
    """Let all processes that are started from now on have as many descriptors as allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class RunningServer:
    """One contender on one data directory; the port stays the same over restarts."""

    def __init__(self, contender: Contender, directory: Path, core: int | None) -> None:
        self.contender = contender
        self.data_dir = directory / "data"
        self.port = free_port()
        self._core = core
        self._log_path = directory / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None
        return self._process.pid

    def start(self, known_stream: str | None = None) -> float:
        """Start it; return the seconds until it answered, with 200 if a stream is named."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        values = {"port": str(self.port), "data_dir": str(self.data_dir)}
        command = [_fill_in(word, values) for word in self.contender.command]
        begin = time.perf_counter()
        with self._log_path.open("ab") as log, pinned(self._core):
            self._process = subprocess.Popen(
                command,
                cwd=self.contender.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # an interrupt goes to us, and we stop the server
            )
        while time.perf_counter() - begin < READY_TIMEOUT_S:
            if self._process.poll() is not None:
                raise ServerFailed(f"{self.contender.name} ended by itself: {self.log_end()}")
            status = self._status_of(known_stream or "nothing-is-here")
            if status is not None and (known_stream is None or status == 200):
                return time.perf_counter() - begin
            time.sleep(_POLL_S)
        raise ServerFailed(f"{self.contender.name} was not ready after {READY_TIMEOUT_S:.0f} s")

    def _status_of(self, path: str) -> int | None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=READY_TIMEOUT_S)
        with suppress(OSError, http.client.HTTPException):
            connection.request("GET", f"{PREFIX}/{path}?offset=-1")
            response = connection.getresponse()
            response.read()
            connection.close()
            return response.status
        connection.close()
        return None

    def log_end(self, lines: int = 5) -> str:
        """The last lines that the server wrote."""
        if not self._log_path.exists():
            return ""
        return "\n".join(self._log_path.read_text(errors="replace").splitlines()[-lines:])

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that does not help; nothing if it has already ended."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def rss_bytes(self) -> int:
        """The resident memory now."""
        return self._status_kib("VmRSS") * 1024

    def peak_rss_bytes(self) -> int:
        """The highest resident memory since :meth:`reset_peak_rss`."""
        return self._status_kib("VmHWM") * 1024

    def reset_peak_rss(self) -> None:
        """Let the peak count from now on."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def _status_kib(self, field: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        match = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
        if match is None:
            raise ServerFailed(f"{self.contender.name} has ended")
        return int(match[1])


def _fill_in(word: str, values: dict[str, str]) -> str:
    """Put in the port and the directory; other braces may be part of the command."""
    for name, value in values.items():
        word = word.replace(f"{{{name}}}", value)
    return word
