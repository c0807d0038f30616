"""The fast lane: the same answers as without it, and none of its connections forgotten."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
from aiohttp import web

from durable_streams.engine.engine import Engine
from durable_streams.http import fast_lane
from durable_streams.http.fast_lane import LaneConnection
from durable_streams.settings import HttpSettings, Settings
from tests.http.conftest import RunningServer
from tests.storage.staged_disk import StagedDisk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from aiohttp import web as aiohttp_web

    from tests.http.client import Client
    from tests.http.conftest import Serve

TEXT: Final = {"Content-Type": "text/plain"}
JSON: Final = {"Content-Type": "application/json"}
CLOSING: Final = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
NO_HTTP: Final = re.compile(
    rb"HTTP/1.[01] 400 Bad Request\r\n(?:[^\r\n]+\r\n)+\r\n"
    rb"(?:not a valid HTTP request|the body is malformed)[^\n]*\n"
)
SILENCE_S: Final = 0.5
"""After which a connection that is still open has said what it had to say."""


def request(
    method: str = "POST",
    body: bytes | None = b"data",
    *,
    target: str = "PATH",
    lines: Iterable[str] = ("Content-Type: text/plain",),
    version: str = "1.1",
) -> bytes:
    """A request; PATH stands for the path of the stream of its case."""
    head = [f"{method} {target} HTTP/{version}", "Host: a", *lines]
    if body is not None:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join((*head, "", "")).encode("utf-8", "surrogateescape") + (body or b"")


def produce(seq: str, epoch: str = "0", name: str = "Producer-Seq") -> bytes:
    claim = ("Producer-Id: p", f"Producer-Epoch: {epoch}", f"{name}: {seq}")
    return request(lines=("Content-Type: text/plain", *claim))


def read(query: str = "", *lines: str) -> bytes:
    return request("GET", None, target=f"PATH{query}", lines=lines)


CASES: Final = {
    "appends and reads": [request(), read(), request(body=b"more"), read("?offset=-1"), read()],
    "a read from the middle": [request(body=b"abcdef"), read(f"?offset={0:016d}_{3:016d}")],
    "symbolic and bad offsets": [
        read("?offset=now"),
        read("?offset="),
        read("?offset=1&offset=2"),
        read(f"?offset={9:016d}_{0:016d}"),
    ],
    "a read that is not modified": [request(), read("", "If-None-Match: *")],
    "a wrong content type": [request(lines=("Content-Type: image/png",)), request(lines=())],
    "an empty body": [request(body=b""), request(body=None)],
    "a close": [
        request(lines=("Content-Type: text/plain", "Stream-Closed: true")),
        request(),
        read(),
        request(body=b"", lines=("Stream-Closed: TRUE",)),
    ],
    "no stream": [request(target="/v1/stream/none"), read().replace(b"PATH", b"/v1/stream/none")],
    "other places": [request(target="/healthz"), read().replace(b"PATH", b"/v1/streams/a")],
    "bad paths": [request(target="/v1/stream/a//b"), request(target="/v1/stream/%2e%2e")],
    "an absolute target": [request(target="http://a/v1/stream/none")],
    "other methods between": [
        request(),
        request("HEAD", None, lines=()),
        request("OPTIONS", None, lines=()),
        request("PUT", b"x", target="/v1/stream/put/NAME"),
        request("DELETE", None, lines=()),
        request(),
        read(),
    ],
    "a producer": [
        produce("0"),
        produce("1"),
        produce("1"),
        produce("3"),
        produce("0", epoch="1"),
        produce("1"),
        produce("5", epoch="2"),
    ],
    "a producer's numbers": [
        produce("00"),
        produce("1", name="producer-seq"),
        produce("2", name="PRODUCER-SEQ"),
        produce("-1"),
        produce("9" * 15),
        produce("9" * 16),
        produce("9" * 17),
        produce("x"),
        produce(" 3"),
    ],
    "a producer's number twice": [
        produce("0"),
        produce("1").replace(b"Host: a", b"Host: a\r\nProducer-Seq: 1"),
        request(lines=("Content-Type: text/plain", "Producer-Seq: 1")),
    ],
    "a sequence": [
        request(lines=("Content-Type: text/plain", f"Stream-Seq: {seq}")) for seq in "abab"
    ],
    "headers that change nothing": [
        request(lines=("content-TYPE: text/plain", "Accept: */*", "Connection: keep-alive")),
        request(lines=("Content-Type:text/plain  ", "X: \u00e9", "Cookie: a=b")),
    ],
    "a length twice": [request(lines=("Content-Type: text/plain", "Content-Length: 4"))],
    "two lengths": [request(lines=("Content-Type: text/plain", "Content-Length: 5"))],
    "a length and chunks": [request(lines=("Transfer-Encoding: chunked",))],
    "chunks": [
        request(body=None, lines=("Content-Type: text/plain", "Transfer-Encoding: chunked"))
        + b"4\r\ndata\r\n0\r\n\r\n",
        read(),
    ],
    "a length that is none": [request(body=None, lines=("Content-Length: +4",)) + b"data"],
    "a bare line feed": [request().replace(b"Host: a\r\n", b"Host: a\n")],
    "a folded header": [request(lines=("Content-Type: text/plain", "X: a", " b"))],
    "no host": [request().replace(b"Host: a\r\n", b"")],
    "an encoding": [request(lines=("Content-Type: text/plain", "Content-Encoding: gzip"))],
    "an old version": [request(version="1.0"), request(version="1.0")],
    "a connection to be closed": [request(lines=("Content-Type: text/plain", "Connection: close"))],
    "an upgrade": [request(lines=("Connection: Upgrade", "Upgrade: websocket")), request()],
    "a read with a body": [request("GET", b"data", lines=()), read()],
    "a large body": [request(body=b"x" * 70_000), request(), read("?offset=now")],
    "no HTTP at all": [b"\x16\x03\x01 nonsense\r\n\r\n"],
}


class Pair:
    """Two servers with the same streams, one with a fast lane and one without."""

    def __init__(self, servers: list[RunningServer]) -> None:
        self.servers = servers

    async def create(self, name: str) -> None:
        for server in self.servers:
            await server.create(name, "text/plain", b"first.")

    async def alike(self, name: str, pieces: list[bytes]) -> bytes:
        """What both say to the same bytes, sent in the same pieces."""
        fast, slow = await asyncio.gather(*(said(server, name, pieces) for server in self.servers))
        assert fast == slow, pieces
        return fast


@pytest.fixture
async def pair(serve: Serve) -> Pair:
    return Pair([await serve(HttpSettings(fast_lane=fast)) for fast in (True, False)])


async def said(server: RunningServer, name: str, pieces: list[bytes]) -> bytes:
    """Everything a server says on one connection, without what differs from run to run."""
    client = await server.connect()
    text = b""
    for piece in pieces:
        client.send(piece.replace(b"PATH", f"/v1/stream/{name}".encode()))
        text += await silence(client)
    await client.close()
    text = re.sub(rb"Date: [^\r]*", b"Date: now", text)
    # What is wrong with a request that ends in nonsense depends on how much came at once.
    text = NO_HTTP.sub(b"(no HTTP)", text)
    return re.sub(rb'"[0-9a-f]{24}', b'"id', text)


async def silence(client: Client) -> bytes:
    """What comes until nothing more does."""
    text = b""
    try:
        while True:
            async with asyncio.timeout(SILENCE_S):
                piece = await client.reader.read(65_536)
            if not piece:
                return text + b"(closed)"
            text += piece
    except TimeoutError:
        return text
    except ConnectionResetError:
        return text + b"(closed)"


async def all_alike(pair: Pair, cases: dict[str, list[bytes]]) -> None:
    names = {case: f"case-{number}" for number, case in enumerate(cases)}
    for name in names.values():
        await pair.create(name)
    async with asyncio.TaskGroup() as group:
        for case, pieces in cases.items():
            named = [piece.replace(b"NAME", names[case].encode()) for piece in pieces]
            group.create_task(pair.alike(names[case], named))


async def test_the_same_answers_as_without_it(pair: Pair) -> None:
    await all_alike(pair, CASES)


async def test_the_same_answers_to_requests_in_pieces(pair: Pair) -> None:
    def cut(pieces: list[bytes], chance: random.Random) -> list[bytes]:
        return [
            part
            for piece in pieces
            for at in [chance.randrange(1, len(piece))]
            for part in (piece[:at], piece[at:])
        ]

    await all_alike(
        pair, {name: cut(pieces, random.Random(name)) for name, pieces in CASES.items()}
    )


async def test_the_same_answers_to_a_head_and_its_body_apart(pair: Pair) -> None:
    def apart(piece: bytes) -> list[bytes]:
        head, end, body = piece.partition(b"\r\n\r\n")
        return [part for part in (head + end, body) if part]

    await all_alike(
        pair,
        {name: [*itertools.chain(*map(apart, pieces))] for name, pieces in CASES.items()},
    )


async def test_the_same_answers_to_pipelined_requests(pair: Pair) -> None:
    cases = {name: [b"".join(pieces) + CLOSING] for name, pieces in CASES.items()}
    cases |= {
        f"{name} with the next": [pieces[0] + CLOSING[:20], CLOSING[20:]]
        for name, pieces in CASES.items()
    }
    await all_alike(pair, cases)


async def test_the_same_answers_to_mutated_requests(pair: Pair) -> None:
    chance = random.Random(4)
    plain = [produce("0"), request(), read(), read("?offset=-1"), produce("1")]

    def mutated(piece: bytes) -> bytes:
        at = chance.randrange(len(piece))
        rest = at + chance.randrange(3)
        put = chance.choice([b"", b"\r\n", b"\n", b" ", b":", b"0", b"\0", b"%", b"?", b"\xff"])
        return piece[:at] + put + piece[rest:]

    cases = {
        f"mutant {number}": [mutated(chance.choice(plain)), chance.choice(plain), CLOSING]
        for number in range(400)
    }
    await all_alike(pair, cases)


def watch(server: RunningServer) -> list[str]:
    """Note the requests that go through aiohttp."""
    seen: list[str] = []
    handle = server.handler.handle

    async def noted(
        request: aiohttp_web.BaseRequest, prefix: str, raw_path: str, raw_query: str
    ) -> aiohttp_web.StreamResponse:
        seen.append(f"{request.method} {raw_path}?{raw_query}")
        return await handle(request, prefix, raw_path, raw_query)

    server.handler.handle = noted  # type: ignore[method-assign]
    return seen


async def idle(client: Client) -> None:
    """Give the server the moment it needs after a connection was made, or answered by aiohttp."""
    assert (await client.request("OPTIONS", "a")).status == 204
    for _ in range(5):
        await asyncio.sleep(0)


async def test_plain_requests_do_not_go_through_aiohttp(server: RunningServer) -> None:
    await server.create("a", "application/json", b"[1]")
    client = await server.connect()
    await idle(client)
    seen = watch(server)
    assert (await client.request("POST", "a", b"2", JSON)).status == 204
    assert (await client.request("GET", "a?offset=-1")).body == b"[1,2]"
    assert (await client.request("POST", "a", b"{", JSON)).status == 400
    claim = {"Producer-Id": "p", "Producer-Epoch": "0", "Producer-Seq": "0"}
    assert (await client.request("POST", "a", b"3", JSON | claim)).status == 200
    assert (await client.request("POST", "a", b"4", JSON | claim)).status == 204
    assert (await client.request("GET", "a", None, {"Accept": "*/*"})).body == b"[1,2,3]"
    head, _, _ = request(lines=["Content-Type: application/json"]).partition(b"data")
    client.send(head.replace(b"PATH", b"/v1/stream/a"))
    await asyncio.sleep(0.01)
    client.send(b"1234")
    assert (await client.answer("POST")).status == 204
    assert seen == []


async def test_after_a_request_for_aiohttp_the_lane_is_open_again(server: RunningServer) -> None:
    await server.create("a", "text/plain")
    client = await server.connect()
    await client.request("PUT", "b", b"x" * 300_000, TEXT)
    await idle(client)
    seen = watch(server)
    assert (await client.request("POST", "a", b"x", TEXT)).status == 204
    assert seen == []


async def test_without_the_lane_all_goes_through_aiohttp(serve: Serve) -> None:
    for settings in (HttpSettings(fast_lane=False), HttpSettings(access_log=True)):
        server = await serve(settings)
        await server.create("a", "text/plain")
        client = await server.connect()
        await idle(client)
        seen = watch(server)
        await client.request("POST", "a", b"x", TEXT)
        assert seen == ["POST a?"]


async def test_a_body_that_takes_its_time_gets_the_timeout_of_all_bodies(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_lane, "PATIENCE_S", 0.01)
    server = await serve(HttpSettings(body_timeout_s=0.05))
    await server.create("a", "text/plain")
    client = await server.connect()
    await idle(client)
    client.send(request().replace(b"PATH", b"/v1/stream/a")[:-2])
    answer = await client.answer("POST")
    assert answer.status == 408
    assert await client.ended()


async def test_an_idle_connection_is_closed_after_its_last_plain_request(serve: Serve) -> None:
    server = await serve(HttpSettings(keepalive_timeout_s=0.2))
    await server.create("a", "text/plain")
    client = await server.connect()
    await idle(client)
    assert (await client.request("POST", "a", b"x", TEXT)).status == 204
    assert await client.ended()


async def test_a_client_that_takes_no_answers_is_dropped(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await serve(HttpSettings(stall_timeout_s=0.2))
    await server.create("a", "text/plain", b"x" * 60_000)
    client = await server.connect(receive_buffer_bytes=4096)
    await idle(client)
    stream = server.engine._core.catalog.ready("a")
    assert stream is not None
    await server.engine._core.applied_to(stream, stream.durable.offset)
    assert (await client.request("GET", "a")).status == 200  # the file is open now
    await idle(client)
    seen = watch(server)
    answered = asyncio.Event()
    describe = server.handler.describe_chunk

    def noted(*arguments: Any, **named: Any) -> Any:
        answered.set()
        return describe(*arguments, **named)

    monkeypatch.setattr(server.handler, "describe_chunk", noted)
    (connection,) = server._server._server.connections
    while not connection.writing_paused:  # until the buffers of both kernels are full
        answered.clear()
        client.ask("GET", "a?offset=-1")
        await answered.wait()
    assert seen == []
    while connection.transport is not None:
        await asyncio.sleep(0.01)
    assert (await silence(client)).endswith(b"(closed)")


class Held:
    """A server whose appends wait at a gate of its disk."""

    def __init__(self, server: RunningServer, disk: StagedDisk) -> None:
        self.server = server
        self.disk = disk

    async def client(self) -> Client:
        client = await self.server.connect()
        await idle(client)
        return client


@asynccontextmanager
async def held(data_dir: Path) -> AsyncIterator[Held]:
    disk = StagedDisk()
    server = RunningServer(await Engine.open(data_dir, Settings(), disk), HttpSettings())
    await server.start()
    await server.create("a", "text/plain")
    try:
        yield Held(server, disk)
    finally:
        disk.heal()
        await server.finish()


async def test_an_answer_waits_for_the_disk(tmp_path: Path) -> None:
    async with held(tmp_path / "data") as staged:
        client = await staged.client()
        gate = staged.disk.hold("sync", "journal")
        client.ask("POST", "a", b"x", TEXT)
        await asyncio.to_thread(gate.reached.wait)
        waiting = asyncio.ensure_future(client.answer("POST"))
        await asyncio.sleep(0)
        assert not waiting.done()
        gate.open()
        assert (await waiting).status == 204


async def test_requests_behind_an_append_under_way_are_answered_in_order(tmp_path: Path) -> None:
    async with held(tmp_path / "data") as staged:
        client = await staged.client()
        gate = staged.disk.hold("sync", "journal")
        client.ask("POST", "a", b"one,", TEXT)
        await asyncio.to_thread(gate.reached.wait)
        client.ask("POST", "a", b"two", TEXT)
        client.ask("GET", "a")
        client.ask("HEAD", "a")
        gate.open()
        assert [(await client.answer("POST")).status for _ in "12"] == [204, 204]
        assert (await client.answer()).body == b"one,two"
        assert (await client.answer("HEAD")).status == 200


async def test_an_append_whose_client_left_is_kept(tmp_path: Path) -> None:
    async with held(tmp_path / "data") as staged:
        client = await staged.client()
        gate = staged.disk.hold("sync", "journal")
        client.ask("POST", "a", b"kept", TEXT)
        await asyncio.to_thread(gate.reached.wait)
        await client.close()
        gate.open()
        other = await staged.client()
        assert (await other.request("POST", "a", b".", TEXT)).status == 204
        assert (await other.request("GET", "a")).body == b"kept."


async def test_a_stop_waits_for_appends_under_way_and_ends_their_connections(
    tmp_path: Path,
) -> None:
    async with held(tmp_path / "data") as staged:
        client = await staged.client()
        gate = staged.disk.hold("sync", "journal")
        client.ask("POST", "a", b"x", TEXT)
        await asyncio.to_thread(gate.reached.wait)
        stopping = asyncio.ensure_future(staged.server.stop())
        await asyncio.sleep(0)
        gate.open()
        answer = await client.answer("POST")
        assert (answer.status, answer.headers["connection"]) == (204, "close")
        assert await client.ended()
        await stopping


async def test_a_failed_sync_is_answered_503(tmp_path: Path) -> None:
    async with held(tmp_path / "data") as staged:
        client = await staged.client()
        staged.disk.fail("sync", 5, "journal")
        assert (await client.request("POST", "a", b"x", TEXT)).status == 503
        assert (await client.request("GET", "a")).body == b""


async def test_few_heads_are_remembered(server: RunningServer) -> None:
    lane = server._server._server.lane
    assert lane is not None
    for number in range(fast_lane.MAX_HEADS + 10):
        head = f"GET /v1/stream/{number} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
        parsed = lane.heads.read(head)
        assert parsed is not None
        assert parsed.command is not None
    assert len(lane.heads._known) == fast_lane.MAX_HEADS
    long = b"GET /v1/stream/a HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 2000 + b"\r\n\r\n"
    assert lane.heads.read(long) is not None
    assert long not in lane.heads._known


def test_aiohttp_has_the_attributes_that_the_lane_uses() -> None:
    used = {
        "_waiter",
        "_messages",
        "_close",
        "_force_close",
        "_keepalive_timeout",
        "_next_keepalive_close_time",
    }
    assert used <= set(web.RequestHandler.__slots__)
    assert issubclass(LaneConnection, web.RequestHandler)
