"""What is measured, in which order, and for how long.

Whoever is measured has the machine for itself: a store is closed before the next one is opened, and
rounds repeat all that is compared, so that what changes on the machine meanwhile meets each.
"""

from __future__ import annotations

import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import asyncpg

from durable_streams.filestore.store import FileStore
from durable_streams.postgres import versions
from durable_streams.postgres.interest import ALL_ASKED_S
from durable_streams.postgres.store import PostgresStore
from durable_streams.postgres.urls import parse
from durable_streams.settings import MIB, Settings
from tools.bench.database import drivers
from tools.bench.database.bare import Bare
from tools.bench.database.drivers import ROW_BYTES, SMALL_BYTES, Load
from tools.bench.database.measured import Figures, Way, What
from tools.bench.database.served import Clients, nodes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from durable_streams.store import Store
    from tools.bench.database.drivers import Loop

_EVENTS_PER_S: Final = 1000
_READERS: Final = 8


@dataclass(frozen=True)
class Sizes:
    """How long each thing is measured, how often, and how much there is of it."""

    seconds: float = 5.0
    rounds: int = 2
    streams: int = 10_000
    stream_bytes: int = 8 * MIB


@dataclass
class Plan:
    """All of it, on a database without tables; ``directory``: for files of nodes."""

    url: str
    directory: Path
    program: Path
    sizes: Sizes
    figures: Figures = field(default_factory=Figures)
    errors: list[str] = field(default_factory=list)
    _run: int = 0

    @property
    def _loads(self) -> dict[What, Load]:
        return {
            What.APPENDS_64: Load(),
            What.APPENDS_10K: Load(streams=self.sizes.streams),
            What.PRODUCERS: Load(producers=True),
            What.ALONE: Load(writers=1),
        }

    async def run(self) -> None:
        """Measure all."""
        await versions.initialise(parse(self.url))
        async with self._store() as store:
            for load in self._loads.values():
                await drivers.create(store, [load.path(at) for at in range(load.streams)])
        await self._analyse()
        for number in range(self.sizes.rounds):
            await self._appends()
            await self._file_appends(self.directory / f"files-{number}")
            self._through_nodes(1, Way.NODE, self.url, number)
            self._through_nodes(2, Way.NODES, self.url, number)
            self._through_nodes(1, Way.FILES_NODE, str(self.directory), number)
        await self._two_nodes()
        await self._reads()
        await self._other_node()

    # -- appends ---------------------------------------------------------------------------

    async def _appends(self) -> None:
        for what, load in self._loads.items():
            bare = await Bare.open(self.url)
            self._note(what, Way.BARE, await self._append([bare.append], load))
            await bare.close()
            async with self._store() as store:
                put = drivers.through(store)
                self._note(what, Way.STORE, await self._append([put], load))

    async def _file_appends(self, directory: Path) -> None:
        store = await FileStore.at(directory, Settings())
        for what, load in self._loads.items():
            await drivers.create(store, [load.path(at) for at in range(load.streams)])
            put = drivers.through(store)
            self._note(what, Way.FILES, await self._append([put], load))
        await store.close()

    async def _append(self, puts: list[drivers.Put], load: Load) -> Loop:
        self._run += 1
        return await drivers.append(puts, load, self.sizes.seconds, self._run)

    def _note(self, what: What, way: Way, loop: Loop) -> None:
        self._tell(what, way, loop.within_ms(50) if what is What.ALONE else loop.rate)

    def _through_nodes(self, count: int, way: Way, where: str, number: int) -> None:
        """Through HTTP: another process each for the nodes and for who sends them requests."""
        directory = self.directory / f"{way.name}-{number}"
        with nodes(count, where, directory) as servers:
            clients = Clients(self.program, servers)
            if count > 1:  # until then they tell each other of all that they write
                time.sleep(ALL_ASKED_S)
            for what, load in self._loads.items():
                if what is What.ALONE and count > 1:
                    continue
                self._run += 1
                reports = clients.append(load, self.sizes.seconds, self._run)
                alone = what is What.ALONE
                self._tell(what, way, reports[0].p50_ms if alone else sum(r.rate for r in reports))
            if count == 1:
                self._run += 1
                report = clients.read_small(64, self.sizes.seconds, self._run)
                self._tell(What.SMALL_READS, way, report.rate)
            self.errors += clients.errors

    async def _two_nodes(self) -> None:
        load = Load(streams=1)
        async with self._store() as one, self._store() as other:
            await drivers.create(one, [load.path(0)])
            puts = [drivers.through(one), drivers.through(other)]
            loop = await self._append(puts, load)
        self._tell(What.HOT, Way.STORE, loop.rate)
        self._tell(What.HOT_P99, Way.STORE, loop.within_ms(99))
        async with self._store() as one, self._store() as other:
            puts = [drivers.in_turn([drivers.through(one), drivers.through(other)])]
            loop = await self._append(puts, self._loads[What.APPENDS_64])
        self._tell(What.BY_TURNS, Way.STORE, loop.rate)

    # -- reads -----------------------------------------------------------------------------

    async def _reads(self) -> None:
        async with self._store() as store:
            await self._read(store, Way.STORE)
        files = await FileStore.at(self.directory / "read", Settings())
        await self._read(files, Way.FILES)
        await files.close()

    async def _read(self, store: Store, way: Way) -> None:
        long = [("long", str(number)) for number in range(_READERS)]
        short = [("short", str(number)) for number in range(64)]
        await drivers.fill(store, long, self.sizes.stream_bytes // ROW_BYTES, ROW_BYTES)
        await drivers.fill(store, short, 1, SMALL_BYTES)
        if way is Way.STORE:
            await self._analyse()
        loop = await drivers.catch_up(store, long, self.sizes.seconds)
        self._tell(What.CATCH_UP, way, loop.mib_per_s)
        loop = await drivers.read_small(store, short, self.sizes.seconds)
        self._tell(What.SMALL_READS, way, loop.rate)

    async def _other_node(self) -> None:
        paths = [("followed", str(number)) for number in range(64)]
        async with self._store() as other, self._store() as one:  # so it knows of the other
            await drivers.create(one, paths)
            put = drivers.through(one)
            loop = await drivers.follow(put, other, paths, _EVENTS_PER_S, self.sizes.seconds)
            self._tell(What.OTHER_P50, Way.STORE, loop.within_ms(50))
            self._tell(What.OTHER_P99, Way.STORE, loop.within_ms(99))
        async with self._store() as other:  # what is written beside the store, it is not told
            silent = await Bare.open(self.url)
            loop = await drivers.follow(
                silent.append, other, paths, _EVENTS_PER_S, self.sizes.seconds
            )
            await silent.close()
            self._tell(What.UNTOLD, Way.STORE, max(loop.took_s) * 1e3)

    # -- beside ----------------------------------------------------------------------------

    @asynccontextmanager
    async def _store(self) -> AsyncIterator[PostgresStore]:
        store = await PostgresStore.at(self.url)
        try:
            yield store
        finally:
            await store.close()

    async def _analyse(self) -> None:
        connection = await asyncpg.connect(self.url)
        await connection.execute("analyze")
        await connection.close()

    def _tell(self, what: What, way: Way, value: float) -> None:
        self.figures.add(what, way, value)
        title, unit = what.value
        print(f"{title}, {way.value}: {value:,.1f} {unit}", file=sys.stderr, flush=True)
