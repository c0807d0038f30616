"""A program that is interrupted while an append waits for a standby; see ``test_store_standbys``.

``python interrupted_node.py URL``: it says when it is there, and appends to the stream ``s`` when
it is told to.
"""

from __future__ import annotations

import asyncio
import sys

from durable_streams.model.commands import Append
from durable_streams.postgres.store import PostgresStore


async def something_else() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.1)  # as any task may that has something to end


async def main() -> None:
    store = await PostgresStore.at(sys.argv[1])
    beside = asyncio.create_task(something_else())
    await store.append(Append(("s",), "text/plain"), b"x")  # from here on its lane is there
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await store.append(Append(("s",), "text/plain"), b"x")
    await beside


asyncio.run(main())
