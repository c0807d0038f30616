"""TLS: real servers on both event loops, and clients that are slow, silent, gone or many."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import socket
import ssl
import struct
import subprocess
import threading
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest

from durable_streams.settings import MIB
from tests.certificates import Files, made_in
from tests.hostile.raw_clients import connect, statuses
from tests.process.test_reloading import KEPT, SAID, said_by
from tests.process.tls_clients import ASK, OK, all_said, answer_of, ask, opened, served
from tests.programs import find_program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import StartServer
    from tools.server_process import ServerProcess

LOOPS: Final = ("uvloop", "asyncio")


@pytest.fixture(autouse=True)
def hangups_are_not_ignored() -> Iterator[None]:
    """The tests may run under nohup, which their servers would inherit."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return made_in(tmp_path)


@pytest.fixture(params=LOOPS)
def options(request: pytest.FixtureRequest, files: Files) -> tuple[str, ...]:
    """What a server with TLS is told, on either event loop."""
    return (*files.flags, "--loop", request.param)


# -- what is said --------------------------------------------------------------------------


def test_all_addresses_are_those_of_https(
    start_server: StartServer, files: Files, options: tuple[str, ...]
) -> None:
    server = start_server(*options)
    assert f"listening on https://127.0.0.1:{server.port}/v1/stream, " in server.announcement
    context = files.client()
    status, headers, _ = ask(server, context, "PUT", "/v1/stream/a", b"hello")
    assert status == 201
    assert headers["Location"] == f"https://localhost:{server.port}/v1/stream/a"
    status, _, body = ask(server, context, "GET", "/v1/stream/a")
    assert (status, body) == (200, b"hello")
    with opened(server, context) as client:
        assert client.selected_alpn_protocol() == "http/1.1"
        assert client.version() == "TLSv1.3"


def test_tls_1_2_is_the_oldest_that_is_spoken(
    start_server: StartServer, files: Files, options: tuple[str, ...]
) -> None:
    server = start_server(*options)
    context = files.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with opened(server, context) as client:
        assert client.version() == "TLSv1.2"
        client.sendall(ASK)
        assert answer_of(client, OK)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        opened(server, context)


def test_a_unix_socket_stays_plain(
    start_server: StartServer, files: Files, tmp_path: Path, options: tuple[str, ...]
) -> None:
    path = tmp_path / "a.sock"
    server = start_server(*options, "--unix-socket", str(path), "--host", "127.0.0.1")
    assert f"unix:{path}" in server.announcement
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(ASK)
        assert client.recv(65_536).endswith(OK)
    assert ask(server, files.client(), "GET", "/healthz")[0] == 200


def test_tls_for_a_unix_socket_alone_is_told_to_be_of_no_use(
    start_server: StartServer, files: Files, tmp_path: Path
) -> None:
    server = start_server(*files.flags, "--unix-socket", str(tmp_path / "a.sock"))
    assert "tls_cert is of no use" in all_said(server)


@pytest.mark.skipif(find_program("curl") is None, reason="curl is missing")
def test_curl_and_aiohttp_are_served(
    start_server: StartServer, files: Files, options: tuple[str, ...]
) -> None:
    server = start_server(*options)
    url = f"https://localhost:{server.port}/v1/stream/a"
    curl = ["curl", "-sS", "--fail", "--cacert", str(files.certificate)]
    put = ["-X", "PUT", "-H", "Content-Type: text/plain", "-d", "hello", url]
    subprocess.run([*curl, *put], check=True)
    assert subprocess.run([*curl, url], check=True, capture_output=True).stdout == b"hello"

    async def read() -> bytes:
        context = files.client()
        async with aiohttp.ClientSession() as session, session.get(url, ssl=context) as answer:
            assert answer.status == 200
            return await answer.read()

    assert asyncio.run(read()) == b"hello"


# -- certificates that are renewed ---------------------------------------------------------


def hang_up(server: ServerProcess, context: ssl.SSLContext) -> str:
    """Have a server read its files again; what it says of that."""
    before = len(said_by(server))
    os.kill(server.pid, signal.SIGHUP)
    while len(said_by(server)) == before:
        with suppress(ssl.SSLCertVerificationError):
            assert ask(server, context, "GET", "/healthz")[0] == 200
    return said_by(server)[before]


def test_new_connections_have_the_new_certificate_and_others_go_on(
    start_server: StartServer, files: Files, options: tuple[str, ...]
) -> None:
    server = start_server(*options)
    old = files.client()
    with opened(server, old) as client:
        new = files.renew()
        with pytest.raises(ssl.SSLCertVerificationError):
            opened(server, new)
        assert hang_up(server, new) == (
            f"{SAID}changed: the certificate of {files.certificate} (SHA-256 {files.fingerprint})"
        )
        assert hang_up(server, new) == f"{SAID}none has changed"
        client.sendall(ASK)
        assert answer_of(client, OK)
        with pytest.raises(ssl.SSLCertVerificationError):
            opened(server, old)
        with opened(server, new) as other:
            other.sendall(ASK)
            assert answer_of(other, OK)


def test_a_bad_pair_changes_nothing_and_settings_neither(
    start_server: StartServer, files: Files, tmp_path: Path, options: tuple[str, ...]
) -> None:
    config = tmp_path / "streams.toml"
    config.write_text("")
    server = start_server(*options, "--config", str(config))
    context, key = files.client(), files.key.read_bytes()
    made_in(tmp_path, "other").key.rename(files.key)
    config.write_text("[http]\nburst_s = 1\n")
    told = hang_up(server, context)
    assert told.startswith(f"{KEPT}{files.certificate} with {files.key}: the key is not that of")
    assert ask(server, context, "GET", "/healthz")[0] == 200
    files.key.write_bytes(key)
    assert hang_up(server, context) == f"{SAID}changed: burst_s"


class Hammer(threading.Thread):
    """A client that asks without a pause, and connects anew now and then."""

    def __init__(
        self, server: ServerProcess, name: str, trusted: ssl.SSLContext, over: threading.Event
    ) -> None:
        super().__init__()
        self._server = server
        self._path = f"/v1/stream/{name}"
        self._trusted = trusted
        self._over = over
        self.wrong: list[object] = []
        self.appended = 0
        self.connections = 0

    def run(self) -> None:
        try:
            while not self._over.is_set():
                self._connection()
                self.connections += 1
        except (OSError, http.client.HTTPException, AssertionError) as error:
            self.wrong.append(error)

    def _connection(self) -> None:
        port = self._server.port
        client = http.client.HTTPSConnection("localhost", port, context=self._trusted, timeout=60)
        try:
            self._ask(client, "PUT", self._path, b"", {200, 201})
            for _ in range(5):
                self._ask(client, "POST", self._path, b"x" * 10, {204})
                self.appended += 10
                found = self._ask(client, "GET", f"{self._path}?offset=-1", None, {200})
                assert found == b"x" * self.appended
            self._ask(client, "GET", f"{self._path}?offset=now&live=long-poll", None, {204})
        finally:
            client.close()

    def _ask(
        self,
        client: http.client.HTTPSConnection,
        method: str,
        path: str,
        body: bytes | None,
        expected: set[int],
    ) -> bytes:
        client.request(method, path, body, {"Content-Type": "text/plain"})
        with client.getresponse() as answer:
            assert answer.status in expected, (method, path, answer.status)
            return answer.read()


def test_no_request_is_lost_while_certificates_change_under_load(
    start_server: StartServer, files: Files, tmp_path: Path, options: tuple[str, ...]
) -> None:
    server = start_server(*options, "--durability", "none", "--long-poll-timeout", "0.05")
    trusted = files.client()
    coming = [made_in(tmp_path, f"coming{number}") for number in range(20)]
    for each in coming:
        trusted.load_verify_locations(each.certificate)
    over = threading.Event()
    hammers = [Hammer(server, f"s{number}", trusted, over) for number in range(6)]
    for hammer in hammers:
        hammer.start()
    try:
        for each in coming:
            each.certificate.rename(files.certificate)
            each.key.rename(files.key)
            told = hang_up(server, trusted)
            assert told.startswith(f"{SAID}changed: the certificate of "), told
    finally:
        over.set()
        for hammer in hammers:
            hammer.join()
    assert [hammer.wrong for hammer in hammers] == [[]] * len(hammers)
    assert all(hammer.connections for hammer in hammers)


# -- answers -------------------------------------------------------------------------------


def filled(server: ServerProcess, context: ssl.SSLContext, pieces: int) -> bytes:
    """Fill a stream with so many MiB, each with its number all over; the bytes that it has."""
    client = http.client.HTTPSConnection("localhost", server.port, context=context, timeout=60)
    content = bytearray()
    for number in range(pieces):
        piece = struct.pack(">I", number) * (MIB // 4)
        method = "POST" if number else "PUT"
        client.request(method, "/v1/stream/a", piece, {"Content-Type": "text/plain"})
        with client.getresponse() as answer:
            assert answer.status in (201, 204)
            answer.read()
        content += piece
    client.close()
    return bytes(content)


def test_large_reads_are_right_and_slow_readers_cost_bounded_memory(
    start_server: StartServer, files: Files, options: tuple[str, ...]
) -> None:
    server = start_server(*options)
    context = files.client()
    content = filled(server, context, 32)
    offset, found = "-1", b""
    while len(found) < len(content):
        status, headers, body = ask(server, context, "GET", f"/v1/stream/a?offset={offset}")
        assert status == 200
        offset, found = headers["Stream-Next-Offset"], found + body
    assert found == content

    readers = 24
    before = server.rss_bytes()
    server.reset_peak_rss()
    read = b"GET /v1/stream/a?offset=-1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with ExitStack() as stack:
        clients = []
        for _ in range(readers):
            raw = connect(server, receive_buffer_bytes=4096)
            client = stack.enter_context(context.wrap_socket(raw, server_hostname="localhost"))
            client.sendall(read)
            clients.append(client)
        heads = [client.recv(16_384) for client in clients]
        assert all(head.startswith(b"HTTP/1.1 200") for head in heads)
        status, _, body = ask(server, context, "GET", "/v1/stream/a?offset=-1")
        assert body == content[: len(body)]
        for client, data in zip(clients, heads, strict=True):
            head, _, body = data.partition(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            received = bytearray(body)
            while len(received) < length:
                received += client.recv(65_536)
            assert received == content[:length]
    growth = server.peak_rss_bytes() - before
    assert growth < readers * MIB + 8 * MIB, growth


def test_events_and_long_polls_come_as_they_are_appended(
    start_server: StartServer, files: Files, options: tuple[str, ...]
) -> None:
    server = start_server(*options)
    context = files.client()
    assert ask(server, context, "PUT", "/v1/stream/a")[0] == 201
    live = b"GET /v1/stream/a?offset=now&live=%s HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with opened(server, context) as events, opened(server, context) as poll:
        events.sendall(live % b"sse")
        poll.sendall(live % b"long-poll")
        assert answer_of(events, b"\n\n")
        for number in range(20):
            assert ask(server, context, "POST", "/v1/stream/a", b"news%d" % number)[0] == 204
            seen = answer_of(events, b"\n\n")
            while b"news%d" % number not in seen or b"event: control" not in seen:
                seen += answer_of(events, b"\n\n")
        assert statuses(poll.recv(65_536)) == [200]


@pytest.mark.parametrize("lane", ["--fast-lane", "--no-fast-lane"])
@pytest.mark.parametrize("how", ["close_notify", "FIN", "RST"])
def test_clients_that_leave_are_noticed(
    start_server: StartServer, files: Files, options: tuple[str, ...], how: str, lane: str
) -> None:
    count = 6
    more = ("--max-connections", str(count), "--long-poll-timeout", "3600")
    server = start_server(*options, *more, lane)
    context = files.client()
    assert ask(server, context, "PUT", "/v1/stream/a")[0] == 201
    live = b"GET /v1/stream/a?offset=now&live=%s HTTP/1.1\r\nHost: localhost\r\n\r\n"
    clients = [opened(server, context) for _ in range(count)]
    for number, client in enumerate(clients):
        client.sendall(live % (b"sse" if number % 2 else b"long-poll"))
    assert ask(server, context, "GET", "/healthz")[0] == 503
    for client in clients:
        match how:
            case "close_notify":
                client.settimeout(None)
                with suppress(ssl.SSLError, OSError):
                    client.unwrap()
            case "RST":
                linger = struct.pack("ii", 1, 0)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        client.close()
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(served(server, context))
    assert "has no effect" not in all_said(server)


def test_a_client_that_says_its_last_with_its_request_is_not_waited_for(
    start_server: StartServer, files: Files, options: tuple[str, ...]
) -> None:
    server = start_server(*options)
    context = files.client()
    assert ask(server, context, "PUT", "/v1/stream/a")[0] == 201
    append = b"POST /v1/stream/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
    for _ in range(20):
        client = opened(server, context)
        client.sendall(append + b"Content-Length: 1\r\n\r\nx")
        client.settimeout(None)
        with suppress(ssl.SSLError, OSError):
            client.unwrap()
        client.close()
    while len(ask(server, context, "GET", "/v1/stream/a")[2]) < 20:
        pass
    assert "has no effect" not in all_said(server)


def test_what_is_refused_is_told_before_the_end(
    start_server: StartServer, files: Files, options: tuple[str, ...]
) -> None:
    server = start_server(*options, "--max-append-bytes", "1000")
    context = files.client()
    body = b"POST /v1/stream/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
    for data, wanted in (
        (b"no HTTP at all\r\n\r\n", 400),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (body + b"Content-Length: 100000\r\n\r\n" + bytes(100_000), 413),
    ):
        with opened(server, context) as client:
            with suppress(ConnectionError, ssl.SSLError):
                client.sendall(data)
            assert statuses(client.recv(65_536)) == [wanted]


def test_a_stop_ends_connections_of_every_kind(
    start_server: StartServer, files: Files, options: tuple[str, ...]
) -> None:
    server = start_server(*options, "--max-connections", "50")
    context = files.client()
    assert ask(server, context, "PUT", "/v1/stream/a")[0] == 201
    with ExitStack() as stack:
        for number in range(10):
            client = stack.enter_context(opened(server, context))
            if number % 2:
                client.sendall(
                    b"GET /v1/stream/a?offset=now&live=sse HTTP/1.1\r\nHost: localhost\r\n\r\n"
                )
                assert answer_of(client, b"\n\n")
            stack.enter_context(connect(server))
        assert server.stop() == 0
