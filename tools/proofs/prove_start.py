"""Measure how fast a server with many streams starts (`scripts/prove-start`)."""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Final

import durable_streams
from tools.server_process import ServerProcess

BOUND_S: Final = 2.0
CONCURRENT_CREATES: Final = 256
_DROP_CACHES: Final = Path("/proc/sys/vm/drop_caches")


def stream_path(number: int) -> str:
    """Name the streams so that they spread over namespaces as real ones do."""
    return f"rooms/{number // 1000}/{number}"


async def create_streams(data_dir: Path, count: int) -> None:
    """Make the streams through the library."""
    async with durable_streams.open(data_dir) as streams:
        numbers = iter(range(count))

        async def create_some() -> None:
            for number in numbers:
                content = f"stream {number}".encode()
                await streams.create(stream_path(number), content_type="text/plain", data=content)

        await asyncio.gather(*(create_some() for _ in range(CONCURRENT_CREATES)))


def forget_cached_files() -> bool:
    """Empty the kernel's caches, as after a reboot; False where that is not allowed."""
    subprocess.run(["sync"], check=True)
    if not os.access(_DROP_CACHES, os.W_OK):
        return False
    _DROP_CACHES.write_text("3")
    return True


def timed_start(server: ServerProcess, number: int) -> tuple[float, float]:
    """Return the seconds until the server announced itself and until it answered a read."""
    begin = time.perf_counter()
    server.start()
    started = time.perf_counter()
    with urllib.request.urlopen(server.url(stream_path(number))) as response:
        assert response.read() == f"stream {number}".encode()
    return started - begin, time.perf_counter() - begin


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/prove-start", description=__doc__)
    parser.add_argument("--streams", type=int, default=100_000, help="how many streams to make")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="prove-start-") as directory:
        data_dir = Path(directory) / "data"
        begin = time.perf_counter()
        asyncio.run(create_streams(data_dir, options.streams))
        print(f"{options.streams} streams created in {time.perf_counter() - begin:.1f} s")
        server = ServerProcess(data_dir)
        cold = "cold caches" if forget_cached_files() else "WARM caches (emptying them needs root)"
        slowest_s = 0.0
        for circumstances in (cold, "warm caches, after a SIGKILL"):
            started_s, answered_s = timed_start(server, options.streams // 2)
            slowest_s = max(slowest_s, answered_s)
            print(f"{circumstances}: up in {started_s:.2f} s, first read in {answered_s:.2f} s")
            server.kill()
    print(f"bound: {BOUND_S:.0f} s")
    return 0 if slowest_s < BOUND_S else 1


if __name__ == "__main__":
    sys.exit(main())
