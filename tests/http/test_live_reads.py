"""Live reads: long-polls and event streams, with readers fast, slow and gone."""

from __future__ import annotations

import asyncio
import json
import re
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from durable_streams.http import live
from durable_streams.http.event_reader import BATCH_BYTES, SHORTEST_LIFETIME, EventReader
from durable_streams.settings import HttpSettings, Settings
from durable_streams.wire import sse
from durable_streams.wire.cursor import next_cursor
from tests.http.event_client import (
    CLOSE,
    JSON,
    TEXT,
    append,
    data_of,
    events,
    last_control,
    open_events,
)
from tools.inside import deliveries_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from durable_streams.model.results import Chunk
    from tests.http.conftest import RunningServer, Serve


async def no_reader_left(server: RunningServer) -> None:
    """Wait until every live read has been freed."""
    live = server.handler.live
    lane = server._server._server.lane
    while server.handler.active or live.readers or live.polls or (lane and lane.answering):
        await asyncio.sleep(0)


# Long-polls


# Event streams


async def test_events_begin_with_what_is_there_and_go_on_with_what_comes(
    server: RunningServer,
) -> None:
    await server.create("a", "text/plain", b"one")
    reader, writer = await server.connect(), await server.connect()
    headers = await open_events(reader, "a?offset=-1&live=sse")
    assert headers["cache-control"] == "no-cache, no-transform"
    assert headers["vary"] == "Last-Event-ID"
    assert headers["x-accel-buffering"] == "no"
    assert headers["connection"] == "close"
    wire = await reader.events_until(b"upToDate")
    for word in (b"two", b"three"):
        await append(writer, "a", word)
        wire += await reader.events_until(b"upToDate")
    assert [name for name, _ in events(wire)] == ["data", "control"] * 3
    assert data_of(wire) == b"onetwothree"
    assert last_control(wire)["streamNextOffset"] == "0000000000000000_0000000000000011"


async def test_at_the_tail_there_is_one_control_event_at_once(server: RunningServer) -> None:
    await server.create("a", "text/plain", b"one")
    reader = await server.connect()
    await open_events(reader, "a?offset=now&live=sse")
    wire = await reader.events_until(b"upToDate")
    assert [name for name, _ in events(wire)] == ["control"]


async def test_a_close_is_the_last_event_and_ends_the_connection(server: RunningServer) -> None:
    await server.create("a", "text/plain")
    reader, writer, late = [await server.connect() for _ in range(3)]
    await open_events(reader, "a?offset=-1&live=sse")
    await reader.events_until(b"upToDate")
    await append(writer, "a", b"last", CLOSE | TEXT)
    wire = await reader.events_until(b"streamClosed")
    assert data_of(wire) == b"last"
    assert await reader.chunk() == b""
    assert await reader.ended()
    await open_events(late, "a?offset=now&live=sse")
    control = last_control(await late.events_until(b"streamClosed"))
    assert control["upToDate"] is True
    assert "streamCursor" not in control
    assert await late.chunk() == b""
    assert await late.ended()


async def test_bytes_travel_as_base64_and_json_as_arrays(server: RunningServer) -> None:
    await server.create("b", "application/octet-stream", b"\x00\xff\n")
    await server.create("j", "application/json", b'[1,{"a":\n2}]')
    reader = await server.connect()
    headers = await open_events(reader, "b?offset=-1&live=sse")
    assert headers["stream-sse-data-encoding"] == "base64"
    assert data_of(await reader.events_until(b"upToDate")) == b"AP8K"
    reader, writer = await server.connect(), await server.connect()
    headers = await open_events(reader, "j?offset=-1&live=sse")
    assert "stream-sse-data-encoding" not in headers
    assert json.loads(data_of(await reader.events_until(b"upToDate"))) == [1, {"a": 2}]
    await append(writer, "j", b"[3,4]", JSON)
    assert json.loads(data_of(await reader.events_until(b"upToDate"))) == [3, 4]


async def test_a_character_cut_by_an_append_arrives_whole_however_the_reader_reads(
    server: RunningServer,
) -> None:
    euro = "€".encode()
    await server.create("a", "text/plain", euro[:1])
    reader, writer = await server.connect(), await server.connect()
    await open_events(reader, "a?offset=-1&live=sse")
    wire = await reader.events_until(b"upToDate")
    assert last_control(wire)["streamNextOffset"] == "0000000000000000_0000000000000000"
    await append(writer, "a", euro[1:2])
    wire += await reader.events_until(b"upToDate")
    await append(writer, "a", euro[2:] + b"!")
    wire += await reader.events_until(b"0004")
    assert data_of(wire) == euro + b"!"


async def test_http_1_0_gets_events_without_chunks(server: RunningServer) -> None:
    await server.create("a", "text/plain", b"one")
    old, new, writer = [await server.connect() for _ in range(3)]
    headers = await open_events(old, "a?offset=-1&live=sse", version="1.0")
    assert "transfer-encoding" not in headers
    await open_events(new, "a?offset=-1&live=sse")
    wire = await new.events_until(b"upToDate")
    await append(writer, "a", b"two", CLOSE | TEXT)
    wire += await new.events_until(b"streamClosed")
    assert await old.reader.read(-1) == wire


async def test_a_deleted_stream_ends_its_events_cleanly(server: RunningServer) -> None:
    await server.create("a", "text/plain")
    reader, writer = await server.connect(), await server.connect()
    await open_events(reader, "a?offset=-1&live=sse")
    await reader.events_until(b"upToDate")
    await writer.request("DELETE", "a")
    assert await reader.chunk() == b""
    assert await reader.ended()
    await no_reader_left(server)


async def test_a_quiet_event_stream_is_kept_alive_by_comments_and_goes_on(serve: Serve) -> None:
    server = await serve(HttpSettings(sse_keepalive_s=0.01, sse_lifetime_s=3600))
    await server.create("a", "text/plain")
    reader, writer = await server.connect(), await server.connect()
    await open_events(reader, "a?offset=-1&live=sse")
    assert len(events(await reader.chunk())) == 1
    assert [await reader.chunk() for _ in range(3)] == [sse.KEEP_ALIVE] * 3
    await append(writer, "a", b"at last")
    assert data_of(await reader.events_until(b"upToDate")) == b"at last"


async def test_a_quiet_event_stream_ends_cleanly_with_its_lifetime(serve: Serve) -> None:
    server = await serve(HttpSettings(sse_keepalive_s=3600, sse_lifetime_s=0.05))
    await server.create("a", "text/plain")
    reader = await server.connect()
    await open_events(reader, "a?offset=-1&live=sse")
    chunks = [chunk async for chunk in reader.chunks()]
    assert [name for name, _ in events(b"".join(chunks))] == ["control"]
    assert await reader.ended()
    await no_reader_left(server)


async def test_all_readers_of_a_publication_share_its_encoding(server: RunningServer) -> None:
    await server.create("a", "text/plain")
    readers = [await server.connect() for _ in range(5)]
    writer = await server.connect()
    seen = []
    for reader in readers:
        await open_events(reader, "a?offset=-1&live=sse")
        await reader.events_until(b"upToDate")
    encode = sse.encode_batch

    def remember(*arguments: Any, **named: Any) -> sse.Encoded:
        seen.append(encode(*arguments, **named))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sse, "encode_batch", remember)
        await append(writer, "a", b"x")
        for reader in readers:
            await reader.events_until(b"upToDate")
    assert len(seen) == 1


async def test_an_event_client_that_leaves_is_freed_at_once(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    await server.create("a", "text/plain")
    reader, writer = await server.connect(), await server.connect()
    await open_events(reader, "a?offset=-1&live=sse")
    await reader.events_until(b"upToDate")
    reader.writer.transport.abort()
    await no_reader_left(server)
    await append(writer, "a", b"x")
    assert not caplog.records


@pytest.mark.parametrize("content_type", ["text/plain", "application/octet-stream"])
async def test_catching_up_goes_in_bounded_batches_with_offsets_that_can_be_resumed(
    server: RunningServer, content_type: str
) -> None:
    body = "".join(f"line {number} äöü\r\n" for number in range(20_000)).encode()
    await server.create("a", content_type)
    reader, writer = await server.connect(), await server.connect()
    for at in range(0, len(body), 4001):
        await append(writer, "a", body[at : at + 4001], {"Content-Type": content_type})
    await open_events(reader, "a?offset=-1&live=sse")
    wire = b""
    while b"upToDate" not in wire:
        chunk = await reader.chunk()
        assert len(chunk) < 2 * BATCH_BYTES
        wire += chunk
    offsets = re.findall(rb'streamNextOffset":"0{16}_0*([0-9]+)"', wire)
    assert len(offsets) > 5
    middle = int(offsets[3])
    if content_type == "text/plain":
        assert data_of(wire) == body.replace(b"\r\n", b"\n")
    again = await server.connect()
    await open_events(again, f"a?offset=0000000000000000_{middle:016d}&live=sse")
    rest = await again.events_until(b"upToDate")
    if content_type == "text/plain":
        assert data_of(rest) == body[middle:].replace(b"\r\n", b"\n")


async def test_a_long_array_is_one_event_that_parses_alone(server: RunningServer) -> None:
    values = [{"number": number, "text": "ä" * (number % 50)} for number in range(10_000)]
    body = json.dumps(values, indent=1).replace("\n", "\r\n").encode()
    await server.create("j", "application/json", body)
    reader = await server.connect()
    await open_events(reader, "j?offset=-1&live=sse")
    wire = await reader.events_until(b"upToDate")
    assert [name for name, _ in events(wire)] == ["data", "control"]
    assert json.loads(data_of(wire)) == values


@pytest.mark.parametrize("content_type", ["text/plain", "application/json"])
async def test_a_slow_reader_falls_behind_and_misses_nothing(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, content_type: str
) -> None:
    caught_up = 0
    original = EventReader._catch_up

    async def count(reader: EventReader, chunk: Chunk, *, is_first: bool = True) -> None:
        nonlocal caught_up
        caught_up += 1
        await original(reader, chunk, is_first=is_first)

    await server.create("a", content_type)
    slow = await server.connect(receive_buffer_bytes=4096)
    fast, writer = await server.connect(), await server.connect()
    for reader in (slow, fast):
        await open_events(reader, "a?offset=-1&live=sse")
        await reader.events_until(b"upToDate")
    monkeypatch.setattr(EventReader, "_catch_up", count)
    text = "x" * 40_000
    for number in range(300):
        await append(writer, "a", f'"{number} {text}"'.encode(), {"Content-Type": content_type})
        await fast.events_until(b"upToDate")
    await append(writer, "a", b"", CLOSE)
    wire = await slow.events_until(b"streamClosed")
    if content_type == "text/plain":
        numbers = re.findall(r'"([0-9]+) x', data_of(wire).decode())
    else:
        arrays = [json.loads(data) for name, data in events(wire) if name == "data"]
        numbers = [value.split()[0] for array in arrays for value in array]
    assert [int(number) for number in numbers] == list(range(300))
    assert caught_up > 1


async def test_readers_that_more_is_published_for_than_is_kept_miss_nothing(
    server: RunningServer,
) -> None:
    deliveries = deliveries_of(server.engine)
    await server.create("a", "text/plain")
    readers = [await server.connect() for _ in range(5)]
    writer = await server.connect()
    for reader in readers:
        await open_events(reader, "a?offset=-1&live=sse")
        await reader.events_until(b"upToDate")
    texts = [f"{number} ".encode() for number in range(50)]
    for number, text in enumerate(texts):
        deliveries.max_queued = number % 2  # of none, all are overtaken
        await append(writer, "a", text)
    await append(writer, "a", b"", CLOSE)
    for reader in readers:
        assert data_of(await reader.events_until(b"streamClosed")) == b"".join(texts)


async def test_thousands_of_quiet_readers_are_not_all_kept_alive_at_once(
    server: RunningServer,
) -> None:
    server.handler.live.random = Random(1)
    await server.create("a", "text/plain")
    for _ in range(5):
        await open_events(await server.connect(), "a?offset=-1&live=sse")
    silences = {reader._keepalive_s for reader in server.handler.live.readers}
    assert len(silences) == 5
    longest = server.handler.settings.sse_keepalive_s
    assert all(SHORTEST_LIFETIME * longest <= silence <= longest for silence in silences)


async def test_live_reads_end_in_slices_when_the_server_goes_down(server: RunningServer) -> None:
    await server.create("a", "text/plain")
    number = 3 * live.ENDINGS_PER_TURN
    readers = [await server.connect() for _ in range(number)]
    for reader in readers:
        await open_events(reader, "a?offset=-1&live=sse")
        await reader.events_until(b"upToDate")
    lives = server.handler.live
    lives.drain()
    assert sum(reader._over for reader in lives.readers) == 0
    assert len(lives.readers) == number - live.ENDINGS_PER_TURN
    for reader in readers:
        assert await reader.chunk() == b""
        assert await reader.ended()
    await no_reader_left(server)


async def test_a_reader_that_takes_nothing_is_dropped_and_freed(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve(HttpSettings(stall_timeout_s=0.1))
    await server.create("a", "text/plain")
    stuck = await server.connect(receive_buffer_bytes=4096)
    writer = await server.connect()
    await open_events(stuck, "a?offset=-1&live=sse")
    while server.handler.live.readers:
        await append(writer, "a", b"x" * 60_000)
    await no_reader_left(server)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "dropped a reader" in caplog.records[0].getMessage()


async def test_a_large_publication_is_read_from_the_files_by_everybody(
    server: RunningServer,
) -> None:
    await server.create("a", "text/plain")
    reader, writer = await server.connect(), await server.connect()
    await open_events(reader, "a?offset=-1&live=sse")
    await reader.events_until(b"upToDate")
    body = b"y" * (BATCH_BYTES + 1)
    await append(writer, "a", body)
    assert data_of(await reader.events_until(b"upToDate")) == body
    await append(writer, "a", b"small")
    assert data_of(await reader.events_until(b"upToDate")) == b"small"


async def test_events_go_on_over_segments(serve: Serve) -> None:
    server = await serve(engine_settings=Settings(segment_bytes=1000))
    await server.create("a", "text/plain")
    reader, writer = await server.connect(), await server.connect()
    await open_events(reader, "a?offset=-1&live=sse")
    await reader.events_until(b"upToDate")
    wire = b""
    words = [str(number).encode() * 300 for number in range(10)]
    for word in words:
        await append(writer, "a", word)
        wire += await reader.events_until(b"upToDate")
    late = await server.connect()
    await open_events(late, "a?offset=-1&live=sse")
    assert data_of(wire) == b"".join(words)
    assert data_of(await late.events_until(b"upToDate")) == b"".join(words)


async def test_lifetimes_and_cursors_come_from_the_given_chance(server: RunningServer) -> None:
    server.handler.live.random = Random(1)
    ahead = next_cursor(None, server.handler.live.clock(), 1)
    first = [server.handler.live.cursor(ahead) for _ in range(3)]
    server.handler.live.random = Random(1)
    assert [server.handler.live.cursor(ahead) for _ in range(3)] == first
    assert all(cursor > ahead for cursor in first)


@pytest.mark.parametrize("pieces", [1, 2])
async def test_a_file_that_ends_early_is_500_or_cuts_events_off_and_is_logged_once(
    server: RunningServer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    pieces: int,
) -> None:
    """A piece is sent when the next one is there: with one piece nothing was sent yet."""

    async def short(*_: object) -> AsyncIterator[bytes]:
        for _number in range(pieces):
            yield b"x"
        raise OSError("a file ends early")

    await server.create("a", "text/plain", b"x" * 100_000)
    monkeypatch.setattr(server.handler.store, "pieces", short)
    reader = await server.connect()
    reader.ask("GET", "a?offset=-1&live=sse")
    if pieces > 1:
        assert (await reader.head()).status == 200
        assert await reader.chunk() == b"event: data\ndata:x"
        with pytest.raises((ValueError, asyncio.IncompleteReadError, ConnectionResetError)):
            await reader.chunk()
    else:
        assert (await reader.answer()).status == 500
    await no_reader_left(server)
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert not record.exc_info  # the system's doing, no bug
