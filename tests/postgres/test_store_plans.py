"""Statements find rows by an index, also as planned when the tables were empty."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

import pytest

from durable_streams.postgres import (
    births,
    endings,
    following,
    inspections,
    reading,
    records,
    sessions,
    statements,
    versions,
)
from durable_streams.postgres.batches import Statement
from durable_streams.postgres.urls import parse
from tests.postgres.stores import nodes_of
from tests.store_contract.words import append, content, create

if TYPE_CHECKING:
    from tests.postgres.conftest import Database

MANY: Final = """
insert into ds.streams (id, path, sort_key, content_type, first_segment, segment, position, chain,
  size_bytes, created_ms, requested)
 select n, 'a/' || n, convert_to('a/' || n, 'UTF8'), 'text/plain', 0, 0, 100, '', 100, 0, '{}'
  from generate_series(1, 20000) as n;
insert into ds.runs (stream, segment, start, ends, times, before, chain, data)
 select n % 2000, 0, n / 2000, array[n / 2000 + 1], array[0], '', '', 'x'
  from generate_series(1, 40000) as n;
insert into ds.producers select n, 'p', 0, 0, 0 from generate_series(1, 20000) as n;
insert into ds.graves (stream, path, next_segment, removed_ms, swept)
 select n, 'b/' || n, 0, 0, true from generate_series(1, 20000) as n;
insert into ds.lanes (lane, node) select gen_random_uuid(), gen_random_uuid()
 from generate_series(1, 5000);
analyze ds.streams, ds.runs, ds.producers, ds.graves, ds.lanes;
"""

STATEMENTS: Final[dict[str, tuple[str, tuple[Any, ...]]]] = {
    "rows at paths": (statements.ROWS, (["a/7", "a/8"], [], None)),
    "rows of ids": (statements.ROWS, ([], [7, 8], None)),
    "rows that are locked": (statements.LOCKED_ROWS, (["a/7"], None)),
    "producers": (statements.PRODUCERS, ([7, 8],)),
    "renewals": (statements.RENEW, ([7, 8], None)),
    "versions": (following._VERSIONS, ([7, 8],)),
    "runs": (reading.RUNS, (7, 0, 3, 9)),
    "bytes": (reading._BYTES, (7, 0, 3, 9)),
    "sizes": (reading.SIZES, ([7, 8], [0, 0])),
    "records": (records._AHEAD, (7, 0, 3, 0, 9, 64)),
    "last records": (records._BACK, (7, 0, 9, 64)),
    "a list": (inspections._PATHS, (b"a/7", b"a", b"b", 100)),
    "forks": (inspections._FORKS, (7, 100)),
    "a family": (endings._FAMILY, (7,)),
    "where a stream may begin": (births._LOOK, ("a/7", None)),
}

PLANNED: Final = """
select coalesce(sum(custom_plans), 0) as anew, count(*) as statements
 from pg_prepared_statements where statement like '%ds.%'
"""

BIG: Final = ("streams", "runs", "producers", "graves", "lanes")


OF_NODES: Final = {name: sessions._SETTINGS[name] for name in ("plan_cache_mode", "enable_seqscan")}


async def plan(database: Database, sql: str, arguments: tuple[Any, ...]) -> list[str]:
    session = await database.connect(settings=OF_NODES)
    try:
        return [line for (line,) in await session.fetch(f"explain {sql}", *arguments)]
    finally:
        session.terminate()


@pytest.fixture(params=[MANY, "select"], ids=["many rows", "no row yet"])
async def filled(database: Database, request: pytest.FixtureRequest) -> Database:
    await versions.initialise(parse(database.url))
    session = await database.connect()
    await session.execute(request.param)
    session.terminate()
    return database


async def test_no_statement_reads_a_whole_table(filled: Database) -> None:
    found = {
        name: lines
        for name, (sql, arguments) in STATEMENTS.items()
        if reads_all(lines := await plan(filled, sql, arguments))
    }
    assert found == {}


def reads_all(lines: list[str]) -> list[str]:
    return [line for line in lines if any(f"Seq Scan on {table} " in f"{line} " for table in BIG)]


async def test_a_batch_finds_its_rows_by_an_index(filled: Database) -> None:
    class Lane:
        id = uuid.uuid4()
        number = 1

    arguments = tuple(Statement().arguments(Lane(), None))  # type: ignore[arg-type]
    lines = await plan(filled, statements.WRITE, arguments)
    assert reads_all(lines) == []


async def test_no_statement_of_a_node_is_planned_anew_each_time(database: Database) -> None:
    async with nodes_of(database) as nodes:
        store = await nodes.node()
        await create(store)
        for number in range(20):
            await append(store, b"%d;" % number)
        assert await content(store)
        planned = [await session.fetch(PLANNED) for session in store._database._sessions]
    assert sum([row["anew"] for (row,) in planned]) == 0
    assert sum([row["statements"] for (row,) in planned]) > 3
