"""Readers of a stream cost the server no memory in proportion to the stream."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest

if TYPE_CHECKING:
    from tests.server_process import ServerProcess

MIB: Final = 1024 * 1024
STREAM_BYTES: Final = 256 * MIB
APPEND_BYTES: Final = 8 * MIB
READERS: Final = 4
MAX_GROWTH_BYTES: Final = 32 * MIB


async def read_all(session: aiohttp.ClientSession, url: str) -> int:
    """Read to the tail, keeping nothing; return the number of bytes."""
    offset, size_bytes, at_tail = "-1", 0, False
    while not at_tail:
        async with session.get(url, params={"offset": offset}) as response:
            assert response.status == 200
            async for received in response.content.iter_any():
                size_bytes += len(received)
            offset = response.headers["Stream-Next-Offset"]
            at_tail = "Stream-Up-To-Date" in response.headers
    return size_bytes


@pytest.mark.slow
async def test_reading_a_big_stream_takes_at_most_32_mib(server: ServerProcess) -> None:
    url = server.url("big")
    headers = {"Content-Type": "application/octet-stream"}
    async with aiohttp.ClientSession() as session:
        await session.put(url, headers=headers)
        for number in range(STREAM_BYTES // APPEND_BYTES):
            body = io.BytesIO(number.to_bytes(8, "big") * (APPEND_BYTES // 8))
            async with session.post(url, data=body, headers=headers) as response:
                assert response.status == 204
    assert server.stop() == 0
    server.start()
    async with aiohttp.ClientSession() as session:
        async with session.head(url) as response:
            assert response.status == 200
        before = server.rss_bytes()
        server.reset_peak_rss()
        sizes = await asyncio.gather(*(read_all(session, url) for _ in range(READERS)))

    assert sizes == [STREAM_BYTES] * READERS
    assert server.peak_rss_bytes() - before <= MAX_GROWTH_BYTES
