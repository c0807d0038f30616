"""What TLS costs our server, against plain HTTP: ``python -m tools.bench.tls``.

Two servers, one of each kind, are asked the same things in turn; what counts is the CPU time of the
server's process, all its threads, for a MiB that is read from files, for an append, for a
connection, and the memory that a connection takes which is idle.  The answers are looked at.

Beside each median stand the lowest and the highest of all rounds.  Where those of plain HTTP and of
TLS overlap, the machine was not calm enough to tell them apart, and the medians say nothing.
"""

from __future__ import annotations

import argparse
import http.client
import socket
import ssl
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from durable_streams.settings import KIB, MIB
from tools.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT: Final = {"Content-Type": "text/plain"}

APPEND: Final = (
    b"POST /v1/stream/small HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 100\r\n\r\n" + bytes(100)
)
"""In one piece: ``http.client`` sends head and body apart, and how often that wakes the server is
chance."""


class Sizes(NamedTuple):
    """How much is asked in each of so many ``rounds``."""

    rounds: int = 7
    mib: int = 64
    appends: int = 2000
    connections: int = 200
    idle: int = 500


class Asked:
    """A server, and what a client of it has; ``context`` is None for plain HTTP."""

    def __init__(self, server: ServerProcess, context: ssl.SSLContext | None) -> None:
        self.server = server
        self._context = context
        server.start()

    def client(self) -> http.client.HTTPConnection:
        """A client that keeps its connection."""
        if self._context is None:
            return http.client.HTTPConnection("localhost", self.server.port)
        return http.client.HTTPSConnection("localhost", self.server.port, context=self._context)

    def connect(self) -> socket.socket:
        """A connection, whose handshake has ended."""
        raw = socket.create_connection(("127.0.0.1", self.server.port))
        if self._context is None:
            return raw
        return self._context.wrap_socket(raw, server_hostname="localhost")

    def cpu_s(self) -> float:
        """The time of its process's CPU clock."""
        return time.clock_gettime((~self.server.pid << 3) | 2)

    def costs(self, sizes: Sizes) -> dict[str, float]:
        """Microseconds of CPU that each of what is asked takes."""
        asked: dict[str, tuple[Callable[[int], None], int]] = {
            "us of CPU for each MiB of a catch-up": (self.read, sizes.mib),
            "us of CPU for each append of 100 bytes": (self.append, sizes.appends),
            "us of CPU for each connection": (self.ask_once, sizes.connections),
        }
        found = {}
        for name, (ask, count) in asked.items():
            before = self.cpu_s()
            ask(count)
            found[name] = (self.cpu_s() - before) * 1e6 / count
        return found

    def fill(self, mib: int) -> None:
        """Make a stream of so many MiB, and an empty one."""
        client = self.client()
        exchange(client, "PUT", "large")
        for number in range(mib):
            exchange(client, "POST", "large", bytes([number % 256]) * MIB)
        exchange(client, "PUT", "small")
        client.close()

    def read(self, mib: int) -> None:
        """Read all of the large stream."""
        client, offset, size_bytes = self.client(), "-1", 0
        while size_bytes < mib * MIB:
            answer, body = exchange(client, "GET", f"large?offset={offset}")
            assert body[0] == size_bytes // MIB % 256
            offset = answer.headers["Stream-Next-Offset"]
            size_bytes += len(body)
            assert body[-1] == (size_bytes - 1) // MIB % 256
        client.close()

    def append(self, count: int) -> None:
        """Append so many small messages on one connection."""
        with self.connect() as client:
            for _ in range(count):
                client.sendall(APPEND)
                answer = b""
                while not answer.endswith(b"\r\n\r\n"):
                    answer += client.recv(64 * KIB)
                assert answer.startswith(b"HTTP/1.1 204 "), answer

    def ask_once(self, count: int) -> None:
        """Make so many connections for one request each."""
        for _ in range(count):
            client = self.client()
            exchange(client, "HEAD", "small")
            client.close()

    def idle_kib(self, count: int) -> float:
        """The memory of a connection that is idle."""
        with ExitStack() as stack:
            before = self.server.rss_bytes()
            for _ in range(count):
                client = stack.enter_context(self.connect())
                client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert client.recv(64 * KIB).startswith(b"HTTP/1.1 200 ")
            return (self.server.rss_bytes() - before) / KIB / count


def exchange(
    client: http.client.HTTPConnection, method: str, path: str, body: bytes = b""
) -> tuple[http.client.HTTPResponse, bytes]:
    """One request below the prefix, which has to succeed."""
    client.request(method, f"/v1/stream/{path}", body or None, TEXT)
    answer = client.getresponse()
    data = answer.read()
    assert answer.status < 300, (method, path, answer.status, data[:200])
    return answer, data


def certificate_in(directory: Path) -> tuple[Path, Path]:
    """A certificate of P-256 for this machine, and its key."""
    certificate, key = directory / "server.pem", directory / "server.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"]
    command += ["ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, *files], check=True, stderr=subprocess.DEVNULL)
    return certificate, key


class Costs(NamedTuple):
    """What something costs, in each round."""

    plain: list[float]
    tls: list[float]

    @property
    def are_apart(self) -> bool:
        """Whether no round of one was like one of the other."""
        return max(self.plain) < min(self.tls) or max(self.tls) < min(self.plain)

    def __str__(self) -> str:
        """Medians with what they are among, and a word where they say nothing."""
        told = [
            f"{name} {statistics.median(found):7.1f} ({min(found):.1f} to {max(found):.1f})"
            for name, found in zip(("plain", "TLS"), self, strict=True)
        ]
        return "   ".join(told) + ("" if self.are_apart else "   NOT TOLD APART")


def measure(directory: Path, loop: str, sizes: Sizes) -> dict[str, Costs]:
    """What each thing costs, plain and with TLS."""
    certificate, key = certificate_in(directory)
    context = ssl.create_default_context(cafile=str(certificate))
    common = ("--loop", loop, "--durability", "none")
    tls = ("--tls-cert", str(certificate), "--tls-key", str(key))
    both = (
        Asked(ServerProcess(directory / "plain", *common), None),
        Asked(ServerProcess(directory / "tls", *common, *tls), context),
    )
    found: dict[str, Costs] = {}
    try:
        for asked in both:
            asked.fill(sizes.mib)
        for _ in range(sizes.rounds):
            for which, asked in enumerate(both):
                for name, cost_us in asked.costs(sizes).items():
                    found.setdefault(name, Costs([], []))[which].append(cost_us)
        memory = found.setdefault("KiB of each idle connection", Costs([], []))
        for which, asked in enumerate(both):
            memory[which].append(asked.idle_kib(sizes.idle))
    finally:
        for asked in both:
            asked.server.finish()
    return found


def main() -> None:
    """Measure with both event loops, and print a line for each thing."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.tls", description=__doc__)
    for name, default in Sizes()._asdict().items():
        parser.add_argument(f"--{name}", type=int, default=default)
    sizes = Sizes(**vars(parser.parse_args()))
    for loop in ("uvloop", "asyncio"):
        with tempfile.TemporaryDirectory() as directory:
            for name, costs in measure(Path(directory), loop, sizes).items():
                print(f"{loop:8} {name:40} {costs}", flush=True)


if __name__ == "__main__":
    main()
