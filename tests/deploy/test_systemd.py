"""The units of ``deploy/systemd``: systemd's tools look at them, and what they say is run."""

from __future__ import annotations

import re
import socket
import subprocess
from typing import TYPE_CHECKING, Final

import pytest

from tests.deploy.units import PROGRAMS, SERVICE, SOCKET, PlayedService, value_of
from tests.programs import free_port
from tests.test_cli import request
from tools.proofs.kills import Run
from tools.proofs.load import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PLAN: Final = Plan(lasting=4, changing=4, pause_s=0.01, appends=(3, 30), seed=1)

MOST_EXPOSED: Final = 15
"""Tenths of what systemd counts, from 0 (all is forbidden) to 100."""


@pytest.fixture
def units(programs: Path, tmp_path: Path) -> Path:
    """Copies that say where the programs are here."""
    for unit in (SERVICE, SOCKET):
        text = unit.read_text()
        (tmp_path / unit.name).write_text(text.replace(PROGRAMS, str(programs)))
    return tmp_path


@pytest.mark.needs("systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_units(units: Path) -> None:
    names = [units / SERVICE.name, units / SOCKET.name]
    run = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *names],
        capture_output=True,
        text=True,
        check=False,
    )
    told = [line for line in run.stderr.splitlines() if "durable-streams" in line]
    assert (run.returncode, told) == (0, [])


@pytest.mark.needs("systemd-analyze")
def test_the_service_is_exposed_to_little(units: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED}"]
    run = subprocess.run(
        [*command, units / SERVICE.name], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout
    assert re.search(r"Overall exposure level .*: \d\.\d OK", run.stdout)


@pytest.fixture
def service(programs: Path, tmp_path: Path) -> Iterator[PlayedService]:
    service = PlayedService(programs, tmp_path / "lib", tmp_path / "etc")
    file = tmp_path / "etc" / "durable-streams" / "environment"
    file.write_text(f"DURABLE_STREAMS_PORT={free_port()}\n")
    service.start()
    try:
        yield service
    finally:
        if service.running:
            service.kill()


@pytest.mark.needs("systemd-analyze")
async def test_what_the_service_forbids_is_not_needed_and_nothing_is_lost_when_it_is_killed(
    service: PlayedService,
) -> None:
    report = await Run(service, PLAN).run(iter([0.3, 0.5]), javascript=0)
    assert report.faults == []
    assert report.counters.acknowledged > 0
    assert "event loop, which is slower" not in service.stderr
    service.finish()


@pytest.mark.needs("systemd-analyze")
def test_the_service_works_with_tokens_that_are_edited(
    service: PlayedService, programs: Path
) -> None:
    """Beside the data: the server's user can write nowhere else."""
    tokens = service.data_dir.parent / "tokens.toml"
    grants = ["--scope", "read,append,create", "--prefix", "chat"]
    command = [str(programs / "durable-streams-server"), "token", "new", "--tokens", str(tokens)]
    subprocess.run([*command, *grants], check=True, capture_output=True)
    service.kill()
    environment = service.data_dir.parents[2] / "etc" / "durable-streams" / "environment"
    with environment.open("a") as file:
        file.write(f"DURABLE_STREAMS_TOKENS={tokens}\n")
    service.start()
    assert request("GET", service.url("chat/a"))[0] == 401
    service.finish()


@pytest.mark.needs("systemd-socket-activate")
def test_systemd_opens_the_sockets_and_the_server_uses_them(programs: Path, tmp_path: Path) -> None:
    port, path = free_port(), tmp_path / "streams.sock"
    listening = [f"--listen=127.0.0.1:{port}", f"--listen={path}"]
    program = str(programs / "durable-streams-server")
    server = [program, "serve", "--data-dir", str(tmp_path / "data")]
    with subprocess.Popen(
        ["systemd-socket-activate", *listening, *server],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        try:
            for line in process.stderr:
                if f"Listening on {path}" in line:
                    break
            with socket.socket(socket.AF_UNIX) as early:
                early.connect(str(path))
                early.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert early.recv(4096).startswith(b"HTTP/1.1 200 ")
            told = process.stdout.readline()
            assert f"listening on http://127.0.0.1:{port}/v1/stream and" in told
            url = f"http://127.0.0.1:{port}/v1/stream/a"
            assert request("PUT", url, b"hello")[0] == 201
            assert request("GET", url) == (200, b"hello")
        finally:
            process.terminate()
            process.communicate()
    assert process.returncode == 0


def test_the_sockets_are_those_that_the_service_would_listen_on_itself() -> None:
    """So it does not matter whether they are enabled; the unit is the one of the same name."""
    assert SOCKET.stem == SERVICE.stem
    assert "ListenStream=127.0.0.1:4437" in SOCKET.read_text().splitlines()
    assert value_of(SERVICE, "Type") == "notify"
