"""Clients that speak TLS, whole and in pieces."""

from __future__ import annotations

import http.client
import ssl
import threading
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

from tests.hostile.raw_clients import connect, read_all, statuses

if TYPE_CHECKING:
    import socket
    from email.message import Message

    from tools.server_process import ServerProcess

ASK: Final = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
OK: Final = b"\r\n\r\nok\n"


def opened(server: ServerProcess, context: ssl.SSLContext) -> ssl.SSLSocket:
    """A connection whose handshake has ended."""
    return context.wrap_socket(connect(server), server_hostname="localhost")


def served(server: ServerProcess, context: ssl.SSLContext) -> ssl.SSLSocket:
    """A connection that has a place, as soon as there is one."""
    while True:
        with suppress(OSError), ExitStack() as stack:
            client = stack.enter_context(opened(server, context))
            client.sendall(ASK)
            if statuses(client.recv(65_536)) == [200]:
                stack.pop_all()
                return client


def all_said(server: ServerProcess) -> str:
    """What a server has logged, when it has ended."""
    assert server.stop() == 0
    return server.stderr


def ask(
    server: ServerProcess, context: ssl.SSLContext, method: str, path: str, body: bytes = b""
) -> tuple[int, Message, bytes]:
    """One request on a connection of its own: status, headers and body."""
    client = http.client.HTTPSConnection("localhost", server.port, context=context, timeout=60)
    try:
        client.request(method, path, body or None, {"Content-Type": "text/plain"})
        with client.getresponse() as answer:
            return answer.status, answer.headers, answer.read()
    finally:
        client.close()


def answer_of(client: ssl.SSLSocket, end: bytes) -> bytes:
    """What comes until that is among it."""
    data = b""
    while end not in data:
        piece = client.recv(65_536)
        assert piece, data
        data += piece
    return data


def is_at_end(client: socket.socket) -> bool:
    """Wait until the server closes; whether it has sent nothing."""
    client.settimeout(None)
    return read_all(client) == b""


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
