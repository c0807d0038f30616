"""Reading bodies: limits, patience, and clients that change their mind."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from durable_streams.http.bodies import FREE_BYTES
from durable_streams.settings import HttpSettings, Settings

if TYPE_CHECKING:
    from tests.http.client import Client
    from tests.http.conftest import RunningServer, Serve

LIMIT = 100_000
POST = b"POST /v1/stream/a HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
async def small(serve: Serve) -> RunningServer:
    """A server that takes bodies up to LIMIT, and has little patience."""
    server = await serve(HttpSettings(body_timeout_s=0.2), Settings(max_append_bytes=LIMIT))
    await server.create("a", "text/plain")
    return server


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


async def content(client: Client) -> bytes:
    return (await client.request("GET", "a")).body


@pytest.mark.parametrize("size", [0, 1, 1000, LIMIT])
async def test_a_body_arrives_whole_however_it_is_cut(small: RunningServer, size: int) -> None:
    body = random.Random(size).randbytes(size)
    client = await small.connect()
    client.send(b"PUT /v1/stream/whole HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    for start in range(0, size, 7_001):
        client.send(chunked(body[start : start + 7_001]))
        await asyncio.sleep(0)
    client.send(b"0\r\n\r\n")
    assert (await client.answer()).status == 201
    assert (await client.request("GET", "whole")).body == body


async def test_a_length_beyond_the_limit_is_refused_before_the_body_comes(
    small: RunningServer,
) -> None:
    client = await small.connect()
    client.send(POST + b"Content-Length: %d\r\n\r\n" % (LIMIT + 1))
    answer = await client.answer()
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    assert str(LIMIT).encode() in answer.body


async def test_a_chunked_body_is_refused_as_soon_as_it_exceeds_the_limit(
    small: RunningServer,
) -> None:
    client = await small.connect()
    client.send(CHUNKED + chunked(b"x" * LIMIT) + chunked(b"x"))
    answer = await client.answer()
    assert (answer.status, answer.headers["connection"]) == (413, "close")


async def test_a_refused_body_that_keeps_coming_is_dropped_and_the_answer_gets_through(
    small: RunningServer,
) -> None:
    client = await small.connect()
    client.send(POST + b"Content-Length: 5000000\r\n\r\n" + b"x" * 5_000_000)
    answer = await client.answer()
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    assert await client.ended()


async def test_a_chunked_body_within_the_limit_that_came_at_once_is_taken(
    small: RunningServer,
) -> None:
    client = await small.connect()
    client.send(CHUNKED + chunked(b"one") + chunked(b" two") + b"0\r\n\r\n")
    assert (await client.answer()).status == 204
    assert await content(client) == b"one two"


async def test_a_chunked_body_beyond_the_limit_that_came_at_once_is_refused(
    small: RunningServer,
) -> None:
    client = await small.connect()
    client.send(CHUNKED + chunked(b"x" * (LIMIT + 1)) + b"0\r\n\r\n")
    assert (await client.answer()).status == 413


async def test_a_body_that_does_not_come_is_408(small: RunningServer) -> None:
    client = await small.connect()
    client.send(POST + b"Content-Length: 10\r\n\r\nhalf")
    answer = await client.answer()
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert await client.ended()


async def test_a_broken_chunk_in_the_middle_of_a_body_is_400_at_once(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve()  # with all the patience in the world
    await server.create("a", "text/plain")
    client = await server.connect()
    client.send(CHUNKED + chunked(b"hello"))
    while not server.handler.active:
        await asyncio.sleep(0)
    client.send(b"zz\r\n")
    answer = await client.answer()
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert await client.ended()
    assert await content(await server.connect()) == b""
    assert not caplog.records


@pytest.mark.parametrize("head", [POST + b"Content-Length: 10\r\n\r\n", CHUNKED + b"a\r\n"])
async def test_a_client_that_leaves_in_the_middle_of_a_body_leaves_no_byte_and_no_log(
    small: RunningServer, caplog: pytest.LogCaptureFixture, head: bytes
) -> None:
    client = await small.connect()
    client.send(head + b"half")
    while not small.handler.active:
        await asyncio.sleep(0)
    client.writer.transport.abort()
    while small.handler.active:
        await asyncio.sleep(0)
    assert await content(await small.connect()) == b""
    assert not caplog.records


async def test_a_client_that_expects_it_is_told_to_continue(small: RunningServer) -> None:
    client = await small.connect()
    client.send(POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    assert (await client.answer()).status == 100
    client.send(b"hello")
    assert (await client.answer()).status == 204
    assert await content(client) == b"hello"


async def test_a_client_that_expects_it_is_refused_without_sending_its_body(
    small: RunningServer,
) -> None:
    client = await small.connect()
    client.send(POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % (LIMIT + 1))
    assert (await client.answer()).status == 413


async def test_a_compressed_body_is_415_and_never_unpacked(small: RunningServer) -> None:
    client = await small.connect()
    client.send(POST + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd")
    assert (await client.answer()).status == 415
    assert await content(client) == b""


async def test_bodies_beyond_what_all_of_them_may_hold_are_503_and_small_ones_go_on(
    serve: Serve,
) -> None:
    server = await serve(HttpSettings(max_bodies_bytes=LIMIT - 1), Settings(max_append_bytes=LIMIT))
    await server.create("a", "text/plain")
    slow = [await server.connect() for _ in range(2)]
    for client in slow:
        client.send(POST + b"Content-Length: %d\r\n\r\n" % LIMIT + b"x" * (LIMIT - 1))
    while server.handler.bodies.used_bytes < 2 * (LIMIT - 1 - FREE_BYTES):
        await asyncio.sleep(0)
    fast = await server.connect()
    assert (await fast.request("POST", "a", b"y", {"Content-Type": "text/plain"})).status == 204
    greedy = await server.connect()
    greedy.send(POST + b"Content-Length: %d\r\n\r\n" % LIMIT + b"z" * LIMIT)
    answer = await greedy.answer()
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    for client in slow:
        client.writer.transport.abort()
    while server.handler.active:
        await asyncio.sleep(0)
    assert server.handler.bodies.used_bytes == 0
    again = await fast.request("POST", "a", b"z" * LIMIT, {"Content-Type": "text/plain"})
    assert again.status == 204


async def test_a_body_holds_its_share_until_it_is_answered_and_no_longer(serve: Serve) -> None:
    server = await serve(HttpSettings(max_bodies_bytes=LIMIT - 1), Settings(max_append_bytes=LIMIT))
    await server.create("a", "text/plain")
    client = await server.connect()
    for _ in range(5):
        answer = await client.request("POST", "a", b"x" * LIMIT, {"Content-Type": "text/plain"})
        assert answer.status == 204
        assert server.handler.bodies.used_bytes == 0
