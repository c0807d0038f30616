"""The real server on a unix socket, alone and beside addresses, over its ends and its kills."""

from __future__ import annotations

import asyncio
import hashlib
import io
import socket
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest

from durable_streams.settings import MIB
from tests.test_cli import request, run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartServer

URL: Final = "http://localhost/v1/stream/a"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.sock"


def ask(path: Path, head: str) -> bytes:
    """What comes back for a head, until the server closes."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(f"{head}\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: client.recv(65536), b""))


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_it_serves_a_unix_socket_alone_and_removes_it_at_its_end(
    start_server: StartServer, path: Path, loop: str
) -> None:
    server = start_server("--unix-socket", str(path), "--loop", loop)
    assert f": listening on unix:{path}, " in server.announcement
    assert server.port == 0
    assert ask(path, "PUT /v1/stream/a HTTP/1.1\r\nHost: localhost").startswith(b"HTTP/1.1 201 ")
    assert server.stop() == 0
    assert not path.exists()


def test_it_serves_hosts_that_are_given_as_well(start_server: StartServer, path: Path) -> None:
    server = start_server("--unix-socket", str(path), "--host", "127.0.0.1", "--host=127.0.0.2")
    port = server.port
    assert (
        f": listening on unix:{path} and http://127.0.0.1:{port}/v1/stream and "
        f"http://127.0.0.2:{port}/v1/stream, " in server.announcement
    )
    assert request("PUT", f"http://127.0.0.2:{port}/v1/stream/a", b"x")[0] == 201
    assert ask(path, "GET /v1/stream/a HTTP/1.1\r\nHost: localhost").endswith(b"\r\n\r\nx")


def test_the_socket_of_a_server_that_was_killed_is_replaced(
    start_server: StartServer, path: Path
) -> None:
    server = start_server("--unix-socket", str(path))
    server.kill()
    assert path.exists()
    server.start()
    assert ask(path, "GET /healthz HTTP/1.1\r\nHost: localhost").startswith(b"HTTP/1.1 200 ")


def test_a_second_server_there_is_refused_in_one_line_and_the_first_goes_on(
    start_server: StartServer, path: Path, tmp_path: Path
) -> None:
    start_server("--unix-socket", str(path))
    done = run("serve", "--data-dir", str(tmp_path / "other"), "--unix-socket", str(path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"durable-streams: error: cannot listen on unix:{path}: somebody")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "other").exists()
    assert ask(path, "GET /healthz HTTP/1.1\r\nHost: localhost").startswith(b"HTTP/1.1 200 ")


def test_a_host_that_cannot_be_bound_leaves_no_socket_behind(path: Path, data_dir: Path) -> None:
    hosts = ("--unix-socket", str(path), "--host", "198.51.100.1")
    assert run("serve", "--data-dir", str(data_dir), *hosts).returncode == 2
    assert not path.exists()


def test_its_peers_are_proxies_and_its_hosts_those_of_this_machine(
    start_server: StartServer, path: Path
) -> None:
    start_server("--unix-socket", str(path))
    forwarded = "X-Forwarded-Proto: https\r\nX-Forwarded-Host: streams.example"
    made = ask(path, f"PUT /v1/stream/a HTTP/1.1\r\nHost: localhost\r\n{forwarded}")
    assert b"\r\nLocation: https://streams.example/v1/stream/a\r\n" in made
    made = ask(path, "PUT /v1/stream/b HTTP/1.1\r\nHost: localhost")
    assert b"\r\nLocation: http://localhost/v1/stream/b\r\n" in made
    refused = ask(path, "GET /v1/stream/a HTTP/1.1\r\nHost: evil.example")
    assert refused.startswith(b"HTTP/1.1 403 ")


def test_large_reads_and_events_come_whole(start_server: StartServer, path: Path) -> None:
    start_server("--unix-socket", str(path), "--sse-lifetime", "1")
    body = hashlib.shake_128(b"a").digest(8 * MIB)

    async def read_back() -> tuple[bytes, bytes]:
        connector = aiohttp.UnixConnector(str(path))
        async with aiohttp.ClientSession(connector=connector) as session:
            binary = {"Content-Type": "application/octet-stream"}
            async with session.put(URL, data=io.BytesIO(body), headers=binary) as made:
                assert made.status == 201
            async with session.get(URL) as read:
                whole = await read.read()
            end = {"offset": "now", "live": "sse"}
            async with session.get(URL, params=end) as events:
                return whole, await events.content.readany()

    whole, events = asyncio.run(read_back())
    assert whole == body
    assert b"event: control" in events
