"""What expired by a clock that may be wrong: it is expired for everybody, and not thrown away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import asyncpg
import pytest

from durable_streams.model.commands import Lifetime
from durable_streams.model.errors import OffsetGone, StreamNotFound
from durable_streams.postgres.database import Clock as DatabaseClock
from durable_streams.postgres.doubt import Doubt
from durable_streams.postgres.store import PostgresStore
from durable_streams.settings import Settings
from tests.documents import blocks_of
from tests.postgres.stores import Nodes, nodes_of
from tests.store_contract.conftest import Clock
from tests.store_contract.words import ROOM, TEXT, append, by, content, create

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.postgres.conftest import Database

PAGE: Final = "docs/beyond-one-machine.rst"
RUNS: Final = "select count(*) from ds.runs"
STREAMS: Final = "select count(*) from ds.streams"
LEFT: Final = "select (select count(*) from ds.nodes), (select count(*) from ds.lanes)"
DAY_S: Final = 86_400


@pytest.fixture
async def nodes(database: Database) -> AsyncIterator[Nodes]:
    async with nodes_of(database) as made:
        yield made


async def replaced(nodes: Nodes, delay_s: float) -> tuple[PostgresStore, Clock]:
    """A node, and a stream of it that expired, so that another one was made at its path."""
    clock = Clock()
    settings = Settings(reclaim_delay_s=delay_s)
    store = await PostgresStore.at(nodes.database.url, settings, now_ms=clock)
    await create(store, lifetime=Lifetime(60))
    await append(store, b"one", producer=by(0))
    await append(store, b"two", producer=by(1))
    clock.passes(61)
    with pytest.raises(StreamNotFound):
        await store.head(ROOM)
    assert (await create(store, body=b"new", lifetime=Lifetime(60))).created
    return store, clock


async def test_what_a_put_replaces_while_the_clock_is_in_doubt_can_be_had_again_as_documented(
    nodes: Nodes,
) -> None:
    store, _ = await replaced(nodes, 3600)
    try:
        await store._parts.sweeper.sweep_graves()
        await store._parts.sweeper.remove_expired()
        await nodes.until(RUNS, "3", "the old ones are there")
        assert await content(store) == b"new"

        await store.delete(ROOM)
        (back,) = [block.code for block in blocks_of(PAGE) if block.language == "sql"]
        nodes.cluster.primary.query(
            back.replace("chat/room-1", "/".join(ROOM)), nodes.database.name
        )

        assert await content(store) == b"onetwo"
        assert (await append(store, b"two", producer=by(1))).duplicate
        await append(store, b"three", producer=by(2), content_type=TEXT)
        await store._parts.sweeper.sweep_graves()
        assert await content(store) == b"onetwothree"
    finally:
        await store.close()


async def test_what_a_put_replaces_is_removed_once_the_clock_is_believed(nodes: Nodes) -> None:
    store, _ = await replaced(nodes, 3600)
    try:
        store._parts.sweeper._doubt._since_s -= 3600
        await store._parts.sweeper.remove_expired()
        await store._parts.sweeper.sweep_graves()
        await nodes.until(RUNS, "1", "the old ones are removed")
        assert await content(store) == b"new"
    finally:
        await store.close()


async def test_what_a_put_replaces_is_removed_soon_where_the_clock_is_believed(
    nodes: Nodes,
) -> None:
    store, _ = await replaced(nodes, 0)
    try:
        await store._parts.sweeper.sweep_graves()
        await nodes.until(RUNS, "1", "the old ones are removed")
    finally:
        await store.close()


async def test_what_expired_is_there_after_the_first_look_however_late_that_one_is(
    nodes: Nodes,
) -> None:
    clock = Clock()
    store = await PostgresStore.at(nodes.database.url, Settings(), now_ms=clock)
    try:
        await create(store, lifetime=Lifetime(60))
        store._parts.sweeper._doubt._since_s -= 3605
        clock.passes(2 * DAY_S)
        await store._parts.sweeper.remove_expired()
        await nodes.until(STREAMS, "1", "it can be had again")
        store._parts.sweeper._doubt._since_s -= 3600
        await store._parts.sweeper.remove_expired()
        await nodes.until(STREAMS, "0", "it is removed")
    finally:
        await store.close()


async def test_a_search_for_graves_looks_at_the_clock(nodes: Nodes) -> None:
    clock = Clock()
    store = await PostgresStore.at(nodes.database.url, Settings(), now_ms=clock)
    try:
        await create(store, lifetime=Lifetime(60))
        await store._parts.sweeper.sweep_graves()
        store._parts.sweeper._doubt._since_s -= 3605
        clock.passes(2 * DAY_S)
        await store._parts.sweeper.sweep_graves()
        store._parts.sweeper._doubt._since_s -= 3600
        await store._parts.sweeper.remove_expired()
        await nodes.until(STREAMS, "0", "it went an hour after that search")
    finally:
        await store.close()


@pytest.mark.parametrize("is_mended", [True, False])
async def test_offsets_of_a_removed_stream_lead_nowhere_though_the_clock_jumps(
    nodes: Nodes, *, is_mended: bool
) -> None:
    clock = Clock()
    store = await PostgresStore.at(nodes.database.url, Settings(), now_ms=clock)
    try:
        await create(store)
        old = (await append(store, b"one")).tail
        await store.delete(ROOM)
        await store._parts.sweeper.sweep_graves()
        clock.passes(DAY_S)
        await store._parts.sweeper.sweep_graves()
        if is_mended:
            clock.passes(-DAY_S)
        await create(store, body=b"two")
        assert (await append(store, b"three")).tail > old
        with pytest.raises(OffsetGone):
            await content(store, start=old)
    finally:
        await store.close()


async def test_where_a_removed_stream_ended_is_forgotten_in_time(nodes: Nodes) -> None:
    clock = Clock()
    store = await PostgresStore.at(nodes.database.url, Settings(), now_ms=clock)
    try:
        await create(store, body=b"one")
        await store.delete(ROOM)
        await store._parts.sweeper.sweep_graves()
        remembered_s = store.remember_removed_s
        for after_s, left in ((remembered_s - 1, "1"), (2, "0")):
            clock.passes(after_s)
            store._parts.sweeper._doubt._since_s -= after_s
            store._parts.sweeper._doubt._ahead_s += after_s
            await store._parts.sweeper.sweep_graves()
            await nodes.until("select count(*) from ds.graves", left, f"{left} left")
    finally:
        await store.close()


async def test_what_tells_of_unknown_outcomes_is_there_for_a_day_whatever_the_clock_says(
    nodes: Nodes,
) -> None:
    store = await nodes.node()
    primary, name = nodes.cluster.primary, nodes.database.name
    await create(store)
    kept = primary.query(LEFT, name)
    primary.query(
        "with absent as (insert into ds.nodes (node, name, program, seen) values"
        " (gen_random_uuid(), 'absent', '1', clock_timestamp() - interval '25 h') returning node)"
        " insert into ds.lanes (lane, node) select gen_random_uuid(), node from absent",
        name,
    )
    left = primary.query(LEFT, name)
    assert left != kept
    store._parts.sweeper._doubt._since_s -= DAY_S
    await store._parts.sweeper.remove_left_behind()
    assert primary.query(LEFT, name) == left
    store._parts.sweeper._doubt._since_s -= DAY_S
    await store._parts.sweeper.remove_left_behind()
    assert primary.query(LEFT, name) == kept


async def test_the_clock_of_another_server_is_in_doubt_though_its_timeline_is_the_same(
    database: Database,
) -> None:
    """As after a promotion until the next checkpoint; a standby is on the timeline as well."""
    doubt = Doubt(DatabaseClock(), 3600)
    sessions: list[asyncpg.Connection[asyncpg.Record]] = []
    try:
        for node in (database.cluster.primary, database.cluster.standbys[0]):
            at = await asyncpg.connect(node.url("postgres"))
            sessions.append(at)
            assert await doubt.is_there(at.fetch)
            doubt._since_s -= 3600
            assert not await doubt.is_there(at.fetch)
    finally:
        for at in sessions:
            at.terminate()


class Server:
    """What a database says of itself and its clock."""

    def __init__(self, loop_time: Callable[[], float]) -> None:
        self._loop_time = loop_time
        self.started = 1
        self.ahead_s = 0.0

    async def fetch(self, *_: object) -> list[dict[str, int]]:
        now_ms = round((self._loop_time() + self.ahead_s) * 1000)
        return [{"server": self.started, "now_ms": now_ms}]


@pytest.mark.parametrize("what", ["start", "server", "clock forward", "clock back"])
async def test_the_clock_is_in_doubt_after(what: str) -> None:
    doubt = Doubt(DatabaseClock(), 3600)
    server = Server(doubt._loop.time)
    doubt._since_s -= 3600
    assert await doubt.is_there(server.fetch)  # type: ignore[arg-type]
    if what == "start":
        return
    doubt._since_s -= 3600
    assert not await doubt.is_there(server.fetch)  # type: ignore[arg-type]
    server.started += what == "server"
    server.ahead_s += {"clock forward": 61, "clock back": -61}.get(what, 0)
    assert await doubt.is_there(server.fetch)  # type: ignore[arg-type]
    doubt._since_s -= 3600
    assert not await doubt.is_there(server.fetch)  # type: ignore[arg-type]
