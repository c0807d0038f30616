"""A database that is down, takes no writes, or confirms nothing: what nodes say of it."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from durable_streams.measuring import PREFIX
from durable_streams.model.errors import (
    DatabaseDown,
    DatabaseMigrated,
    DatabaseReadOnly,
    DatabaseUnconfirmed,
    StreamError,
    StreamNotFound,
    Unavailable,
)
from durable_streams.postgres import readers, versions
from durable_streams.postgres.urls import parse
from tests.postgres.stores import Nodes, nodes_of, read, until
from tests.store_contract.words import ROOM, Listener, append, at, create
from tests.test_metrics_page import METRIC_ROW
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable
    from pathlib import Path

    from durable_streams.postgres.store import PostgresStore
    from tests.conftest import StartServer
    from tests.postgres.conftest import Database


@pytest.fixture
async def nodes(database: Database) -> AsyncIterator[Nodes]:
    async with nodes_of(database) as made:
        yield made


async def until_refused(store: PostgresStore, kind: type[StreamError]) -> None:
    await until(lambda: type(store.refusal()) is kind, f"{kind.__name__}")


async def until_good(store: PostgresStore) -> None:
    await until(lambda: store.refusal() is None, "writes are taken")


async def outcome(work: Awaitable[Any]) -> StreamError | None:
    try:
        await work
    except StreamError as error:
        return error
    return None


async def test_without_standbys_whoever_waits_is_told_and_what_was_sent_is_stored_later(
    nodes: Nodes,
) -> None:
    store = await nodes.node()
    await create(store)
    await append(store, b"one")
    nodes.pause_standbys()
    sent = nodes.begin(append(store, b"two"))
    await nodes.until_commits_wait()
    behind = nodes.begin(outcome(append(store, b"three")))
    made = nodes.begin(outcome(create(store, at("unheard of"))))
    unknown = nodes.begin(outcome(store.head(at("nowhere"))))
    assert type(await behind) is DatabaseUnconfirmed
    assert type(await unknown) is DatabaseUnconfirmed
    assert type(store.refusal()) is DatabaseUnconfirmed
    assert not sent.done()
    nodes.resume_standbys()
    await sent
    await until_good(store)
    assert (await made) is None
    assert await read(store) == b"onetwo"


async def test_reads_that_were_refused_are_not_kept_until_the_standbys_are_there(
    nodes: Nodes,
) -> None:
    """All that read wait for a standby, which may take hours, and more is asked for meanwhile."""
    store = await nodes.node()
    nodes.pause_standbys()
    begun = [
        nodes.begin(outcome(store._parts.readers.do(store._standbys.barrier)))
        for _ in range(readers.SESSIONS)
    ]
    await nodes.until_commits_wait(readers.SESSIONS)
    asked = [nodes.begin(outcome(store._parts.readers.fetch("select 1"))) for _ in range(3)]
    asked += [nodes.begin(outcome(store.head(ROOM))) for _ in range(3)]
    await until(lambda: store._parts.readers._work.qsize() > 3, "they wait for their turn")
    for each in (*begun, *asked):
        assert type(await each) is DatabaseUnconfirmed
    assert store._parts.readers._work.empty()
    assert not store._parts.rows._asked
    nodes.resume_standbys()
    await until(lambda: store._heartbeat.refusal() is None, "it is confirmed")
    assert type(await outcome(store.head(ROOM))) is StreamNotFound


async def test_a_database_that_takes_no_writes_is_told_from_one_that_is_down(
    nodes: Nodes,
) -> None:
    store = await nodes.node()
    await create(store)
    primary, name = nodes.cluster.primary, nodes.database.name
    primary.query(f"alter database {name} set default_transaction_read_only = on")
    nodes.lose_sessions(store)
    await until_refused(store, DatabaseReadOnly)
    primary.query(f"alter database {name} reset default_transaction_read_only")
    await until_good(store)
    await append(store, b"one")
    primary.query(f"alter database {name} allow_connections false")
    nodes.lose_sessions(store)
    await until_refused(store, DatabaseDown)
    assert type(await outcome(append(store, b"no"))) is DatabaseDown
    primary.query(f"alter database {name} allow_connections true")
    await until_good(store)
    await append(store, b"two")


async def test_a_node_that_may_not_use_the_tables_any_more_says_so_and_lets_readers_go(
    nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    store = await nodes.node()
    await create(store)
    await append(store, b"one")
    stream = await store.open(ROOM)
    reader = Listener()
    assert store.subscribe(stream, (await store.head(ROOM)).tail, reader)
    nodes.cluster.primary.query(
        f"insert into ds.versions values ({versions.VERSION + 1}, {versions.VERSION + 1})",
        nodes.database.name,
    )
    await until_refused(store, DatabaseMigrated)
    assert "nothing is served any more" in caplog.text
    assert "install a newer durable-streams-server" in str(store.refusal())
    assert type(await outcome(append(store, b"no"))) is DatabaseMigrated
    assert type(await outcome(store.head(ROOM))) is DatabaseMigrated
    await until(lambda: reader.reason is not None, "the reader is told")
    assert type(reader.reason) is DatabaseMigrated
    nodes.cluster.primary.query(
        f"delete from ds.versions where version > {versions.VERSION}", nodes.database.name
    )
    await until_good(store)
    await append(store, b"two")
    assert await read(store) == b"onetwo"


async def test_a_session_that_could_not_be_had_once_refuses_nobody_for_ever(nodes: Nodes) -> None:
    """All others are there, and nobody opens one who would see that they can be had again."""
    store = await nodes.node()
    await create(store)
    await append(store, b"one")
    primary, name = nodes.cluster.primary, nodes.database.name
    primary.query(f"alter database {name} allow_connections false")
    for lane in store._appends._lanes:
        if lane._lane is not None:
            lane._lane.session.terminate()
            lane._lane = None
    assert isinstance(await outcome(append(store, b"no")), Unavailable)
    primary.query(f"alter database {name} allow_connections true")
    await until_good(store)
    await append(store, b"two")
    assert (await store.head(ROOM)).tail.position == 6


async def test_the_page_has_all_metrics_that_only_nodes_have(nodes: Nodes) -> None:
    store = await nodes.node()
    found = {f"{PREFIX}{each.name}": each.kind.value for each in store.numbers.more}
    page = (ROOT / "docs" / "beyond-one-machine.rst").read_text()
    assert dict(METRIC_ROW.findall(page)) == found


def asked(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


async def test_nodes_show_themselves_and_their_trouble_over_http(
    database: Database, start_server: StartServer, tmp_path: Path
) -> None:
    await versions.initialise(parse(database.url))
    servers = [
        await asyncio.to_thread(start_server, "--store", database.url, data_dir=tmp_path / name)
        for name in ("one", "two")
    ]
    one = servers[0].base_url
    async with aiohttp.ClientSession() as client:
        async with client.get(f"{one}/v1/stream/__ds/nodes") as answer:
            assert answer.status == 200
            told = (await answer.json())["nodes"]
        assert [node["this"] for node in told] == [True, False]
        assert all(node["name"] and node["version"] and node["began"] for node in told)
        async with client.get(f"{one}/metrics") as answer:
            text = await answer.text()
        assert "durable_streams_database_standbys 2.0" in text
        for node in database.cluster.standbys:
            node.pause()
        await until(lambda: asked(f"{one}/readyz")[0] == 503, "it is not ready")
        assert "too few standbys" in asked(f"{one}/readyz")[1]
        async with client.put(f"{one}/v1/stream/s") as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"]
        async with client.get(f"{one}/v1/stream/s") as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"]
        database.cluster.mend()
        await until(lambda: asked(f"{one}/readyz")[0] == 200, "it is ready")
        async with client.put(f"{one}/v1/stream/s") as answer:
            assert answer.status == 201
