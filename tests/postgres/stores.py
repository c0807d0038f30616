"""Nodes of the store on a database of the test: each with a way to it that can be cut."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from durable_streams.model.errors import Unavailable
from durable_streams.postgres import versions
from durable_streams.postgres.connecting import Hosts
from durable_streams.postgres.store import PostgresStore
from durable_streams.postgres.urls import parse
from tests.store_contract.words import ROOM, content
from tools.postgres_cluster import Proxy
from tools.postgres_cluster.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from durable_streams.model.paths import StreamPath
    from durable_streams.postgres.streams import Stream
    from durable_streams.settings import Settings
    from tests.postgres.conftest import Database
    from tools.postgres_cluster import PostgresCluster


async def until(look: Callable[[], object], what: str) -> None:
    """Return when something holds."""
    await asyncio.to_thread(wait_until, look, what)


async def read(store: PostgresStore) -> bytes:
    """What a node shows of the stream, as soon as it shows anything."""
    while True:
        try:
            return await content(store)
        except Unavailable:
            await until(lambda: store._heartbeat.refusal() is None, "it is confirmed")


def known(store: PostgresStore, path: StreamPath = ROOM) -> Stream:
    """The stream at a path, which the node knows."""
    (stream,) = [each for each in store._streams.all() if each.path == path]
    return stream


def knows_all_interest(store: PostgresStore) -> None:
    """It has heard for long enough what others ask for, and tells of nothing else."""
    store._parts.notices._interest._all_known_s = 0.0


def is_asked_for(store: PostgresStore, number: int) -> bool:
    """Whether another node has asked it to tell of a stream."""
    return store._parts.notices._interest._wanted.has(number)


class Nodes:
    """Some of them, closed at the end; ``proxy``: before the database, for those that ask."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.proxy = Proxy(database.cluster.primary.port)
        self._stores: list[PostgresStore] = []
        self._tasks: list[asyncio.Future[Any]] = []

    @property
    def cluster(self) -> PostgresCluster:
        """What it runs on."""
        return self.database.cluster

    async def node(
        self, *, proxied: bool = False, settings: Settings | None = None
    ) -> PostgresStore:
        """One more."""
        url = self.database.url
        if proxied:
            url = url.replace(f":{self.cluster.primary.port}/", f":{self.proxy.port}/")
        store = await PostgresStore.at(url, settings)
        self._stores.append(store)
        return store

    def lose_sessions(self, store: PostgresStore) -> None:
        """Have a node lose all its sessions at once, and go past the proxy from now on."""
        store._database.hosts = Hosts(parse(self.database.url))
        lanes = [lane._lane for lane in store._appends._lanes] + store._transactions._lanes
        sessions = [lane.session for lane in lanes if lane is not None]
        others = [*store._parts.readers._sessions, store._heartbeat._session]
        others += [
            store._parts.notices._sending,
            store._parts.notices._listening,
            store._standbys._session,
        ]
        for session in (*sessions, *[other for other in others if other is not None]):
            session.terminate()

    def begin(self, work: Awaitable[Any]) -> asyncio.Future[Any]:
        """Let it go on beside."""
        task = asyncio.ensure_future(work)
        self._tasks.append(task)
        return task

    async def let_through(self) -> None:
        """Deliver what is held by the proxy; it holds nothing more when this returns."""
        self.proxy.release()
        waiting = self.proxy._waiting
        await asyncio.to_thread(wait_until, lambda: not any(waiting.values()), "all is delivered")

    def pause_standbys(self) -> None:
        """No commit is acknowledged from now on."""
        for node in self.cluster.standbys:
            node.pause()

    def resume_standbys(self) -> None:
        """All is acknowledged again."""
        for node in self.cluster.standbys:
            node.resume()

    async def until(self, question: str, answer: str, what: str) -> None:
        """Return when the database says so to the superuser."""
        primary, name = self.cluster.primary, self.database.name
        await asyncio.to_thread(primary.wait_until, question, answer, what, name)

    async def until_commits_wait(self, number: int = 1) -> None:
        """Return when so many writes of streams, at least, wait for the standbys."""
        await self.until(
            f"select count(*) >= {number} from pg_stat_activity where wait_event = 'SyncRep'"
            " and datname = current_database() and query not like 'update ds.nodes%'",
            "t",
            "writes wait for the standbys",
        )

    async def end_waits(self) -> None:
        """Have commits be done, and seen by all, that no standby has."""
        self.cluster.primary.query(
            "select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'"
            " and query not like 'update ds.nodes%'"
        )

    async def end(self) -> None:
        """Close all."""
        self.cluster.mend()
        self.proxy.release()
        self.proxy.mend()
        for task in self._tasks:
            await asyncio.wait({task})
        for store in self._stores:
            await store.close()
        self.proxy.close()


@asynccontextmanager
async def nodes_of(database: Database) -> AsyncIterator[Nodes]:
    """The tables, and no node yet."""
    await versions.initialise(parse(database.url))
    nodes = Nodes(database)
    try:
        yield nodes
    finally:
        await nodes.end()
