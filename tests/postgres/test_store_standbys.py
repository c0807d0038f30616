"""What no standby has is neither acknowledged nor shown, in whatever way a wait for it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.model.errors import StorageFailed, Unavailable
from durable_streams.postgres import versions
from durable_streams.postgres.connecting import Hosts
from durable_streams.postgres.store import PostgresStore
from durable_streams.postgres.urls import parse
from tests.postgres.conftest import Database
from tests.postgres.stores import Nodes, nodes_of, read, until
from tests.postgres.test_hazard_deposed import cut_off
from tests.store_contract.words import ROOM, append, at, create

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tools.postgres_cluster import PostgresCluster

PROGRAM: Final = Path(__file__).with_name("interrupted_node.py")
ROOT: Final = PROGRAM.parents[2]


@pytest.fixture
async def nodes(database: Database) -> AsyncIterator[Nodes]:
    async with nodes_of(database) as made:
        yield made


@pytest.fixture
async def own_nodes(own_cluster: PostgresCluster) -> AsyncIterator[Nodes]:
    async with nodes_of(Database(own_cluster, "postgres")) as made:
        yield made


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
async def test_a_program_that_ends_shows_nobody_what_no_standby_has(
    nodes: Nodes, stop: signal.Signals
) -> None:
    store = await nodes.node()
    await create(store, at("s"))
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        PROGRAM,
        nodes.database.url,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=-1,
        stdout=-1,
        stderr=-1,
    )
    assert program.stdout is not None
    assert program.stdin is not None
    await program.stdout.readline()
    nodes.pause_standbys()
    program.stdin.write(b"\n")
    await nodes.until_commits_wait()
    program.send_signal(stop)
    await program.communicate()
    for _ in range(2):
        await nodes.until_commits_wait()
        assert (
            nodes.cluster.primary.query("select count(*) from ds.runs", nodes.database.name) == "1"
        )
    nodes.resume_standbys()
    await nodes.until("select count(*) from ds.runs", "2", "it is stored after all")


async def test_a_start_without_standbys_waits_and_says_so(
    nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    await nodes.node()  # the tables are there
    nodes.pause_standbys()
    starting = nodes.begin(nodes.node())
    await until(lambda: "the start waits" in caplog.text, "it says so")
    assert not starting.done()
    nodes.resume_standbys()
    await starting


async def test_what_is_released_by_a_change_of_the_names_is_not_acknowledged(
    own_nodes: Nodes,
) -> None:
    store = await own_nodes.node()
    await create(store)
    await append(store, b"one")
    own_nodes.pause_standbys()
    writing = own_nodes.begin(append(store, b"two"))
    await own_nodes.until_commits_wait()
    primary = own_nodes.cluster.primary
    primary.configure(synchronous_standby_names="")
    await own_nodes.until("select count(*) from ds.runs", "2", "it is visible")
    refused = asyncio.create_task(append(store, b"three"))
    await asyncio.wait({writing, refused}, timeout=1)
    assert not writing.done()
    primary.configure(synchronous_standby_names=own_nodes.cluster.quorum)
    own_nodes.resume_standbys()
    await writing
    await asyncio.wait({refused})
    assert isinstance(refused.exception(), Unavailable | None)
    assert (await read(store)).startswith(b"onetwo")


async def test_a_store_that_is_closed_meanwhile_says_that_nobody_knows(nodes: Nodes) -> None:
    store = await nodes.node()
    await create(store)
    await append(store, b"one")
    nodes.pause_standbys()
    writing = nodes.begin(append(store, b"two"))
    await nodes.until_commits_wait()
    await store.close()
    with pytest.raises(StorageFailed):
        await writing
    nodes.resume_standbys()
    other = await nodes.node()
    assert (await other.head(ROOM)).tail.position == 6


async def test_readers_of_a_deposed_primary_show_nothing_by_a_heartbeat_of_the_new_one(
    own_cluster: PostgresCluster,
) -> None:
    url, first = own_cluster.primary.url("postgres"), own_cluster.standbys[0]
    await versions.initialise(parse(url))
    store = await PostgresStore.at(url)
    await create(store)
    await append(store, b"one")
    await asyncio.gather(*[store.head(ROOM) for _ in range(20)])
    cut_off(own_cluster)
    heir = await PostgresStore.at(first.url("postgres"))
    try:
        await append(heir, b"two")
        before = store._heartbeat._server
        store._database.hosts = Hosts(parse(first.url("postgres")))
        assert store._heartbeat._session is not None
        store._heartbeat._session.terminate()
        await until(lambda: store._heartbeat._server != before, "it beats there")
        tails = [(await store.head(ROOM)).tail.position for _ in range(20)]
        assert tails == [6] * 20
    finally:
        await heir.close()
        await store.close()
