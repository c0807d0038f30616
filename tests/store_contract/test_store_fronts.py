"""Those who use a store need no more of it than it promises: the library, and HTTP."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import pytest
from aiohttp import web

import durable_streams
from durable_streams import NotOpen, ProducerClaim, StreamClosed, StreamNotFound, Streams
from durable_streams.http.server import HttpServer
from durable_streams.settings import HttpSettings
from tests.http.client import Client
from tests.http.event_client import data_of, open_events

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from durable_streams.store import Store

TEXT: Final = {"Content-Type": "text/plain"}
JSON: Final = {"Content-Type": "application/json"}
LARGE: Final = b"0123456789abcdef" * 10_000
"""More than is sent, or read, in one piece."""


# -- the library ---------------------------------------------------------------------------


async def test_the_library_writes_and_reads(store: Store) -> None:
    streams = Streams(store)
    assert (await streams.create("a/b", content_type="text/plain", data=b"one")).created
    appended = await streams.append("a/b", b"two", producer=ProducerClaim("p", 0, 0))
    assert (await streams.append("a/b", b"two", producer=ProducerClaim("p", 0, 0))).duplicate
    first = await streams.read("a/b")
    assert first.data in {b"one", b"onetwo"}
    assert first.data + (await streams.read("a/b", first.next_offset)).data == b"onetwo"
    assert (await streams.get_metadata("a/b")).next_offset == appended.next_offset
    await streams.fork("fork", "a/b")
    await streams.close("fork", b"end")
    with pytest.raises(StreamClosed):
        await streams.append("fork", b"more")
    assert [each.data async for each in streams.tail("fork")] == [b"one", b"two", b"end"]
    assert (await streams.read_messages("fork")).messages[0].data == b"one"
    await streams.delete("fork")
    with pytest.raises(StreamNotFound):
        await streams.read("fork")


async def test_the_library_follows_a_stream_to_its_end(store: Store) -> None:
    streams = Streams(store)
    await streams.create("s", content_type="application/json", data=b"[1, 2]")
    tail = streams.tail("s")
    found = [(await anext(tail)).data for _ in range(2)]
    more = asyncio.create_task(anext(tail))
    await asyncio.sleep(0)
    await streams.append("s", b"[3]")
    found.append((await more).data)
    await streams.close("s")
    found += [each.data async for each in tail]
    assert found == [b"1", b"2", b"3"]


async def test_a_live_read_ends_with_news_or_its_time(store: Store) -> None:
    streams = Streams(store)
    await streams.create("s", content_type="text/plain")
    assert (await streams.read("s", "now", live=True, timeout_s=0)).data == b""
    reading = asyncio.create_task(streams.read("s", "now", live=True))
    await asyncio.sleep(0)
    await streams.append("s", b"news")
    assert (await reading).data == b"news"


async def test_the_library_says_so_when_the_store_was_closed(store: Store) -> None:
    streams = Streams(store)
    await store.close()
    with pytest.raises(NotOpen):
        await streams.read("s")
    with pytest.raises(NotOpen):
        await streams.create("s")


# -- HTTP ----------------------------------------------------------------------------------


@asynccontextmanager
async def served(store: Store, *, fast_lane: bool = True) -> AsyncIterator[Client]:
    """A server over a store, and a client of it."""
    server = HttpServer(store, HttpSettings(fast_lane=fast_lane, long_poll_timeout_s=60))
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    await server.start([listening])
    client = await Client.connect(port)
    try:
        yield client
    finally:
        await client.close()
        await server.stop()


@asynccontextmanager
async def mounted(store: Store) -> AsyncIterator[Client]:
    """The same in an application."""
    app = web.Application()
    durable_streams.mount(app, streams=Streams(store))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=5)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    client = await Client.connect(site.port)
    try:
        yield client
    finally:
        await client.close()
        await runner.cleanup()


FRONTS: Final = {
    "lane": served,
    "aiohttp": lambda store: served(store, fast_lane=False),
    "mount": mounted,
}


@pytest.fixture(params=FRONTS)
async def client(request: pytest.FixtureRequest, store: Store) -> AsyncIterator[Client]:
    async with FRONTS[request.param](store) as client:
        yield client


async def got(client: Client) -> list[bytes]:
    """The bodies of all answers up to the tail, of which a store gives as many as it likes."""
    bodies, offset = [], "-1"
    while True:
        answer = await client.request("GET", f"s?offset={offset}")
        assert answer.status == 200
        bodies.append(answer.body)
        offset = answer.headers["stream-next-offset"]
        if "stream-up-to-date" in answer.headers:
            return bodies


async def test_http_answers_the_small_and_the_large(client: Client) -> None:
    assert (await client.request("PUT", "s", b"", TEXT)).status == 201
    for body in (b"small", LARGE):
        assert (await client.request("POST", "s", body, TEXT)).status == 204
    assert b"".join(await got(client)) == b"small" + LARGE
    first = await client.request("GET", "s")
    tag = {"If-None-Match": first.headers["etag"]}
    assert (await client.request("GET", "s", headers=tag)).status == 304
    assert (await client.request("HEAD", "s")).headers["content-type"] == "text/plain"
    assert (await client.request("DELETE", "s")).status == 204
    assert (await client.request("GET", "s")).status == 404


async def test_http_answers_json_as_an_array(client: Client) -> None:
    large = b'"%s"' % LARGE
    assert (await client.request("PUT", "s", b"[1]", JSON)).status == 201
    assert (await client.request("GET", "s")).body == b"[1]"
    await client.request("POST", "s", large, JSON)
    bodies = await got(client)
    assert {body[:1] + body[-1:] for body in bodies} == {b"[]"}
    assert b",".join([body[1:-1] for body in bodies]) == b"1," + large


async def test_http_polls_until_there_is_something(client: Client, store: Store) -> None:
    await client.request("PUT", "s", b"", TEXT)
    client.ask("GET", "s?offset=-1&live=long-poll")
    await Streams(store).append("s", b"news")
    assert (await client.answer()).body == b"news"


async def test_http_sends_events_small_and_large(client: Client, store: Store) -> None:
    await client.request("PUT", "s", b"before|", TEXT)
    await open_events(client, "s?offset=-1&live=sse")
    seen = await client.events_until(b"before|")
    streams = Streams(store)
    for data in (b"small|", LARGE):
        await streams.append("s", data)
    await streams.close("s", b"|last")
    seen += b"".join([chunk async for chunk in client.chunks()])
    assert data_of(seen) == b"before|small|" + LARGE + b"|last"
