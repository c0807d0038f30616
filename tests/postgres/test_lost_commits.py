"""A fail-over takes back what was acknowledged, as nothing else had it: what nodes still know."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from durable_streams.model.errors import StreamError
from durable_streams.postgres import versions
from durable_streams.postgres.store import PostgresStore
from durable_streams.postgres.urls import parse
from durable_streams.settings import Settings
from tests.postgres.stores import read, until
from tests.store_contract.words import ROOM, append, at, by, create

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tools.postgres_cluster import PostgresCluster, PostgresNode


class Failover:
    """A primary whose commits wait for nobody, its heir, and a node that goes where one is."""

    def __init__(self, cluster: PostgresCluster, stack: AsyncExitStack) -> None:
        self._primary = cluster.primary
        self._heir = cluster.standbys[0]
        self._cluster = cluster
        self._stack = stack

    async def node(self, *servers: PostgresNode) -> PostgresStore:
        """One on some servers; on both if none is said."""
        hosts = ",".join([f"127.0.0.1:{each.port}" for each in servers or self._servers])
        url = f"postgresql://postgres@{hosts}/postgres"
        store = await PostgresStore.at(url, Settings(store_allow_unreplicated=True))
        self._stack.push_async_callback(store.close)
        return store

    @property
    def _servers(self) -> tuple[PostgresNode, PostgresNode]:
        return self._primary, self._heir

    async def lag(self) -> None:
        """The heir has all that was written, and nothing that comes."""
        end = self._primary.query("select pg_current_wal_lsn()")
        look = f"select pg_last_wal_replay_lsn() >= '{end}'"
        await until(lambda: self._heir.query(look) == "t", "it has all")
        for link in self._cluster.links:
            link.cut()

    async def happen(self, store: PostgresStore) -> PostgresStore:
        """The primary is gone; a node writes again, by what it knows.  Another one, at the heir."""
        self._primary.kill()
        self._heir.promote()
        store._parts.notices._heard = lambda _: None  # notifications may be lost
        lane = store._appends._lane_of(ROOM)
        near = [at(f"near/{number}") for number in range(10)]
        path = next(path for path in near if store._appends._lane_of(path) is lane)
        await self._written(store, path)
        return await self.node(self._heir)

    @staticmethod
    async def _written(store: PostgresStore, path: tuple[str, ...]) -> None:
        while True:
            try:
                await create(store, path)
                await append(store, b"there", path)
            except StreamError:
                await until(lambda: store._heartbeat.refusal() is None, "it is confirmed")
            else:
                return


@pytest.fixture
async def failover(own_cluster: PostgresCluster) -> AsyncIterator[Failover]:
    own_cluster.primary.configure(synchronous_standby_names="")
    await versions.initialise(parse(own_cluster.primary.url()))
    async with AsyncExitStack() as stack:
        yield Failover(own_cluster, stack)


async def test_an_append_does_not_go_behind_what_was_lost(failover: Failover) -> None:
    """Though as many were made there since: what is stored could never be read."""
    store = await failover.node()
    await create(store)
    await append(store, b"one")
    await failover.lag()
    await append(store, b"lost, ")
    other = await failover.happen(store)
    await append(other, b", two, ")

    await append(store, b"three")

    assert await read(other) == b"one, two, three"
    assert await read(store) == b"one, two, three"


async def test_what_was_lost_is_stored_when_its_producer_repeats_it(failover: Failover) -> None:
    store = await failover.node()
    await create(store)
    await append(store, b"one", producer=by(0))
    await failover.lag()
    await append(store, b"three", producer=by(1))
    other = await failover.happen(store)
    await append(other, b", two, ")

    assert not (await append(store, b"three", producer=by(1))).duplicate

    assert await read(other) == b"one, two, three"


async def test_a_row_that_was_read_does_not_bring_producers_of_another_one_along(
    failover: Failover,
) -> None:
    store = await failover.node()
    await create(store)
    await append(store, b"one", producer=by(0))
    await failover.lag()
    await append(store, b"three", producer=by(1))
    other = await failover.happen(store)
    await append(other, b", two, ")
    assert await read(store) == b"one, two, "

    assert not (await append(store, b"three", producer=by(1))).duplicate

    assert await read(other) == b"one, two, three"
