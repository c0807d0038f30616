"""The library: streams without HTTP, on real files."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import durable_streams
from durable_streams import ProducerClaim, Settings, Streams
from durable_streams.model.errors import (
    ContentTypeMismatch,
    DataDirectoryError,
    DiskFull,
    Draining,
    InvalidJson,
    InvalidOffset,
    InvalidRequest,
    OffsetGone,
    ProducerGap,
    SequenceConflict,
    StaleEpoch,
    StreamClosed,
    StreamExists,
    StreamGone,
    StreamNotFound,
)
from durable_streams.model.offsets import Offset
from durable_streams.model.results import StreamRef
from durable_streams.settings import KIB

JSON = "application/json"
TEXT = "text/plain"


@pytest.fixture
async def streams(tmp_path: Path) -> AsyncIterator[Streams]:
    async with durable_streams.open(tmp_path / "data") as opened:
        yield opened


async def test_what_was_appended_is_there_when_opened_again(tmp_path: Path) -> None:
    async with durable_streams.open(tmp_path / "data") as streams:
        made = await streams.create("a/b", content_type=TEXT, data=b"one ")
        result = await streams.append("a/b", b"two")
    async with durable_streams.open(str(tmp_path / "data")) as streams:
        read = await streams.read("a/b")
        again = await streams.create("a/b", content_type=TEXT)

    assert made.created
    assert not again.created
    assert read.data == b"one two"
    assert read.next_offset == result.next_offset > made.next_offset
    assert read.up_to_date
    assert not read.has_more
    assert not read.closed


async def test_a_data_directory_has_one_user_at_a_time(streams: Streams, tmp_path: Path) -> None:
    with pytest.raises(DataDirectoryError, match="in use"):
        async with durable_streams.open(tmp_path / "data"):
            pass


async def test_a_stream_with_another_configuration_is_another(streams: Streams) -> None:
    await streams.create("s", content_type=TEXT)
    with pytest.raises(StreamExists):
        await streams.create("s", content_type=JSON)
    with pytest.raises(StreamExists):
        await streams.create("s", content_type=TEXT, ttl_s=60)


async def test_json_is_split_into_messages_byte_for_byte(streams: Streams) -> None:
    await streams.create("j", content_type=JSON)
    first = await streams.append("j", b'[{"a": 1.0}, "\\u00e4"]')
    last = await streams.append("j", b" 3e2 ")
    read = await streams.read("j")
    result = await streams.read_messages("j")

    assert read.data == b'[{"a": 1.0},"\\u00e4",3e2]'
    assert [message.data for message in result.messages] == [b'{"a": 1.0}', b'"\\u00e4"', b"3e2"]
    offsets = [message.offset for message in result.messages]
    assert offsets[1:] == [first.next_offset, last.next_offset]
    for number, offset in enumerate(offsets, 1):
        assert (await streams.read_messages("j", offset)).messages == result.messages[number:]
    with pytest.raises(InvalidJson):
        await streams.append("j", b"{")


async def test_the_loop_goes_on_while_many_messages_are_made(streams: Streams) -> None:
    await streams.create("j", content_type=JSON, data=b"[" + b"1," * 200_000 + b"1]")
    await streams.create("s", content_type=TEXT)
    await asyncio.gather(*[streams.append("s", b"x") for _ in range(5000)])
    await streams.close("j")
    await streams.close("s")

    async def turns_of(work: Awaitable[int], count: int) -> int:
        task, turns = asyncio.ensure_future(work), 0
        while not task.done():
            await asyncio.sleep(0)
            turns += 1
        assert await task == count
        return turns

    async def count_read(path: str) -> int:
        return len((await streams.read_messages(path)).messages)

    async def count_tailed(path: str) -> int:
        return sum([1 async for _ in streams.tail(path)])

    for path, count, slices in (("j", 200_001, 400_002 // (16 * KIB)), ("s", 5000, 5000 // 1024)):
        await streams.read(path)  # what is read once, from the files
        assert await turns_of(count_read(path), count) > slices
        assert await turns_of(count_tailed(path), count) > slices


async def test_one_message_is_one_append_of_any_other_stream(streams: Streams) -> None:
    await streams.create("s", content_type=TEXT, data=b"first")
    await streams.append("s", b"second")
    result = await streams.read_messages("s")
    assert [message.data for message in result.messages] == [b"first", b"second"]
    assert result.next_offset == result.messages[-1].offset


async def test_messages_are_the_same_over_pieces_and_segments(tmp_path: Path) -> None:
    settings = Settings(segment_bytes=50, max_read_bytes=30)
    expected = [b"%02d:" % number + b"x" * number for number in range(40)]
    async with durable_streams.open(tmp_path, settings) as streams:
        await streams.create("s")
        for data in expected:
            await streams.append("s", data)
        found, offset = [], "-1"
        while True:
            result = await streams.read_messages("s", offset)
            found += [message.data for message in result.messages]
            offset = result.next_offset
            if result.up_to_date:
                break
    assert found == expected


async def test_a_live_read_waits_for_data_and_gives_up_in_time(streams: Streams) -> None:
    made = await streams.create("s")
    nothing = await streams.read("s", made.next_offset, live=True, timeout_s=0.01)
    waiting = asyncio.create_task(streams.read("s", "now", live=True))
    await asyncio.sleep(0)
    await streams.append("s", b"there")
    assert nothing.data == b""
    assert nothing.up_to_date
    assert (await waiting).data == b"there"


async def test_a_live_read_at_the_end_of_a_closed_stream_returns_at_once(streams: Streams) -> None:
    await streams.create("s", data=b"all", closed=True)
    end = await streams.read("s")
    again = await streams.read("s", end.next_offset, live=True, timeout_s=3600)
    assert end.closed
    assert (again.data, again.closed) == (b"", True)


async def test_a_tail_follows_until_the_stream_closes(streams: Streams) -> None:
    await streams.create("s", data=b"0")

    async def follow() -> list[bytes]:
        return [message.data async for message in streams.tail("s")]

    following = asyncio.create_task(follow())
    for number in range(1, 5):
        await streams.append("s", b"%d" % number)
    await streams.close("s", b"end")
    assert await following == [b"0", b"1", b"2", b"3", b"4", b"end"]


async def test_a_tail_ends_with_an_error_when_there_is_nothing_to_follow(tmp_path: Path) -> None:
    async with durable_streams.open(tmp_path) as streams:
        await streams.create("deleted")
        await streams.create("shut down")
        deleted = asyncio.ensure_future(anext(streams.tail("deleted")))
        shut_down = asyncio.ensure_future(anext(streams.tail("shut down")))
        await asyncio.sleep(0)
        await streams.delete("deleted")
        with pytest.raises(StreamNotFound):
            await deleted
    with pytest.raises(Draining):
        await shut_down


async def test_a_tail_waits_while_the_disk_is_full(
    streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait, full = streams.engine.wait, asyncio.Event()

    async def impatient(stream: StreamRef, at: Offset, timeout_s: float) -> bool:
        full.set()
        return await wait(stream, at, 0.0)

    monkeypatch.setattr(streams.engine, "wait", impatient)
    monkeypatch.setattr(streams.engine, "refusal", lambda: DiskFull("full"))
    await streams.create("s")
    following = asyncio.ensure_future(anext(streams.tail("s")))
    await full.wait()
    await streams.append("s", b"later")
    assert (await following).data == b"later"


async def test_closing_is_for_good_and_may_be_repeated(streams: Streams) -> None:
    await streams.create("s", data=b"a")
    first = await streams.close("s", b"b")
    second = await streams.close("s")
    assert first.closed
    assert second.duplicate
    assert second.next_offset == first.next_offset
    assert (await streams.get_metadata("s")).closed
    for late in (streams.append("s", b"c"), streams.close("s", b"c")):
        with pytest.raises(StreamClosed):
            await late


async def test_a_deleted_stream_is_gone_and_its_path_free(streams: Streams) -> None:
    await streams.create("s", content_type=TEXT, data=b"old")
    await streams.delete("s")
    for late in (
        streams.delete("s"),
        streams.read("s"),
        streams.append("s", b"x"),
        streams.close("s"),
        streams.get_metadata("s"),
    ):
        with pytest.raises(StreamNotFound):
            await late
    assert (await streams.create("s", content_type=JSON)).created


async def test_a_slash_inside_a_segment_has_a_spelling_of_its_own(tmp_path: Path) -> None:
    paths = ["runs/1", "runs%2F1", "runs%252F1", "100%"]
    async with durable_streams.open(tmp_path / "data") as streams:
        for path in paths:
            created = await streams.create(path, data=path.encode())
            assert created.path == path
        forked = await streams.fork("copy%2f1", "runs%2F1")
        assert forked.path == "copy%2F1"
        await streams.append("runs%2f1", b" more")
    async with durable_streams.open(tmp_path / "data") as streams:
        for path in paths:
            assert (await streams.get_metadata(path)).path == path
        contents = [(await streams.read(path)).data.decode() for path in paths]
        assert contents == ["runs/1", "runs%2F1 more", "runs%252F1", "100%"]
        for ended, error in (("runs%2F1", StreamGone), ("runs%252F1", StreamNotFound)):
            await streams.delete(ended)
            with pytest.raises(error, match=f"'{ended}'"):
                await streams.read(ended)
        assert (await streams.read("copy%2F1")).data == b"runs%2F1"
        await streams.delete("copy%2F1")
        with pytest.raises(StreamNotFound):
            await streams.read("runs%2F1")
        assert (await streams.read("runs/1")).data == b"runs/1"


async def test_producers_and_stream_seqs_make_writers_safe(streams: Streams) -> None:
    await streams.create("s")
    first = await streams.append("s", b"a", producer=ProducerClaim("p", 1, 0))
    again = await streams.append("s", b"a", producer=ProducerClaim("p", 1, 0))
    assert not first.duplicate
    assert again.duplicate
    assert again.next_offset == first.next_offset
    with pytest.raises(ProducerGap):
        await streams.append("s", b"b", producer=ProducerClaim("p", 1, 2))
    with pytest.raises(StaleEpoch):
        await streams.append("s", b"b", producer=ProducerClaim("p", 0, 0))
    await streams.append("s", b"b", stream_seq="0002")
    with pytest.raises(SequenceConflict):
        await streams.append("s", b"b", stream_seq="0002")
    assert (await streams.read("s")).data == b"ab"


async def test_a_fork_has_the_source_up_to_its_point_and_a_life_of_its_own(
    streams: Streams,
) -> None:
    made = await streams.create("source", content_type=JSON, data=b"[1, 2]")
    await streams.append("source", b"[3, 4, 5]")
    await streams.fork("whole", "source")
    await streams.fork("part", "source", offset=made.next_offset, sub_offset=1, ttl_s=60)
    await streams.append("part", b'"own"')
    await streams.delete("source")
    assert (await streams.read("whole")).data == b"[1,2,3,4,5]"
    assert (await streams.read("part")).data == b'[1,2,3,"own"]'
    assert (await streams.get_metadata("part")).ttl_s == 60


async def test_a_fork_inside_an_append_of_bytes(streams: Streams) -> None:
    made = await streams.create("source", data=b"0123")
    await streams.append("source", b"4567")
    await streams.fork("six", "source", offset=made.next_offset, sub_offset=2)
    assert (await streams.read("six")).data == b"012345"
    with pytest.raises(InvalidRequest):
        await streams.fork("x", "source", offset=made.next_offset, sub_offset=5)
    with pytest.raises(InvalidRequest):
        await streams.fork("x", "source", sub_offset=1)
    with pytest.raises(InvalidRequest):
        await streams.fork("x", "source", offset=made.next_offset, sub_offset=-1)
    with pytest.raises(InvalidOffset):
        await streams.fork("x", "source", offset="0000000000000000_0000000000000099")
    with pytest.raises(StreamNotFound):
        await streams.fork("x", "no source")


async def test_lifetimes_are_told(streams: Streams) -> None:
    instant = datetime.now(UTC) + timedelta(hours=1)
    await streams.create("at", expires_at=instant)
    await streams.create("text", expires_at="2100-01-01T00:00:00Z")
    await streams.create("idle", ttl_s=90)
    at = await streams.get_metadata("at")
    assert at.expires_at is not None
    assert datetime.fromisoformat(at.expires_at) == instant
    assert (await streams.get_metadata("text")).expires_at == "2100-01-01T00:00:00Z"
    idle = await streams.get_metadata("idle")
    assert (idle.ttl_s, idle.expires_at) == (90, None)
    assert abs(idle.created_ms / 1000 - instant.timestamp() + 3600) < 3600


async def test_what_is_given_is_checked_like_a_request(streams: Streams) -> None:
    await streams.create("s", content_type="Text/Plain; charset=utf-8")
    with pytest.raises(ContentTypeMismatch):
        await streams.append("s", b"x", content_type=JSON)
    with pytest.raises(InvalidRequest):
        await streams.create("t", content_type="no type")
    with pytest.raises(InvalidRequest):
        await streams.create("t", ttl_s=-1)
    with pytest.raises(InvalidRequest):
        await streams.create("t", expires_at=datetime(2100, 1, 1))  # noqa: DTZ001
    with pytest.raises(InvalidRequest):
        await streams.create("t", ttl_s=1, expires_at="2100-01-01T00:00:00Z")
    with pytest.raises(InvalidRequest):
        await streams.create("../t")
    with pytest.raises(InvalidOffset):
        await streams.read("s", "nowhere")
    with pytest.raises(InvalidRequest):
        await streams.append("s", b"")


@pytest.mark.parametrize("text", ["", "a" * 257, "é" * 129, "line\nbreak", "\ud800"])
async def test_an_append_that_no_client_could_send_changes_nothing(
    streams: Streams, text: str
) -> None:
    await streams.create("s")
    with pytest.raises(InvalidRequest, match="Producer-Id must"):
        await streams.append("s", b"x", producer=ProducerClaim(text, 0, 0))
    with pytest.raises(InvalidRequest, match="Stream-Seq must"):
        await streams.append("s", b"x", stream_seq=text)
    for epoch, seq in ((-1, 0), (0, -1), (2**53, 0), (0, 2**53)):
        with pytest.raises(InvalidRequest, match="integer from 0"):
            await streams.append("s", b"x", producer=ProducerClaim("p", epoch, seq))
    assert (await streams.read("s")).data == b""


async def test_an_offset_of_a_removed_stream_is_told_from_those_of_the_one_made_there(
    streams: Streams,
) -> None:
    await streams.create("s", content_type=TEXT, data=b"old")
    old = (await streams.read("s")).next_offset
    await streams.delete("s")
    made = await streams.create("s", content_type=TEXT)
    await streams.append("s", b"new")

    for read in (streams.read, streams.read_messages):
        with pytest.raises(OffsetGone) as caught:
            await read("s", old)
        assert caught.value.begin.token == made.next_offset
    with pytest.raises(OffsetGone):
        await anext(streams.tail("s", old))
    with pytest.raises(OffsetGone):
        await streams.fork("f", "s", offset=old)

    for begin in ("-1", Offset(0, 0).token, made.next_offset):
        read_anew = await streams.read("s", begin)
        assert (read_anew.data, read_anew.next_offset) == (b"new", Offset(1, 3).token)
        fork = await streams.fork(f"f{begin}", "s", offset=begin, sub_offset=2)
        assert (await streams.read(fork.path)).data == b"ne"
