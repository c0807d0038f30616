"""Clients of a server with TLS."""

from __future__ import annotations

import http.client
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

from tests.hostile.raw_clients import connect, read_all, statuses

if TYPE_CHECKING:
    import socket
    import ssl
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
