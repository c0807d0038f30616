"""Statements find rows by an index, also as planned when the tables were empty."""

from __future__ import annotations

import json
import re
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
    sweeping,
    versions,
)
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

STATEMENTS: Final = {
    "a batch": statements.WRITE,
    "rows": statements.ROWS,
    "rows that are locked": statements.LOCKED_ROWS,
    "producers": statements.PRODUCERS,
    "renewals": statements.RENEW,
    "versions": following._VERSIONS,
    "runs": reading.RUNS,
    "bytes": reading._BYTES,
    "sizes": reading.SIZES,
    "records": records._AHEAD,
    "last records": records._BACK,
    "a list": inspections._PATHS,
    "forks": inspections._FORKS,
    "how many forks": endings._FORKS,
    "a family": endings._FAMILY,
    "bytes of what has ended": sweeping._SWEEP.format(table="runs"),
    "producers of what has ended": sweeping._SWEEP.format(table="producers"),
    "where a stream may begin": births._LOOK,
    "where a stream begins": births._ABOVE,
    "how many there are below a path": births._COUNT,
}

PLANNED: Final = """
select coalesce(sum(custom_plans), 0) as anew, count(*) as statements
 from pg_prepared_statements where statement like '%ds.%'
"""

BIG: Final = ("streams", "runs", "producers", "graves", "lanes")


OF_NODES: Final = {
    name: sessions._SETTINGS[name] for name in ("plan_cache_mode", "enable_seqscan", "jit")
}


async def plan(database: Database, sql: str) -> dict[str, Any]:
    """As a session of a node has it, for any values."""
    session = await database.connect(settings=OF_NODES)
    try:
        await session.execute(f"prepare statement as {sql}")
        values = ", ".join(["null"] * max(map(int, re.findall(r"\$(\d+)", sql))))
        asked = f"explain (format json) execute statement({values})"
        (found,) = json.loads(await session.fetchval(asked))
    finally:
        session.terminate()
    assert "JIT" not in found
    plan: dict[str, Any] = found["Plan"]
    return plan


def walked(node: dict[str, Any]) -> list[str]:
    """Where a plan goes through the whole of a table that may be large, or of an index of it."""
    kind, table = node["Node Type"], node.get("Relation Name", node.get("Index Name", ""))
    is_walked = kind == "Seq Scan" or ("Index" in kind and "Index Cond" not in node)
    found = [f"{kind} of {table}"] if is_walked and table.startswith(BIG) else []
    return found + [each for child in node.get("Plans", ()) for each in walked(child)]


@pytest.fixture(params=[20_000, 60, 0], ids="{} streams".format)
async def filled(database: Database, request: pytest.FixtureRequest) -> Database:
    await versions.initialise(parse(database.url))
    session = await database.connect()
    if request.param:
        await session.execute(MANY.replace("20000", str(request.param)))
    session.terminate()
    return database


async def test_no_statement_walks_through_a_whole_table(filled: Database) -> None:
    found = {
        name: places
        for name, sql in STATEMENTS.items()
        if (places := walked(await plan(filled, sql)))
    }
    assert found == {}


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
