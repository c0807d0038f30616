"""Certificates that are renewed while connections are open, and under load."""

from __future__ import annotations

import http.client
import os
import signal
import ssl
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.certificates import Files, made_in
from tests.process.test_reloading import KEPT, SAID, said_by
from tests.process.tls_clients import ASK, OK, answer_of, ask, opened

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartServer
    from tools.server_process import ServerProcess


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
