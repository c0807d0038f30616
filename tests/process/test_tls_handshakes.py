"""Handshakes: many, in pieces, failed, never ended; and the places of those who are at it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.http.handshakes import REASONS
from tests.certificates import Files, made_in
from tests.hostile.raw_clients import connect, read_all, statuses
from tests.http.scraping import parsed
from tests.process.test_metrics_listen import address_of, get
from tests.process.tls_clients import ASK, OK, all_said, ask, is_at_end, served

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartServer
    from tests.http.scraping import Samples
    from tools.server_process import ServerProcess

LOOPS: Final = ("uvloop", "asyncio")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return made_in(tmp_path)


@pytest.fixture(params=LOOPS)
def options(request: pytest.FixtureRequest, files: Files) -> tuple[str, ...]:
    """What a server with TLS is told, on either event loop."""
    return (*files.flags, "--loop", request.param)


# -- handshakes ----------------------------------------------------------------------------

IN_A_ROW: Final = 1500
AT_ONCE: Final = 300
ROUNDS: Final = 4


class Handshake:
    """A client that has what it sends in its hands, and may send it in any pieces."""

    def __init__(self, server: ServerProcess, context: ssl.SSLContext) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self.socket = connect(server)
        self._is_over = False
        self._go_on()

    def _go_on(self) -> None:
        with suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
            self._is_over = True

    def send(self, size: int | None = None) -> None:
        """Send what there is to be sent, in pieces of some size."""
        data = self._outgoing.read()
        for at in range(0, len(data), size or len(data) or 1):
            self.socket.sendall(data[at : at + (size or len(data))])

    def receive(self) -> None:
        data = self.socket.recv(65_536)
        assert data
        self._incoming.write(data)

    def end_with(self, request: bytes, size: int | None = None) -> bytes:
        """Send a request in one piece with the end of the handshake; the first of the answer."""
        while not self._is_over:
            self.send(size)
            self.receive()
            self._go_on()
        self._tls.write(request)
        self.send(size)
        while True:
            with suppress(ssl.SSLWantReadError):
                return self._tls.read(65_536)
            self.receive()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("size", [None, 1, 7])
def test_a_request_may_come_with_the_end_of_the_handshake_and_all_in_pieces(
    start_server: StartServer,
    files: Files,
    options: tuple[str, ...],
    version: ssl.TLSVersion,
    size: int | None,
) -> None:
    server = start_server(*options)
    context = files.client()
    context.maximum_version = version
    for _ in range(20):
        client = Handshake(server, context)
        with client.socket:
            assert statuses(client.end_with(ASK, size)) == [200]


def test_no_handshake_of_many_in_a_row_fails(
    start_server: StartServer, files: Files, options: tuple[str, ...]
) -> None:
    server = start_server(*options)
    context = files.client()
    for _ in range(IN_A_ROW):
        client = Handshake(server, context)
        with client.socket:
            assert client.end_with(ASK).endswith(OK)


def test_no_handshake_of_many_at_once_fails(
    start_server: StartServer, files: Files, options: tuple[str, ...]
) -> None:
    server = start_server(*options)
    context = files.client()

    async def exchange() -> None:
        reader, writer = await asyncio.open_connection("localhost", server.port, ssl=context)
        writer.write(ASK)
        assert (await reader.readuntil(OK)).startswith(b"HTTP/1.1 200 ")
        writer.close()
        await writer.wait_closed()

    async def all_of_them() -> None:
        for _ in range(ROUNDS):
            await asyncio.gather(*(exchange() for _ in range(AT_ONCE)))

    asyncio.run(all_of_them())
    assert "handshake" not in all_said(server)


def watched(server: ServerProcess) -> Samples:
    """The metrics of a server whose own addresses may be full."""
    status, text = get(f"{address_of(server)}/metrics")
    assert status == 200
    return parsed(text)


def test_those_who_stay_silent_have_places_and_lose_them_in_time(
    start_server: StartServer, files: Files, options: tuple[str, ...]
) -> None:
    server = start_server(*options, "--max-connections", "4", "--metrics-listen", "127.0.0.1:0")
    context = files.client()
    with ExitStack() as stack:
        silent = [stack.enter_context(connect(server)) for _ in range(2)]
        for _ in range(2):
            half = Handshake(server, context)
            stack.enter_context(half.socket)
            half.send()
            silent.append(half.socket)
            half.receive()
        assert ask(server, context, "GET", "/healthz")[0] == 503
        assert watched(server)["http_connections"] == 4
        for client in silent[:2]:
            assert is_at_end(client)
        for client in silent[2:]:
            client.settimeout(None)
            read_all(client)
        assert watched(server)['tls_handshake_failures_total{reason="timeout"}'] == 4
        with ExitStack() as others:
            for _ in range(4):
                others.enter_context(served(server, context))
            assert ask(server, context, "GET", "/healthz")[0] == 503


def test_more_silent_ones_than_can_be_refused_are_closed_at_once(
    start_server: StartServer, files: Files, options: tuple[str, ...]
) -> None:
    server = start_server(*options, "--max-connections", "1")
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(server)) for _ in range(200)]
        clients[-1].settimeout(None)
        assert is_at_end(clients[-1])
    assert all_said(server).count("closed connections at once") == 1


def test_failed_handshakes_give_their_places_back(
    start_server: StartServer, files: Files, options: tuple[str, ...]
) -> None:
    server = start_server(*options, "--max-connections", "2")
    context = files.client()
    for number in range(60):
        with connect(server) as client:
            if number % 3 == 0:
                client.sendall(b"\x16\x03\x01" + bytes(200))
            elif number % 3 == 1:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                continue
            client.shutdown(socket.SHUT_WR)
            client.settimeout(None)
            read_all(client)
    with served(server, context), served(server, context):
        assert ask(server, context, "GET", "/healthz")[0] == 503


def test_a_low_limit_of_open_files_is_never_reached_by_silent_ones(
    start_server: StartServer, files: Files, options: tuple[str, ...]
) -> None:
    server = start_server(*options, open_files=256)
    context = files.client()
    with ExitStack() as stack:
        for _ in range(500):
            stack.enter_context(connect(server))
    served(server, context).close()
    assert "accepting no connections" not in all_said(server)


def test_plain_http_is_closed_and_told_now_and_then(
    start_server: StartServer, options: tuple[str, ...]
) -> None:
    server = start_server(*options)
    for _ in range(20):
        with connect(server) as client:
            client.sendall(ASK)
            assert is_at_end(client)
    told, stopping = all_said(server).splitlines()
    assert "plain HTTP came where TLS is spoken" in told
    assert "stopping" in stopping


# -- why they fail -------------------------------------------------------------------------


def failures(server: ServerProcess, context: ssl.SSLContext) -> dict[str, float]:
    """How many handshakes have failed, by the reason."""
    status, _, body = ask(server, context, "GET", "/metrics")
    assert status == 200
    samples = parsed(body.decode())
    return {why: samples[f'tls_handshake_failures_total{{reason="{why}"}}'] for why in REASONS}


def sent(server: ServerProcess, data: bytes) -> None:
    """Send something, and wait until the server closes."""
    with connect(server) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        client.settimeout(None)
        read_all(client)


def refused(server: ServerProcess, context: ssl.SSLContext) -> None:
    """Try a handshake, which fails."""
    with connect(server) as raw, pytest.raises(OSError, match=r"."):
        context.wrap_socket(raw, server_hostname="localhost").recv(1)


def old(files: Files) -> ssl.SSLContext:
    """A client that speaks what is too old."""
    context = files.client()
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


def with_other_ciphers(files: Files) -> ssl.SSLContext:
    """A client that speaks nothing a certificate of an elliptic curve is good for."""
    context = files.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA")
    return context


def test_they_are_counted_by_few_reasons(
    start_server: StartServer, files: Files, options: tuple[str, ...]
) -> None:
    server = start_server(*options)
    context = files.client()
    assert set(failures(server, context).values()) == {0}
    sent(server, ASK)
    sent(server, b"\x16\x03\x01" + bytes(200))
    sent(server, b"what is this")
    refused(server, old(files))
    refused(server, with_other_ciphers(files))
    refused(server, ssl.create_default_context())
    with connect(server) as client:  # it says nothing, and resets
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sent(server, b"")
    while sum((found := failures(server, context)).values()) < 8:
        """Some end a moment later."""
    assert found == {
        "certificate": 1,
        "cipher": 1,
        "left": 2,
        "malformed": 2,
        "other": 0,
        "plain_http": 1,
        "timeout": 0,
        "version": 1,
    }
