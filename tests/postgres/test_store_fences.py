"""Writes whose outcome nobody knows: none is lost, doubled, or comes later, whatever it was."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import pytest

from durable_streams.model.errors import DiskFull, StreamError, StreamNotFound
from durable_streams.postgres import notices
from durable_streams.postgres.fencing import END_LANE, Lane, settle
from durable_streams.postgres.transactions import worker_of
from tests.postgres.stores import Nodes, nodes_of, until
from tests.store_contract.words import ROOM, append, at, by, close, content, create
from tools.postgres_cluster import Way

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from durable_streams.model.results import Appended
    from durable_streams.postgres.sessions import Session
    from durable_streams.postgres.store import PostgresStore
    from tests.postgres.conftest import Database


@pytest.fixture
async def nodes(database: Database) -> AsyncIterator[Nodes]:
    async with nodes_of(database) as made:
        yield made


async def lost(nodes: Nodes, store: PostgresStore) -> None:
    """A node loses the session whose statement is still on its way, and opens others elsewhere."""
    await nodes.proxy.held()
    nodes.lose_sessions(store)


async def arrives(nodes: Nodes) -> None:
    """What was on its way is delivered, and done."""
    nodes.proxy.release()
    await nodes.until(
        "select count(*) from pg_stat_activity where datname = current_database()"
        " and state = 'active' and pid <> pg_backend_pid()",
        "0",
        "nothing is under way",
    )


async def test_an_append_that_arrives_late_is_stored_once(nodes: Nodes) -> None:
    store = await nodes.node(proxied=True)
    await create(store)
    await append(store, b"one")
    nodes.proxy.hold(Way.THERE)
    writing = nodes.begin(append(store, b"two"))
    await lost(nodes, store)
    await writing
    await arrives(nodes)
    other = await nodes.node()
    assert await content(other) == b"onetwo"


async def test_an_append_whose_answer_is_lost_is_stored_once(nodes: Nodes) -> None:
    store = await nodes.node(proxied=True)
    await create(store)
    await append(store, b"one")
    nodes.proxy.hold(Way.BACK)
    writing = nodes.begin(append(store, b"two"))
    await nodes.until("select count(*) from ds.runs", "2", "it is stored")
    nodes.lose_sessions(store)
    await writing
    other = await nodes.node()
    assert await content(other) == b"onetwo"


async def test_a_producer_that_repeats_what_arrives_late_is_stored_once(nodes: Nodes) -> None:
    store, other = await nodes.node(proxied=True), await nodes.node()
    await create(store)
    await append(store, b"0", producer=by(0))
    nodes.proxy.hold(Way.THERE)
    writing = nodes.begin(append(store, b"1", producer=by(1)))
    await nodes.proxy.held()
    assert (await append(other, b"1", producer=by(1))).wrote_data
    await lost(nodes, store)
    assert (await writing).duplicate
    await arrives(nodes)
    assert await content(other) == b"01"


async def test_a_close_that_arrives_late_closes_nothing_twice(nodes: Nodes) -> None:
    store, other = await nodes.node(proxied=True), await nodes.node()
    await create(store)
    await append(store, b"one")
    nodes.proxy.hold(Way.THERE)
    closing = nodes.begin(close(store))
    await lost(nodes, store)
    assert (await closing).closed
    await other.delete(ROOM)
    await create(other)
    await arrives(nodes)
    assert not (await other.head(ROOM)).closed


@pytest.mark.parametrize("step", range(1, 13))
async def test_a_create_that_arrives_late_brings_nothing_back(nodes: Nodes, step: int) -> None:
    store, other = await nodes.node(proxied=True), await nodes.node()
    await create(store)
    await store.delete(ROOM)
    nodes.proxy.hold(Way.THERE)
    creating = nodes.begin(create(store, body=b"some"))
    for _ in range(step - 1):
        await nodes.proxy.held()
        if creating.done():
            break
        await one_passes(nodes)
    if not creating.done():
        await lost(nodes, store)
    assert (await creating).created
    await other.delete(ROOM)
    await arrives(nodes)
    with pytest.raises(StreamNotFound):
        await other.head(ROOM)


async def one_passes(nodes: Nodes) -> None:
    """Let what is held through, and hold what comes then."""
    await nodes.let_through()
    nodes.proxy.hold(Way.THERE)


@pytest.mark.parametrize("step", range(1, 11))
async def test_a_delete_that_arrives_late_takes_nothing_along(nodes: Nodes, step: int) -> None:
    store, other = await nodes.node(proxied=True), await nodes.node()
    await create(store)
    nodes.proxy.hold(Way.THERE)
    deleting = nodes.begin(store.delete(ROOM))
    for _ in range(step - 1):
        await nodes.proxy.held()
        if deleting.done():
            break
        await one_passes(nodes)
    if not deleting.done():
        await lost(nodes, store)
    await deleting
    await create(other, body=b"new")
    await arrives(nodes)
    assert await content(other) == b"new"


COMES_AND_IS_ENDED: Final = "update ds.lanes set batch = 1; delete from ds.lanes"


async def test_what_a_fence_has_seen_and_not_committed_is_no_answer(nodes: Nodes) -> None:
    """The write comes behind it, and then somebody ends the lane, as a step of versions does."""
    store = await nodes.node()
    database, connect = store._database, store._database.connect
    lane = await Lane.begin(await connect(), database.node)
    lost: list[Session] = []

    async def connects() -> Session:
        session = await connect()
        fetch = session.fetch

        async def fails_once(sql: str, *arguments: object) -> list[Any]:
            if sql == END_LANE and not lost:
                lost.append(session)
                session.terminate()
                query = nodes.cluster.primary.query
                await asyncio.to_thread(query, COMES_AND_IS_ENDED, nodes.database.name)
            return await fetch(sql, *arguments)

        session.fetch = fails_once  # type: ignore[method-assign]
        return session

    database.connect = connects  # type: ignore[method-assign]
    assert await settle(database, store._standbys, lane) is None
    assert lost


# -- what was decided again, under a lock --------------------------------------------------


HELD_UP: Final = """
create function wait() returns trigger language plpgsql as $$ begin
 perform pg_advisory_xact_lock(1);
 return new;
end $$;
create trigger waits before insert on ds.runs for each row execute function wait();
select pg_advisory_lock(1);
"""


async def a_commit_on_its_way(
    nodes: Nodes, store: PostgresStore, other: PostgresStore, stop: Callable[[], None]
) -> asyncio.Future[Appended]:
    """An append that lost its race is written under a lock; what then ``stop``s its commit."""
    await create(store)
    await append(store, b"0")
    nodes.proxy.hold(Way.THERE)
    writing = nodes.begin(append(store, b"2"))
    await nodes.proxy.held()
    await append(other, b"1")
    lane = store._transactions._lanes[worker_of(ROOM)]
    assert lane is not None
    fetch, sent = lane.session.fetch, asyncio.Event()

    def noticed(sql: str, *arguments: object) -> Any:
        if sql == "commit":
            sent.set()
        return fetch(sql, *arguments)

    lane.session.fetch = noticed  # type: ignore[method-assign]
    gate = await nodes.database.connect()
    try:
        await gate.execute(HELD_UP)
        nodes.proxy.release()
        waits = "select count(*) from pg_stat_activity where wait_event = 'advisory'"
        await nodes.until(waits, "1", "it is written, with the stream's row locked")
        stop()
        await gate.execute("select pg_advisory_unlock(1)")
    finally:
        gate.terminate()
    await sent.wait()
    return writing


async def test_a_commit_under_a_lock_that_arrives_behind_its_fence_commits_nothing(
    nodes: Nodes,
) -> None:
    """The fence waits for the lane's row until the server gives up on who is idle."""
    store, other = await nodes.node(proxied=True), await nodes.node()
    writing = await a_commit_on_its_way(nodes, store, other, lambda: nodes.proxy.hold(Way.THERE))
    nodes.lose_sessions(store)
    assert (await writing).tail.position == 3
    await append(other, b"3")
    await arrives(nodes)
    assert await content(other) == b"0123"
    assert store._counted.unknown == 1


async def test_a_commit_under_a_lock_that_arrives_while_its_fence_waits_is_what_is_answered(
    nodes: Nodes,
) -> None:
    store, other = await nodes.node(proxied=True), await nodes.node()
    writing = await a_commit_on_its_way(nodes, store, other, lambda: nodes.proxy.hold(Way.THERE))
    nodes.lose_sessions(store)
    fence = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
    await nodes.until(f"{fence} and query like 'select batch, won%'", "1", "the fence waits")
    assert not writing.done()
    nodes.proxy.release()
    assert (await writing).tail.position == 3
    assert await content(other) == b"012"
    await nodes.until("select count(*) from ds.runs", "3", "it was written once")


async def test_a_commit_under_a_lock_whose_answer_is_lost_is_found(nodes: Nodes) -> None:
    store, other = await nodes.node(proxied=True), await nodes.node()
    writing = await a_commit_on_its_way(nodes, store, other, nodes.pause_standbys)
    await nodes.until_commits_wait()
    nodes.proxy.hold(Way.BACK)
    nodes.lose_sessions(store)
    nodes.resume_standbys()
    assert (await writing).tail.position == 3
    assert await content(other) == b"012"


# -- commits that did not wait for the standbys --------------------------------------------


async def test_a_commit_whose_wait_is_ended_is_answered_when_a_standby_has_it(
    nodes: Nodes,
) -> None:
    store = await nodes.node()
    await create(store)
    await append(store, b"one")
    nodes.pause_standbys()
    writing = nodes.begin(append(store, b"two"))
    await nodes.until_commits_wait()
    await nodes.end_waits()
    await nodes.until("select count(*) from ds.runs", "2", "it is visible")
    await nodes.until_commits_wait()  # the fence, now
    assert not writing.done()
    nodes.resume_standbys()
    await writing
    assert await content(store) == b"onetwo"


async def test_what_no_standby_has_is_not_shown(nodes: Nodes) -> None:
    store, other = await nodes.node(), await nodes.node()
    await create(store)
    await append(store, b"one")
    assert (await other.head(ROOM)).tail.position == 3
    nodes.pause_standbys()
    writing = nodes.begin(append(store, b"two"))
    await nodes.until_commits_wait()
    await nodes.end_waits()
    await nodes.until("select count(*) from ds.runs", "2", "it is visible")
    (stream,) = other._streams.all()
    forged = f"{'x' * notices._NAME_CHARACTERS}:{stream.number:x}:{bytes(8).hex()}"
    nodes.cluster.primary.query(f"notify durable_streams, '{forged}'", nodes.database.name)
    await until(lambda: stream.is_stale, "it was heard")
    looking = nodes.begin(other.head(ROOM))
    await nodes.until_commits_wait(2)  # the fence, and the barrier of who looks
    assert not looking.done()
    nodes.resume_standbys()
    await writing
    try:
        assert (await looking).tail.position == 6
    except StreamError:  # the heartbeat came too late for it
        assert (await other.head(ROOM)).tail.position == 6


# -- what was decided and not written ------------------------------------------------------


async def test_an_append_whose_lane_was_ended_is_no_duplicate_of_itself(nodes: Nodes) -> None:
    store = await nodes.node()
    await create(store)
    await append(store, b"0", producer=by(0))
    nodes.cluster.primary.query("delete from ds.lanes", nodes.database.name)
    assert (await append(store, b"1", producer=by(1))).wrote_data
    assert await content(store) == b"01"


REFUSED_WHEN_UNLOCKED: Final = """
create function refuse() returns trigger language plpgsql as $$ begin
 perform pg_advisory_xact_lock(1);
 raise exception using errcode = 'disk_full', message = 'no space left';
end $$;
create trigger refused before insert on ds.runs execute function refuse();
"""


async def test_an_append_that_was_refused_is_stored_when_it_is_repeated(nodes: Nodes) -> None:
    """Also where the stream was pushed out of what the node knows, and somebody reads it."""
    store = await nodes.node()
    await create(store, at("other"))
    await create(store)
    await append(store, b"0", producer=by(0))
    opened = await store.open(ROOM)
    store._streams.most_known = 1
    disk = await nodes.database.connect()
    try:
        await disk.execute(REFUSED_WHEN_UNLOCKED)
        await disk.execute("select pg_advisory_lock(1)")
        writing = nodes.begin(append(store, b"1", producer=by(1)))
        waits = "select count(*) from pg_stat_activity where wait_event = 'advisory'"
        await nodes.until(waits, "1", "it waits")
        await store.head(at("other"))
        await disk.execute("select pg_advisory_unlock(1)")
        with pytest.raises(DiskFull):
            await writing
        await disk.execute("drop trigger refused on ds.runs")
    finally:
        disk.terminate()
    assert await store.open(ROOM) is opened
    assert (await append(store, b"1", producer=by(1))).wrote_data
    assert await content(store) == b"01"


async def test_an_append_whose_session_was_lost_before_it_was_decided_on_is_stored(
    nodes: Nodes,
) -> None:
    """Of a stream that the node does not know, so that its row is looked up on that session."""
    store, other = await nodes.node(), await nodes.node()
    await create(store)
    await append(store, b"one")
    await create(other, at("unknown"))
    await append(other, b"two")
    nodes.lose_sessions(store)
    await append(store, b"three", at("unknown"))
    await append(store, b"three")
    assert await content(other) == b"onetwothree"
    assert await content(other, at("unknown")) == b"three"
