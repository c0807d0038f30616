"""A program that is ended while its commit waits for a standby; see ``test_hazard_commits``.

``python waiting_node.py JSON``: a port, a database, the number of a row, and how it ends:
``terminates`` closes the socket first.  It prints the process id of its session.
"""

from __future__ import annotations

import asyncio
import json
import sys

import asyncpg


async def something_else() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.1)  # as any task may that has something to end


async def main() -> None:
    port, database, number, how = json.loads(sys.argv[1])
    session = await asyncpg.connect(host="127.0.0.1", port=port, user="postgres", database=database)
    print(session.get_server_pid(), flush=True)
    commit = asyncio.ensure_future(session.execute("insert into things (id) values ($1)", number))
    beside = asyncio.ensure_future(something_else())
    try:
        await asyncio.shield(commit)
    finally:
        if how == "terminates":
            session.terminate()
    await beside


asyncio.run(main())
