"""A program that uses the library until Ctrl-C; it prints what was acknowledged, a line each.

usage: python -m tools.proofs.interrupted_program DATA_DIR RUN LOOP
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from durable_streams import open_streams

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_streams import Streams

WRITERS: Final = 4


async def write(streams: Streams, run: str, writer: int) -> None:
    await streams.create(f"s{writer}", content_type="text/plain")
    number = 0
    while True:
        token = f"{run}.{writer}.{number};"
        await streams.append(f"s{writer}", token.encode())
        print(token, flush=True)
        number += 1


async def come_and_go(streams: Streams, run: str) -> None:
    while True:
        await streams.create(f"short/{run}", data=b"x" * 100_000)
        await streams.fork(f"short/{run}/fork", f"short/{run}")
        await streams.delete(f"short/{run}")
        await streams.delete(f"short/{run}/fork")


async def follow(streams: Streams) -> None:
    await streams.create("s0", content_type="text/plain")
    tail = streams.tail("s0", "now")
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.001):  # wait_for of 3.11 may swallow a cancellation
                await anext(tail)


async def main(data_dir: str, run: str) -> None:
    async with open_streams(data_dir) as streams, asyncio.TaskGroup() as group:
        for writer in range(WRITERS):
            group.create_task(write(streams, run, writer))
        group.create_task(come_and_go(streams, run))
        group.create_task(follow(streams))


def new_loop(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == "asyncio":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop


if __name__ == "__main__":
    try:
        with asyncio.Runner(loop_factory=new_loop(sys.argv[3])) as runner:
            runner.get_loop()
            print("up", flush=True)
            runner.run(main(*sys.argv[1:3]))
    except KeyboardInterrupt:
        sys.exit(130)
