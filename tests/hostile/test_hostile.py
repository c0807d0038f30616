"""Clients that mean harm, as raw bytes against the real server process."""

from __future__ import annotations

import gzip
import random
import re
import socket
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.settings import MIB
from tests.descriptors import leaked_files, open_now, sockets
from tests.hostile.fast_clients import FAST_CLIENTS, run_fast_clients

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import StartServer
    from tests.server_process import ServerProcess

POST: Final = b"POST /v1/stream/a HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n"
CLOSE: Final = b"Connection: close\r\n"
CONNECTION_BYTES: Final = MIB // 2
REST_BYTES: Final = 256 * MIB
"""The bound that the documentation states (Operations, Limits)."""


def connect(server: ServerProcess, receive_buffer_bytes: int | None = None) -> socket.socket:
    client = socket.socket()
    if receive_buffer_bytes is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    client.settimeout(10)
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


@pytest.fixture
def start_server(start_server: StartServer) -> Iterator[StartServer]:
    """Start real servers; when all clients have left, none has a descriptor more than at first."""
    began: list[tuple[ServerProcess, int]] = []

    def start(*options: str, data_dir: Path | None = None) -> ServerProcess:
        server = start_server(*options, data_dir=data_dir)
        began.append((server, sockets(open_now(server.pid))))
        return server

    yield start
    for server, before in began:
        if not server.running:
            continue
        while sockets(opened := open_now(server.pid)) > before:  # or the test's time is over
            pass
        assert leaked_files(opened) == {}


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


def request(server: ServerProcess, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    asked = urllib.request.Request(server.url(path), method=method, data=body or None)
    asked.add_header("Content-Type", "text/plain")
    try:
        with urllib.request.urlopen(asked) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def files_below(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


@pytest.fixture
def target(server: ServerProcess) -> ServerProcess:
    assert request(server, "PUT", "a")[0] == 201
    return server


SMUGGLED: Final = b"DELETE /v1/stream/a HTTP/1.1\r\nHost: a\r\n\r\n"


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
    last = b"GET /v1/stream/a HTTP/1.1\r\nHost: a\r\n" + CLOSE + b"\r\n"
    answers = exchange_open(target, appends + last)
    assert statuses(answers) == [204] * count + [200]
    assert answers.endswith(b"".join(b"%05d" % n for n in range(count)))


def exchange_open(server: ServerProcess, data: bytes) -> bytes:
    with connect(server) as client:
        client.sendall(data)
        return read_all(client)


REFUSED: Final = (
    (b"GET /v1/stream/" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n", 414),
    (b"GET /v1/stream/a?offset=" + b"1" * 9000 + b" HTTP/1.1\r\nHost: a\r\n", 414),
    (b"GET /v1/stream/a HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 20_000 + b"\r\n", 431),
    (b"GET /v1/stream/a HTTP/1.1\r\n" + b"X: a\r\n" * 200, 431),
    (POST + b"Content-Length: 999999999999\r\n", 413),
    (b"G" * 9000 + b" /v1/stream/a HTTP/1.1\r\nHost: a\r\n", 400),
    (b"GET /v1/stream/a HTTP/9.9\r\nHost: a\r\n", 400),
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
        head = f"PUT /v1/stream/{path} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n".encode()
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


def test_readers_that_take_nothing_cost_little_and_hold_up_nobody(target: ServerProcess) -> None:
    rng = random.Random(1)
    for _ in range(8):
        assert request(target, "POST", "a", rng.randbytes(4 * MIB).hex().encode())[0] == 204
    before = target.rss_bytes()
    target.reset_peak_rss()
    get = b"GET /v1/stream/a?offset=-1%b HTTP/1.1\r\nHost: a\r\n\r\n"
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
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
        for _ in range(200):
            with connect(server) as one_more:
                assert read_all(one_more).startswith(b"HTTP/1.1 503")
        for client in idle:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 200")


def test_half_closed_and_cut_off_requests_leave_nothing(target: ServerProcess) -> None:
    for data in (b"", b"GET", POST):
        assert statuses(exchange(target, data)) == []
    assert statuses(exchange(target, POST + b"Content-Length: 10\r\n\r\nhalf")) == [400]
    assert request(target, "GET", "a") == (200, b"")
    whole = POST + b"Content-Length: 5\r\n\r\nwhole"
    assert statuses(exchange(target, whole)) == [204]
    assert request(target, "GET", "a") == (200, b"whole")


HALVES: Final = (
    POST + b"Content-Length: 5\r\n\r\nwhole",
    POST + b"Content-Length: 9999\r\n\r\nhalf",
    POST[:30],
    b"GET /v1/stream/a HTTP/1.1\r\nHost: a\r\n\r\n" * 3,
    b"GET /v1/stream/a?offset=now&live=long-poll HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /v1/stream/a?offset=now&live=sse HTTP/1.1\r\nHost: a\r\n\r\n",
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
        line = b"GET /v1/stream/a HTTP/1.1\r\nHost: a\r\nX-Slow: slow\r\n"
        for at in range(len(line)):  # byte by byte
            for client in slow[:20]:
                client.sendall(line[at : at + 1])
        for client in slow[20:40]:  # a poll, and more heads behind it than anybody wants
            client.sendall(HALVES[4])
            with suppress(BlockingIOError):
                client.setblocking(False)
                for _ in range(100):
                    client.sendall(line + field * 3 + b"\r\n")
            client.settimeout(10)
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
    head = b"GET /v1/stream/a HTTP/1.1\r\nHost: a\r\n" + b"X: " + b"x" * 10_000 + b"\r\n\r\n"
    with connect(target) as client:
        for _ in range(100):
            client.sendall(head)
            answer = client.recv(65_536)
            while b"\r\n\r\n" not in answer:
                answer += client.recv(65_536)
            assert statuses(answer) == [200]


APPEND_BYTES: Final = 16 * MIB
GIBIBYTE: Final = 64 * APPEND_BYTES


def paused(server: ServerProcess, clients: ExitStack, query: str) -> socket.socket:
    """A reader who asks, takes the first bytes of the answer, and then nothing."""
    reader = clients.enter_context(connect(server, 4096))
    reader.settimeout(60)
    reader.sendall(b"GET /v1/stream/big?%b HTTP/1.1\r\nHost: a\r\n\r\n" % query.encode())
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
        pipelined.sendall(
            b"".join(
                b"GET /v1/stream/big?offset=%016d_%016d&pipelined HTTP/1.1\r\nHost: a\r\n\r\n"
                % (segment, 0)
                for segment in range(segments)
            )
        )
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
            reader.sendall(b"GET /v1/stream/a?offset=-1&live=sse HTTP/1.1\r\nHost: a\r\n\r\n")
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
