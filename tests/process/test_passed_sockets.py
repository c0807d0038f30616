"""Sockets that systemd passes on, to the real server: systemd's part is played by a shell."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Final

import pytest

from durable_streams.process import passed_sockets
from durable_streams.process.addresses import CannotListen
from tests.test_cli import request
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


FAR: Final = 20
"""Above all descriptors that the shell moves."""


@contextmanager
def serving(
    data_dir: Path, passed: list[IO[Any] | socket.socket], *options: str, names: str = ""
) -> Iterator[subprocess.Popen[str]]:
    """Start a server with descriptors from 3 on, as systemd does."""
    far = [fcntl.fcntl(one.fileno(), fcntl.F_DUPFD, FAR) for one in passed]
    moves = " ".join(f"{3 + at}<&{number} {number}<&-" for at, number in enumerate(far))
    variables = f"LISTEN_PID=$$ LISTEN_FDS={len(passed)} LISTEN_FDNAMES={names}"
    command = ["-W", "default", "-m", "durable_streams", "serve", "--data-dir", str(data_dir)]
    line = f'exec env {variables} "$@" {moves}'
    with subprocess.Popen(
        ["bash", "-c", line, "bash", sys.executable, *command, *options],
        cwd=ROOT,
        pass_fds=far,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for number in far:
            os.close(number)
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[str]) -> str:
    """What a server that could not start said, in one line."""
    output, errors = process.communicate()
    assert (process.returncode, output) == (2, "")
    (line,) = errors.splitlines()
    return line


@pytest.fixture
def tcp() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.fixture
def unix(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "a.sock"))
        listening.listen()
        yield listening


def get_over(client: socket.socket) -> bytes:
    """What a server says of its health."""
    client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    return b"".join(iter(lambda: client.recv(4096), b""))


def test_sockets_that_were_passed_are_served_and_no_others(
    data_dir: Path, tmp_path: Path, tcp: socket.socket, unix: socket.socket
) -> None:
    port, path = tcp.getsockname()[1], tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as early, socket.socket(socket.AF_UNIX) as late:
        early.connect(str(path))  # before there is a server
        host = ("--host", "127.0.0.2")
        with serving(data_dir, [tcp, unix], *host, names="streams.socket:") as process:
            assert process.stdout is not None
            told = process.stdout.readline()
            assert f"on http://127.0.0.1:{port}/v1/stream and unix:{path}, " in told
            assert get_over(early).startswith(b"HTTP/1.1 200 ")
            assert request("PUT", f"http://127.0.0.1:{port}/v1/stream/a", b"x")[0] == 201
            process.terminate()
            _, errors = process.communicate()
        assert process.returncode == 0
        assert "listening on the sockets that were passed, and on no other address" in errors
        assert "ResourceWarning" not in errors
        late.connect(str(path))  # systemd listens on, and the next server answers
        with serving(data_dir, [unix]):
            assert get_over(late).startswith(b"HTTP/1.1 200 ")


def test_what_is_no_socket_that_listens_is_refused_by_its_name(
    data_dir: Path, tmp_path: Path, tcp: socket.socket
) -> None:
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with datagrams, socket.socket() as deaf, (tmp_path / "file").open("w") as file:
        told = []
        for other in (file, datagrams, deaf):
            with serving(data_dir, [tcp, other], names="a:b") as process:
                told.append(ended(process))
    error = "durable-streams: error: descriptor 4 ('b') was passed and "
    assert told[0] == f"{error}is no socket: use ListenStream= for each"
    deaf_too = f"{error}listens for no connections: use ListenStream= for each, and Accept=no"
    assert told[1:] == [deaf_too, deaf_too]
    assert not data_dir.exists()


def test_one_that_others_reach_takes_authentication(data_dir: Path) -> None:
    everywhere = socket.create_server(("0.0.0.0", 0))
    with everywhere, serving(data_dir, [everywhere]) as process:
        told = ended(process)
    assert "whoever reaches 0.0.0.0:" in told


def test_nothing_is_taken_that_was_passed_to_another_process() -> None:
    environment = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "a", "PATH": "/bin"}
    assert passed_sockets.take(environment, 2) == []
    assert environment == {"PATH": "/bin"}


@pytest.mark.parametrize("count", ["", "x", "-1", "65", "9" * 5000, "²"])
def test_a_count_of_sockets_that_is_none_is_refused(count: str) -> None:
    with pytest.raises(CannotListen, match="has to be a number of sockets, 64 at most"):
        passed_sockets.take({"LISTEN_PID": "7", "LISTEN_FDS": count}, 7)
