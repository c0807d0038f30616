"""Two primaries at a time: where a node's sessions lead, what it believes, and where it goes."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from math import inf
from typing import TYPE_CHECKING

import pytest

from durable_streams.model.errors import Unavailable
from durable_streams.postgres import versions
from durable_streams.postgres.connecting import Hosts
from durable_streams.postgres.readers import SESSIONS
from durable_streams.postgres.store import PostgresStore
from durable_streams.postgres.urls import parse
from tests.postgres.sessions import until_it_waits
from tests.postgres.stores import read, until
from tests.postgres.test_hazard_deposed import cut_off
from tests.store_contract.words import ROOM, Listener, append, at, by, create
from tools.postgres_cluster import Proxy
from tools.postgres_cluster.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tools.postgres_cluster import PostgresCluster, PostgresNode


def url_of(*nodes: PostgresNode) -> str:
    hosts = ",".join([f"127.0.0.1:{node.port}" for node in nodes])
    return f"postgresql://postgres@{hosts}/postgres"


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.at(url)
    try:
        yield store
    finally:
        await store.close()


async def made(store: PostgresStore) -> None:
    """Make another stream, however often that takes."""
    while True:
        try:
            await create(store, at("made"))
        except Unavailable:
            await until(lambda: store._heartbeat.refusal() is None, "it is confirmed")
        else:
            return


async def take_over(cluster: PostgresCluster) -> PostgresNode:
    """A standby that has all becomes a primary; the old one lives on, and does not know it."""
    heir = cluster.standbys[0]
    end = cluster.primary.query("select pg_current_wal_lsn()")
    look = f"select pg_last_wal_receive_lsn() >= '{end}'"
    await until(lambda: heir.query(look) == "t", "it has all")
    cut_off(cluster)
    return heir


async def test_a_commit_is_not_acknowledged_by_what_another_server_says(
    own_cluster: PostgresCluster,
) -> None:
    """The old primary is told to wait for nobody; the looks at standbys lead to the new one."""
    old = own_cluster.primary
    await versions.initialise(parse(old.url()))
    async with opened(old.url()) as store:
        await create(store)
        await append(store, b"one")
        heir = await take_over(own_cluster)
        store._database.hosts = Hosts(parse(heir.url()))
        store._standbys.terminate()
        assert await store._standbys.look()
        writing = asyncio.ensure_future(append(store, b"two"))
        await until_it_waits(old, await lane_on(store, old))
        old.configure(synchronous_standby_names="")
        assert (await writing).tail.position == 6
        assert heir.query("select count(*) from ds.runs") == "2"
        assert await read(store) == b"onetwo"


async def lane_on(store: PostgresStore, node: PostgresNode) -> int:
    """The process that serves a node's session for appends to the stream, on this server."""
    line = store._appends._lane_of(ROOM)
    assert line._lane is not None
    pid: int = line._lane.session._connection.get_server_pid()
    assert node.query(f"select count(*) from pg_stat_activity where pid = {pid}") == "1"
    return pid


async def test_a_node_goes_to_the_primary_that_took_over_though_the_old_one_still_answers(
    own_cluster: PostgresCluster,
) -> None:
    old = own_cluster.primary
    await versions.initialise(parse(old.url()))
    async with opened(url_of(old, own_cluster.standbys[0])) as store:
        tail = (await create(store)).info.tail
        listener = Listener()
        stream = await store.open(ROOM)
        assert store.subscribe(stream, tail, listener)
        await append(store, b"one", producer=by(0))
        heir = await take_over(own_cluster)
        done, _ = await asyncio.gather(append(store, b"two", producer=by(1)), made(store))
        assert done.wrote_data
        assert not old.is_standby
        assert await read(store) == b"onetwo"
        assert heir.query("select count(*) from ds.runs") == "2"
        assert heir.query("select count(*) from ds.streams") == "2"
        async with opened(url_of(heir)) as other:
            await append(other, b"three")
        while listener.data != b"onetwothree":
            await listener.told()


async def test_a_node_follows_an_address_that_leads_to_another_primary_now(
    own_cluster: PostgresCluster,
) -> None:
    """One name for the database, as balancers and services have it; old connections stay."""
    old = own_cluster.primary
    await versions.initialise(parse(old.url()))
    address = Proxy(old.port)
    url = f"postgresql://postgres@127.0.0.1:{address.port}/postgres"
    try:
        async with opened(url) as store:
            await create(store)
            await append(store, b"one")
            heir = await take_over(own_cluster)
            address.lead_to(heir.port)
            async with opened(url_of(heir)) as other:
                await append(other, b"two")
            while await read(store) != b"onetwo":
                await asyncio.sleep(0)
            await append(store, b"three")
            assert await read(store) == b"onetwothree"
    finally:
        address.close()


async def test_a_node_that_has_written_to_the_new_primary_shows_nothing_of_the_old_one(
    own_cluster: PostgresCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where sessions that write were lost, and those that read, and its heartbeat's, were not."""
    old = own_cluster.primary
    await versions.initialise(parse(old.url()))
    address = Proxy(old.port)
    try:
        async with opened(f"postgresql://postgres@127.0.0.1:{address.port}/postgres") as store:
            await create(store)
            await append(store, b"one")
            for _ in range(2 * SESSIONS):  # each of them reads once
                await store.head(ROOM)
            heir = await take_over(own_cluster)
            address.lead_to(heir.port)
            await lose_lanes(store)
            with monkeypatch.context() as patch:  # all of this is within three seconds
                patch.setattr(store._heartbeat, "refusal", lambda *_: None)
                patch.setattr(store._heartbeat, "_moved_s", inf)
                await append(store, b"two")
                heads = [store.head(ROOM) for _ in range(20)]
                found = await asyncio.gather(*heads, return_exceptions=True)
                assert {type(each) for each in found} == {Unavailable}
            assert await read(store) == b"onetwo"
    finally:
        address.close()


async def lose_lanes(store: PostgresStore) -> None:
    for lane in [each._lane for each in store._appends._lanes] + store._transactions._lanes:
        if lane is not None:
            lane.session.terminate()
    store._standbys.terminate()


async def test_standbys_that_are_gone_move_nobody(own_cluster: PostgresCluster) -> None:
    primary = own_cluster.primary
    await versions.initialise(parse(primary.url()))
    async with opened(url_of(*own_cluster.nodes)) as store:
        await create(store)
        for node in own_cluster.standbys:
            node.pause()
        writing = asyncio.ensure_future(append(store, b"one"))
        before = store._heartbeat._moved_s
        await until(lambda: store._heartbeat._moved_s > before, "another server was looked for")
        with pytest.raises(Unavailable):
            await store.head(ROOM)
        assert not writing.done()
        for node in own_cluster.standbys:
            node.resume()
        await writing
        assert await read(store) == b"one"


def test_the_newest_timeline_is_chosen(own_cluster: PostgresCluster) -> None:
    old, first, second = own_cluster.nodes
    for node in (first, second):
        node.promote()
    second.configure(synchronous_standby_names="")
    started = "select pg_postmaster_start_time()"
    second.query("select pg_switch_wal()")

    async def choose() -> tuple[object, object]:
        hosts = Hosts(parse(url_of(old, second)))
        chosen = await hosts.choose_other(None)
        none = await Hosts(parse(url_of(second))).choose_other(chosen)
        return chosen, none

    chosen, none = asyncio.run(choose())
    assert none is None
    assert f"{chosen}"[:19] == second.query(f"set timezone = 'UTC'; {started}")[:19]
    wait_until(lambda: not second.is_standby, "it takes writes")
