"""Live reads through a cache: nobody waits longer than without it, and nothing is held back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from durable_streams.settings import HttpSettings
from tests.caches.conftest import LIVE_S, PROGRAMS
from tests.caches.running import running
from tests.caches.streams import CLOSE, TEXT, append, create, create_long, read, read_piece
from tests.http.client import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.http.client import Answer
    from tests.http.conftest import Serve


@pytest.fixture(autouse=True)
async def nothing_is_held_back() -> AsyncIterator[None]:
    """Live reads end by themselves, an hour after a client should have had its answer."""
    async with asyncio.timeout(300):
        yield


async def poll(client: Client, path: str, offset: str, cursor: str | None = None) -> Answer:
    cursor = "" if cursor is None else f"&cursor={cursor}"
    return await client.request("GET", f"{path}?offset={offset}&live=long-poll{cursor}")


async def open_events(client: Client, path: str) -> None:
    client.ask("GET", f"{path}?offset=-1&live=sse")
    head = await client.head()
    assert (head.status, head.headers["content-type"]) == (200, "text/event-stream"), head


async def listen_to_the_end(client: Client, path: str, last_event_id: str | None = None) -> Answer:
    """Get all events of a closed stream, or those behind one."""
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    return await client.request("GET", f"{path}?offset=-1&live=sse", headers=headers)


async def test_an_append_wakes_all_who_poll_with_the_same_cursor(
    origin: Client, reader: Client, another_reader: Client, stream: str
) -> None:
    await create(origin, stream, b"zero")
    offset = (await read(reader, stream)).headers["stream-next-offset"]
    cursor = None
    for word in (b"one", b"two", b"three"):
        polls = [
            asyncio.create_task(poll(client, stream, offset, cursor))
            for client in (reader, another_reader)
        ]
        await append(origin, stream, word)

        answers = await asyncio.gather(*polls)

        assert [(answer.status, answer.body) for answer in answers] == [(200, word)] * 2
        offset, cursor = (
            answers[0].headers[f"stream-{name}"] for name in ("next-offset", "cursor")
        )


@pytest.mark.parametrize("program", PROGRAMS)
async def test_who_polls_does_not_wait_for_another_who_does(
    program: str, serve: Serve, tmp_path: Path, stream: str
) -> None:
    server = await serve(HttpSettings(fast_lane=False, long_poll_timeout_s=LIVE_S))
    await server.create(stream, "text/plain")
    with running(program, tmp_path / "cache", server.port) as port:
        clients = [await Client.connect(port) for _ in range(3)]
        polls = [asyncio.create_task(poll(client, stream, "-1")) for client in clients]
        while len(server.handler.active) < len(polls):
            await asyncio.sleep(0)
        await append(await server.connect(), stream, b"data")
        answers = await asyncio.gather(*polls)
        for client in clients:
            await client.close()

    assert [answer.body for answer in answers] == [b"data"] * 3


async def test_who_polls_from_an_offset_gets_all_that_came_since(
    origin: Client, reader: Client, stream: str
) -> None:
    await create(origin, stream)
    content = b""
    for word in (b"one ", b"two "):
        await append(origin, stream, word)
        content += word
        assert (await poll(reader, stream, "-1")).body == content


async def test_who_polls_a_long_stream_gets_its_pieces(
    origin: Client, reader: Client, another_reader: Client, stream: str
) -> None:
    content = await create_long(origin, stream)
    piece = await read_piece(reader, stream)
    for client in (reader, another_reader):
        polled = await poll(client, stream, "-1")
        assert polled.body == piece.body
        assert polled.headers["stream-cursor"]

    rest = await poll(reader, stream, piece.headers["stream-next-offset"])

    assert piece.body + rest.body == content


async def test_a_close_wakes_who_polls(origin: Client, reader: Client, stream: str) -> None:
    await create(origin, stream, b"all")
    offset = (await read(reader, stream)).headers["stream-next-offset"]
    polling = asyncio.create_task(poll(reader, stream, offset))

    await append(origin, stream, b"", CLOSE)

    answer = await polling
    assert (answer.status, answer.headers["stream-closed"]) == (204, "true")
    assert (await poll(reader, stream, offset)).status == 204


async def test_events_arrive_one_by_one_at_all_who_listen(
    origin: Client, reader: Client, another_reader: Client, stream: str
) -> None:
    await create(origin, stream, b"zero")
    listeners = (reader, another_reader)
    for client in listeners:
        await open_events(client, stream)
        await client.events_until(b"data:zero")

    for word in (b"one", b"two", b"three"):
        await append(origin, stream, word)
        for client in listeners:
            assert await client.events_until(b"data:" + word)

    await append(origin, stream, b"", CLOSE)
    for client in listeners:
        assert b'"streamClosed":true' in b"".join([chunk async for chunk in client.chunks()])


async def test_who_listens_again_goes_on_behind_the_last_event(
    origin: Client, reader: Client, another_reader: Client, stream: str
) -> None:
    await create(origin, stream, b"one")
    last = (await origin.request("HEAD", stream)).headers["stream-next-offset"]
    await open_events(reader, stream)
    await reader.events_until(b"data:one")
    await append(origin, stream, b"two", TEXT | CLOSE)
    await reader.events_until(b"data:two")

    again = await listen_to_the_end(another_reader, stream, last)

    assert b"data:two" in again.body
    assert b"data:one" not in again.body


async def test_who_has_the_last_event_of_all_is_told_so_and_nobody_else_is(
    origin: Client, reader: Client, stream: str
) -> None:
    await create(origin, stream, b"all", TEXT | CLOSE)
    last = (await origin.request("HEAD", stream)).headers["stream-next-offset"]

    for _ in range(2):
        resumed = await listen_to_the_end(reader, stream, last)
        assert (resumed.status, resumed.headers["stream-closed"]) == (204, "true")
        assert b"data:all" in (await listen_to_the_end(reader, stream)).body
