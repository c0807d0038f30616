"""Where a read ends, in streams of several segments: positions begin anew in each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import durable_streams
from durable_streams.messages import Message
from durable_streams.model.offsets import Offset
from durable_streams.settings import Settings
from durable_streams.shell import places
from durable_streams.shell.formats import Content
from tests.shell.running import Shell

if TYPE_CHECKING:
    from pathlib import Path

APPENDS = [b"%05d\n" % number * (1 + number % 3) for number in range(8)]
SMALL = Settings(segment_bytes=20)


async def made(directory: Path) -> None:
    """A stream of text and one of JSON that have several segments, with several appends each."""
    async with durable_streams.open(directory, SMALL) as streams:
        for path, kind in (("text", "text/plain"), ("json", "application/json")):
            await streams.create(path, content_type=kind)
            for data in APPENDS:
                body = data if path == "text" else json.dumps(data.decode()).encode()
                await streams.append(path, body, content_type=kind)


def joined(messages: list[Message], end: str) -> list[bytes]:
    cut = [places.up_to(message, end) for message in messages]
    return [message.data for message in cut if message is not None]


@pytest.mark.parametrize("path", ["text", "json"])
async def test_what_lies_before_an_end_is_whole_and_nothing_behind_it_is_there(
    tmp_path: Path, path: str
) -> None:
    await made(tmp_path / "data")
    async with durable_streams.open(tmp_path / "data") as streams:
        whole = [message async for message in streams.tail(path, live=False)]
        records = (await streams.records(path)).records
        assert records[-1].offset.startswith("000000000000000" + ("4" if path == "text" else "6"))
        for number, record in enumerate(records):
            assert joined(whole, record.offset) == [one.data for one in whole[:number]]


async def test_the_last_lines_end_there_too(tmp_path: Path) -> None:
    await made(tmp_path / "data")
    async with durable_streams.open(tmp_path / "data") as streams:
        records = (await streams.records("text")).records
        last, end = await places.last(streams, "text", Content.TEXT, 7)
    lines = b"".join(APPENDS).splitlines(keepends=True)[-7:]
    assert b"".join(joined(last, end)) == b"".join(lines)
    assert b"".join(joined(last, records[7].offset)) == b"".join(lines[:-2])
    assert joined(last, records[3].offset) == []


def test_a_piece_of_several_appends_is_cut_between_them() -> None:
    piece = Message(b"one\ntwo\n", Offset(1, 10).token)
    assert joined([piece], Offset(1, 6).token) == [b"one\n"]
    assert joined([piece], Offset(1, 2).token) == joined([piece], Offset(0, 12).token) == []
    assert joined([piece], Offset(2, 1).token) == [b"one\ntwo\n"]


async def test_an_envelope_has_its_data_in_whichever_segment_that_is(tmp_path: Path) -> None:
    await made(tmp_path / "data")
    shell = Shell(tmp_path, str(tmp_path / "data"))
    told = shell.told("read", "text", "--format", "envelope").splitlines()
    assert [json.loads(line)["data"].encode() for line in told] == APPENDS
