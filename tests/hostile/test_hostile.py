"""Clients that mean harm, as raw bytes against the real server process."""

from __future__ import annotations

import gzip
import random
import re
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.rules.json_depth import MAX_DEPTH
from durable_streams.settings import MIB
from tests.hostile.fast_clients import FAST_CLIENTS, run_fast_clients
from tests.hostile.raw_clients import (
    CLOSE,
    CONNECTION_BYTES,
    POST,
    answered,
    connect,
    exchange,
    exchange_open,
    read_all,
    request,
    statuses,
)

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from tests.conftest import StartServer
    from tools.server_process import ServerProcess


def files_below(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


SMUGGLED: Final = b"DELETE /v1/stream/a HTTP/1.1\r\nHost: localhost\r\n\r\n"


AMBIGUOUS: Final = (
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
    b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    b"Content-Length: 5, 5\r\n\r\nhello",
    b"Content-Length: +5\r\n\r\nhello",
    b"Content-Length: -5\r\n\r\nhello",
    b"Content-Length: 0x5\r\n\r\nhello",
    b"Content-Length: 5_0\r\n\r\nhello",
    b"Content-Length: 99999999999999999999999999\r\n\r\nhello",
    b"Content-Length : 0\r\n\r\n",
    b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n0\n\n",
    b"X: a\nContent-Length: 0\r\n\r\n",
    b"X: a\rContent-Length: 0\r\n\r\n",
    b"X: a\0b\r\nContent-Length: 0\r\n\r\n",
    b"X: a\r\n folded: b\r\nContent-Length: 0\r\n\r\n",
    b" X: a\r\nContent-Length: 0\r\n\r\n",
    b"no colon\r\nContent-Length: 0\r\n\r\n",
)


def test_no_framing_that_two_servers_may_read_differently_lets_a_second_request_through(
    target: ServerProcess,
) -> None:
    for head in AMBIGUOUS:
        answers = statuses(exchange_open(target, POST + head + SMUGGLED))
        assert answers == [400], (head, answers)
    assert request(target, "GET", "a") == (200, b"")


def test_pipelined_requests_are_answered_in_their_order(target: ServerProcess) -> None:
    count = 500
    appends = b"".join(POST + b"Content-Length: 5\r\n\r\n%05d" % n for n in range(count))
    last = b"GET /v1/stream/a HTTP/1.1\r\nHost: localhost\r\n" + CLOSE + b"\r\n"
    answers = exchange_open(target, appends + last)
    assert statuses(answers) == [204] * count + [200]
    assert answers.endswith(b"".join(b"%05d" % n for n in range(count)))


REFUSED: Final = (
    (b"GET /v1/stream/" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n", 414),
    (b"GET /v1/stream/a?offset=" + b"1" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n", 414),
    (b"GET /v1/stream/a HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000 + b"\r\n", 431),
    (b"GET /v1/stream/a HTTP/1.1\r\n" + b"X: a\r\n" * 200, 431),
    (POST + b"Content-Length: 999999999999\r\n", 413),
    (b"G" * 9000 + b" /v1/stream/a HTTP/1.1\r\nHost: localhost\r\n", 400),
    (b"GET /v1/stream/a HTTP/9.9\r\nHost: localhost\r\n", 400),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    (POST + b"Producer-Id: " + b"p" * 5000 + b"\r\nContent-Length: 0\r\n", 400),
)


def test_what_is_too_large_or_no_http_is_refused_by_its_own_status(
    target: ServerProcess,
) -> None:
    for head, status in REFUSED:
        answers = statuses(exchange_open(target, head + CLOSE + b"\r\n"))
        assert answers == [status], (head[:60], answers)


TRICKS: Final = (
    "..",
    "../../../../evil",
    "%2e%2e/%2e%2e/evil",
    "..%2f..%2f..%2fevil",
    "%2fetc%2fevil",
    "/etc/evil",
    "a/../../../evil",
    "a%00b",
    "%c0%ae%c0%ae/evil",
    "..%5c..%5cevil",
    "a@",
    "evil~",
    "%25%32%65%25%32%65/evil",
    ".hidden",
    "CON",
    "a" * 255 + "/" + "b" * 255,
)


def test_no_path_writes_outside_of_the_streams(target: ServerProcess) -> None:
    outside = files_below(target.data_dir.parent)
    for path in TRICKS:
        head = (
            f"PUT /v1/stream/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n".encode()
        )
        answer = exchange_open(target, head + CLOSE + b"\r\nevil")
        assert statuses(answer)[0] in {201, 400, 404}, path
    fresh = files_below(target.data_dir.parent) - outside
    within = f"{target.data_dir.name}/"
    assert all(name.startswith((f"{within}streams/", f"{within}tmp/")) for name in fresh), fresh
    assert not any(part == ".." for name in fresh for part in name.split("/"))


def test_a_decompression_bomb_is_refused_unopened(target: ServerProcess) -> None:
    bomb = gzip.compress(b"\0" * (64 * MIB))
    target.reset_peak_rss()
    before = target.rss_bytes()
    for name in (b"Content-Encoding: gzip", b"Transfer-Encoding: gzip, chunked"):
        head = POST + name + b"\r\nContent-Length: %d\r\n" % len(bomb) + CLOSE + b"\r\n"
        assert statuses(exchange_open(target, head + bomb)) in ([415], [400])
    assert target.peak_rss_bytes() - before < 32 * MIB
    assert request(target, "GET", "a") == (200, b"")


def test_large_bodies_sent_slowly_by_many_take_no_more_memory_than_the_bound(
    start_server: StartServer,
) -> None:
    budget_bytes, size, count = 32 * MIB, 8 * MIB, 40
    server = start_server("--max-bodies-bytes", str(budget_bytes))
    assert request(server, "PUT", "a")[0] == 201
    before = server.rss_bytes()
    server.reset_peak_rss()
    refused = 0
    with ExitStack() as clients:
        slow = [clients.enter_context(connect(server)) for _ in range(count)]
        for client in slow:
            client.sendall(POST + b"Content-Length: %d\r\n\r\n" % size)
            try:
                client.sendall(b"x" * (size - 1))
            except (BrokenPipeError, ConnectionResetError):
                refused += 1
        assert request(server, "POST", "a", b"small")[0] == 204
        growth = server.peak_rss_bytes() - before
        for client in slow:
            client.setblocking(False)
        answers = [answer_now(client) for client in slow]
    assert growth < count * CONNECTION_BYTES + 3 * budget_bytes, growth
    assert sum(answer.startswith(b"HTTP/1.1 503") for answer in answers) > count // 2
    assert request(server, "GET", "a") == (200, b"small")


def answer_now(client: socket.socket) -> bytes:
    try:
        return client.recv(1000)
    except OSError:
        return b""


@pytest.mark.parametrize("messages", [b"1,", b"1 , ", b'"\\ud800",'])
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_millions_of_messages_in_one_body_take_no_more_memory_than_the_bound(
    server: ServerProcess, method: str, messages: bytes
) -> None:
    size = 16 * MIB - 16
    body = b"[" + messages * (size // len(messages)) + b"1]"
    if method == "POST":
        assert request(server, "PUT", "json", content_type="application/json")[0] == 201
    before = server.rss_bytes()
    server.reset_peak_rss()
    assert request(server, method, "json", body, "application/json")[0] in {201, 204}
    growth = server.peak_rss_bytes() - before
    assert growth < CONNECTION_BYTES + 3 * size + 48 * MIB, growth


def test_the_deepest_json_is_the_same_however_it_comes(server: ServerProcess) -> None:
    assert request(server, "PUT", "json", content_type="application/json")[0] == 201

    def answer(levels: int, way: str) -> tuple[int, bytes]:
        body = b'{"a":' * levels + b"1" + b"}" * levels + b" " * (100_000 if way == "large" else 0)
        if way == "PUT":
            return request(server, "PUT", f"{levels}", body, "application/json")
        asked = urllib.request.Request(server.url("json"), method="POST")
        asked.add_header("Content-Type", "application/json")
        asked.data = iter([body]) if way == "chunked" else body
        return answered(asked)

    for way in ("small", "large", "chunked", "PUT"):
        assert answer(MAX_DEPTH, way)[0] in {201, 204}
        for levels in (MAX_DEPTH + 1, 985, 100_000):
            status, text = answer(levels, way)
            assert status == 400
            assert b"deeper than %d" % MAX_DEPTH in text


def test_readers_that_take_nothing_cost_little_and_hold_up_nobody(target: ServerProcess) -> None:
    rng = random.Random(1)
    for _ in range(8):
        assert request(target, "POST", "a", rng.randbytes(4 * MIB).hex().encode())[0] == 204
    before = target.rss_bytes()
    target.reset_peak_rss()
    get = b"GET /v1/stream/a?offset=-1%b HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with ExitStack() as clients:
        for live in [b"", b"&live=sse"] * 30:
            reader = clients.enter_context(connect(target, 4096))
            reader.sendall(get % live)
            assert reader.recv(12) == b"HTTP/1.1 200"
        for _ in range(20):
            assert request(target, "POST", "a", b"x")[0] == 204
        growth = target.peak_rss_bytes() - before
    assert growth < 60 * CONNECTION_BYTES, growth


def test_a_flood_of_connections_is_refused_at_the_limit_and_served_below_it(
    start_server: StartServer,
) -> None:
    limit = 50
    server = start_server("--max-connections", str(limit))
    with ExitStack() as clients:
        idle = [clients.enter_context(connect(server)) for _ in range(limit)]
        for client in idle:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
        for _ in range(200):
            with connect(server) as one_more:
                assert read_all(one_more).startswith(b"HTTP/1.1 503")
        for client in idle:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 200")


def test_half_closed_and_cut_off_requests_leave_nothing(target: ServerProcess) -> None:
    for data in (b"", b"GET", POST):
        assert statuses(exchange(target, data)) == []
    assert statuses(exchange(target, POST + b"Content-Length: 10\r\n\r\nhalf")) == [400]
    assert request(target, "GET", "a") == (200, b"")
    whole = POST + b"Content-Length: 5\r\n\r\nwhole"
    assert statuses(exchange(target, whole)) == [204]
    assert request(target, "GET", "a") == (200, b"whole")


APPEND_BYTES: Final = 16 * MIB
GIBIBYTE: Final = 64 * APPEND_BYTES


def paused(server: ServerProcess, clients: ExitStack, query: str) -> socket.socket:
    """A reader who asks, takes the first bytes of the answer, and then nothing."""
    reader = clients.enter_context(connect(server, 4096))
    reader.settimeout(60)
    reader.sendall(b"GET /v1/stream/big?%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % query.encode())
    assert reader.recv(12) == b"HTTP/1.1 200"
    return reader


@pytest.mark.slow
def test_paused_readers_of_a_gibibyte_take_little_memory_and_fast_clients_finish(
    start_server: StartServer,
) -> None:
    server = start_server()
    assert request(server, "PUT", "big")[0] == 201
    data = b"0123456789abcde\n" * (APPEND_BYTES // 16)
    for _ in range(GIBIBYTE // APPEND_BYTES):
        assert request(server, "POST", "big", data)[0] == 204
    run_fast_clients(server, "alone")
    server.reset_peak_rss()
    before = server.rss_bytes()
    segments = GIBIBYTE // APPEND_BYTES
    with ExitStack() as clients:
        for segment in range(segments):  # a whole catch-up, all of it asked for at once
            paused(server, clients, f"offset={segment:016d}_{0:016d}")
        for _ in range(8):
            paused(server, clients, "offset=-1&live=sse")
        pipelined = clients.enter_context(connect(server, 4096))
        pipelined.settimeout(60)
        head = (
            b"GET /v1/stream/big?offset=%016d_%016d&pipelined HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )
        pipelined.sendall(b"".join(head % (segment, 0) for segment in range(segments)))
        run_fast_clients(server, "among-paused-readers")
        growth = server.peak_rss_bytes() - before
        bound = (segments + 9 + FAST_CLIENTS) * CONNECTION_BYTES
        print(f"the server grew by {growth / MIB:.1f} MiB, of {bound / MIB:.1f} MiB it may")
        assert growth < bound
        received = skip_bodies(pipelined, segments)
        # It goes on where it was, unless the others took so long that it was dropped, as it should.
        was_dropped = re.search("dropped a reader .*&pipelined", server.stderr) is not None
        assert (received == GIBIBYTE) is not was_dropped, received
    assert server.peak_rss_bytes() - before < bound


def skip_bodies(client: socket.socket, count: int) -> int:
    """Read so many answers in a row, or until they are cut off; the bytes of their bodies."""
    total = 0
    with client.makefile("rb", buffering=MIB) as stream, suppress(ConnectionResetError):
        for _ in range(count):
            status_line = stream.readline()
            if not status_line:
                break
            assert status_line.startswith(b"HTTP/1.1 200")
            left = 0
            while (line := stream.readline().strip().lower()) != b"":
                if line.startswith(b"content-length:"):
                    left = int(line.partition(b":")[2])
            while left and (piece := stream.read(min(left, MIB))):
                total += len(piece)
                left -= len(piece)
    return total


def test_a_paused_event_stream_among_fast_ones_holds_up_nobody(start_server: StartServer) -> None:
    count = 300
    server = start_server()
    assert request(server, "PUT", "a")[0] == 201
    before = server.rss_bytes()
    server.reset_peak_rss()
    with ExitStack() as clients:
        readers = []
        for buffer in (4096, None, None, None):
            reader = clients.enter_context(connect(server, buffer))
            reader.sendall(
                b"GET /v1/stream/a?offset=-1&live=sse HTTP/1.1\r\nHost: localhost\r\n\r\n"
            )
            assert reader.recv(12) == b"HTTP/1.1 200"
            readers.append(reader)
        with ThreadPoolExecutor(3) as pool:
            done = [pool.submit(read_events, reader, count) for reader in readers[1:]]
            for number in range(count):
                body = b"<%06d>" % number + b"x" * 30_000
                assert request(server, "POST", "a", body)[0] == 204
            for finished in done:
                assert finished.result() == list(range(count))
        growth = server.peak_rss_bytes() - before
        assert growth < 4 * CONNECTION_BYTES + 32 * MIB, growth  # the memory tail is bounded too
        assert read_events(readers[0], count) == list(range(count))  # it catches up


def read_events(client: socket.socket, count: int) -> list[int]:
    """The numbers that an event stream brings, until there are so many."""
    found: list[int] = []
    tail = b""
    while len(found) < count:
        piece = client.recv(262_144)
        assert piece, "cut off"
        tail += piece
        matches = list(re.finditer(rb"<(\d{6})>", tail))
        found += [int(match[1]) for match in matches]
        tail = tail[matches[-1].end() :] if matches else tail[-100:]
    return found
