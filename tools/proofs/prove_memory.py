"""Measure what reading a big stream costs the server in memory (`scripts/prove-memory`)."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Final

import aiohttp

import durable_streams
from durable_streams.settings import MIB
from tools.proofs.big_stream import MAX_GROWTH_BYTES, read_all
from tools.server_process import ServerProcess

APPEND_BYTES: Final = 16 * MIB


async def write_stream(data_dir: Path, size_bytes: int) -> None:
    """Make a stream of at least this size, through the library."""
    async with durable_streams.open(data_dir) as streams:
        await streams.create("big", content_type="application/octet-stream")
        for number in range(-(-size_bytes // APPEND_BYTES)):
            await streams.append("big", number.to_bytes(8, "big") * (APPEND_BYTES // 8))


async def measure(server: ServerProcess, readers: int) -> tuple[int, int]:
    """Read the stream by so many readers at once; return bytes read and growth of the RSS."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
        async with session.head(server.url("big")) as response:
            assert response.status == 200
        before = server.rss_bytes()
        server.reset_peak_rss()
        sizes = await asyncio.gather(
            *(read_all(session, server.url("big")) for _ in range(readers))
        )
    return sum(sizes), server.peak_rss_bytes() - before


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/prove-memory", description=__doc__)
    parser.add_argument("--size-mib", type=int, default=2048, help="size of the stream")
    parser.add_argument("--readers", type=int, default=1, help="how many read it at once")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="prove-memory-") as directory:
        data_dir = Path(directory) / "data"
        asyncio.run(write_stream(data_dir, options.size_mib * MIB))
        server = ServerProcess(data_dir)
        server.start()
        size_bytes, growth_bytes = asyncio.run(measure(server, options.readers))
        server.finish()
    print(
        f"{options.readers} reader(s) read {size_bytes / MIB:.0f} MiB;"
        f" the server's resident memory rose by at most {growth_bytes / MIB:.1f} MiB"
        f" (bound: {MAX_GROWTH_BYTES / MIB:.0f} MiB)"
    )
    return 0 if growth_bytes <= MAX_GROWTH_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
