"""Nodes are replaced by those of the next version while clients write and read, on real processes.

Two nodes of today's program serve a database behind a balancer; the next program is a copy of it
with one more step of the tables.  Producers send again what was not answered, readers come back.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest

from durable_streams.postgres import versions
from durable_streams.postgres.urls import parse
from tests.postgres.next_program import NEXT, next_program
from tests.postgres.stores import until
from tests.programs import run_verb
from tools.cluster.balancer import Balancer, Node
from tools.proofs.cluster_load import Load, Plan
from tools.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.postgres.conftest import Database

PLAN: Final = Plan(producers=16, readers=24, javascript=0, streams=8, pause_s=0.05)
SOME: Final = 100
"""Appends after which it goes on."""

LOST: Final = {
    "ClientConnectionResetError",
    "ClientConnectorError",
    "ClientOSError",
    "ClientPayloadError",
    "ConnectionResetError",
    "ServerDisconnectedError",
}
"""As a connection is lost, or not had, of a node that ends."""

WAITS: Final = """
select count(*) from pg_stat_activity where query ~ 'add column label' and wait_event = 'relation'
"""
POSITIONS: Final = "select sum(version), sum(position) from ds.streams"


class Scene:
    """Nodes behind a balancer, and clients of both; ``refusals``: without ``Retry-After``."""

    def __init__(self, database: Database, directory: Path) -> None:
        self.database = database
        self.directory = directory
        self.servers: list[ServerProcess] = []
        self.nodes: list[Node] = []
        self.refusals: list[int] = []
        self.load: Load
        self._seen: list[ServerProcess] = []

    def start(self, name: str, programs: Path | None = None, port: int = 0) -> ServerProcess:
        """One more node."""
        server = ServerProcess(
            self.directory / name, "--store", self.database.url, programs=programs
        )
        server.port = port
        self._seen.append(server)
        server.start()
        return server

    async def replace(self, at: int, programs: Path | None) -> ServerProcess:
        """Stop a node in good order, and start another one where it was."""
        old = self.servers[at]
        assert await asyncio.to_thread(old.stop) == 0
        name = f"again-{len(self._seen)}"
        self.servers[at] = await asyncio.to_thread(self.start, name, programs, old.port)
        await until(lambda: self.nodes[at].status == 200, "the balancer has the new node")
        return self.servers[at]

    async def more(self, number: int = SOME) -> None:
        """Return when so many more appends are acknowledged."""
        wanted = self.load.waits.acknowledged + number
        await until(lambda: self.load.waits.acknowledged >= wanted, "writes go on")

    async def more_refused(self) -> None:
        """Return when writes were refused some more times."""
        answers = self.load.waits.answers
        wanted = answers["503"] + PLAN.producers
        await until(lambda: answers["503"] >= wanted, "writes are refused")

    def look(self, sql: str) -> str:
        """What the database says."""
        return self.database.cluster.primary.query(sql, self.database.name)

    def check(self, programs: Path) -> None:
        """Nobody was told of a fault, and no process had one."""
        load = self.load
        assert (load.lost, load.doubled, load.disordered) == (0, 0, 0)
        assert load.faults.texts == []
        told = {*load.waits.answers, *load.persistent.answers, *load.watched}
        assert told <= {"200", "204", "503"} | LOST, told
        assert self.refusals == []
        for server in self._seen:
            server.finish()
        verified = run_verb("verify", self.database.url, programs=programs)
        assert verified.endswith("sound"), verified

    def end(self) -> None:
        """Leave nothing."""
        for server in self._seen:
            if server.running:
                server.kill()


def not_to_be_tried_again(scene: Scene) -> aiohttp.TraceConfig:
    """Note refusals that do not say when to come back."""

    async def ended(_: object, __: object, about: aiohttp.TraceRequestEndParams) -> None:
        if about.response.status >= 400 and "Retry-After" not in about.response.headers:
            scene.refusals.append(about.response.status)

    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(ended)
    return trace


@pytest.fixture
async def scene(database: Database, tmp_path: Path) -> AsyncIterator[Scene]:
    """Two nodes of today's program, not yet asked."""
    await versions.initialise(parse(database.url))
    made = Scene(database, tmp_path)
    try:
        made.servers = [await asyncio.to_thread(made.start, name) for name in ("one", "two")]
        yield made
    finally:
        made.end()


@asynccontextmanager
async def loaded(scene: Scene) -> AsyncIterator[Load]:
    """Clients who go on until the block ends; then all of it is looked at."""
    scene.nodes = [Node(f"127.0.0.1:{server.port}") for server in scene.servers]
    balancer = await asyncio.start_server(Balancer(scene.nodes).serve, "127.0.0.1", 0)
    watching = [asyncio.create_task(node.watch(scene.nodes)) for node in scene.nodes]
    url = f"http://127.0.0.1:{balancer.sockets[0].getsockname()[1]}"
    named = [(f"node{n}", server.base_url) for n, server in enumerate(scene.servers)]
    async with (
        balancer,
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), trace_configs=[not_to_be_tried_again(scene)]
        ) as session,
    ):
        load = scene.load = Load(session, url, named, PLAN, scene.directory)
        await load.create()
        running = asyncio.create_task(load.run())
        try:
            await scene.more()
            yield load
            load.ending.set()
            await running
            await load.compare()
        finally:
            running.cancel()
            for task in (running, *watching):
                task.cancel()
            await asyncio.gather(running, *watching, return_exceptions=True)


def migrating(programs: Path, url: str) -> subprocess.Popen[str]:
    """``store migrate``, begun."""
    return subprocess.Popen(
        [programs / "durable-streams", "store", "migrate", url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def done(process: subprocess.Popen[str]) -> str:
    """What it said, which is no complaint."""
    out, errors = await asyncio.to_thread(process.communicate)
    assert (process.returncode, errors) == (0, "")
    return out


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


async def test_nodes_are_replaced_one_by_one_and_nothing_is_lost_nor_refused_for_good(
    scene: Scene,
) -> None:
    programs, url = next_program(scene.directory / "next"), scene.database.url
    async with loaded(scene):
        holder = await scene.database.connect()
        held = holder.transaction()
        await held.start()
        await holder.execute("lock table ds.streams in access share mode")
        killed = migrating(programs, url)
        await until(lambda: scene.look(WAITS) == "1", "the step waits for the table")
        kill(killed)
        await held.rollback()
        holder.terminate()
        both = [migrating(programs, url) for _ in range(2)]
        told = [await done(process) for process in both]
        assert sum(f"is at version {NEXT} now" in out for out in told) <= 1
        assert all(f"at version {NEXT}, which is that of this program" in out for out in told)
        assert scene.look(f"select count(*) from ds.versions where version = {NEXT}") == "1"
        await scene.more()
        again = await scene.replace(0, None)
        assert f"tables are of version {NEXT}" in again.stderr
        assert "may serve them" in again.stderr
        assert f"of version {NEXT}, and" in run_verb("store", "check", url)
        for at in range(2):
            await scene.replace(at, programs)
            await scene.more()
        assert f"its tables are of version {NEXT}\n" in run_verb(
            "store", "check", url, programs=programs
        )
    scene.check(programs)


async def test_nodes_that_cannot_bear_a_step_stop_before_it_and_damage_nothing(
    scene: Scene,
) -> None:
    programs, url = next_program(scene.directory / "next", needs=NEXT), scene.database.url
    async with loaded(scene):
        killed = migrating(programs, url)
        assert killed.stdout is not None
        line = await asyncio.to_thread(killed.stdout.readline)
        assert f"nodes that know no version from {NEXT} on stop serving now" in line
        await until(lambda: all(map(has_stopped, scene.servers)), "nodes stop serving")
        kill(killed)  # before the step
        assert scene.look("select max(version) from ds.versions") == f"{NEXT - 1}"
        await scene.more_refused()
        for server in scene.servers:
            status, text = await asked(f"{server.base_url}/readyz")
            assert (status, "too new" in text) == (503, True)
        before = scene.look(POSITIONS)
        await done(migrating(programs, url))
        await scene.more_refused()
        assert scene.look(POSITIONS) == before
        refused = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "durable_streams", "serve", "--store", url],
            capture_output=True,
            text=True,
            check=False,
        )
        assert refused.returncode
        assert "install a newer durable-streams-server" in refused.stderr
        for at in range(2):
            await scene.replace(at, programs)
        await scene.more()
    scene.check(programs)


def has_stopped(server: ServerProcess) -> bool:
    return "nothing is served any more" in server.stderr


async def asked(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()
