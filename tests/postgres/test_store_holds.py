"""Leases of streams that somebody follows: written down in the order in which they come and go."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import pytest

from durable_streams.model.commands import Lifetime
from durable_streams.model.errors import StreamNotFound
from durable_streams.postgres import holds
from durable_streams.postgres.sessions import Unknown
from tests.postgres.stores import Nodes, nodes_of, until
from tests.store_contract.words import ROOM, Listener, create

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from durable_streams.postgres.sessions import Session
    from tests.postgres.conftest import Database

HELD: Final = "select count(*) from ds.holds"
OLD: Final = """
insert into ds.holds select n, gen_random_uuid(), '2000-01-01' from generate_series(1, 2) as n
"""

ENDS: Final = "with lapsed as (delete from ds.holds) update ds.streams set deadline_ms = 1"
USED_LONG_AGO: Final = "update ds.streams set deadline_ms = deadline_ms - 290000"
LEFT_S: Final = """
select round((deadline_ms / 1000 - extract(epoch from clock_timestamp())) / 100) * 100
 from ds.streams
"""


@pytest.fixture
async def nodes(database: Database) -> AsyncIterator[Nodes]:
    async with nodes_of(database) as made:
        yield made


class Way:
    """A session, before which ``before`` is called with what is sent."""

    def __init__(self, session: Session, before: Any) -> None:
        self._session = session
        self._before = before

    async def fetch(self, sql: str, *arguments: object) -> Any:
        await self._before(sql)
        return await self._session.fetch(sql, *arguments)


async def test_who_comes_while_somebody_else_is_written_down_as_gone_holds_the_stream(
    nodes: Nodes,
) -> None:
    store = await nodes.node()
    await create(store, lifetime=Lifetime(ttl_s=600))
    stream = await store.open(ROOM)
    held = holds.Holds(store._database.node, store._clock)  # which nobody writes down beside
    one, two = await store._database.connect(), await store._database.connect()
    held.come(stream)
    await held.write(one)
    held.leave(stream)
    gate, is_sent = asyncio.Event(), asyncio.Event()

    async def late(sql: str) -> None:
        if sql == holds._LET_GO:
            is_sent.set()
            await gate.wait()

    leaving = nodes.begin(held.write(Way(one, late)))  # type: ignore[arg-type]
    await is_sent.wait()
    held.come(stream)
    coming = nodes.begin(held.write(two))
    await until(lambda: coming.done() or held._one_by_one.locked(), "it waits, or is done")
    gate.set()
    await asyncio.gather(leaving, coming)
    assert nodes.cluster.primary.query(HELD, nodes.database.name) == "1"
    held.leave(stream)


async def test_what_could_not_be_written_down_is_written_the_next_time_as_it_is_by_then(
    nodes: Nodes,
) -> None:
    store = await nodes.node()
    await create(store, lifetime=Lifetime(ttl_s=600))
    stream = await store.open(ROOM)
    held = holds.Holds(store._database.node, store._clock)
    session = await store._database.connect()
    held.come(stream)
    await held.write(session)
    held.leave(stream)

    async def fails(_: str) -> None:
        held.come(stream)
        raise Unknown("the session is lost")

    with pytest.raises(Unknown):
        await held.write(Way(session, fails))  # type: ignore[arg-type]
    await held.write(session)

    assert nodes.cluster.primary.query(HELD, nodes.database.name) == "1"
    held.leave(stream)


async def test_what_ended_while_its_node_stood_still_does_not_come_back_when_its_reader_leaves(
    nodes: Nodes,
) -> None:
    store = await nodes.node()
    await create(store, lifetime=Lifetime(ttl_s=600))
    stream = await store.open(ROOM)
    held = holds.Holds(store._database.node, store._clock)
    session = await store._database.connect()
    held.come(stream)
    await held.write(session)
    nodes.cluster.primary.query(ENDS, nodes.database.name)
    with pytest.raises(StreamNotFound):
        await store.head(ROOM)
    held.leave(stream)
    await held.write(session)
    with pytest.raises(StreamNotFound):
        await store.head(ROOM)


async def test_who_follows_what_ended_while_its_node_stood_still_is_told(nodes: Nodes) -> None:
    store = await nodes.node()
    tail = (await create(store, lifetime=Lifetime(ttl_s=600))).info.tail
    stream = await store.open(ROOM)
    reader = Listener()

    def told() -> bool:  # a renewal that was under way may have had it live on
        nodes.cluster.primary.query(ENDS, nodes.database.name)
        return reader.reason is not None

    with store.following(stream):
        assert store.subscribe(stream, tail, reader)
        await nodes.until(HELD, "1", "it is held")
        await until(told, "the reader is told")
    assert type(reader.reason) is StreamNotFound


@pytest.mark.parametrize("is_there", [False, True], ids=["has left", "is there"])
async def test_a_node_that_is_stopped_has_the_ttl_begin_anew_of_what_its_readers_followed(
    nodes: Nodes, *, is_there: bool
) -> None:
    store = await nodes.node()
    await create(store, lifetime=Lifetime(ttl_s=600))
    stream = await store.open(ROOM)
    following = store.following(stream)
    following.__enter__()
    await nodes.until(HELD, "1", "it is held")
    nodes.cluster.primary.query(USED_LONG_AGO, nodes.database.name)
    if not is_there:
        following.__exit__(None, None, None)
    await store.close()
    assert nodes.cluster.primary.query(f"{HELD}; {LEFT_S}", nodes.database.name) == "0\n600"
    if is_there:
        following.__exit__(None, None, None)


async def test_what_is_forgotten_of_old_leases_waits_for_nobody_who_renews_one(
    nodes: Nodes,
) -> None:
    store = await nodes.node()
    renewing = await nodes.database.connect()
    try:
        await renewing.execute(OLD)
        await renewing.execute("begin; select from ds.holds where stream = 1 for update")
        forgetting = nodes.begin(store._parts.readers.fetch(holds._FORGET))
        waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
        primary = nodes.cluster.primary
        await until(lambda: forgetting.done() or primary.query(waits) == "1", "done, or it waits")
        assert forgetting.done()
        await nodes.until(HELD, "1", "the other one is forgotten")
    finally:
        renewing.terminate()


async def test_a_read_that_was_in_another_s_way_is_done_again(nodes: Nodes) -> None:
    store = await nodes.node()
    nodes.cluster.primary.query(
        "create sequence tries; create function once() returns bigint language plpgsql as $$ begin"
        " if nextval('tries') = 1 then raise 'in the way' using errcode = '40P01'; end if;"
        " return currval('tries'); end $$",
        nodes.database.name,
    )
    ((tries,),) = await store._parts.readers.fetch("select once()")
    assert tries == 2
