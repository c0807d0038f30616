"""Clients that send bytes to the real server process, and read what comes back."""

from __future__ import annotations

import re
import socket
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Final

from durable_streams.settings import MIB

if TYPE_CHECKING:
    from tools.server_process import ServerProcess

POST: Final = b"POST /v1/stream/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
CLOSE: Final = b"Connection: close\r\n"
CONNECTION_BYTES: Final = MIB // 2
"""The bound that the documentation states (Operations, Limits)."""


def connect(server: ServerProcess, receive_buffer_bytes: int | None = None) -> socket.socket:
    client = socket.socket()
    if receive_buffer_bytes is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    client.settimeout(60)
    client.connect(("127.0.0.1", server.port))
    return client


def read_all(client: socket.socket) -> bytes:
    """Everything until the server closes; a reset counts as the end."""
    data = b""
    try:
        while piece := client.recv(65_536):
            data += piece
    except ConnectionResetError:
        pass
    return data


def exchange(server: ServerProcess, data: bytes) -> bytes:
    """Send bytes, say that no more will come, and read until the server closes."""
    with connect(server) as client:
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it answered already and closed
        return read_all(client)


def statuses(answers: bytes) -> list[int]:
    """The statuses of answers in a row; their bodies hold no status lines."""
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] ([0-9]{3}) ", answers)]


def request(
    server: ServerProcess,
    method: str,
    path: str,
    body: bytes = b"",
    content_type: str = "text/plain",
) -> tuple[int, bytes]:
    asked = urllib.request.Request(server.url(path), method=method, data=body or None)
    asked.add_header("Content-Type", content_type)
    return answered(asked)


def answered(asked: urllib.request.Request) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(asked) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def exchange_open(server: ServerProcess, data: bytes) -> bytes:
    with connect(server) as client:
        client.sendall(data)
        return read_all(client)
