"""Statements that arrive when their sender has gone, been replaced, and has answered.

An unknown outcome is resolved by a row for each session that writes: whoever locks it knows how far
the session came, and whoever deletes it ends what the session can do.  These are facts about
PostgreSQL: the store's own fence is tested with the store.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.postgres.scene import COMPARE_AND_SET, Scene, batch_id, staged
from tests.postgres.sessions import until_it_waits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from tests.postgres.conftest import Database
    from tests.postgres.sessions import Session


@pytest.fixture
async def scene(database: Database) -> AsyncIterator[Scene]:
    async with staged(database) as made:
        yield made


IS_STORED: Final = "select exists(select from stored where thing = $1 and batch = $2)"
LOCK_AND_LOOK: Final = """
with held as (select id from things where id = $1 for no key update)
select exists(select from stored join held on thing = id where batch = $2) from held
"""

FENCED: Final = """
with mine as (select from lanes where lane = $4 and batch = $5 - 1 for no key update),
moved as (
    update things set version = version + 1
    where id = $1 and version = $2 and exists (select from mine) returning id
),
kept as (insert into stored select id, $3 from moved),
done as (
    update lanes set batch = $5, won = array(select id from moved)
    where lane = $4 and exists (select from mine)
)
select id from moved
"""
CREATE: Final = "insert into things (id, name) values ($1, $2) on conflict do nothing"
FENCED_CREATE: Final = """
with mine as (select from lanes where lane = $3 and batch = $4 - 1 for no key update),
made as (
    insert into things (id, name) select $1, $2 from mine on conflict do nothing returning id
),
done as (
    update lanes set batch = $4, won = array(select id from made)
    where lane = $3 and exists (select from mine)
)
select id from made
"""
READ_LANE: Final = "select batch, won from lanes where lane = $1 for update"


async def retried(scene: Scene, thing: int) -> None:
    """What a client does who was told that nothing was stored."""
    version = await scene.onlooker.fetchval("select version from things where id = $1", thing)
    assert await scene.onlooker.fetch(COMPARE_AND_SET, thing, version, batch_id())


async def a_lane(scene: Scene) -> uuid.UUID:
    lane = uuid.uuid4()
    await scene.onlooker.execute("insert into lanes (lane) values ($1)", lane)
    return lane


async def fenced(session: Session, lane: uuid.UUID) -> asyncpg.Record | None:
    """Resolve what became of a lane's last write, and end the lane."""
    async with session.transaction():
        found = await session.fetchrow(READ_LANE, lane)
        await session.execute("delete from lanes where lane = $1", lane)
    return found


async def test_hazard_who_only_looks_answers_before_the_statement_arrives(scene: Scene) -> None:
    thing, batch = await scene.thing(), batch_id()
    late = await scene.late(COMPARE_AND_SET, thing, 0, batch)
    assert not await scene.onlooker.fetchval(IS_STORED, thing, batch)
    late.arrive()
    await late.over()
    await retried(scene, thing)
    assert await scene.times_stored(thing) == 2


async def test_hazard_what_waits_for_a_standby_is_not_seen_but_its_row_is_locked(
    scene: Scene,
) -> None:
    thing, batch = await scene.thing(), batch_id()
    writer, other = await scene.session(), await scene.session()
    await scene.waiting(writer, COMPARE_AND_SET, thing, 0, batch)
    assert not await scene.onlooker.fetchval(IS_STORED, thing, batch)
    lock = scene.begin(other.fetch("select from things where id = $1 for no key update", thing))
    await until_it_waits(scene.cluster.primary, other.get_server_pid(), "transactionid")
    assert not lock.done()
    scene.resume_standbys()
    await lock
    assert await other.fetchval(IS_STORED, thing, batch)


async def test_hazard_lock_and_look_in_one_statement_misses_what_committed_meanwhile(
    scene: Scene,
) -> None:
    thing, batch = await scene.thing(), batch_id()
    writer, other = await scene.session(), await scene.session()
    await scene.waiting(writer, COMPARE_AND_SET, thing, 0, batch)
    looked = scene.begin(other.fetchval(LOCK_AND_LOOK, thing, batch))
    await until_it_waits(scene.cluster.primary, other.get_server_pid(), "transactionid")
    scene.resume_standbys()
    assert await looked is False
    assert await other.fetchval(IS_STORED, thing, batch)


async def test_hazard_a_create_has_no_row_to_lock_and_brings_back_what_was_deleted(
    scene: Scene,
) -> None:
    late = await scene.late(CREATE, scene.number, "chat")
    await scene.onlooker.execute(CREATE, scene.number, "chat")
    await scene.onlooker.execute("delete from things where name = 'chat'")
    late.arrive()
    await late.over()
    assert await scene.onlooker.fetchval("select count(*) from things where name = 'chat'") == 1


async def test_a_create_whose_lane_was_deleted_makes_nothing(scene: Scene) -> None:
    lane = await a_lane(scene)
    late = await scene.late(FENCED_CREATE, scene.number, "chat", lane, 1)
    found = await fenced(scene.onlooker, lane)
    assert found is not None
    assert found["batch"] == 0
    late.arrive()
    await late.over()
    assert await scene.onlooker.fetchval("select count(*) from things where name = 'chat'") == 0


async def resolved_before(scene: Scene, late: Any, lane: uuid.UUID) -> asyncpg.Record | None:
    late.arrive()
    await late.over()
    return await fenced(scene.onlooker, lane)


async def resolved_after(scene: Scene, late: Any, lane: uuid.UUID) -> asyncpg.Record | None:
    found = await fenced(scene.onlooker, lane)
    late.arrive()
    await late.over()
    return found


async def resolved_while(scene: Scene, late: Any, lane: uuid.UUID) -> asyncpg.Record | None:
    """The statement arrives between the fence's lock and its commit."""
    async with scene.onlooker.transaction():
        found = await scene.onlooker.fetchrow(READ_LANE, lane)
        late.arrive()
        await late.until_it_waits("transactionid")
        await scene.onlooker.execute("delete from lanes where lane = $1", lane)
    await late.over()
    return found


async def resolved_in_its_wait(scene: Scene, late: Any, lane: uuid.UUID) -> asyncpg.Record | None:
    """The statement has been done, and waits for a standby, when the fence comes."""
    scene.pause_standbys()
    late.arrive()
    await late.until_it_waits()
    other = await scene.session()
    fence = scene.begin(fenced(other, lane))
    await until_it_waits(scene.cluster.primary, other.get_server_pid(), "transactionid")
    scene.resume_standbys()
    found: asyncpg.Record | None = await fence
    return found


@pytest.mark.parametrize(
    ("resolve", "is_found"),
    [
        (resolved_before, True),
        (resolved_in_its_wait, True),
        (resolved_while, False),
        (resolved_after, False),
    ],
    ids=lambda given: getattr(given, "__name__", str(given)),
)
async def test_a_lane_row_tells_the_truth_whenever_the_statement_arrives(
    scene: Scene, resolve: Any, is_found: bool
) -> None:
    thing, lane = await scene.thing(), await a_lane(scene)
    late = await scene.late(FENCED, thing, 0, batch_id(), lane, 1)
    found = await resolve(scene, late, lane)
    assert tuple(found) == ((1, [thing]) if is_found else (0, None))
    if not is_found:
        await retried(scene, thing)
    assert await scene.times_stored(thing) == 1


async def test_hazard_a_fence_that_rolls_back_answers_what_no_standby_has(scene: Scene) -> None:
    """The wait of the write was ended, so its row is seen; only a commit waits again."""
    thing, lane = await scene.thing(), await a_lane(scene)
    writer = await scene.session()
    await scene.waiting(writer, FENCED, thing, 0, batch_id(), lane, 1)
    await scene.onlooker.execute("select pg_cancel_backend($1)", writer.get_server_pid())
    other = await scene.session()
    transaction = other.transaction()
    await transaction.start()
    found = await other.fetchrow(READ_LANE, lane)
    await transaction.rollback()  # and the standbys stand still
    assert found is not None
    assert found["batch"] == 1

    fence = scene.begin(fenced(other, lane))
    await until_it_waits(scene.cluster.primary, other.get_server_pid())
    scene.resume_standbys()
    assert await fence == found


async def test_a_lane_that_was_ended_is_no_lost_race_of_a_stream(scene: Scene) -> None:
    """Both write nothing: the lane's own row has to tell them apart."""
    thing, lane = await scene.thing(), await a_lane(scene)
    assert not await scene.onlooker.fetch(FENCED, thing, 9, batch_id(), lane, 1)
    assert await scene.onlooker.fetchval("select batch from lanes where lane = $1", lane) == 1
    await fenced(scene.onlooker, lane)
    assert not await scene.onlooker.fetch(FENCED, thing, 0, batch_id(), lane, 2)
    assert await scene.times_stored(thing) == 0


async def test_hazard_a_late_delete_by_number_takes_what_was_acknowledged_since(
    scene: Scene,
) -> None:
    thing, other = await scene.thing(), await scene.thing()
    late = await scene.late("delete from things where id = $1", thing)
    await retried(scene, thing)
    late.arrive()
    await late.over()
    assert not await scene.is_there(thing)

    late = await scene.late("delete from things where id = $1 and version = $2", other, 0)
    await retried(scene, other)
    late.arrive()
    await late.over()
    assert await scene.is_there(other)
