"""The head of a request: how large it may be, and how long it may take."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.http.bounded_parser import MAX_AHEAD, MAX_HEAD_BYTES
from durable_streams.settings import HttpSettings
from tests.http.lanes import connections, idle

if TYPE_CHECKING:
    from tests.http.client import Client
    from tests.http.conftest import RunningServer, Serve

FIELD_BYTES: Final = 16_000
POST: Final = b"POST /v1/stream/a HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n"


def head_of(size: int) -> bytes:
    """A head of so many bytes, each header of it within the bounds."""
    head = b"GET /v1/stream/a HTTP/1.1\r\nHost: a\r\n"
    while size - len(head) > 2 * FIELD_BYTES:
        head += b"X: " + b"x" * (FIELD_BYTES - 5) + b"\r\n"
    first = (size - len(head) - 2) // 2
    for part in (first, size - len(head) - 2 - first):
        head += b"Y: " + b"y" * (part - 5) + b"\r\n"
    assert len(head) + 2 == size
    return head + b"\r\n"


async def send(client: Client, data: bytes, piece_bytes: int) -> None:
    for at in range(0, len(data), piece_bytes):
        client.send(data[at : at + piece_bytes])
        await client.writer.drain()
        await asyncio.sleep(0)


@pytest.mark.parametrize("piece_bytes", [1 << 20, 30_000, 1_000])
async def test_a_whole_head_may_have_64_kib_and_not_one_byte_more(
    either: RunningServer, piece_bytes: int
) -> None:
    await either.create("a", "text/plain", b"here")
    client = await either.connect()
    await idle(client)
    for _ in range(2):
        await send(client, head_of(MAX_HEAD_BYTES), piece_bytes)
        assert (await client.answer()).body == b"here"
    await send(client, head_of(MAX_HEAD_BYTES + 1), piece_bytes)
    answer = await client.answer()
    assert (answer.status, answer.headers["connection"]) == (431, "close")
    assert b"longer than 65536 bytes" in answer.body
    assert await client.ended()


async def test_a_head_behind_another_request_has_the_same_bound(either: RunningServer) -> None:
    await either.create("a", "text/plain", b"here")
    long = POST + b"Content-Length: 70000\r\n\r\n" + b"x" * 70_000
    for method, first in (("GET", head_of(300)), ("POST", long)):
        client = await either.connect()
        await idle(client)
        client.send(first + head_of(MAX_HEAD_BYTES))
        assert (await client.answer(method)).status < 300
        assert (await client.answer()).status == 200
        client.send(first + head_of(MAX_HEAD_BYTES + 1))
        answers = await client.reader.read(-1)  # one for both if they were read at once
        wanted = {b"431"} if method == "GET" else {b"431", b"400", b"204"}
        assert re.findall(rb"HTTP/1.[01] ([0-9]+)", answers)[-1] in wanted


async def test_a_head_that_never_ends_is_refused_before_its_memory_is_taken(
    either: RunningServer,
) -> None:
    endless = (
        b"GET /v1/stream/a HTTP/1.1\r\nHost: a\r\n" + b"X: x\r\n" * 20_000,  # too many, too
        b"GET /v1/stream/a HTTP/1.1\r\nHost: a\r\nX:" + b" " * 200_000,
        b"GET /v1/stream/a HTTP/1.1\r\nHost: a\r\n" + (b"X: " + b"x" * 9_000 + b"\r\n") * 20,
        b"\r\n" * 50_000,
    )
    for head in endless:
        client = await either.connect()
        await send(client, head, 10_000)
        assert (await client.answer()).status == 431, head[:60]
        assert await client.ended()


async def test_trailers_have_the_bound_of_heads(either: RunningServer) -> None:
    await either.create("a", "text/plain")
    chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n4\r\ndata\r\n0\r\n"
    client = await either.connect()
    client.send(chunked + b"X: x\r\n\r\n")
    assert (await client.answer("POST")).status == 204
    await send(client, chunked + (b"X: " + b"x" * 9_000 + b"\r\n") * 20, 10_000)
    assert (await client.answer("POST")).status == 400
    assert await client.ended()
    client = await either.connect()
    assert (await client.request("GET", "a")).body == b"data"


async def test_few_requests_are_parsed_ahead(either: RunningServer) -> None:
    await either.create("a", "text/plain", b"here")
    client = await either.connect()
    client.send(b"GET /v1/stream/a?offset=now&live=long-poll HTTP/1.1\r\nHost: a\r\n\r\n")
    await asyncio.sleep(0)
    client.ask("GET", "a")
    client.send(head_of(MAX_HEAD_BYTES) * 30)
    (connection,) = connections(either)
    while not (connection._waits and (connection._dropped or connection.has_more())):
        await asyncio.sleep(0)
    assert connection.bounded is not None
    assert connection.bounded.waiting <= MAX_AHEAD


async def test_a_head_has_its_time_to_arrive_and_then_gets_408(serve: Serve) -> None:
    for fast_lane in (True, False):
        server = await serve(HttpSettings(head_timeout_s=0.05, fast_lane=fast_lane))
        await server.create("a", "text/plain", b"here")
        client = await server.connect()
        assert (await client.request("GET", "a")).status == 200
        client.send(b"GET /v1/stream/a HTTP/1.1\r\n")
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        assert b"the head of the request did not arrive within 0.05 s" in answer.body
        assert await client.ended()
        assert not connections(server)


async def test_a_head_that_comes_in_time_does_not_count_as_idle(serve: Serve) -> None:
    for fast_lane in (True, False):
        server = await serve(HttpSettings(keepalive_timeout_s=0.05, fast_lane=fast_lane))
        await server.create("a", "text/plain", b"here")
        client = await server.connect()
        (connection,) = connections(server)
        client.send(b"GET /v1/stream/a HTTP/1.1\r\n")
        while connection._late is None:  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        connection._next_keepalive_close_time = 0
        connection._process_keepalive()
        client.send(b"Host: a\r\n\r\n")
        assert (await client.answer()).body == b"here"
        assert await client.ended()


async def test_half_a_head_behind_a_request_under_way_waits_for_its_answer(serve: Serve) -> None:
    server = await serve(HttpSettings(head_timeout_s=0.01, fast_lane=False, body_timeout_s=0.2))
    await server.create("a", "text/plain", b"x" * 3_000_000)
    client = await server.connect(receive_buffer_bytes=4096)
    client.ask("GET", "a")
    assert (await client.head()).status == 200
    client.send(b"GET /v1/st")
    (connection,) = connections(server)
    while connection._late is None:  # type: ignore[attr-defined]
        await asyncio.sleep(0)
    assert len(await client.reader.readexactly(3_000_000)) == 3_000_000
    assert (await client.answer()).status == 408
