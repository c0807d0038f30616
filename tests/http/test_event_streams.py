"""Event streams: an event is whole appends, and a browser goes on where it was."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from itertools import accumulate, chain
from typing import TYPE_CHECKING

import pytest

from durable_streams.http.event_reader import BATCH_BYTES, PIECE_BYTES
from durable_streams.model.offsets import ZERO, Offset
from durable_streams.settings import HttpSettings, Settings
from tests.http.event_client import (
    CLOSE,
    append,
    data_of,
    events,
    ids,
    last_control,
    open_events,
)
from tests.http.lanes import applied
from tools.inside import users_of_read_files

if TYPE_CHECKING:
    from tests.http.client import Answer, Client
    from tests.http.conftest import RunningServer, Serve

BYTES = "application/octet-stream"
TYPES = pytest.mark.parametrize("content_type", [BYTES, "text/plain", "application/json"])
SIZES = (5, 100_000, *[1999] * 60, BATCH_BYTES, BATCH_BYTES + 1, 1, 1_500_000, 70)
"""Of appends: small ones that share an event, and large ones."""


def body(content_type: str, size: int, number: int) -> bytes:
    """An append of about so many bytes, which tells its number."""
    if content_type == "application/json":
        return json.dumps([f"{number}:{'j' * (size // 3)}"] * 3).encode()
    text = f"{number}:" if size > 10 else ""
    return (text + "t" * (size - len(text))).encode()


def as_sent(content_type: str, wire: bytes) -> list[bytes]:
    """The bytes that each data event brings."""
    payloads = [data for name, data in events(wire) if name == "data"]
    if content_type == "application/json":
        return [
            b"".join(json.dumps(value).encode() + b"," for value in json.loads(payload))
            for payload in payloads
        ]
    if content_type == BYTES:
        return [b64decode(payload.replace(b"\n", b""), validate=True) for payload in payloads]
    return payloads


async def read_events(client: Client, target: str, headers: dict[str, str] | None = None) -> bytes:
    """All events up to the tail."""
    await open_events(client, target, headers)
    return await client.events_until(b"upToDate")


@TYPES
@pytest.mark.parametrize("segment_bytes", [16 * 1024 * 1024, 150_000])
async def test_no_event_begins_or_ends_inside_an_append(
    serve: Serve, content_type: str, segment_bytes: int
) -> None:
    server = await serve(engine_settings=Settings(segment_bytes=segment_bytes))
    await server.create("a", content_type)
    writer, follower, late = [await server.connect() for _ in range(3)]
    wire = await read_events(follower, "a?offset=-1&live=sse")
    ends = {ZERO.token}
    for number, size in enumerate(SIZES):
        answer = await writer.request(
            "POST", "a", body(content_type, size, number), {"Content-Type": content_type}
        )
        ends.add(answer.headers["stream-next-offset"])
        wire += await follower.events_until(b"upToDate")
    caught_up = await read_events(late, "a?offset=-1&live=sse")
    for seen in (wire, caught_up):
        assert set(ids(seen)) <= ends
        assert b"".join(as_sent(content_type, seen)) == b"".join(as_sent(content_type, wire))
    live_events = as_sent(content_type, wire)
    assert len(live_events) == len(SIZES)
    # Small appends share events when a reader catches up; large ones are alone.
    sizes = list(accumulate(map(len, live_events)))
    assert set(accumulate(map(len, as_sent(content_type, caught_up)))) <= set(sizes)
    small = [event for event in as_sent(content_type, caught_up) if len(event) <= BATCH_BYTES]
    assert 0 < len(small) < 20


async def test_a_paste_of_100_kb_is_one_event_for_whoever_follows(server: RunningServer) -> None:
    await server.create("a", BYTES)
    reader, writer = await server.connect(), await server.connect()
    await read_events(reader, "a?offset=-1&live=sse")
    paste = bytes(range(256)) * 400
    await append(writer, "a", paste, {"Content-Type": BYTES})
    wire = await reader.events_until(b"upToDate")
    assert [name for name, _ in events(wire)] == ["data", "control"]
    assert as_sent(BYTES, wire) == [paste]
    assert ids(wire) == [Offset(0, len(paste)).token] * 2


async def test_the_end_of_an_event_stream_waits_for_the_end_of_an_event(serve: Serve) -> None:
    server = await serve(HttpSettings(sse_lifetime_s=0.01))
    large = b"x" * 4_000_000
    await server.create("a", BYTES, large)
    reader = await server.connect(receive_buffer_bytes=4096)
    await open_events(reader, "a?offset=-1&live=sse")
    (event_reader,) = server.handler.live.readers
    while not event_reader._over:
        await asyncio.sleep(0)
    wire = await reader.events_until(b"event: control")
    assert as_sent(BYTES, wire) == [large]
    assert await reader.chunk() == b""
    assert await reader.ended()


async def test_a_stream_that_ends_in_the_middle_of_an_event_cuts_the_connection_off(
    server: RunningServer,
) -> None:
    """Official clients take what they have for a whole event if the answer ends cleanly."""
    await server.create("a", BYTES, b"x" * 4_000_000)
    reader, writer = await server.connect(receive_buffer_bytes=4096), await server.connect()
    await open_events(reader, "a?offset=-1&live=sse")
    assert (await writer.request("DELETE", "a")).status == 204
    while (await writer.request("HEAD", "a")).status != 404:
        pass
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError, ValueError)):
        await reader.events_until(b"event: control")


async def test_readers_that_catch_up_give_way_after_each_piece(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel may take all at once: then nothing else would let the loop go on."""
    taken = 0
    take = server.handler.live.turns.take

    async def count() -> None:
        nonlocal taken
        taken += 1
        await take()

    monkeypatch.setattr(server.handler.live.turns, "take", count)
    await server.create("small", "application/json")
    await server.create("large", BYTES, b"x" * 1_000_000)
    writer, reader, other = [await server.connect() for _ in range(3)]
    for number in range(30):
        await append(
            writer,
            "small",
            body("application/json", 20_000, number),
            {"Content-Type": "application/json"},
        )
    wire = await read_events(reader, "small?offset=-1&live=sse")
    batches = len(events(wire)) // 2
    assert taken == batches > 5
    taken = 0
    await read_events(other, "large?offset=-1&live=sse")
    assert taken >= 1_000_000 // PIECE_BYTES


async def test_a_client_that_leaves_before_it_is_answered_leaves_no_file_open(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_: object) -> None:
        raise ConnectionResetError("the client has gone")

    await server.create("a", BYTES, b"x" * 1_000_000)
    await applied(server, "a")
    monkeypatch.setattr("durable_streams.http.handler.cancelled_when_gone", gone)
    for _ in range(3):
        client = await server.connect()
        client.ask("GET", "a?offset=-1&live=sse")
        await client.reader.read(-1)
    assert users_of_read_files(server.engine) == [1]


async def test_a_line_of_json_is_a_message(server: RunningServer) -> None:
    values = [{"n": n, "text": "a,b]\n" * 3, "deep": [[n], {"x": [n]}]} for n in range(5_000)]
    await server.create("a", "application/json", json.dumps(values[:4000]).encode())
    writer, reader = await server.connect(), await server.connect()
    for value in values[4000:]:
        await append(writer, "a", json.dumps(value).encode(), {"Content-Type": "application/json"})
    wire = await read_events(reader, "a?offset=-1&live=sse")
    arrays = [data for name, data in events(wire) if name == "data"]
    lines = [line.strip(b"[],") + b"]}" for array in arrays for line in array.split(b"\n")]
    assert len(lines) == len(values)
    assert list(chain(*map(json.loads, arrays))) == values
    assert max(map(len, wire.split(b"\n"))) < 300


# Resuming


@TYPES
async def test_whoever_goes_on_behind_any_event_neither_repeats_nor_loses(
    server: RunningServer, content_type: str
) -> None:
    await server.create("a", content_type)
    writer = await server.connect()
    for number in range(100):
        await append(writer, "a", body(content_type, 4000, number), {"Content-Type": content_type})
    first = await server.connect()
    wire = await read_events(first, "a?offset=-1&live=sse")
    whole = b"".join(as_sent(content_type, wire))
    names = [name for name, _ in events(wire)]
    seen = 0
    for number, last in enumerate(ids(wire)):
        if names[number] == "data":
            seen += len(as_sent(content_type, wire)[number // 2])
        again = await server.connect()
        rest = await read_events(again, "a?offset=-1&live=sse", {"Last-Event-ID": last})
        assert b"".join(as_sent(content_type, rest)) == whole[seen:]
    assert seen == len(whole)


async def test_a_character_that_was_held_back_comes_whole_to_whoever_resumes(
    server: RunningServer,
) -> None:
    await server.create("a", "text/plain", "aé".encode()[:2])
    reader, writer, again = [await server.connect() for _ in range(3)]
    wire = await read_events(reader, "a?offset=-1&live=sse")
    assert set(ids(wire)) == {Offset(0, 1).token}
    await append(writer, "a", "aé".encode()[2:])
    rest = await read_events(again, "a?offset=-1&live=sse", {"Last-Event-ID": ids(wire)[-1]})
    assert data_of(rest) == "é".encode()


async def ask(server: RunningServer, target: str, last_event_id: str) -> Answer:
    client = await server.connect()
    return await client.request("GET", target, headers={"Last-Event-ID": last_event_id})


async def test_a_browser_that_has_all_of_a_closed_stream_is_told_to_stop(
    server: RunningServer,
) -> None:
    await server.create("a", "text/plain", b"all")
    writer, reader = await server.connect(), await server.connect()
    await append(writer, "a", b"", CLOSE)
    await open_events(reader, "a?offset=-1&live=sse")
    wire = await reader.events_until(b"streamClosed")
    answer = await ask(server, "a?offset=-1&live=sse", ids(wire)[-1])
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["stream-closed"] == "true"
    assert answer.headers["stream-next-offset"] == Offset(0, 3).token
    assert answer.headers["vary"] == "Last-Event-ID"
    # Whoever has less gets the rest, and who asks by its URL what the protocol says.
    rest = await ask(server, "a?offset=-1&live=sse", Offset(0, 1).token)
    assert data_of(rest.body) == b"ll"
    by_url = await (await server.connect()).request("GET", f"a?offset={ids(wire)[-1]}&live=sse")
    assert last_control(by_url.body)["streamClosed"] is True
    beyond = await ask(server, "a?offset=-1&live=sse", Offset(7, 7).token)
    assert (beyond.status, ids(beyond.body)) == (200, [Offset(0, 3).token])


@pytest.mark.parametrize(
    ("path", "last_event_id"),
    [
        ("bytes", "junk"),
        ("bytes", "now"),
        ("json", Offset(0, 1).token),
        ("text", Offset(0, 9).token),
    ],
)
async def test_a_last_event_id_that_is_no_position_of_the_stream_is_refused(
    serve: Serve, path: str, last_event_id: str
) -> None:
    server = await serve(engine_settings=Settings(segment_bytes=8))
    for name, content_type in (("bytes", BYTES), ("json", "application/json"), ("text", "text/a")):
        await server.create(name, content_type, b"12345")
        await append(await server.connect(), name, b"67890123", {"Content-Type": content_type})
    answer = await ask(server, f"{path}?offset=-1&live=sse", last_event_id)
    assert (answer.status, answer.headers["content-type"]) == (400, "text/plain; charset=utf-8")


async def test_a_last_event_id_means_nothing_to_other_reads(either: RunningServer) -> None:
    await either.create("a", "text/plain", b"all")
    for target in ("a?offset=-1", "a?offset=-1&live=long-poll"):
        for value in (Offset(0, 3).token, "junk"):
            assert (await ask(either, target, value)).body == b"all"


# Offsets inside an append, in every mode


async def test_an_offset_inside_an_append_of_bytes_is_answered_with_that_append_whole(
    either: RunningServer,
) -> None:
    await either.create("a", BYTES, b"hello")
    client = await either.connect()
    await append(client, "a", b"world", {"Content-Type": BYTES})
    inside = Offset(0, 6).token
    whole = await client.request("GET", f"a?offset={Offset(0, 5).token}")
    for mode in ("", "&live=long-poll"):
        answer = await client.request("GET", f"a?offset={inside}{mode}")
        assert (answer.status, answer.body) == (200, b"world")
        assert answer.headers["etag"] == whole.headers["etag"]
        assert answer.headers["stream-next-offset"] == Offset(0, 10).token
    wire = await read_events(await either.connect(), f"a?offset={inside}&live=sse")
    assert as_sent(BYTES, wire) == [b"world"]
