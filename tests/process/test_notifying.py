"""What a service manager is told: its part, the socket that messages come to, is played here."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from durable_streams.process.notifying import ServiceManager
from tests.test_cli import request
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import StartServer


@contextmanager
def manager_at(address: str, named: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.bind(address)
        receiving.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", named)
        yield Manager(receiving)


class Manager:
    """What is told, message by message."""

    def __init__(self, receiving: socket.socket) -> None:
        self._receiving = receiving

    def told(self) -> dict[str, str]:
        """The next message, which somebody sends within a minute."""
        lines = self._receiving.recv(65_536).decode().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def is_told_nothing(self) -> bool:
        self._receiving.setblocking(False)
        try:
            self._receiving.recv(65_536)
        except BlockingIOError:
            return True
        finally:
            self._receiving.settimeout(60)
        return False


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Manager]:
    name = f"durable-streams-test-{os.getpid()}"
    path = str(tmp_path / "notify")
    address, named = (path, path) if request.param == "path" else (f"\0{name}", f"@{name}")
    with manager_at(address, named, monkeypatch) as manager:
        yield manager


@pytest.fixture(autouse=True)
def hangups_are_not_ignored() -> Iterator[None]:
    """The tests may run under nohup, which their servers would inherit."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_it_is_told_when_the_server_serves_reads_its_settings_and_stops(
    manager: Manager, start_server: StartServer, tmp_path: Path
) -> None:
    file = tmp_path / "streams.toml"
    file.write_text("")
    server = start_server("--config", str(file))
    told = manager.told()
    assert told["READY"] == "1"
    assert told["STATUS"] in server.announcement
    assert request("GET", f"{server.base_url}/healthz") == (200, b"ok\n")

    for content in ("[http]\naccess_log = true\n", "nonsense"):
        file.write_text(content)
        os.kill(server.pid, signal.SIGHUP)
        told = manager.told()
        assert told["RELOADING"] == "1"
        assert int(told["MONOTONIC_USEC"]) > 0
        assert manager.told() == {"READY": "1"}

    assert manager.is_told_nothing()
    assert server.stop() == 0
    assert manager.told()["STOPPING"] == "1"
    assert manager.is_told_nothing()
    assert "the settings stay as they are" in server.stderr


def test_a_server_that_cannot_start_is_never_ready(manager: Manager, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    command = [sys.executable, "-m", "durable_streams", "serve", "--port", "0"]
    ended = subprocess.run(
        [*command, "--data-dir", str(tmp_path / "data")],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 2
    assert manager.is_told_nothing()


@pytest.mark.parametrize("named", ["/nowhere/notify", "vsock:2:1234", "/" + "x" * 200])
def test_where_nobody_can_be_told_it_serves_all_the_same_and_says_so(
    named: str, start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", named)
    server = start_server()
    assert request("GET", f"{server.base_url}/healthz") == (200, b"ok\n")
    assert server.stop() == 0
    assert f"cannot tell the service manager READY=1 at NOTIFY_SOCKET={named}: " in server.stderr


def test_a_manager_that_reads_nothing_is_not_waited_for(
    manager: Manager, start_server: StartServer
) -> None:
    queue = int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text())
    for _ in range(queue + 1):
        ServiceManager(os.environ["NOTIFY_SOCKET"]).ready()
    server = start_server()
    assert request("GET", f"{server.base_url}/healthz") == (200, b"ok\n")
    assert server.stop() == 0
    assert "cannot tell the service manager READY=1" in server.stderr


def test_no_child_speaks_for_the_server() -> None:
    environment = {"NOTIFY_SOCKET": "/run/notify", "PATH": "/bin"}
    ServiceManager.take(environment)
    assert environment == {"PATH": "/bin"}
