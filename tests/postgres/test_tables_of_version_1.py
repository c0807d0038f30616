"""A database as version 1 of the tables left it: today's program migrates it, serves and verifies.

``golden/tables-1.sql`` is a dump of what the last program that knew no more made of ``moved.fill``,
while its node was up.  It was made once, and is never made again.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.postgres import versions
from durable_streams.postgres.store import PostgresStore
from durable_streams.postgres.urls import parse
from durable_streams.postgres.versions import VERSION
from tests.postgres.moved import fill, goes_on, seen
from tests.postgres.test_store_commands import run
from tests.programs import run_verb
from tools.postgres_cluster.installed import beside_postgres
from tools.postgres_cluster.installed import run as run_program

if TYPE_CHECKING:
    from tests.postgres.conftest import Database

GOLDEN: Final = Path(__file__).parent / "golden" / "tables-1.sql"
MADE_MS: Final = 1_790_000_000_000
"""What time it was for the node that made the streams."""

COLUMNS: Final = """
select table_name, column_name, data_type, collation_name, is_nullable, column_default
 from information_schema.columns where table_schema = 'ds' order by 1, 2
"""
INDEXES: Final = "select indexdef from pg_indexes where schemaname = 'ds' order by 1"
KEYS: Final = """
select conrelid::regclass::text, pg_get_constraintdef(oid) from pg_constraint
 where connamespace = 'ds'::regnamespace order by 1, 2
"""


@pytest.fixture
def restored(database: Database) -> Database:
    """The database of version 1."""
    primary = database.cluster.primary
    psql = [beside_postgres("psql"), "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1"]
    where = ["--host", "127.0.0.1", "--port", str(primary.port), "--user", "postgres"]
    run_program(
        [*psql, *where, "--dbname", database.name, "--command", GOLDEN.read_text()],
        primary.sockets,
    )
    assert primary.query("select version from ds.versions", database.name) == "1"
    return database


async def test_streams_of_version_1_are_the_same_after_its_migration_and_go_on(
    restored: Database, other_database: Database
) -> None:
    assert "run durable-streams store migrate" in run("check", restored.url).stdout
    migrated = run("migrate", restored.url)
    assert migrated.returncode == 0, migrated
    await versions.initialise(parse(other_database.url))
    new = await PostgresStore.at(other_database.url, now_ms=lambda: MADE_MS)
    try:
        await fill(new)
        shown = await seen(new)
    finally:
        await new.close()
    old = await PostgresStore.at(restored.url, now_ms=lambda: MADE_MS)
    try:
        assert await seen(old) == shown
        await goes_on(old)
    finally:
        await old.close()
    assert run_verb("verify", restored.url).endswith(": sound")
    assert "reader" in run_verb("token", "list", "--store", restored.url)


async def test_what_was_migrated_has_the_tables_that_are_made_today(
    restored: Database, other_database: Database
) -> None:
    primary = restored.cluster.primary
    assert run("migrate", restored.url).stdout.splitlines() == [
        *(f"{restored.url} is at version {number} now" for number in range(2, VERSION + 1)),
        f"{restored.url} is at version {VERSION}, which is that of this program",
    ]
    await versions.initialise(parse(other_database.url))
    for look in (COLUMNS, INDEXES, KEYS):
        assert primary.query(look, restored.name) == primary.query(look, other_database.name)
