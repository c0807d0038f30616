"""Metrics on an address of their own, by the real command."""

from __future__ import annotations

import re
import socket
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from tests.http.scraping import parsed
from tests.test_cli import run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartServer
    from tools.server_process import ServerProcess


def get(url: str, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def address_of(server: ServerProcess) -> str:
    """Where metrics are, by the log, whose lines a thread writes."""
    line = re.compile(r"metrics are at (http://127\.0\.0\.1:\d+)/metrics")
    while not (found := line.search(server.stderr)):
        """It is written soon."""
    return found[1]


def test_they_are_there_for_everybody_and_nothing_else_is(
    start_server: StartServer, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens.toml"
    made = run("token", "new", "--tokens", str(tokens), "--scope", "read", "--prefix", "")
    assert made.returncode == 0
    server = start_server("--metrics-listen", "127.0.0.1:0", "--tokens", str(tokens))
    root, path = address_of(server), "/metrics"
    status, text = get(root + path)
    assert status == 200
    assert parsed(text)["store_bug"] == 0
    assert get(root + path, **{"X-Forwarded-For": "192.0.2.1"})[0] == 200
    for other in ("/", "/healthz", "/v1/stream/a", "/v1/stream/__ds/metrics"):
        assert get(root + other)[0] == 404
    assert get(root + path, Host="evil.example")[0] == 403
    assert get(root + path, Origin="https://evil.example")[0] == 403
    assert get(f"{server.base_url}/metrics", **{"X-Forwarded-For": "192.0.2.1"})[0] == 401


def test_few_connections_are_taken_there_and_the_server_has_its_own(
    start_server: StartServer,
) -> None:
    server = start_server("--metrics-listen", "127.0.0.1:0")
    port = int(address_of(server).rpartition(":")[2])
    taken = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]
    with socket.create_connection(("127.0.0.1", port)) as one_more:
        assert one_more.recv(100).startswith(b"HTTP/1.1 503")
    assert get(f"{server.base_url}/healthz")[0] == 200
    for connection in taken:
        connection.close()


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        ended = run(
            *("serve", "--data-dir", str(tmp_path / "data"), "--port", "0"),
            *("--metrics-listen", address),
        )
    assert ended.returncode != 0
    (line,) = ended.stderr.splitlines()
    assert f"cannot listen on {address}" in line
    assert line.endswith("stop what listens there, or give another --metrics-listen")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("text", ["9464", ":9464", "localhost:", "localhost:x", "localhost:65536"])
def test_what_is_no_address_is_told(tmp_path: Path, text: str) -> None:
    ended = run("serve", "--data-dir", str(tmp_path / "data"), "--metrics-listen", text)
    assert ended.returncode != 0
    (line,) = ended.stderr.splitlines()
    assert "metrics_listen is no HOST:PORT" in line
    assert "127.0.0.1:9464" in line


def test_a_host_that_is_none_is_told_by_a_check(tmp_path: Path) -> None:
    options = ("--data-dir", str(tmp_path / "data"), "--metrics-listen", "no host:9464")
    ended = run("config", "check", *options)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert "metrics_listen: " in line
