"""Streams for programs without an event loop: the same verbs, from any number of threads."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import pytest

import durable_streams
from durable_streams import (
    DataDirectoryInUse,
    InvalidJson,
    InvalidRequest,
    Message,
    NotOpen,
    ProducerClaim,
    Settings,
    StreamNotFound,
    Streams,
    SyncStreams,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JSON: Final = "application/json"
PATIENCE_S: Final = 60
VERBS: Final = [
    name
    for name, method in vars(Streams).items()
    if not name.startswith("_") and inspect.isfunction(method)
]


@pytest.fixture
def streams(data_dir: Path) -> Iterator[SyncStreams]:
    with durable_streams.open_sync(data_dir) as opened:
        yield opened


def wait_until_followed(streams: SyncStreams, path: str, count: int = 1) -> None:
    while streams.details(path).followers != count:
        os.sched_yield()


# What it is


def test_it_has_all_verbs_with_their_arguments_and_documentation() -> None:
    found = {name: getattr(SyncStreams, name) for name in dir(SyncStreams) if name[0] != "_"}
    assert sorted(found) == sorted(VERBS)
    for name, method in found.items():
        model = getattr(Streams, name)
        assert inspect.signature(method) == inspect.signature(model)
        assert method.__doc__ == model.__doc__
        assert method.__qualname__ == f"SyncStreams.{name}"


def test_the_verbs_do_what_they_do(data_dir: Path) -> None:
    with durable_streams.open_sync(str(data_dir), Settings(segment_bytes=64)) as streams:
        assert streams.create("j", content_type=JSON, data=b"[1]").created
        assert not streams.append_json("j", 2, [3]).duplicate
        assert streams.read_json("j").values == [1, 2, [3]]
        assert streams.read("j").data == b"[1,2,[3]]"
        found = streams.read_messages("j").messages
        assert [message.json() for message in found] == [1, 2, [3]]
        assert list(streams.tail("j", live=False)) == found
        streams.fork("f", "j", offset=found[0].offset)
        assert [stream.path for stream in streams.list()] == ["f", "j"]
        assert streams.list_page(limit=1).next == "f"
        assert streams.details("j").forks == ("f",)
        assert len(streams.records("j").records) == 3
        assert streams.close("j").closed
        assert streams.get_metadata("j").closed
        assert streams.append("f", b"4", producer=ProducerClaim("p", 0, 0)).duplicate is False
        streams.delete("f")
        with pytest.raises(StreamNotFound):
            streams.read("f")
    with durable_streams.open_sync(data_dir) as streams:
        assert streams.read_json("j").values == [1, 2, [3]]


def test_wrong_arguments_are_refused_in_the_same_words(streams: SyncStreams) -> None:
    with pytest.raises(TypeError, match="path must be a str, not int"):
        streams.create(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unexpected keyword argument 'content'"):
        streams.create("s", content="a/b")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="closed must be a bool"):
        streams.create("s", closed="false")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="path must be a str, not int"):
        streams.tail(5)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest):
        streams.list("..")
    with pytest.raises(InvalidJson):
        streams.append_json("s", float("nan"))
    with (
        pytest.raises(TypeError, match="data_dir must be"),
        durable_streams.open_sync(5),  # type: ignore[arg-type]
    ):
        pass
    assert list(streams.list()) == []


def test_a_directory_in_use_is_refused_and_leaves_no_thread(
    streams: SyncStreams, data_dir: Path
) -> None:
    threads = threading.active_count()
    opening = durable_streams.open_sync(data_dir)
    for _ in range(2):
        with pytest.raises(DataDirectoryInUse), opening:
            pass
    while threading.active_count() > threads:  # idle ones of a pool end by themselves
        os.sched_yield()


def test_a_long_list_comes_whole(streams: SyncStreams) -> None:
    with ThreadPoolExecutor(32) as pool:
        made = list(pool.map(lambda number: streams.create(f"s/{number:04}"), range(600)))
    assert [stream.path for stream in streams.list("s")] == sorted(one.path for one in made)
    listing = streams.list("s", page_size=7)
    assert next(listing).path == "s/0000"
    listing.close()
    assert list(listing) == []


# Threads


def test_many_threads_write_and_follow(streams: SyncStreams) -> None:
    streams.create("s", content_type=JSON)

    def write(writer: int) -> None:
        for number in range(50):
            streams.append_json(
                "s", [writer, number], producer=ProducerClaim(f"{writer}", 0, number)
            )

    def follow(_: int) -> list[Any]:
        return [message.json() for message in streams.tail("s")]

    with ThreadPoolExecutor(16) as pool:
        followed = pool.map(follow, range(4))
        list(pool.map(write, range(12)))
        streams.close("s")
        seen = list(followed)
    everything = streams.read_json("s").values
    assert seen == [everything] * 4
    for writer in range(12):
        assert [number for who, number in everything if who == writer] == list(range(50))


def test_a_tail_is_ended_from_another_thread(streams: SyncStreams) -> None:
    end = streams.create("s", data=b"1").next_offset
    for number in range(20):
        tail = streams.tail("s")
        with ThreadPoolExecutor(1) as pool:
            followed = pool.submit(list, tail)
            if number % 2:
                wait_until_followed(streams, "s")
            tail.close()
            assert followed.result(PATIENCE_S) in ([], [Message(b"1", end)])
        wait_until_followed(streams, "s", 0)
        tail.close()
        assert list(tail) == []


def test_one_that_is_closed_before_it_began_gives_nothing(streams: SyncStreams) -> None:
    streams.create("s", data=b"1")
    tail = streams.tail("s")
    tail.close()
    assert list(tail) == []
    with streams.tail("s") as tail:
        assert next(tail).data == b"1"
        wait_until_followed(streams, "s")
    assert list(tail) == []
    wait_until_followed(streams, "s", 0)


def test_one_that_is_dropped_follows_no_more(streams: SyncStreams) -> None:
    streams.create("s", data=b"1")
    for _ in streams.tail("s"):
        break
    gc.collect()
    wait_until_followed(streams, "s", 0)


def test_a_tail_is_for_one_thread(streams: SyncStreams) -> None:
    streams.create("s")
    tail = streams.tail("s")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(next, tail)
        wait_until_followed(streams, "s")
        with pytest.raises(RuntimeError, match="another thread waits for the next one"):
            next(tail)
        streams.append("s", b"1")
        assert first.result(PATIENCE_S).data == b"1"


def test_an_error_does_not_end_a_tail(streams: SyncStreams) -> None:
    tail = streams.tail("s")
    for _ in range(2):
        with pytest.raises(StreamNotFound):
            next(tail)
    streams.create("s", data=b"1")
    assert next(tail).data == b"1"
    streams.delete("s")
    with pytest.raises(StreamNotFound):
        next(tail)


# The end


def test_those_who_wait_are_told_of_the_end(data_dir: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        with durable_streams.open_sync(data_dir) as streams:
            streams.create("s")
            tails = [pool.submit(next, streams.tail("s")) for _ in range(3)]
            reads = [pool.submit(streams.read, "s", live=True, timeout_s=3600) for _ in range(3)]
            wait_until_followed(streams, "s", 6)
        for tail in tails:
            assert isinstance(tail.exception(PATIENCE_S), durable_streams.Draining)
        for read in reads:
            assert read.result(PATIENCE_S).data == b""
    for verb in ("read", "get_metadata", "delete", "create"):
        with pytest.raises(NotOpen):
            getattr(streams, verb)("s")
    with pytest.raises(NotOpen):
        next(streams.tail("s"))
    with pytest.raises(NotOpen):
        next(streams.list())


def test_whatever_comes_while_it_is_closed_is_done_or_refused(data_dir: Path) -> None:
    for _ in range(5):
        done: list[int] = []
        begun = threading.Barrier(9)

        def write(
            streams: SyncStreams, done: list[int] = done, begun: threading.Barrier = begun
        ) -> None:
            begun.wait(PATIENCE_S)
            try:
                while True:
                    streams.append("s", b"x")
                    done.append(1)
            except durable_streams.Draining:  # NotOpen is one
                pass

        with ThreadPoolExecutor(8) as pool:
            with durable_streams.open_sync(data_dir) as streams:
                streams.create("s", content_type="text/plain")
                before = len(streams.read("s").data)
                writers = [pool.submit(write, streams) for _ in range(8)]
                begun.wait(PATIENCE_S)
                while len(done) < 20:
                    os.sched_yield()
            for writer in writers:
                assert writer.exception(PATIENCE_S) is None
        with durable_streams.open_sync(data_dir) as streams:
            assert len(streams.read("s").data) - before == len(done)


def test_it_can_be_opened_again_and_again(data_dir: Path) -> None:
    opening = durable_streams.open_sync(data_dir)
    for _ in range(3):
        with opening as streams:
            streams.create("s")
            with pytest.raises(RuntimeError, match="open already"):
                opening.__enter__()


def test_what_is_dropped_is_closed_and_told(data_dir: Path) -> None:
    streams = durable_streams.open_sync(data_dir).__enter__()
    streams.create("s", data=b"1")
    kept = [streams]
    del streams
    with pytest.warns(ResourceWarning, match="opened and never closed"):
        kept.clear()
    with durable_streams.open_sync(data_dir, Settings(lock_wait_s=PATIENCE_S)) as streams:
        assert streams.read("s").data == b"1"


# Where it cannot be used


async def test_where_an_event_loop_runs_it_is_refused(data_dir: Path) -> None:
    told = "an event loop runs in this thread.*durable_streams.open"
    opening = durable_streams.open_sync(data_dir)
    with pytest.raises(RuntimeError, match=told):
        opening.__enter__()
    streams = await asyncio.to_thread(opening.__enter__)
    await asyncio.to_thread(streams.create, "s")
    for call in (lambda: streams.read("s"), lambda: next(streams.tail("s"))):
        with pytest.raises(RuntimeError, match=told):
            call()
    with pytest.raises(RuntimeError, match=told):
        opening.__exit__(None, None, None)
    assert (await asyncio.to_thread(streams.read, "s")).data == b""
    await asyncio.to_thread(opening.__exit__, None, None, None)
    with pytest.raises(NotOpen):
        await asyncio.to_thread(streams.read, "s")
