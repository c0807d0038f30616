"""The tail, and what is there at all: nobody is told by a cache what was true before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.caches.streams import (
    BYTES,
    CLOSE,
    MIB,
    TEXT,
    append,
    create,
    create_long,
    is_hit,
    read,
    read_piece,
)

if TYPE_CHECKING:
    from tests.http.client import Client


async def test_an_append_is_seen_at_once_by_who_reads_from_the_beginning(
    origin: Client, reader: Client, another_reader: Client, stream: str
) -> None:
    await create(origin, stream)
    content = b""
    for word in (b"one ", b"two ", b"three "):
        await append(origin, stream, word)
        content += word
        for client in (reader, another_reader, reader):
            answer = await read(client, stream)
            assert (answer.body, answer.headers["stream-up-to-date"]) == (content, "true")


async def test_an_append_is_seen_at_once_by_who_waits_at_the_tail(
    origin: Client, reader: Client, another_reader: Client, stream: str
) -> None:
    await create(origin, stream, b"zero ")
    offset = (await read(reader, stream)).headers["stream-next-offset"]
    for word in (b"one ", b"two ", b"three "):
        assert [(await read(client, stream, offset)).body for client in (reader, reader)] == [
            b""
        ] * 2
        await append(origin, stream, word)
        answers = [await read(client, stream, offset) for client in (another_reader, reader)]
        assert [answer.body for answer in answers] == [word, word]
        offset = answers[0].headers["stream-next-offset"]


async def test_a_close_is_seen_at_once(
    origin: Client, reader: Client, another_reader: Client, stream: str
) -> None:
    await create(origin, stream, b"all")
    at_tail = (await read(reader, stream)).headers["stream-next-offset"]
    targets = [
        (client, offset) for client in (reader, another_reader) for offset in ("-1", at_tail)
    ]
    for client, offset in targets:
        assert "stream-closed" not in (await read(client, stream, offset)).headers

    await append(origin, stream, b"", CLOSE)

    for client, offset in targets:
        assert (await read(client, stream, offset)).headers["stream-closed"] == "true"


async def test_a_close_is_seen_by_who_reads_the_end_again_with_its_tag(
    origin: Client, reader: Client, stream: str
) -> None:
    await create(origin, stream, b"all")
    tag = {"If-None-Match": (await read(reader, stream)).headers["etag"]}
    assert (await read(reader, stream, headers=tag)).status == 304

    await append(origin, stream, b"", CLOSE)

    answer = await read(reader, stream, headers=tag)
    assert (answer.status, answer.body, answer.headers["stream-closed"]) == (200, b"all", "true")


async def test_a_client_that_has_the_end_is_told_so_until_there_is_more(
    origin: Client, reader: Client, stream: str
) -> None:
    await create(origin, stream, b"one ")
    tag = {"If-None-Match": (await read(reader, stream)).headers["etag"]}
    unchanged = [await read(client, stream, headers=tag) for client in (reader, reader)]

    await append(origin, stream, b"two ")

    changed = await read(reader, stream, headers=tag)
    assert [answer.status for answer in unchanged] == [304, 304]
    assert (changed.status, changed.body) == (200, b"one two ")


async def test_a_head_tells_the_tail_though_a_piece_of_the_same_url_is_cached(
    origin: Client, reader: Client, stream: str
) -> None:
    await create_long(origin, stream)
    await reader.request("GET", stream)
    piece = await reader.request("GET", stream)
    assert is_hit(piece)
    for body in (b"more", b"and more"):
        await append(origin, stream, body, BYTES)
        true = await origin.request("HEAD", stream)

        told = await reader.request("HEAD", stream)

        assert told.headers["stream-next-offset"] == true.headers["stream-next-offset"]
        assert told.headers["stream-next-offset"] != piece.headers["stream-next-offset"]


async def test_a_read_has_its_content_though_a_head_of_the_same_url_came_before(
    origin: Client, reader: Client, stream: str
) -> None:
    content = await create_long(origin, stream)
    assert (await reader.request("HEAD", stream)).status == 200

    answer = await reader.request("GET", stream)

    assert answer.body
    assert answer.body == content[: len(answer.body)]


async def test_a_stream_is_there_at_once_though_it_was_asked_for_too_early(
    origin: Client, reader: Client, stream: str
) -> None:
    for _ in range(2):
        assert (await read(reader, stream)).status == 404
        assert (await reader.request("HEAD", stream)).status == 404

    await create(origin, stream, b"here")

    assert (await read(reader, stream)).body == b"here"
    assert (await reader.request("HEAD", stream)).status == 200


@pytest.mark.parametrize("through_the_cache", [True, False])
async def test_a_deleted_stream_is_gone_at_its_tail_at_once(
    origin: Client, reader: Client, stream: str, *, through_the_cache: bool
) -> None:
    await create_long(origin, stream)
    tail = (await origin.request("HEAD", stream)).headers["stream-next-offset"]
    last = (await read_piece(reader, stream)).headers["stream-next-offset"]
    for offset in (last, tail):
        assert (await read(reader, stream, offset)).headers["stream-up-to-date"] == "true"

    deleted = await (reader if through_the_cache else origin).request("DELETE", stream)

    assert deleted.status == 204
    assert [(await read(reader, stream, offset)).status for offset in (last, tail)] == [404, 404]
    assert (await reader.request("HEAD", stream)).status == 404


async def test_a_path_that_is_used_again_has_its_new_stream_at_once_if_the_old_one_was_short(
    origin: Client, reader: Client, stream: str
) -> None:
    await create(origin, stream, b"old")
    tag = {"If-None-Match": (await read(reader, stream)).headers["etag"]}
    assert (await origin.request("DELETE", stream)).status == 204

    await create(origin, stream, b"new")

    assert (await read(reader, stream)).body == b"new"
    assert (await read(reader, stream, headers=tag)).body == b"new"


async def test_who_asks_for_the_tail_of_now_is_told_the_tail_of_now(
    origin: Client, reader: Client, stream: str
) -> None:
    await create(origin, stream)
    for word in (b"one ", b"two "):
        await append(origin, stream, word)
        tail = (await origin.request("HEAD", stream)).headers["stream-next-offset"]
        assert (await read(reader, stream, "now")).headers["stream-next-offset"] == tail


async def test_writes_go_through_the_cache(reader: Client, stream: str) -> None:
    created = await reader.request("PUT", stream, b"", BYTES)
    largest = bytes(16 * MIB)

    appended = await reader.request("POST", stream, largest, BYTES)
    closed = await reader.request("POST", stream, b"", CLOSE)
    too_late = await reader.request("POST", stream, b"more", TEXT)

    assert created.headers["location"] == f"http://example.test/v1/stream/{stream}"
    assert [answer.status for answer in (created, appended, closed)] == [201, 204, 204]
    assert (too_late.status, too_late.headers["stream-closed"]) == (409, "true")
    assert (await read(reader, stream)).body == largest
