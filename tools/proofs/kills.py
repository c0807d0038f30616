"""SIGKILL under load: everybody goes on over it, and in the end everything is compared.

The server is killed at random moments, sometimes again while it starts or recovers, and started
at once on the same port, while the writers of :mod:`tools.proofs.load`, readers by long-poll and
event stream, and the official JavaScript client with its producers go on.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import aiohttp

from tools.node import CONFORMANCE
from tools.proofs.clients import Outages, Reader, Received
from tools.proofs.ledger import JSON, Damaged, faults_of, lines_in, tokens_in
from tools.proofs.load import Client, Counters, Load, Plan
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Mapping

    from tools.server_process import ServerProcess

JAVASCRIPT_MESSAGES: Final = 1_500
SHORTEST_GAP_S: Final = 0.2
LONGEST_GAP_S: Final = 3.0


@dataclass(slots=True)
class Report:
    """What happened, and every broken promise."""

    counters: Counters
    kills: int = 0
    seconds: float = 0.0
    recoveries_s: list[float] = field(default_factory=list)
    javascript_messages: int = 0
    streams: int = 0
    faults: list[str] = field(default_factory=list)


class Seen(Received):
    """A reader's lines; offsets must never go back.

    An event of a byte stream may end anywhere (the server cuts long ones in pieces), also inside
    a line: the rest comes with the next one.
    """

    def __init__(self, content_type: str) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._content_type = content_type
        self._half_a_line = b""

    def add(self, data: bytes, next_offset: str, *, closed: bool) -> None:
        """Take a piece that has arrived whole."""
        empty = b"[]" if self._content_type == JSON else b""
        if self.offset != "-1" and (next_offset > self.offset) == (data in {b"", empty}):
            raise Damaged(f"{len(data)} bytes from {self.offset} to {next_offset}")
        super().add(data, next_offset, closed=closed)
        if self._content_type != JSON:
            whole, newline, rest = (self._half_a_line + data).rpartition(b"\n")
            data, self._half_a_line = whole + newline, rest
        if closed and self._half_a_line:
            raise Damaged(f"closed with half a line: {self._half_a_line[-200:]!r}")
        self.lines += lines_in(data, self._content_type) if data else []


def random_gaps(seconds: float, chance: random.Random) -> Iterator[float]:
    """Times between two kills, exponential with a mean of a second, over so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield min(max(chance.expovariate(1.0), SHORTEST_GAP_S), LONGEST_GAP_S)


class Run:
    """One run against one server, which is running."""

    def __init__(self, server: ServerProcess, plan: Plan) -> None:
        self._server = server
        self._plan = plan
        self._outages = Outages(server)
        self._chance = random.Random(f"kills {plan.seed}")
        self._readers: list[Reader] = []
        self._received: dict[str, list[Seen]] = {}

    async def run(
        self,
        gaps: Iterator[float],
        *,
        javascript: int,
        connector: aiohttp.BaseConnector | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Report:
        """Kill once after each gap.  ``javascript``: how many JavaScript clients run at once.

        ``connector``: how the server's URLs are reached, if it takes more than their addresses.
        ``headers``: what goes with each request, such as a token.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_read=120)
        connector = connector or aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(
            timeout=timeout,
            connector=connector,
            headers=headers,
            skip_auto_headers=["Content-Type"],
        ) as session:
            # By itself it asks again with PUT, say, and nobody would know that there were two.
            session._retry_connection = False
            client = Client(session, self._server, self._outages)
            load = Load(client, self._plan)
            report = Report(client.counters)
            await load.create_lasting()
            began = time.monotonic()
            async with asyncio.TaskGroup() as group:
                group.create_task(load.run())
                for reading in self._reading(session, load):
                    group.create_task(reading)
                for number in range(javascript):
                    group.create_task(self._javascript(client, load, number, report))
                await self._kill(gaps, report)
                report.seconds = time.monotonic() - began
                load.ending.set()
            await self._compare(client, load, report)
            # What a clean stop leaves is the same.
            assert await asyncio.to_thread(self._server.stop) == 0
            report.faults += verify(self._server)
            await asyncio.to_thread(self._server.start)
            await self._compare(client, load, report)
        return report

    def _reading(
        self, session: aiohttp.ClientSession, load: Load
    ) -> Iterator[Coroutine[None, None, None]]:
        for number, path in enumerate(load.lasting_paths):
            seen = Seen(load.lives[path][0].content_type)
            self._received[path] = [seen]
            reader = Reader(session, self._outages, self._server.url(path), seen)
            yield reader.sse() if number % 2 else reader.long_poll()

    async def _kill(self, gaps: Iterator[float], report: Report) -> None:
        for gap in gaps:
            await asyncio.sleep(gap)
            began = time.monotonic()
            false_starts = []
            while self._chance.random() < 0.3:
                false_starts.append(self._chance.uniform(0.0, 0.6))
            await self._outages.strike(false_starts)
            report.kills += 1 + len(false_starts)
            report.recoveries_s.append(time.monotonic() - began - sum(false_starts))

    async def _javascript(self, client: Client, load: Load, number: int, report: Report) -> None:
        """The official client's producers and readers, on one new stream after the other."""
        turn = 0
        while not load.ending.is_set() or not turn:
            path = f"proof/javascript/{number}/{turn}"
            process = await asyncio.create_subprocess_exec(
                *("node", "round_trip.mjs", self._server.url(path), str(JAVASCRIPT_MESSAGES)),
                cwd=CONFORMANCE,
                stdout=subprocess.PIPE,
            )
            try:
                printed, _ = await process.communicate()
            finally:
                if process.returncode is None:
                    process.kill()
            if process.returncode != 0:
                raise Damaged(f"the JavaScript client ended with {process.returncode}")
            seen_by = json.loads(printed.splitlines()[-1])
            await self._compare_javascript(client, path, seen_by)
            report.javascript_messages += 2 * JAVASCRIPT_MESSAGES
            turn += 1

    async def _compare_javascript(
        self, client: Client, path: str, seen_by: dict[str, list[list[object]]]
    ) -> None:
        stored = [
            [message["id"], message["n"]]
            async for piece in client.pieces(path)
            for message in json.loads(piece.body)
        ]
        for producer in ("left", "right"):
            mine = [message for message in stored if message[0] == producer]
            if mine != [[producer, n] for n in range(JAVASCRIPT_MESSAGES)]:
                raise Damaged(f"{path}: {producer} sent something else than is there: {mine}")
        if stored[2 * JAVASCRIPT_MESSAGES :] != [["last", 0]]:
            raise Damaged(f"{path}: does not end with its last message")
        if seen_by != {"long-poll": stored, "sse": stored}:
            raise Damaged(f"{path}: the readers saw something else")

    async def _compare(self, client: Client, load: Load, report: Report) -> None:
        """Every stream ever made against the ledger and what its readers saw."""
        report.streams = len(load.lives)
        for path, lives in load.lives.items():
            life = lives[-1]
            found = await client.read(path)
            if found is None or life.delete_sent_s is not None:
                if (found is None) != (life.delete_sent_s is not None):
                    report.faults.append(f"{life.name}: present {found is not None}")
                continue
            lines, closed = found
            report.faults += faults_of(life, tokens_in(lines))
            if closed != (life.closed_s is not None):
                report.faults.append(f"{life.name}: closed is {closed}")
            for seen in self._received.get(path, []):
                if seen.lines != lines:
                    report.faults.append(f"{path}: a reader saw something else")


def verify(server: ServerProcess) -> list[str]:
    """What the server's own ``verify`` finds wrong in its data directory."""
    command = [*server.program, "verify", str(server.data_dir)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return [] if run.returncode == 0 else [f"verify: {run.returncode} {run.stdout}{run.stderr}"]
