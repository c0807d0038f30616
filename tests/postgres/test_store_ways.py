"""A node's way to its database: poolers in between, silent hosts, tables that do not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from durable_streams.model.errors import DataDirectoryError, Unavailable
from durable_streams.postgres.births import STATEMENTS
from durable_streams.postgres.store import PostgresStore
from durable_streams.postgres.urls import parse
from durable_streams.postgres.versions import initialise
from tests import driving
from tools.postgres_cluster.pgbouncer import PgBouncer
from tools.postgres_cluster.processes import wait_until

if TYPE_CHECKING:
    from tests.postgres.conftest import Database


async def use(url: str) -> None:
    """Write and read what was written, through another node as well."""
    one, other = await PostgresStore.at(url), await PostgresStore.at(url)
    try:
        await driving.put(one, "chat", b"hello")
        await driving.append(other, "chat", b" world")
        assert await driving.content(one, "chat") == b"hello world"
    finally:
        await one.close()
        await other.close()


async def test_all_that_a_transaction_sends_is_prepared_before_it_begins(
    database: Database,
) -> None:
    await initialise(parse(database.url))
    store = await PostgresStore.at(database.url)
    try:
        lane = await store._transactions._begin_lane(0)
        found = await lane.session.fetch("select statement from pg_prepared_statements")
        assert {"commit", "rollback", *STATEMENTS} <= {record["statement"] for record in found}
    finally:
        await store.close()


@pytest.mark.needs("pgbouncer")
async def test_a_pooler_that_keeps_sessions_will_do(database: Database) -> None:
    await initialise(parse(database.url))
    with PgBouncer(database.cluster.primary, "session", pool_size=60) as pooler:
        await use(pooler.url(database.name))


@pytest.mark.needs("pgbouncer")
@pytest.mark.parametrize(
    ("mode", "said"),
    [("transaction", "have the pooler keep sessions"), ("statement", "statement pooling mode")],
)
async def test_a_pooler_that_shares_sessions_is_refused(
    database: Database, mode: str, said: str
) -> None:
    await initialise(parse(database.url))
    with (
        PgBouncer(database.cluster.primary, mode) as pooler,
        pytest.raises(DataDirectoryError, match=said),
    ):
        await PostgresStore.at(pooler.url(database.name))


async def test_a_host_that_says_nothing_does_not_keep_a_node_from_the_next(
    database: Database,
) -> None:
    cluster = database.cluster
    cluster.links[0].hold()
    hosts = f"127.0.0.1:{cluster.links[0].port},127.0.0.1:{cluster.primary.port}"
    await initialise(parse(database.url))
    await use(f"postgresql://postgres@{hosts}/{database.name}")


@pytest.mark.parametrize(
    ("made", "said"),
    [("", "store init"), ("insert into ds.versions values (99, 99)", "install a newer")],
)
async def test_tables_that_do_not_fit_are_refused(database: Database, made: str, said: str) -> None:
    if made:
        await initialise(parse(database.url))
        database.cluster.primary.query(made, database.name)
    with pytest.raises(DataDirectoryError, match=said):
        await PostgresStore.at(database.url)


async def test_a_database_that_takes_no_writes_is_refused(database: Database) -> None:
    await initialise(parse(database.url))
    alter = f"alter database {database.name} set default_transaction_read_only = on"
    database.cluster.primary.query(alter)
    with pytest.raises(DataDirectoryError, match="takes no writes"):
        await PostgresStore.at(database.url)


@pytest.mark.parametrize(("table", "column"), [("lanes", "node"), ("graves", "next_segment")])
async def test_sessions_that_cannot_write_are_ended(
    database: Database, table: str, column: str
) -> None:
    """Each write that is refused at its beginning would leave one otherwise."""
    await initialise(parse(database.url))
    primary = database.cluster.primary
    store = await PostgresStore.at(database.url)
    try:
        primary.query(f"alter table ds.{table} rename column {column} to another", database.name)
        for number in range(5):
            with pytest.raises(Unavailable):
                await driving.put(store, f"chat/{number}")
        count = (
            "select count(*) from pg_stat_activity where query ~ '^(insert into ds.lanes|"
            rf"\s*select coalesce)' and datname = '{database.name}'"
        )
        wait_until(lambda: primary.query(count) == "0", "no session is left")
        primary.query(f"alter table ds.{table} rename column another to {column}", database.name)
        await driving.put(store, "chat/room-1")
    finally:
        await store.close()
