"""Every verb, cancelled at every point where it waits: nothing is held, nothing is lost."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

import pytest

import durable_streams
from durable_streams import ProducerClaim, Settings, Streams
from durable_streams.filestore.store import FileStore
from durable_streams.filestore.streams.payloads import LARGE_BODY
from durable_streams.model.commands import Append, Create
from durable_streams.model.errors import Draining, StreamDamaged, StreamError, StreamNotFound
from durable_streams.rules.media_type import parse
from durable_streams.settings import KIB
from tools.cancelling import When, cut_off, nothing_held, tasks
from tools.descriptors import open_now
from tools.engines import file_store
from tools.inside import (
    admission,
    all_in_files,
    catalog,
    close_read_files,
    forgotten,
    loaded,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from durable_streams.filestore.streams.stream import Stream
    from durable_streams.model.paths import StreamPath

JSON: Final = "application/json"
SETTINGS: Final = Settings(max_open_streams=1, segment_bytes=256 * KIB, max_read_bytes=96 * KIB)
"""So that streams are opened again all the time, and reads are from files."""

LARGE: Final = b"x" * (LARGE_BODY + 1)
LARGE_JSON: Final = b"[" + b'"0123456789",' * (LARGE_BODY // 10) + b"1]"

Verb = Callable[[Streams, str], Coroutine[Any, Any, Any]]

CLAIM: Final = ProducerClaim("p", 1, 0)
WRITES: Final[dict[str, tuple[str, Verb, bytes]]] = {
    "text": ("text/plain", lambda s, path: s.append(path, b"new;"), b"new;"),
    "json": (JSON, lambda s, path: s.append(path, b"[1, 2]"), b"1,2,"),
    "large": ("text/plain", lambda s, path: s.append(path, LARGE), LARGE),
    "producer": ("text/plain", lambda s, path: s.append(path, b"new;", producer=CLAIM), b"new;"),
    "last": ("text/plain", lambda s, path: s.append(path, b"new;", close=True), b"new;"),
    "close": ("text/plain", lambda s, path: s.close(path), b""),
}
"""Content type, what is done, and what the stream has more then."""


async def step(streams: Streams, path: str) -> None:
    await anext(streams.tail(path))


async def wait_of_tail(streams: Streams, path: str) -> None:
    await anext(streams.tail(path, "now"))


READS: Final[dict[str, Verb]] = {
    "read": lambda s, path: s.read(path),
    "read_messages": lambda s, path: s.read_messages(path),
    "live read": lambda s, path: s.read(path, "now", live=True, timeout_s=0.001),
    "get_metadata": lambda s, path: s.get_metadata(path),
    "tail": step,
}


@pytest.fixture
async def streams(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Any:
    """Streams that end well, with as many descriptors as before."""
    before = open_now()
    async with durable_streams.open(tmp_path / "data", SETTINGS) as streams:
        await streams.create("other")
        yield streams
    assert sorted(open_now()) == sorted(before)
    gc.collect()
    told = [*caplog.get_records("call"), *caplog.records]
    assert [record.getMessage() for record in told if record.name == "asyncio"] == []


async def read_again(streams: Streams, path: str) -> None:
    """What was used is read from the disk the next time."""
    engine = file_store(streams)
    await all_in_files(engine)
    await streams.get_metadata("other")
    close_read_files(engine)
    await forgotten(engine, path)


async def works(streams: Streams, path: str) -> None:
    """Every verb does what it does, at a path where nothing is."""
    await streams.create(path, content_type="text/plain", data=b"a")
    end = (await streams.append(path, b"b")).next_offset
    await streams.fork(f"{path}/fork", path)
    assert (await streams.read(f"{path}/fork")).data == b"ab"
    assert [m.data for m in (await streams.read_messages(path)).messages] == [b"a", b"b"]
    assert (await streams.get_metadata(path)).next_offset == end
    await streams.close(path)
    assert [m.data async for m in streams.tail(path)] == [b"a", b"b"]
    await streams.delete(f"{path}/fork")
    await streams.delete(path)


async def walk(
    streams: Streams, when: When, attempt: Callable[[str], Awaitable[Coroutine[Any, Any, Any]]]
) -> Iterator[tuple[str, bool]]:
    """Cut off what ``attempt`` gives for a new path, at one suspension after the other.

    Gives what became of each, until one was not cancelled.
    """
    outcomes = []
    for at in range(1, 100):
        path = f"s{at}"
        work = await attempt(path)
        before = tasks()
        cut_at, _ = await cut_off(work, at, when)
        await nothing_held(file_store(streams), before)
        outcomes.append((path, not cut_at))
        if not cut_at:
            assert at > 1, "it never waits"
            await works(streams, "after all")
            return iter(outcomes)
    raise AssertionError("it never ends")


@pytest.mark.parametrize("when", When)
@pytest.mark.parametrize("cold", [True, False], ids=["cold", "open"])
@pytest.mark.parametrize("name", WRITES)
async def test_an_append_is_there_whole_or_not_at_all(
    streams: Streams, name: str, cold: bool, when: When
) -> None:
    content_type, write, more = WRITES[name]

    async def attempt(path: str) -> Coroutine[Any, Any, Any]:
        await streams.create(path, content_type=content_type, data=b"1")
        if cold:
            await read_again(streams, path)
        return write(streams, path)

    before = b"1," if content_type == JSON else b"1"
    for path, acknowledged in await walk(streams, when, attempt):
        read = await streams.read(path)
        wire = read.data[1:-1] + b"," if content_type == JSON else read.data
        found = wire, (await streams.get_metadata(path)).closed
        closes = name in {"last", "close"}
        whole = before + more, closes
        assert found == whole or (not acknowledged and found == (before, False))
        if not found[1]:
            await write(streams, path)
        if name == "producer":  # and the one before is recognised
            assert (await streams.read(path)).data == before + more
            assert (await streams.append(path, b"new;", producer=CLAIM)).duplicate


@pytest.mark.parametrize("when", When)
async def test_a_cancelled_place_in_the_line_of_writers_is_free(
    streams: Streams, monkeypatch: pytest.MonkeyPatch, when: When
) -> None:
    """And so are those of who comes behind, and a turn at a path."""
    line = admission(file_store(streams))
    is_held_up = False
    monkeypatch.setattr(line, "_is_held_up", lambda: is_held_up)

    for at in range(1, 20):
        path = f"s{at}"
        await streams.create(path)
        await read_again(streams, path)
        before, is_held_up = tasks(), True
        first = asyncio.create_task(streams.append(path, b"1"))
        work = asyncio.create_task(cut_off(streams.append(path, b"2"), at, when))
        behind = [asyncio.create_task(streams.append(path, b"%d" % n)) for n in (3, 4)]
        while line.waiting + work.done() < 4:
            await asyncio.sleep(0)
        is_held_up = False
        line.look()
        await asyncio.gather(first, *behind)
        cut_at, given = await work
        await nothing_held(file_store(streams), before)
        found = sorted((await streams.read(path)).data)
        assert found == sorted(b"1234") or (given is None and found == sorted(b"134"))
        if not cut_at:
            assert at > 2
            break


@pytest.mark.parametrize("when", When)
@pytest.mark.parametrize("data", [b"first", LARGE], ids=["small", "large"])
async def test_a_stream_is_made_whole_or_not_at_all(
    streams: Streams, data: bytes, when: When
) -> None:
    async def attempt(path: str) -> Coroutine[Any, Any, Any]:
        return streams.create(path, content_type="text/plain", data=data)

    for path, acknowledged in await walk(streams, when, attempt):
        made = await streams.create(path, content_type="text/plain", data=data)
        assert not (made.created and acknowledged)
        assert (await streams.read(path)).data[:5] == data[:5]


@pytest.mark.parametrize("when", When)
async def test_a_fork_is_made_whole_or_not_at_all(streams: Streams, when: When) -> None:
    async def attempt(path: str) -> Coroutine[Any, Any, Any]:
        await streams.create(path, content_type=JSON, data=b"[1, 2, 3]")
        await read_again(streams, path)
        return streams.fork(f"{path}/fork", path, offset="0000000000000000_0000000000000002")

    for path, acknowledged in await walk(streams, when, attempt):
        made = await streams.fork(f"{path}/fork", path, offset="0000000000000000_0000000000000002")
        assert not (made.created and acknowledged)
        assert (await streams.read(f"{path}/fork")).data == b"[1]"
        await streams.delete(f"{path}/fork")
        await streams.delete(path)  # whom no fork needs any more
        assert (await streams.create(path)).created


@pytest.mark.parametrize("when", When)
async def test_a_stream_is_deleted_or_there_whole(streams: Streams, when: When) -> None:
    async def attempt(path: str) -> Coroutine[Any, Any, Any]:
        await streams.create(path, data=b"1")
        await read_again(streams, path)
        return streams.delete(path)

    for path, acknowledged in await walk(streams, when, attempt):
        made = await streams.create(path)
        assert made.created or not acknowledged
        assert (await streams.read(path)).data == (b"" if made.created else b"1")


@pytest.mark.parametrize("when", When)
@pytest.mark.parametrize("name", READS)
async def test_a_reader_holds_nothing(streams: Streams, name: str, when: When) -> None:
    async def attempt(path: str) -> Coroutine[Any, Any, Any]:
        await streams.create(path)
        for _ in range(20):
            await streams.append(path, b"x" * 10_000)
        await read_again(streams, path)
        return READS[name](streams, path)

    for path, _ in await walk(streams, when, attempt):
        await streams.close(path)
        assert b"".join([m.data async for m in streams.tail(path)]) == b"x" * 200_000


@pytest.mark.parametrize("end", ["delete", "close", "append"])
@pytest.mark.parametrize("when", When)
async def test_who_waits_for_news_and_is_cancelled_when_they_come(
    streams: Streams, when: When, end: str
) -> None:
    for verb in (wait_of_tail, lambda s, path: s.read(path, "now", live=True)):
        for at in range(1, 10):
            path = f"s{at}"
            await streams.create(path)
            await read_again(streams, path)
            before = tasks()
            cut = asyncio.create_task(cut_off(verb(streams, path), at, when))
            while not cut.done() and "waiters" not in await audience(streams, path):
                await asyncio.sleep(0)
            if end == "append":
                await streams.append(path, b"x")
            else:
                await getattr(streams, end)(path)
            try:
                cut_at, _ = await cut
            except (StreamError, StopAsyncIteration, RuntimeError):
                cut_at = 0
            await nothing_held(file_store(streams), before)
            if end != "delete":
                await streams.delete(path)
            if not cut_at:
                assert at > 1
                break


async def audience(streams: Streams, path: str) -> str:
    """What there is of ``waiters`` at a path."""
    stream = loaded(file_store(streams), path)
    return "waiters" if stream is not None and stream.audience.waiters else ""


async def test_what_nobody_waits_for_any_more_may_fail_in_silence(
    streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*_: object) -> None:
        raise StreamDamaged("s", "for a test")

    monkeypatch.setattr("durable_streams.filestore.catalog.Catalog._load", damaged)
    before = tasks()
    assert (await cut_off(streams.get_metadata("s"), 1, When.WAITING))[0] == 1
    await nothing_held(file_store(streams), before)
    with pytest.raises(StreamDamaged):
        await streams.get_metadata("s")


async def test_what_was_cancelled_before_it_began_does_not_come_later(tmp_path: Path) -> None:
    """After what its caller did next, such as deleting the stream."""
    engine = await FileStore.at(tmp_path, Settings())
    gate, looks = asyncio.Event(), []
    known = catalog(engine)
    is_on_disk = known._is_on_disk

    async def slow(path: StreamPath) -> bool:
        looks.append(path)
        if len(looks) == 1:
            await gate.wait()
        return await is_on_disk(path)

    known._is_on_disk = slow  # type: ignore[method-assign]
    first = asyncio.create_task(engine.create(Create(("s",)), b""))
    while not looks:
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await engine.create(Create(("s",)), b"")
    await engine.delete(("s",))
    gate.set()
    await engine._errands.finished()
    for _ in range(20):
        await asyncio.sleep(0)
    with pytest.raises(StreamNotFound):
        await engine.head(("s",))
    await engine.close()


@pytest.mark.parametrize("how", ["append", "create"])
async def test_who_looks_at_the_disk_until_everything_is_closed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    engine = await FileStore.at(tmp_path, Settings())
    known, gate, looks = catalog(engine), asyncio.Event(), []
    await engine.create(Create(("s",)), b"")
    stream = await known.find(("s",))

    async def slow(path: StreamPath, *, likely: bool = True) -> Stream | None:
        looks.append(path)
        await gate.wait()
        return stream if path == ("s",) else None

    monkeypatch.setattr(known, "find", slow)
    monkeypatch.setattr(known, "ready", lambda _: None)
    octets = parse("application/octet-stream")
    work: Coroutine[Any, Any, Any] = (
        engine.append(Append(("s",), octets), b"x")
        if how == "append"
        else engine.create(Create(("new",)), b"x")
    )
    task = asyncio.create_task(work)
    while not looks:
        await asyncio.sleep(0)
    await engine.close()
    gate.set()
    with pytest.raises(Draining):
        await asyncio.wait_for(task, 60)
