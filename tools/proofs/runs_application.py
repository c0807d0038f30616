"""An application that carries runs, for ``prove_runs``: it starts what its stdin names.

    python -m tools.proofs.runs_application URL LEDGER LEASE_S

URL is that of a server of streams, or of a database.  Each source writes its name into the ledger
when it begins, and then yields its numbers.  What was started is told on stdout, with whether it
was new.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Final

import durable_streams
from durable_streams.runs import JSON, Runs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TOKENS: Final = 200
PACE_S: Final = 0.005


async def tokens(name: str, ledger: str) -> AsyncIterator[object]:
    """A scripted model: numbers, and that it was asked."""
    line = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(line, f"{name}\n".encode())
    os.close(line)
    for number in range(TOKENS):
        await asyncio.sleep(PACE_S)
        yield {"run": name, "number": number}


async def main(url: str, ledger: str, lease_s: float) -> None:
    """Start runs until stdin ends."""
    loop = asyncio.get_running_loop()
    starting: set[asyncio.Task[None]] = set()
    opened = durable_streams.connect if url.startswith("http") else durable_streams.open
    async with opened(url) as streams, Runs(streams, lease_s=lease_s) as runs:

        async def start(name: str) -> None:
            run = await runs.start(name, lambda: tokens(name, ledger), format=JSON)
            print(name, run.is_new, flush=True)

        while name := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
            starting.add(asyncio.create_task(start(name)))
        await asyncio.gather(*starting)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
