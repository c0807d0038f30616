"""A hard limit of 256 open files: everything works, slowly, in the server and in a program."""

from __future__ import annotations

import http.client
import re
import resource
import socket
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Self

import pytest

from durable_streams.descriptors import divide
from durable_streams.process.serving import raise_descriptor_limit
from durable_streams.settings import Settings
from tools.descriptors import open_now

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.conftest import StartServer
    from tools.server_process import ServerProcess

LIMIT: Final = 256
STREAMS: Final = 1100
WRITTEN: Final = 335
LARGE: Final = b"x" * 200_000
GET_LARGE: Final = b"GET /v1/stream/large%d HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Client:
    """One connection to a server."""

    def __init__(self, server: ServerProcess) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        self.connection.request(
            method, f"/v1/stream/{path}", body, {"Content-Type": "text/plain", **(headers or {})}
        )
        response = self.connection.getresponse()
        return response.status, response.read()

    def expect(self, status: int, method: str, paths: Iterable[str], body: bytes = b"") -> None:
        found = {self.ask(method, path, body)[0] for path in paths}
        assert found == {status}

    def expect_contents(self) -> None:
        for number in range(STREAMS):
            appended = b", more" if number < WRITTEN else b""
            wanted = b"some" + appended
            assert self.ask("GET", f"s{number}") == (200, wanted)
        for number in range(20):
            assert self.ask("GET", f"fork{number}") == (200, b"some, more")


def test_a_server_with_few_descriptors_does_everything(start_server: StartServer) -> None:
    server = start_server(open_files=LIMIT)
    with Client(server) as client:
        client.expect(201, "PUT", (f"s{number}" for number in range(STREAMS)), b"some")
        client.expect(204, "POST", (f"s{number}" for number in range(WRITTEN)), b", more")
        for number in range(20):
            headers = {"Stream-Forked-From": f"/v1/stream/s{number}"}
            assert client.ask("PUT", f"fork{number}", headers=headers)[0] == 201
        client.expect_contents()
        with Client(server) as other:
            assert other.ask("GET", "s0")[0] == 200
        assert len(open_now(server.pid)) < LIMIT
    server.restart()
    with Client(server) as client:
        client.expect_contents()
    server.stop()
    server.start()
    with Client(server) as client:
        client.expect_contents()
    assert not re.search("ERROR|CRITICAL|out of system resource", server.stderr)
    server.stop()
    command = ["sh", "-c", f'ulimit -n {LIMIT}; exec "$@"', "sh", sys.executable, "-m"]
    command += ["durable_streams", "verify", str(server.data_dir)]
    verified = subprocess.run(command, capture_output=True, check=False)
    assert verified.returncode == 0, verified.stdout


def test_more_clients_than_descriptors_are_refused_and_the_others_answered(
    start_server: StartServer,
) -> None:
    server = start_server(open_files=LIMIT)
    most = divide(LIMIT, Settings().max_open_files).connections
    with Client(server) as client:
        client.expect(201, "PUT", (f"large{number}" for number in range(60)), LARGE)
        with ExitStack() as stack:
            idle = [stack.enter_context(connect(server)) for _ in range(most - 1)]
            for number, one in enumerate(idle):  # answers from files, that nobody takes
                one.sendall(GET_LARGE % (number % 60))
            more = [stack.enter_context(connect(server)) for _ in range(3 * LIMIT)]
            refused = [read_all(one) for one in more]
            assert all(answer.startswith(b"HTTP/1.1 503") for answer in refused)
            client.expect(204, "POST", ["large0"], b"small")
            client.expect(201, "PUT", (f"s{number}" for number in range(50)), b"some")
            client.expect(200, "GET", (f"s{number}" for number in range(50)))
    for _ in range(3):
        with Client(server) as client:
            assert client.ask("GET", "large1") == (200, LARGE)
    assert f"at most {most} connections" in server.stderr
    assert "out of system resource" not in server.stderr


def connect(server: ServerProcess) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(30)
    client.connect(("127.0.0.1", server.port))
    return client


def read_all(client: socket.socket) -> bytes:
    data = b""
    try:
        while piece := client.recv(4096):
            data += piece
    except ConnectionResetError:
        pass
    return data


def test_a_server_says_how_many_descriptors_it_needs(start_server: StartServer) -> None:
    with pytest.raises(AssertionError, match="the limit of open files is 100: raise it to 192"):
        start_server(open_files=100)


def test_a_system_that_allows_less_than_it_says_is_asked_for_less(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As macOS does, whose hard limit is none; it cannot be had here."""
    for allowed, wanted in ((100_000, 65_536), (24_576, 10_240), (1000, 256)):
        now = [(256, resource.RLIM_INFINITY)]

        def setrlimit(_: int, limits: tuple[int, int], most: int = allowed) -> None:
            if not 0 <= limits[0] <= most:
                raise ValueError("not allowed to exceed maximum limit")
            now[0] = limits  # noqa: B023 - called at once

        monkeypatch.setattr(resource, "getrlimit", lambda _: now[0])  # noqa: B023
        monkeypatch.setattr(resource, "setrlimit", setrlimit)
        raise_descriptor_limit()
        assert now[0][0] == wanted


PROGRAM: Final = """
import asyncio, os, resource, sys
import durable_streams

resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))


def take_all():
    taken = []
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        return taken


async def expect(streams, numbers, wanted):
    for number in numbers:
        assert (await streams.read(f"s{number}")).data == wanted, number


async def main():
    async with durable_streams.open(sys.argv[1]) as streams:
        for number in range(400):
            await streams.create(f"s{number}", data=b"some")
        await asyncio.gather(*[streams.append(f"s{number}", b", more") for number in range(335)])
        await expect(streams, range(335), b"some, more")
        taken = take_all()  # all that the streams do not keep open
        await expect(streams, range(335, 400), b"some")
        await expect(streams, range(50), b"some, more")
        for number in range(10):
            await streams.fork(f"fork{number}", f"s{number}")
            await streams.create(f"new{number}", data=b"new")
            await streams.append(f"s{number}", b" and more")
            await streams.delete(f"s{399 - number}")
        await expect(streams, range(10), b"some, more and more")
        for descriptor in taken:
            os.close(descriptor)
        await expect(streams, range(300, 335), b"some, more")
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (256, 256)
    async with durable_streams.open(sys.argv[1]) as streams:
        await expect(streams, range(10), b"some, more and more")
        await expect(streams, range(10, 335), b"some, more")


asyncio.run(main())
print("done")
"""


def test_a_program_with_few_descriptors_does_everything_also_when_it_takes_all_of_them(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", PROGRAM, str(tmp_path / "data")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr
    assert "out of service" not in done.stderr
