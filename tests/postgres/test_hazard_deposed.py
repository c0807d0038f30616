"""A standby is promoted while the old primary lives; names are taken away; the wrong fail-over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from tests.postgres.conftest import Database
from tests.postgres.sessions import until_it_waits
from tools.postgres_cluster.processes import wait_until

if TYPE_CHECKING:
    from tests.postgres.sessions import Session
    from tools.postgres_cluster import PostgresCluster

TABLE: Final = "create table things (id int primary key)"
INSERT: Final = "insert into things (id) values ($1)"
COUNT: Final = "select count(*) from things"
BEAT: Final = "select pg_logical_emit_message(true, '', '')"


def cut_off(cluster: PostgresCluster) -> None:
    """The primary loses both standbys: the first is promoted, and the other one follows it."""
    for link in cluster.links:
        link.cut()
    first, second = cluster.standbys
    first.promote()
    second.follow(first.port)
    first.configure(synchronous_standby_names=f"ANY 1 ({second.name})")


async def begun(cluster: PostgresCluster) -> tuple[Database, Session]:
    database = Database(cluster, "postgres")
    session = await database.connect()
    await session.execute(TABLE)
    for node in cluster.standbys:  # one of them has acknowledged it, which need not be the heir
        there = "select to_regclass('things') is not null"
        await asyncio.to_thread(node.wait_until, there, "t", f"{node.name} has the table")
    return database, session


async def test_a_deposed_primary_acknowledges_nothing_and_shows_what_was_for_ever(
    own_cluster: PostgresCluster,
) -> None:
    database, session = await begun(own_cluster)
    beats = await database.connect()
    cut_off(own_cluster)
    heir = await database.connect(own_cluster.standbys[0])
    await heir.execute(INSERT, 1)  # acknowledged by a standby

    beat = asyncio.ensure_future(beats.execute(BEAT))
    await until_it_waits(own_cluster.primary, beats.get_server_pid())
    assert await session.fetchval(COUNT) == 0
    assert not await session.fetchval("select pg_is_in_recovery()")
    assert not beat.done()
    for one in (session, beats, heir):
        one.terminate()
    await asyncio.gather(beat, return_exceptions=True)


async def test_hazard_names_that_are_taken_away_release_commits_as_plain_successes(
    own_cluster: PostgresCluster,
) -> None:
    """Without the notice of a wait that was ended; what is left is when settings were read."""
    database, session = await begun(own_cluster)
    heard: list[object] = []
    session.add_log_listener(lambda _, message: heard.append(message))
    onlooker = await database.connect()
    read_at = await onlooker.fetchval("select pg_conf_load_time()")
    for link in own_cluster.links:
        link.cut()
    commit = asyncio.ensure_future(session.execute(INSERT, 1))
    await until_it_waits(own_cluster.primary, session.get_server_pid())
    own_cluster.primary.configure(synchronous_standby_names="")
    assert await commit == "INSERT 0 1"
    assert heard == []
    own_cluster.primary.configure(synchronous_standby_names=own_cluster.quorum)
    names, again = await onlooker.fetchrow(
        "select current_setting('synchronous_standby_names'), pg_conf_load_time()"
    ) or (None, None)
    assert names == own_cluster.quorum
    assert again != read_at
    assert {node.query("select count(*) from things") for node in own_cluster.standbys} == {"0"}
    session.terminate()
    onlooker.terminate()


async def test_hazard_the_standby_that_did_not_acknowledge_loses_what_the_other_one_has(
    own_cluster: PostgresCluster,
) -> None:
    _, session = await begun(own_cluster)
    first, second = own_cluster.standbys
    there = "select to_regclass('things')"
    wait_until(lambda: second.query(there) == "things", "the table is on the other standby")
    own_cluster.links[1].cut()
    await session.execute(INSERT, 1)
    own_cluster.primary.kill()
    ends = [node.query("select pg_last_wal_receive_lsn() - '0/0'") for node in (first, second)]
    assert int(ends[0]) > int(ends[1])  # which is how to tell whom to promote
    second.promote()
    assert second.query(COUNT) == "0"
    first.promote()
    assert first.query(COUNT) == "1"
    session.terminate()
