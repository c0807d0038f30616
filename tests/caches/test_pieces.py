"""Answers that end before the tail: caches keep them, and they never change."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.caches.streams import (
    BYTES,
    MIB,
    append,
    appends,
    create,
    create_long,
    is_hit,
    read,
    read_piece,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.caches.conftest import Cached
    from tests.http.client import Answer, Client


async def test_a_piece_comes_from_the_cache_while_the_server_stands_still(
    cached: Cached, origin: Client, reader: Client, another_reader: Client, stream: str
) -> None:
    content = await create_long(origin, stream)
    first = await read_piece(reader, stream)

    os.kill(cached.server.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(60):
            second = await read_piece(another_reader, stream)
    finally:
        os.kill(cached.server.pid, signal.SIGCONT)

    assert (is_hit(first), is_hit(second)) == (False, True)
    assert first.body == second.body == content[: len(first.body)]
    for name in ("etag", "stream-next-offset", "cache-control", "content-type"):
        assert first.headers[name] == second.headers[name]


async def test_a_piece_is_the_same_after_more_appends_from_the_cache_and_from_the_server(
    origin: Client, reader: Client, stream: str
) -> None:
    await create_long(origin, stream)
    before = await read_piece(reader, stream)
    for body in appends():
        await append(origin, stream, body, BYTES)

    kept = await read_piece(reader, stream)
    fetched = await read_piece(reader, stream, "-1&again=")  # another URL: not in the cache
    direct = await read_piece(origin, stream)

    assert (is_hit(kept), is_hit(fetched)) == (True, False)
    for answer in (kept, fetched, direct):
        assert answer.body == before.body
        assert answer.headers["etag"] == before.headers["etag"]
        assert answer.headers["stream-next-offset"] == before.headers["stream-next-offset"]


async def pieces(client: Client, path: str) -> AsyncIterator[tuple[str, Answer]]:
    """Read to the tail; each answer with its offset."""
    offset = "-1"
    while True:
        answer = await read(client, path, offset)
        assert answer.status == 200, answer
        yield offset, answer
        if "stream-up-to-date" in answer.headers:
            return
        offset = answer.headers["stream-next-offset"]


async def test_all_who_read_while_a_stream_grows_get_the_same_pieces(
    cached: Cached, origin: Client, reader: Client, another_reader: Client, stream: str
) -> None:
    await create(origin, stream, headers=BYTES)
    seen: dict[str, set[tuple[str, bytes]]] = {}
    bodies = [body[:size] for body in appends() for size in (MIB, 300_000, 70_000, 1000)]
    growing = True

    async def follow(client: Client) -> None:
        while growing:
            async for offset, answer in pieces(client, stream):
                if "stream-up-to-date" not in answer.headers:
                    piece = (answer.headers["stream-next-offset"], answer.body)
                    seen.setdefault(offset, set()).add(piece)

    async def grow() -> None:
        nonlocal growing
        writer = await type(origin).connect(cached.server.port)
        for body in bodies:
            await append(writer, stream, body, BYTES)
        await writer.close()
        growing = False

    await asyncio.gather(grow(), follow(origin), follow(reader), follow(another_reader))

    assert {offset: len(found) for offset, found in seen.items()} == dict.fromkeys(seen, 1)
    assert b"".join([answer.body async for _, answer in pieces(reader, stream)]) == b"".join(bodies)


async def test_a_piece_of_json_is_an_array_of_whole_messages_from_the_cache_as_well(
    origin: Client, reader: Client, stream: str
) -> None:
    messages = [{"number": number, "text": "x" * 500_000} for number in range(12)]
    await create(origin, stream, headers={"Content-Type": "application/json"})
    for message in messages:
        await append(
            origin, stream, json.dumps(message).encode(), {"Content-Type": "application/json"}
        )

    for expected in (False, True):
        found = []
        async for _, answer in pieces(reader, stream):
            found += json.loads(answer.body)
            assert is_hit(answer) == (expected and "stream-up-to-date" not in answer.headers)
        assert found == messages


@pytest.mark.parametrize("in_cache", [False, True])
async def test_a_client_that_has_a_piece_is_told_so_and_the_others_get_it(
    origin: Client, reader: Client, stream: str, *, in_cache: bool
) -> None:
    content = await create_long(origin, stream)
    tag = (await read_piece(reader if in_cache else origin, stream)).headers["etag"]

    conditional = await read(reader, stream, headers={"If-None-Match": tag})
    plain = await read_piece(reader, stream)
    other_tag = await read_piece(reader, stream, headers={"If-None-Match": '"other"'})

    assert (conditional.status, conditional.headers["etag"]) == (304, tag)
    assert other_tag.body == plain.body == content[: len(plain.body)]


@pytest.mark.parametrize("in_cache", [False, True])
async def test_a_range_of_a_piece_is_that_range_or_the_whole_piece(
    origin: Client, reader: Client, stream: str, *, in_cache: bool
) -> None:
    content = await create_long(origin, stream)
    if in_cache:
        await read_piece(reader, stream)

    part = await read(reader, stream, headers={"Range": "bytes=10-19"})
    whole = await read_piece(reader, stream)

    assert whole.body == content[: len(whole.body)]
    if part.status == 206:
        assert part.headers["content-range"] == f"bytes 10-19/{len(whole.body)}"
        assert part.body == content[10:20]
    else:
        assert (part.status, part.body) == (200, whole.body)


async def test_a_cached_piece_tells_how_old_it_is(
    origin: Client, reader: Client, stream: str
) -> None:
    await create_long(origin, stream)
    fetched = await read_piece(reader, stream)
    while (await origin.request("HEAD", stream)).headers["date"] == fetched.headers["date"]:
        pass

    kept = await read_piece(reader, stream)

    assert is_hit(kept)
    assert kept.headers["date"] == fetched.headers["date"] or int(kept.headers["age"]) > 0
