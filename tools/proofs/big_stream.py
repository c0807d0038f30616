"""Readers of a stream that is larger than the memory they may cost the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durable_streams.settings import MIB

if TYPE_CHECKING:
    import aiohttp

MAX_GROWTH_BYTES: Final = 32 * MIB
"""By how much the server's resident memory may rise, however large the stream is."""


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
