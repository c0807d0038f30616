"""Values in and out of streams of JSON: what one appended is what another reads."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest

import durable_streams
from durable_streams import (
    ContentTypeMismatch,
    InvalidJson,
    InvalidRequest,
    Message,
    ProducerClaim,
    StreamNotFound,
    Streams,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

JSON = "application/json"
VALUES: list[Any] = [
    {"id": 1, "käse": [None, True, 1.5, "\u2028\x00"]},
    [1, 2, 3],  # a list is one message
    [],
    "text",
    0,
    None,
    False,
    2**70,
    {},
]


@pytest.fixture
async def streams(tmp_path: Path) -> AsyncIterator[Streams]:
    async with durable_streams.open(tmp_path / "data") as opened:
        await opened.create("j", content_type=JSON)
        yield opened


async def test_what_was_appended_is_read(streams: Streams) -> None:
    first = await streams.append_json("j", VALUES[0])
    last = await streams.append_json("j", *VALUES[1:])
    found = await streams.read_json("j")
    assert found.values == VALUES
    assert found.next_offset == last.next_offset
    assert found.up_to_date
    assert not found.closed
    assert not found.has_more
    assert (await streams.read_json("j", first.next_offset)).values == VALUES[1:]
    messages = (await streams.read_messages("j")).messages
    assert [message.json() for message in messages] == VALUES
    assert json.loads((await streams.read("j")).data) == VALUES


async def test_a_tuple_is_a_list_and_an_ordinary_content_type_does(streams: Streams) -> None:
    await streams.create("p", content_type="Application/JSON; charset=utf-8")
    await streams.append_json("p", (1, (2,)))
    assert (await streams.read_json("p")).values == [[1, [2]]]


async def test_all_that_an_append_takes(streams: Streams) -> None:
    claim = ProducerClaim("p", 0, 0)
    assert not (await streams.append_json("j", 1, producer=claim)).duplicate
    assert (await streams.append_json("j", 1, producer=claim)).duplicate
    await streams.append_json("j", 2, stream_seq="b")
    with pytest.raises(durable_streams.SequenceConflict):
        await streams.append_json("j", 3, stream_seq="a")
    with pytest.raises(InvalidRequest):
        await streams.append_json("j")
    assert (await streams.append_json("j", 4, close=True)).closed
    found = await streams.read_json("j", live=True)
    assert (found.values, found.closed) == ([1, 2, 4], True)
    assert (await streams.read_json("j", found.next_offset, live=True)).values == []
    await streams.create("k", content_type=JSON)
    assert (await streams.append_json("k", close=True)).closed


@pytest.mark.parametrize(
    ("value", "kind", "told"),
    [
        ({1, 2}, TypeError, r"values\[1\] has no JSON: .*set"),
        (b"1", TypeError, r"values\[1\] .*bytes.*append\(\) takes"),
        ({(1, 2): 3}, TypeError, r"values\[1\] .*keys"),
        (math.nan, InvalidJson, r"values\[1\] .*float"),
        ([-math.inf], InvalidJson, r"values\[1\] .*float"),
        ("\ud800", InvalidJson, r"values\[1\] .*surrogate"),
        (10**5000, InvalidJson, r"values\[1\] .*digits"),
    ],
    ids=["set", "bytes", "key", "nan", "inf", "surrogate", "digits"],
)
async def test_what_has_no_json_is_told_by_its_place(
    streams: Streams, value: object, kind: type[Exception], told: str
) -> None:
    with pytest.raises(kind, match=told):
        await streams.append_json("j", "good", value)
    assert (await streams.read_json("j")).values == []


async def test_what_contains_itself_or_nests_too_deep_is_told(streams: Streams) -> None:
    itself: list[Any] = []
    itself.append(itself)
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    for value in (itself, deep):
        with pytest.raises(InvalidJson, match=r"values\[0\] has no JSON"):
            await streams.append_json("j", value)
    while isinstance(deep, list):  # one by one, as dropping it at once is deep as well
        deep = deep[0]


async def test_a_stream_of_anything_else_is_told(streams: Streams) -> None:
    await streams.create("t", content_type="text/plain", data=b"1" * 100_000)
    with pytest.raises(ContentTypeMismatch, match="'text/plain', not 'application/json'"):
        await streams.append_json("t", 1)
    with pytest.raises(ContentTypeMismatch, match="'text/plain', not 'application/json'"):
        await streams.read_json("t")
    with pytest.raises(StreamNotFound):
        await streams.append_json("none", 1)
    with pytest.raises(StreamNotFound):
        await streams.read_json("none")


async def test_a_message_that_is_no_json_is_told(streams: Streams) -> None:
    await streams.create("t", content_type="text/plain", data=b'{"a": 1}')
    last = await streams.append("t", b"{")
    good, bad = (await streams.read_messages("t")).messages
    assert good.json() == {"a": 1}
    with pytest.raises(InvalidJson, match=f"the message before {last.next_offset} is not JSON"):
        bad.json()
    for data in (b"\xff", b"", b"[" * 100_000):
        with pytest.raises(InvalidJson):
            Message(data, "-1").json()
    await streams.append("j", b"1" * 5000)  # which Python does not read
    with pytest.raises(InvalidJson):
        await streams.read_json("j")
