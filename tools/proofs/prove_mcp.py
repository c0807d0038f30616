"""SIGKILL an MCP server, and its streams, amid a call: each notification once, and the answer.

    scripts/prove-mcp --kills 10 --seconds 60

The SDK's own client, as it is, calls a tool that notifies ten times a second.  A run answers it,
which this process carries.  Meanwhile the process of the MCP server, and that of the streams, are
killed and started again, one or the other.  In the end the client has each notification once and in
order, and then the answer; and the run's source ran once.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mcp import Client

import durable_streams
from durable_streams.runs import JSON, Runs
from tools.server_process import ROOT, ServerProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from durable_streams import RemoteStreams

PER_S: Final = 10
AHEAD: Final = 8
"""What a run may be ahead of the client."""

ANSWER: Final = "that is all"


class McpServer:
    """A server of MCP on a socket that listens over its deaths: who asks it waits."""

    def __init__(self, streams_url: str, log: Path) -> None:
        self._environment = {**os.environ, "STREAMS_URL": streams_url}
        self._log = log
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/mcp"
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        number = self._listening.fileno()
        command = ["uvicorn", "--fd", str(number), "tools.proofs.mcp_application:app"]
        with self._log.open("ab") as file:
            return subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=ROOT,
                env=self._environment,
                stdout=file,
                stderr=file,
                pass_fds=[number],
            )

    def restart(self) -> None:
        """End it as a crash does, and start another."""
        self.kill()
        self._process = self._start()

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Nobody listens any more."""
        self.kill()
        self._listening.close()


class Caller:
    """A client amid its call."""

    def __init__(self) -> None:
        self.seen: list[float] = []
        self._more = asyncio.Condition()
        self._is_over = False

    async def call(self, url: str, up_to: int) -> list[str]:
        """The texts of the answer."""
        try:
            async with Client(url, mode="legacy") as client:
                await client.list_tools()  # else it asks behind the answer, and has no session then
                result = await client.call_tool(
                    "count", {"up_to": up_to}, progress_callback=self._note
                )
                assert not result.is_error, result.content
                return [block.text for block in result.content if block.type == "text"]
        finally:
            async with self._more:
                self._is_over = True
                self._more.notify_all()

    async def _note(self, progress: float, total: float | None, message: str | None) -> None:
        async with self._more:
            self.seen.append(progress)
            self._more.notify_all()

    async def has(self, count: int) -> None:
        """Wait until it has so many notifications, or its call is over."""
        async with self._more:
            await self._more.wait_for(lambda: self._is_over or len(self.seen) >= count)


class Carrier:
    """What carries the runs: it starts those that ``jobs`` has.

    They wait for the client when it is behind, so that whatever is killed is killed amid a call.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self.begun: Counter[str] = Counter()

    async def carry(self, streams: RemoteStreams, runs: Runs) -> None:
        async with aclosing(streams.tail("jobs")) as jobs:
            async for job in jobs:
                told = job.json()
                await runs.start(told["run"], self._count(told["run"], told["up_to"]), format=JSON)

    async def _count(self, name: str, up_to: int) -> AsyncIterator[object]:
        self.begun[name] += 1
        for number in range(up_to):
            await asyncio.sleep(1 / PER_S)
            await self._caller.has(number - AHEAD)
            yield {"progress": number, "total": up_to}
        yield ANSWER


async def call_amid_kills(directory: Path, kills: int, seconds: float, seed: int) -> dict[str, Any]:
    chance, killed = random.Random(seed), Counter[str]()
    up_to = round(seconds * PER_S)
    server = ServerProcess(directory / "data")
    await asyncio.to_thread(server.start)
    mcp = McpServer(server.url(), directory / "mcp.log")
    caller = Caller()
    carrier = Carrier(caller)
    carrying: asyncio.Task[None] | None = None
    try:
        async with durable_streams.connect(server.url()) as streams, Runs(streams) as runs:
            await streams.create("jobs", content_type="application/json")
            carrying = asyncio.create_task(carrier.carry(streams, runs))
            calling = asyncio.create_task(caller.call(mcp.url, up_to))
            for number in range(1, kills + 1):
                await caller.has(number * up_to // (kills + 1))
                if calling.done():
                    break  # and what has become of it is told below
                victim = chance.choice(("mcp", "mcp", "streams"))
                killed[victim] += 1
                await asyncio.to_thread((mcp if victim == "mcp" else server).restart)
            answer = await calling
            carrying.cancel()
    finally:
        mcp.close()
        server.kill()
    assert caller.seen == list(range(up_to)), caller.seen
    assert answer == [ANSWER], answer
    assert list(carrier.begun.values()) == [1], carrier.begun
    return {"killed": dict(killed), "notifications": len(caller.seen), "answer": answer[0]}


def prove(kills: int, seconds: float, seed: int) -> dict[str, Any]:
    """Prove it; what was seen."""
    with tempfile.TemporaryDirectory() as directory:
        return asyncio.run(call_amid_kills(Path(directory), kills, seconds, seed))


def main() -> None:
    """Prove it as long as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    print(prove(arguments.kills, arguments.seconds, arguments.seed))


if __name__ == "__main__":
    main()
