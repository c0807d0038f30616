"""What a connection with TLS takes, idle and at worst, is what the documents say."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.settings import KIB, MIB
from tests.certificates import Files, made_in
from tests.process.tls_clients import ASK, OK, answer_of, ask, opened

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartServer

IDLE_BYTES: Final = {"uvloop": 96 * KIB, "asyncio": 352 * KIB}
WORST_BYTES: Final = 5 * MIB // 4
"""Both are in docs/operations.rst, "Limits"."""

POLL: Final = b"GET /v1/stream/a?offset=now&live=long-poll HTTP/1.1\r\nHost: localhost\r\n"
FIELDS: Final = 3 * (b"X: " + b"x" * 16_000 + b"\r\n")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return made_in(tmp_path)


@pytest.mark.parametrize("loop", IDLE_BYTES)
def test_idle_connections_and_those_that_send_ahead_take_what_is_written_down(
    start_server: StartServer, files: Files, loop: str
) -> None:
    server = start_server(*files.flags, "--loop", loop, "--long-poll-timeout", "3600")
    context = files.client()
    assert ask(server, context, "PUT", "/v1/stream/a")[0] == 201
    count = 100
    with ExitStack() as stack:
        before = server.rss_bytes()
        clients = [stack.enter_context(opened(server, context)) for _ in range(count)]
        for client in clients:
            client.sendall(ASK)
            assert answer_of(client, OK)
        idle = server.rss_bytes() - before
        assert idle < count * IDLE_BYTES[loop], idle
        for client in clients:  # a poll, and more behind it than anybody wants
            client.sendall(POLL + b"\r\n")
            client.settimeout(0.05)
            with suppress(OSError):
                for _ in range(100):
                    client.sendall(POLL + FIELDS + b"\r\n")
        assert ask(server, context, "GET", "/healthz")[0] == 200
        growth = server.peak_rss_bytes() - before
    assert growth < count * WORST_BYTES, growth
