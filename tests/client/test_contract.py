"""One contract for streams of a directory and of a server: the same verbs, types and errors."""

from __future__ import annotations

import asyncio
import math
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from durable_streams import (
    ContentTypeMismatch,
    EpochWithoutStart,
    InvalidJson,
    InvalidOffset,
    InvalidRequest,
    NotOpen,
    OffsetGone,
    PayloadTooLarge,
    ProducerClaim,
    ProducerGap,
    SequenceConflict,
    SourceGone,
    StaleEpoch,
    StreamClosed,
    StreamExists,
    StreamGone,
    StreamNotFound,
)

if TYPE_CHECKING:
    from durable_streams import RemoteStreams
    from tests.client.conftest import AnyStreams

JSON = "application/json"
TEXT = "text/plain"


async def everything(streams: AnyStreams, path: str, offset: str = "-1") -> bytes:
    return b"".join([message.data async for message in streams.tail(path, offset, live=False)])


async def test_a_stream_is_made_once(streams: AnyStreams) -> None:
    made = await streams.create("a/b", content_type=TEXT, data=b"one")
    again = await streams.create("a/b", content_type=TEXT)
    found = await streams.get_metadata("a/b")

    assert made.created
    assert not again.created
    assert (made.path, made.content_type, made.closed) == ("a/b", TEXT, False)
    assert made.next_offset == again.next_offset == found.next_offset
    assert not found.created
    with pytest.raises(StreamExists):
        await streams.create("a/b", content_type=JSON)


async def test_lifetimes_are_told_as_they_were_given(streams: AnyStreams) -> None:
    end = datetime.now(UTC) + timedelta(hours=1)
    assert (await streams.create("t", ttl_s=60)).ttl_s == 60
    assert (await streams.create("e", expires_at=end)).expires_at == end.isoformat()
    assert (await streams.get_metadata("t")).ttl_s == 60
    assert (await streams.get_metadata("e")).expires_at == end.isoformat()
    assert (await streams.create("c", closed=True, data=b"all")).closed
    assert (await streams.fork("f", "t")).ttl_s == 60


@pytest.mark.parametrize("path", ["x", "ä/ö ü", "a%2Fb", "100%", "q?x=1&y#z", "+", "a:b@c"])
async def test_paths_are_any_text(streams: AnyStreams, path: str) -> None:
    await streams.create(path, content_type=TEXT, data=b"here")
    assert (await streams.read(path)).data == b"here"
    assert (await streams.get_metadata(path)).path == path
    assert [stream.path async for stream in streams.list()] == [path]
    await streams.fork("fork", path)
    assert (await streams.read("fork")).data == b"here"


async def test_what_was_appended_is_read(streams: AnyStreams) -> None:
    await streams.create("s", content_type=TEXT)
    first = await streams.append("s", b"one ")
    second = await streams.append("s", bytearray(b"two"))
    whole = await streams.read("s")
    rest = await streams.read("s", first.next_offset)

    assert not first.duplicate
    assert (whole.data, whole.next_offset) == (b"one two", second.next_offset)
    assert (rest.data, rest.next_offset) == (b"two", second.next_offset)
    assert (whole.up_to_date, whole.has_more, whole.closed) == (True, False, False)
    assert (await streams.read("s", "now")).next_offset == second.next_offset
    assert await everything(streams, "s") == b"one two"


async def test_bytes_arrive_as_they_are(streams: AnyStreams) -> None:
    nasty = bytes(range(256)) + b"\r\n\r\n:\ndata: x\n\n" + bytes(5)
    for number, content_type in enumerate([TEXT, "application/octet-stream"]):
        path = f"s{number}"
        await streams.create(path, content_type=content_type, data=nasty)
        await streams.append(path, b"\r")
        reading = asyncio.create_task(everything_live(streams, path))
        await streams.append(path, b"\n\xff")
        await streams.close(path)
        assert (await streams.read(path)).data == nasty + b"\r\n\xff"
        assert await reading == nasty + b"\r\n\xff"


async def everything_live(streams: AnyStreams, path: str) -> bytes:
    return b"".join([message.data async for message in streams.tail(path)])


async def test_json_is_split_into_messages_byte_for_byte(streams: AnyStreams) -> None:
    await streams.create("j", content_type=JSON)
    await streams.append("j", b'[{"a": 1.0, "b":\n[1,\r\n2]}, "\\u00e4,]", "\\ud800"]')
    last = await streams.append("j", b" 3e2 ")
    result = await streams.read_messages("j")
    whole = [
        *(b'{"a": 1.0, "b":\n[1,\r\n2]}', b'"\\u00e4,]"', b'"\\ud800"'),
        b"3e2",
    ]

    assert [message.data for message in result.messages] == whole
    assert result.messages[-1].offset == result.next_offset == last.next_offset
    assert result.up_to_date
    for number, message in enumerate(result.messages, 1):
        rest = await streams.read_messages("j", message.offset)
        assert rest.messages == result.messages[number:]
        tailed = [one async for one in streams.tail("j", message.offset, live=False)]
        assert tailed == result.messages[number:]
    assert (await streams.read("j", last.next_offset)).data == b"[]"


async def test_json_goes_in_and_comes_out_as_values(streams: AnyStreams) -> None:
    values = [{"a": [1, 2.5, None]}, ["list"], "text", 2**70]
    await streams.create("j", content_type=JSON)
    await streams.append_json("j", *values)
    result = await streams.read_json("j")

    assert result.values == values
    assert [message.json() async for message in streams.tail("j", live=False)] == values
    await streams.create("s", content_type=TEXT)
    with pytest.raises(ContentTypeMismatch):
        await streams.read_json("s")
    with pytest.raises(ContentTypeMismatch):
        await streams.append_json("s", 1)


async def test_a_live_read_waits_for_what_comes(streams: AnyStreams) -> None:
    await streams.create("s", content_type=TEXT, data=b"old")
    tail = (await streams.get_metadata("s")).next_offset
    waiting = asyncio.create_task(streams.read("s", tail, live=True, timeout_s=math.inf))
    await streams.append("s", b"new")
    assert (await waiting).data == b"new"
    at_once = await streams.read("s", "now", live=True, timeout_s=0)
    assert (at_once.data, at_once.up_to_date) == (b"", True)
    waiting = asyncio.create_task(streams.read("s", "now", live=True, timeout_s=60))
    await streams.close("s")
    assert (await waiting).closed


@pytest.mark.parametrize("content_type", [JSON, TEXT, "application/octet-stream"])
async def test_a_tail_has_what_is_there_and_what_comes_and_ends(
    streams: AnyStreams, content_type: str
) -> None:
    await streams.create("s", content_type=content_type, data=b"0")
    seen: list[bytes] = []
    one_more = asyncio.Event()

    async def follow() -> None:
        async for message in streams.tail("s"):
            seen.append(message.data)
            one_more.set()

    following = asyncio.create_task(follow())
    for number in range(1, 10):
        await one_more.wait()
        one_more.clear()
        await streams.append("s", b"%d" % number)
    await streams.close("s", b"10")
    await following

    assert b"".join(seen) == b"012345678910"


async def test_a_step_of_a_tail_may_be_cancelled(awaited: AnyStreams) -> None:
    await awaited.create("s", content_type=JSON)
    tail = awaited.tail("s")
    async with aclosing(tail):
        for number in range(5):
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(tail), 0.01)
            await awaited.append_json("s", number)
            assert (await anext(tail)).json() == number


async def test_a_tail_is_for_one_reader(awaited: AnyStreams) -> None:
    await awaited.create("s")
    tail = awaited.tail("s")
    waiting = asyncio.create_task(anext(tail))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError):
        await anext(tail)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await tail.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(tail)


async def test_a_closed_stream_takes_no_more(streams: AnyStreams) -> None:
    await streams.create("s", content_type=TEXT)
    closed = await streams.append("s", b"last", close=True)
    again = await streams.close("s")

    assert closed.closed
    assert again.closed
    assert again.next_offset == closed.next_offset
    assert (await streams.get_metadata("s")).closed
    with pytest.raises(StreamClosed) as refused:
        await streams.append("s", b"more")
    assert refused.value.tail.token == closed.next_offset
    with pytest.raises(StreamClosed):
        await streams.close("s", b"more")
    assert await everything_live(streams, "s") == b"last"


async def test_what_is_not_there_is_not_found(streams: AnyStreams) -> None:
    for use in (
        streams.append("s", b"x"),
        streams.append("s", b"x", content_type=TEXT),
        streams.close("s"),
        streams.read("s"),
        streams.get_metadata("s"),
        streams.delete("s"),
        streams.details("s"),
        streams.records("s"),
        anext(streams.tail("s")),
    ):
        with pytest.raises(StreamNotFound) as refused:
            await use
        assert refused.value.path == "s"


async def test_what_is_deleted_is_gone_for_those_who_follow(streams: AnyStreams) -> None:
    await streams.create("s", content_type=TEXT, data=b"x")
    tail = streams.tail("s")
    await anext(tail)
    waiting = asyncio.create_task(anext(tail))
    await streams.delete("s")
    with pytest.raises(StreamNotFound):
        await waiting


async def test_forks_share_what_was_there(streams: AnyStreams) -> None:
    await streams.create("s", content_type=JSON, data=b"[1,2,3]")
    await streams.append("s", b"4")
    at = (await streams.read_messages("s")).messages[0].offset
    await streams.fork("whole", "s")
    await streams.fork("one", "s", offset=at)
    await streams.fork("two", "s", offset=at, sub_offset=1)
    await streams.fork("none", "s", offset="-1")
    await streams.append("two", b"5")
    for path, values in (("whole", [1, 2, 3, 4]), ("one", [1]), ("two", [1, 2, 5]), ("none", [])):
        assert (await streams.read_json(path)).values == values

    with pytest.raises(StreamNotFound) as missing:
        await streams.fork("f", "missing")
    assert missing.value.path == "missing"
    with pytest.raises(StreamExists):
        await streams.fork("one", "s", offset="-1")
    with pytest.raises(InvalidRequest):
        await streams.fork("f", "s", sub_offset=1)
    with pytest.raises(InvalidOffset):
        await streams.fork("f", "s", offset="9999999999999999_9999999999999999")
    await streams.delete("s")
    with pytest.raises(SourceGone):
        await streams.fork("f", "s")
    with pytest.raises(StreamGone):
        await streams.read("s")
    with pytest.raises(StreamExists):
        await streams.create("s", content_type=JSON)


async def test_producers_may_repeat_themselves(streams: AnyStreams) -> None:
    await streams.create("s", content_type=TEXT)
    first = await streams.append("s", b"a", producer=ProducerClaim("p", 1, 0))
    again = await streams.append("s", b"a", producer=ProducerClaim("p", 1, 0))
    await streams.append("s", b"b", producer=ProducerClaim("p", 1, 1))

    assert (first.duplicate, again.duplicate) == (False, True)
    with pytest.raises(ProducerGap) as gap:
        await streams.append("s", b"x", producer=ProducerClaim("p", 1, 5))
    assert (gap.value.expected, gap.value.received) == (2, 5)
    with pytest.raises(StaleEpoch) as stale:
        await streams.append("s", b"x", producer=ProducerClaim("p", 0, 0))
    assert stale.value.current == 1
    with pytest.raises(EpochWithoutStart):
        await streams.append("s", b"x", producer=ProducerClaim("p", 2, 1))
    last = ProducerClaim("p", 1, 2)
    assert (await streams.append("s", b"c", close=True, producer=last)).closed
    assert (await streams.append("s", b"c", close=True, producer=last)).duplicate
    assert (await streams.read("s")).data == b"abc"


async def test_conflicts_have_names(streams: AnyStreams) -> None:
    await streams.create("s", content_type=TEXT)
    await streams.append("s", b"x", stream_seq="b")
    for content_type in (None, TEXT):
        with pytest.raises(SequenceConflict):
            await streams.append("s", b"x", stream_seq="a", content_type=content_type)
    for stream_seq in (None, "a", "c"):
        with pytest.raises(ContentTypeMismatch):
            await streams.append("s", b"1", content_type=JSON, stream_seq=stream_seq)


async def test_what_is_malformed_is_refused_before_anything_happens(streams: AnyStreams) -> None:
    await streams.create("j", content_type=JSON)
    with pytest.raises(InvalidJson):
        await streams.append("j", b"{")
    with pytest.raises(InvalidJson):
        await streams.append("j", b"[]")
    with pytest.raises(InvalidJson):
        await streams.create("k", content_type=JSON, data=b"{")
    with pytest.raises(InvalidRequest):
        await streams.append("j", b"")
    with pytest.raises(InvalidOffset):
        await streams.read("j", "no offset")
    with pytest.raises(InvalidOffset):
        await streams.read("j", "")
    for path in ("", "a//b", "/a", "..", "__ds/x"):
        with pytest.raises(InvalidRequest):
            await streams.create(path)
    with pytest.raises(TypeError):
        await streams.append("j", "text")  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest):
        await streams.create("k", ttl_s=1, expires_at=datetime.now(UTC))
    with pytest.raises(InvalidRequest):
        await streams.read("j", live=True, timeout_s=-1)
    assert (await streams.read("j")).data == b"[]"


async def test_an_offset_of_the_stream_before_is_gone(streams: AnyStreams) -> None:
    await streams.create("s", content_type=TEXT, data=b"before")
    old = (await streams.get_metadata("s")).next_offset
    await streams.delete("s")
    begin = (await streams.create("s", content_type=TEXT)).next_offset
    if begin > old:
        with pytest.raises(OffsetGone) as gone:
            await streams.read("s", old)
        assert gone.value.begin.token == begin


async def test_lists_details_and_records_are_the_same(streams: AnyStreams) -> None:
    for path in ("a", "b", "b/c", "bd"):
        await streams.create(path, content_type=JSON, data=b"[1,22]")
    await streams.append("b", b"3", producer=ProducerClaim("p", 4, 0))
    await streams.fork("b/f", "b")
    listed = [stream async for stream in streams.list("b", page_size=2)]
    page = await streams.list_page(limit=2)
    details = await streams.details("b")
    records = await streams.records("b")

    assert [stream.path for stream in listed] == ["b", "b/c", "b/f"]
    assert all(stream.created_ms for stream in listed)
    assert (listed[0].size_bytes, listed[2].fork_of) == (7, "b")
    assert ([stream.path for stream in page.streams], page.next) == (["a", "b"], "b")
    assert details.stream == listed[0]
    assert (details.producers, details.last_producers[0].epoch, details.forks) == (1, 4, ("b/f",))
    assert [record.size_bytes for record in records.records] == [1, 2, 1]
    assert records.records[2].producer == ProducerClaim("p", 4, 0)
    assert records.up_to_date
    last = await streams.records("b", last=1)
    assert last.records == records.records[2:]
    since = datetime.fromtimestamp(records.records[0].time_ms / 1000, UTC)
    assert (await streams.records("b", since=since)).records == records.records
    at = await streams.records("b", records.records[1].offset, limit=1)
    assert at.records == records.records[1:2]


async def test_too_large_is_too_large(streams: AnyStreams) -> None:
    await streams.create("s")
    with pytest.raises(PayloadTooLarge):
        await streams.append("s", bytes(17 * 1024 * 1024))


async def test_much_is_read_piece_by_piece(streams: AnyStreams) -> None:
    piece = bytes(range(256)) * 4096
    await streams.create("s")
    for _ in range(6):
        await streams.append("s", piece)
    assert await everything(streams, "s") == piece * 6


async def test_nothing_works_after_the_end(remote: RemoteStreams) -> None:
    await remote.create("s")
    tail = remote.tail("s")
    await remote.aclose()
    with pytest.raises(NotOpen):
        await remote.read("s")
    with pytest.raises(NotOpen):
        await anext(tail)
