"""Producers and real servers: kills on either side, proxies that cut, errors that are told."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

import durable_streams
from durable_streams import (
    InvalidJson,
    Limits,
    RemoteStreams,
    Retries,
    StaleEpoch,
    StreamClosed,
    StreamNotFound,
    Unreachable,
)
from tests.client.proxies import Proxy
from tools.server_process import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartServer
    from tools.server_process import ServerProcess

JSON: Final = "application/json"
OFTEN: Final = Retries(first_s=0.02, longest_s=0.1, give_up_s=60)
SMALL: Final = Limits(linger_s=0.001, batch_bytes=500, waiting_bytes=4000)


def client(server: ServerProcess, port: int | None = None) -> RemoteStreams:
    url = f"http://127.0.0.1:{port or server.port}{server.prefix}"
    return durable_streams.connect(url, retries=OFTEN)


async def values(streams: RemoteStreams, path: str = "s") -> list[object]:
    return [message.json() async for message in streams.tail(path, live=False)]


async def test_each_is_stored_once_over_kills_of_the_server(start_server: StartServer) -> None:
    server = start_server()
    async with client(server) as streams:
        await streams.create("s", content_type=JSON)

        async def produce() -> None:
            async with streams.producer("s", "p", limits=SMALL) as producer:
                for number in range(3000):
                    await producer.append_json(number)
                assert await producer.flush() == 3000

        producing = asyncio.create_task(produce())
        for _ in range(3):
            tail = (await streams.get_metadata("s")).next_offset
            await streams.read("s", tail, live=True, timeout_s=60)
            await asyncio.to_thread(server.restart)
        await producing
        assert await values(streams) == list(range(3000))


async def test_each_is_stored_once_where_answers_are_cut_off(start_server: StartServer) -> None:
    server = start_server()
    with Proxy(server.port) as proxy:
        proxy.cut_after_bytes = 900  # in the middle of some answer, each time
        async with client(server, proxy.port) as streams, client(server) as direct:
            await direct.create("s", content_type=JSON)
            async with streams.producer("s", "p", limits=SMALL) as producer:
                for number in range(2000):
                    await producer.append_json(number)
                await producer.close_stream(b'"end"')
            assert proxy.connections >= 3
            assert await values(direct) == [*range(2000), "end"]
            assert (await direct.get_metadata("s")).closed


PROGRAM: Final = """
import asyncio, pathlib, sys
import durable_streams

async def main(url, kept):
    number = int(kept.read_text()) if kept.exists() else 0
    retries = durable_streams.Retries(first_s=0.02, longest_s=0.1)
    async with durable_streams.connect(url, retries=retries) as streams:
        async with streams.producer("s", "p", number=number) as producer:
            for n in range(number, 600):
                await producer.append_json(n)
                if n % 7 == 0:
                    print(producer.acknowledged, flush=True)
                if n % 50 == 49:
                    await producer.flush()
                    new = kept.with_suffix(".new")
                    new.write_text(str(producer.acknowledged))
                    new.replace(kept)
    print("done", flush=True)

asyncio.run(main(sys.argv[1], pathlib.Path(sys.argv[2])))
"""


async def test_each_is_stored_once_over_kills_of_the_producer_that_keeps_its_number(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server()
    url = f"{server.base_url}{server.prefix}"
    kept = tmp_path / "number"

    def run(lines: int) -> bool:
        """Start it, and kill it after so many lines; whether it ended by itself before."""
        command = [sys.executable, "-c", PROGRAM, url, str(kept)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(lines):
                line = process.stdout.readline()
                if line == "done\n":
                    return True
                assert line, "the program failed"
            process.kill()
            return False

    async with client(server) as streams:
        await streams.create("s", content_type=JSON)
        for lines in (1, 12, 20, 9):
            assert not await asyncio.to_thread(run, lines)
        assert await asyncio.to_thread(run, 10_000)
        assert await values(streams) == list(range(600))


async def test_errors_surface_wherever_somebody_asks(remote: RemoteStreams) -> None:
    await remote.create("s", content_type=JSON)
    with pytest.raises(StreamNotFound):
        async with remote.producer("missing", "p"):
            pass
    producer = remote.producer("s", "p")

    async def produce() -> None:
        async with producer:
            await producer.append_json(1)
            await producer.flush()
            await remote.close("s")
            await producer.append_json(2)

    with pytest.raises(StreamClosed):
        await produce()
    with pytest.raises(StreamClosed):
        await producer.flush()
    with pytest.raises(StreamClosed):
        await producer.append_json(3)
    assert producer.acknowledged == 1


async def test_one_bad_value_is_refused_to_whoever_gave_it(remote: RemoteStreams) -> None:
    await remote.create("s", content_type=JSON)
    async with remote.producer("s", "p") as producer:
        await producer.append_json(1)
        with pytest.raises(InvalidJson):
            await producer.append(b"{")
        await producer.append(b"[2, 3]")
    assert await values(remote) == [1, 2, 3]


async def test_a_later_run_ends_those_before(remote: RemoteStreams) -> None:
    await remote.create("s", content_type=JSON)
    second = remote.producer("s", "p")

    async def produce() -> None:
        async with remote.producer("s", "p", epoch=3) as first:
            await first.append_json(1)
            await first.flush()
            async with second:
                await second.append_json(2)
            await first.append_json(3)
            with pytest.raises(StaleEpoch):
                await first.flush()
            with pytest.raises(StaleEpoch):
                await first.close_stream()

    with pytest.raises(StaleEpoch) as stale:  # told at the end of its block as well
        await produce()
    assert stale.value.current == second.epoch > 3
    assert await values(remote) == [1, 2]


async def test_a_run_that_began_before_is_told_at_the_end_of_its_block(
    remote: RemoteStreams,
) -> None:
    await remote.create("s", content_type=JSON)

    async def produce(number: int, *, take_over: bool) -> None:
        async with remote.producer("s", "p", epoch=0, take_over=take_over) as producer:
            await producer.append_json(number)

    await produce(1, take_over=False)
    with pytest.raises(StaleEpoch):
        await produce(2, take_over=False)
    await produce(3, take_over=True)
    assert await values(remote) == [1, 3]


async def test_no_more_waits_than_was_said(start_server: StartServer) -> None:
    server = start_server()
    limits = Limits(waiting_bytes=100)
    async with client(server) as streams:
        await streams.create("s", content_type="text/plain")
        async with streams.producer("s", "p", limits=limits) as producer:
            await producer.append(b"0")
            await producer.flush()
            await asyncio.to_thread(server.kill)
            await producer.append(bytes(100))
            waiting = asyncio.create_task(producer.append(b"1"))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(waiting), 0.2)
            await asyncio.to_thread(server.start)
            assert await waiting == 2
        assert (await streams.read("s")).data == b"0" + bytes(100) + b"1"


async def test_a_server_that_stays_away_ends_it(start_server: StartServer) -> None:
    server = start_server()
    some = Retries(first_s=0.01, longest_s=0.02, give_up_s=0.2)
    url = f"{server.base_url}{server.prefix}"
    async with durable_streams.connect(url, retries=some) as streams:
        await streams.create("s")

        async def produce() -> None:
            async with streams.producer("s", "p") as producer:
                await asyncio.to_thread(server.kill)
                await producer.append(b"x")

        with pytest.raises(Unreachable):
            await produce()
    server.start()
