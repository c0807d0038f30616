"""Streams that are copied: what is missing is appended, and what differs is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import durable_streams
from durable_streams import RemoteStreams, Streams
from durable_streams.importing.copying import Copied, Differs, copy
from tests.client.conftest import served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

JSON = "application/json"


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[RemoteStreams]:
    async with (
        served(tmp_path / "source") as url,
        durable_streams.connect(url) as streams,
    ):
        yield streams


@pytest.fixture
async def target(tmp_path: Path) -> AsyncIterator[Streams]:
    async with durable_streams.open(tmp_path / "target") as streams:
        yield streams


async def fill(source: RemoteStreams, content_type: str, numbers: range) -> int:
    """Append them, each by itself; their size as the files have it."""
    for number in numbers:
        await source.append("s", b'"%d"' % number, content_type=content_type)
    return sum(len(f'"{number}"') + (content_type == JSON) for number in numbers)


async def same(source: RemoteStreams, target: Streams) -> bool:
    here, there = await source.read("s"), await target.read("s")
    assert here.up_to_date
    return (here.data, here.closed) == (there.data, there.closed)


@pytest.mark.parametrize("content_type", [JSON, "application/octet-stream", "text/plain"])
async def test_a_copy_has_all_of_it_and_goes_on_when_there_is_more(
    source: RemoteStreams, target: Streams, content_type: str
) -> None:
    await source.create("s", content_type=content_type, ttl_s=7000)
    size = 0
    for numbers, closed in ((range(0), False), (range(5), False), (range(5, 14), True)):
        new = await fill(source, content_type, numbers)
        size += new
        if closed:
            await source.close("s")
        read: list[int] = []
        copied = await copy(source, target, "s", read.append)
        found = await target.get_metadata("s")
        tail = (await source.get_metadata("s")).next_offset
        assert copied == Copied("s", size, new, tail, found.next_offset, closed)
        assert (found.content_type, found.ttl_s) == (content_type, 7000)
        assert await same(source, target)
        again = await copy(source, target, "s")
        assert again == Copied("s", size, 0, tail, found.next_offset, closed)
        assert sum(read) == size


async def test_a_copy_that_was_broken_off_goes_on_behind_what_is_there(
    source: RemoteStreams, target: Streams
) -> None:
    await source.create("s", content_type="text/plain", data=b"one two three")
    await target.create("s", content_type="text/plain", data=b"one t")  # in the middle of a piece
    copied = await copy(source, target, "s")
    assert (copied.size_bytes, copied.new_bytes) == (13, 8)
    assert await same(source, target)


@pytest.mark.parametrize("count", [0, 1, 2])
async def test_messages_are_counted_from_where_the_copy_is(
    source: RemoteStreams, target: Streams, count: int
) -> None:
    await source.create("s", content_type=JSON, data=b'[ 1, {"a" : "\\u00e4,"},[2]]')
    await target.create("s", content_type=JSON)
    parts = (b"[1]", b'[{"a" : "\\u00e4,"}]')
    for data in parts[:count]:
        await target.append("s", data, content_type=JSON)
    await copy(source, target, "s")
    assert await same(source, target)


async def test_large_streams_are_appended_in_pieces(source: RemoteStreams, target: Streams) -> None:
    row = b'"%s"' % (b"x" * 99_998)
    await source.create("s", content_type=JSON)
    for _ in range(3):
        await source.append("s", b"[" + b",".join([row] * 20) + b"]", content_type=JSON)
    await source.append("s", b'"%s"' % (b"y" * 2_000_000), content_type=JSON)
    copied = await copy(source, target, "s")
    assert copied.size_bytes == copied.new_bytes == 60 * 100_001 + 2_000_003
    assert (await copy(source, target, "s")).new_bytes == 0


@pytest.mark.parametrize(
    ("there", "told"),
    [
        ({"content_type": "text/plain", "data": b"one t!"}, "differ"),
        ({"content_type": "text/plain", "data": b"!"}, "differ"),
        ({"content_type": "text/plain", "data": b"one two three!"}, "more than its source"),
        ({"content_type": "text/plain", "data": b"one", "closed": True}, "differ"),
        ({"content_type": JSON}, "application/json there"),
    ],
)
async def test_what_is_no_copy_is_told_and_stays_as_it_is(
    source: RemoteStreams, target: Streams, there: dict[str, object], told: str
) -> None:
    await source.create("s", content_type="text/plain", data=b"one two three")
    await target.create("s", **there)  # type: ignore[arg-type]
    before = await target.read("s")
    with pytest.raises(Differs, match=told):
        await copy(source, target, "s")
    assert await target.read("s") == before


async def test_a_message_that_only_begins_like_one_of_the_copy_differs(
    source: RemoteStreams, target: Streams
) -> None:
    await source.create("s", content_type=JSON, data=b"[12,3]")
    await target.create("s", content_type=JSON, data=b"[1]")
    with pytest.raises(Differs):
        await copy(source, target, "s")


async def test_who_appends_to_the_copy_meanwhile_is_noticed(
    source: RemoteStreams, target: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    await source.create("s", content_type="text/plain", data=b"one")
    append = target.append

    async def twice(*args: object, **named: object) -> object:
        await append("s", b"!", content_type="text/plain")
        return await append(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(target, "append", twice)
    with pytest.raises(Differs, match="something appends"):
        await copy(source, target, "s")
