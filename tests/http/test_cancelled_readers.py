"""No descriptor stays behind when a reader is cancelled, wherever that happens."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.filestore.runtime.executor import ClosableExecutor
from durable_streams.model.errors import NotOpen
from durable_streams.settings import HttpSettings
from tests.http.lanes import applied, connections
from tests.http.readable import Readable
from tools.descriptors import open_now
from tools.inside import close_read_files, threads_had_a_turn, users_of_read_files

if TYPE_CHECKING:
    from pathlib import Path

    from tests.http.conftest import RunningServer, Serve

SIZE: Final = 3_000_000
MOST_STEPS: Final = 400
"""More turns of the loop than any of these reads takes until it waits for news."""


def cold(*_: object) -> int:
    raise BlockingIOError


async def test_a_read_ahead_that_is_cancelled_before_its_turn_gives_its_descriptor_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    loop, gate = asyncio.get_running_loop(), Event()
    loop.set_default_executor(ThreadPoolExecutor(1))
    monkeypatch.setattr(os, "preadv", cold)
    with path.open("rb") as file:
        before = len(open_now())
        busy = loop.run_in_executor(None, gate.wait)
        readers = [asyncio.create_task(Readable(file).warm(100, 0)) for _ in range(50)]
        await asyncio.sleep(0)
        assert len(open_now()) == before + 50
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        gate.set()
        await busy
        await loop.run_in_executor(None, int)  # behind all of them
        assert len(open_now()) == before


async def test_a_read_ahead_that_no_thread_ever_begins_gives_its_descriptor_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    gate, threads = Event(), ThreadPoolExecutor(1)
    refusing = ClosableExecutor(ThreadPoolExecutor(1))
    refusing.shutdown()
    monkeypatch.setattr(os, "preadv", cold)
    with path.open("rb") as file:
        before = len(open_now())
        threads.submit(gate.wait)
        readers = [
            asyncio.create_task(Readable(file, executor).warm(100, 0))
            for executor in (threads, refusing, refusing)
        ]
        await asyncio.sleep(0)
        readers[-1].cancel()
        threads.shutdown(wait=False, cancel_futures=True)
        ends = await asyncio.gather(*readers, return_exceptions=True)
        gate.set()
        assert [type(end) for end in ends] == [
            asyncio.CancelledError,
            NotOpen,
            asyncio.CancelledError,
        ]
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(open_now()) == before


async def test_without_a_descriptor_to_spare_a_read_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> int:
        raise OSError(24, "Too many open files")

    path = tmp_path / "file"
    path.write_bytes(b"x")
    monkeypatch.setattr(os, "preadv", cold)
    monkeypatch.setattr(os, "dup", refuse)
    with path.open("rb") as file:
        await Readable(file).warm(1, 0)


READS: Final = {
    "catch-up": "a?offset=-1",
    "long-poll": "a?offset=-1&live=long-poll",
    "long-poll at the tail": "a?offset=now&live=long-poll",
    "event stream": "a?offset=-1&live=sse",
    "event stream at the tail": "a?offset=now&live=sse",
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("lane", [True, False], ids=["lane", "aiohttp"])
async def test_a_reader_that_leaves_at_any_turn_of_the_loop_leaves_nothing_open(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, read: str, *, lane: bool
) -> None:
    server = await serve(HttpSettings(fast_lane=lane, long_poll_timeout_s=3600))
    await server.create("a", "text/plain", b"x" * SIZE)
    await applied(server, "a")
    monkeypatch.setattr(os, "preadv", cold)  # so that threads have to read
    await leave_after(server, READS[read], MOST_STEPS)  # opens what stays open
    before = len(open_now())
    for steps in [*range(40), 60, 80, 120, 200, MOST_STEPS]:
        close_read_files(server.engine)  # so that the file has to be opened, which takes turns
        await leave_after(server, READS[read], steps)
        assert set(users_of_read_files(server.engine)) <= {1}, steps
    await leave_after(server, READS[read], MOST_STEPS)
    while len(open_now()) > before:  # a socket may close late; or the time is over
        await asyncio.sleep(0)


async def leave_after(server: RunningServer, target: str, steps: int) -> None:
    """Ask, let the server do so many steps, and reset the connection."""
    client = await server.connect(receive_buffer_bytes=4096)
    while len(connections(server)) < 1:
        await asyncio.sleep(0)
    client.ask("GET", target)
    for _ in range(steps):
        await asyncio.sleep(0)
    client.writer.transport.abort()
    server._clients.remove(client)
    while connections(server) or server.handler.active:
        await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.run_in_executor(None, int) for _ in range(64)))
    await threads_had_a_turn(server.engine, 64)
