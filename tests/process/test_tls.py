"""TLS: real servers on both event loops, and clients that are slow, silent, gone or many."""

from __future__ import annotations

import asyncio
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

from tests.certificates import Files, made_in
from tests.hostile.raw_clients import connect, read_all, statuses
from tests.process.test_reloading import KEPT, SAID, said_by
from tests.programs import find_program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import StartServer
    from tools.server_process import ServerProcess

from tests.process.tls_clients import (
    ASK,
    OK,
    Hammer,
    Handshake,
    all_said,
    answer_of,
    ask,
    is_at_end,
    opened,
    served,
)


@pytest.fixture(autouse=True)
def hangups_are_not_ignored() -> Iterator[None]:
    """The tests may run under nohup, which their servers would inherit."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


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


# -- handshakes ----------------------------------------------------------------------------

IN_A_ROW: Final = 1500
AT_ONCE: Final = 300
ROUNDS: Final = 4


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


def test_those_who_stay_silent_have_places_and_lose_them_in_time(
    start_server: StartServer, files: Files, options: tuple[str, ...]
) -> None:
    server = start_server(*options, "--max-connections", "4")
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
        for client in silent[:2]:
            assert is_at_end(client)
        for client in silent[2:]:
            client.settimeout(None)
            read_all(client)
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
