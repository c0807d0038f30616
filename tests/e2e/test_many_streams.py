"""Starting costs the same whether the directory holds no stream or thousands."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest

if TYPE_CHECKING:
    from tests.conftest import StartServer
    from tools.server_process import ServerProcess

STREAMS: Final = 3_000
MIB: Final = 1024 * 1024


def read_calls(server: ServerProcess) -> int:
    """How many times the server has called read(2) and its kin since it was started."""
    counters = dict(
        line.split(": ") for line in Path(f"/proc/{server.pid}/io").read_text().splitlines()
    )
    return int(counters["syscr"])


async def create_streams(server: ServerProcess) -> None:
    connector = aiohttp.TCPConnector(limit=64)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def create(number: int) -> int:
            async with session.put(server.url(f"many/{number}"), data=b"hello") as response:
                return response.status

        statuses = await asyncio.gather(*(create(number) for number in range(STREAMS)))
    assert set(statuses) == {201}


@pytest.mark.slow
async def test_a_start_reads_no_file_per_stream_and_the_first_read_is_answered(
    start_server: StartServer,
) -> None:
    server = start_server()
    server.stop()
    server.start()
    reads_when_empty, memory_when_empty = read_calls(server), server.rss_bytes()
    await create_streams(server)
    assert server.stop() == 0

    server.start()

    assert read_calls(server) - reads_when_empty < STREAMS / 10
    assert server.rss_bytes() - memory_when_empty < 4 * MIB
    async with (
        aiohttp.ClientSession() as session,
        session.get(server.url(f"many/{STREAMS - 1}")) as response,
    ):
        assert await response.read() == b"hello"
