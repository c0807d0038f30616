"""Clients that end their side, leave, or take their time, by the hundred."""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

import pytest

from tests.hostile.raw_clients import (
    CONNECTION_BYTES,
    POST,
    connect,
    exchange_open,
    read_all,
    request,
    statuses,
)

if TYPE_CHECKING:
    from tests.conftest import StartServer
    from tools.server_process import ServerProcess

HALVES: Final = (
    POST + b"Content-Length: 5\r\n\r\nwhole",
    POST + b"Content-Length: 9999\r\n\r\nhalf",
    POST[:30],
    b"GET /v1/stream/a HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3,
    b"GET /v1/stream/a?offset=now&live=long-poll HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /v1/stream/a?offset=now&live=sse HTTP/1.1\r\nHost: localhost\r\n\r\n",
)


@pytest.mark.parametrize("options", [(), ("--no-fast-lane",), ("--loop", "asyncio")])
def test_half_closers_by_the_hundred_are_answered_or_gone_at_once(
    start_server: StartServer, options: tuple[str, ...]
) -> None:
    server = start_server("--long-poll-timeout", "3600", *options)
    assert request(server, "PUT", "a")[0] == 201
    with ExitStack() as stack:
        for data in HALVES * 50:
            client = stack.enter_context(connect(server))
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            wanted = {HALVES[0]: [204], HALVES[1]: [400], HALVES[3]: [200] * 3}.get(data, [])
            assert statuses(read_all(client)) in (wanted, [200]), data
    assert request(server, "GET", "a") == (200, b"whole" * 50)


def test_clients_that_left_with_much_pipelined_behind_a_poll_are_noticed_at_once(
    start_server: StartServer,
) -> None:
    count = 50
    server = start_server("--long-poll-timeout", "3600", "--max-connections", str(count))
    assert request(server, "PUT", "a")[0] == 201
    for _ in range(2):  # one of them too many if the first are still there
        with ExitStack() as stack:
            for _ in range(count):
                client = stack.enter_context(connect(server))
                client.sendall(HALVES[4])
                client.sendall(HALVES[4] * 1000)
            assert request_refused(server)
        while request_refused(server):
            pass


def request_refused(server: ServerProcess) -> bool:
    """Whether there is no place for a connection."""
    return statuses(exchange_open(server, b"GET /healthz HTTP/1.0\r\n\r\n")) == [503]


def test_slow_heads_and_large_ones_cost_what_the_documents_say(target: ServerProcess) -> None:
    count = 60
    before = target.rss_bytes()
    target.reset_peak_rss()
    field = b"X: " + b"x" * 16_000 + b"\r\n"
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(target)) for _ in range(count)]
        line = b"GET /v1/stream/a HTTP/1.1\r\nHost: localhost\r\nX-Slow: slow\r\n"
        for at in range(len(line)):  # byte by byte
            for client in slow[:20]:
                client.sendall(line[at : at + 1])
        for client in slow[20:40]:  # a poll, and more heads behind it than anybody wants
            client.sendall(HALVES[4])
            with suppress(BlockingIOError):
                client.setblocking(False)
                for _ in range(100):
                    client.sendall(line + field * 3 + b"\r\n")
            client.settimeout(60)
        for client in slow[40:]:  # a head that goes on
            with suppress(ConnectionError):
                for _ in range(97):
                    client.sendall(line + field)
                    line = b""
            line = POST
        assert request(target, "POST", "a", b"small")[0] == 204
        growth = target.peak_rss_bytes() - before
        for client in slow[:20]:
            client.sendall(b"\r\n")
            assert client.recv(12) == b"HTTP/1.1 200"
        for client in slow[40:]:
            assert statuses(read_all(client)) == [431]
    assert growth < count * CONNECTION_BYTES, growth


def test_ten_thousand_bytes_of_headers_are_nothing_special(target: ServerProcess) -> None:
    head = (
        b"GET /v1/stream/a HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"x" * 10_000 + b"\r\n\r\n"
    )
    with connect(target) as client:
        for _ in range(100):
            client.sendall(head)
            answer = client.recv(65_536)
            while b"\r\n\r\n" not in answer:
                answer += client.recv(65_536)
            assert statuses(answer) == [200]
