"""The cluster that the tests of the store on PostgreSQL run on: it does what it says it does."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg
import pytest

from tests.postgres.sessions import until_gone, until_it_waits
from tools.postgres_cluster import Proxy, Way
from tools.postgres_cluster.processes import state, wait_until, working_in
from tools.server_process import ROOT

if TYPE_CHECKING:
    from tests.postgres.conftest import Database
    from tests.postgres.sessions import Session
    from tools.postgres_cluster import PostgresCluster, PostgresNode

INSERT = "insert into things values (1)"


async def prepared(database: Database) -> Session:
    session = await database.connect()
    await session.execute("create table things (number int)")
    return session


async def test_a_commit_needs_one_of_two_standbys(database: Database) -> None:
    session = await prepared(database)
    one, other = database.cluster.standbys
    one.pause()
    await session.execute(INSERT)
    other.pause()
    commit = asyncio.ensure_future(session.execute(INSERT))
    await until_it_waits(database.cluster.primary, session.get_server_pid())
    assert not commit.done()
    one.resume()
    await commit
    await session.close()


async def test_a_commit_waits_while_the_links_to_both_standbys_hold_it(database: Database) -> None:
    session = await prepared(database)
    for link in database.cluster.links:
        link.hold(Way.BACK)  # a standby connects, so what it is sent comes back
    commit = asyncio.ensure_future(session.execute(INSERT))
    await until_it_waits(database.cluster.primary, session.get_server_pid())
    assert not commit.done()
    for link in database.cluster.links:
        link.release()
    await commit
    await session.close()


async def test_a_standby_that_was_cut_off_comes_back_with_all_there_is(database: Database) -> None:
    session = await prepared(database)
    for link in database.cluster.links:
        link.cut()
    commit = asyncio.ensure_future(session.execute(INSERT))
    await until_it_waits(database.cluster.primary, session.get_server_pid())
    database.cluster.mend()
    await commit
    await session.close()
    counted = [
        node.query("select count(*) from things", database.name)
        for node in database.cluster.standbys
    ]
    assert "1" in counted  # the other one may be a moment behind


def test_a_node_that_is_paused_stands_still_whole(cluster: PostgresCluster) -> None:
    node = cluster.standbys[0]
    node.pause()
    assert {state(pid) for pid in node.processes()} == {"T"}
    node.resume()
    assert node.is_standby


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL])
def test_a_primary_that_was_ended_in_any_way_has_what_was_committed(
    database: Database, how: signal.Signals
) -> None:
    primary = database.cluster.primary
    primary.query("create table things (number int); insert into things values (7)", database.name)
    primary.restart(how)
    assert primary.query("select number from things", database.name) == "7"
    database.cluster.wait_for_standbys()


def received(standby: PostgresNode) -> int:
    """How far the log goes that a standby has."""
    return int(standby.query("select pg_last_wal_receive_lsn() - '0/0'"))


def test_a_standby_takes_over_and_the_other_one_follows_it(own_cluster: PostgresCluster) -> None:
    own_cluster.primary.query("create table things (number int); insert into things values (7)")
    own_cluster.primary.kill()
    second, first = sorted(own_cluster.standbys, key=received)  # one of both may not have it
    first.promote()
    second.follow(first.port)
    first.configure(synchronous_standby_names=f"ANY 1 ({second.name})")
    first.query("insert into things values (8)")  # acknowledged by the other
    assert second.is_standby
    assert second.query("select status from pg_stat_wal_receiver") == "streaming"


async def test_what_a_proxy_holds_arrives_later_though_its_sender_has_left(
    database: Database,
) -> None:
    observer = await prepared(database)
    proxy = Proxy(database.cluster.primary.port)
    session = await database.connect(port=proxy.port)
    pid = session.get_server_pid()
    proxy.hold(Way.THERE)
    late = asyncio.ensure_future(session.execute(INSERT))
    await proxy.held()
    session.terminate()
    await asyncio.gather(late, return_exceptions=True)
    assert await observer.fetchval("select count(*) from things") == 0
    proxy.release()
    await until_gone(database.cluster.primary, pid)
    assert await observer.fetchval("select count(*) from things") == 1
    proxy.close()
    await observer.close()


async def test_a_proxy_that_is_cut_ends_sessions_and_takes_none(database: Database) -> None:
    proxy = Proxy(database.cluster.primary.port)
    session = await database.connect(port=proxy.port)
    proxy.cut()
    with pytest.raises((asyncpg.ConnectionDoesNotExistError, ConnectionError)):
        await session.fetchval("select 1")
    with pytest.raises((asyncpg.ConnectionDoesNotExistError, ConnectionError)):
        await database.connect(port=proxy.port)
    proxy.mend()
    again = await database.connect(port=proxy.port)
    assert await again.fetchval("select 1") == 1
    await again.close()
    proxy.close()


STARTS: Final = """
import json, sys
from pathlib import Path
from tools.postgres_cluster import PostgresCluster
with PostgresCluster(standbys=1, directory=Path(sys.argv[1])) as cluster:
    cluster.standbys[0].pause()
    print(json.dumps([str(node.data.parent) for node in cluster.nodes]), flush=True)
    sys.stdin.read()
"""


@pytest.mark.needs("postgres")
def test_nothing_is_left_of_a_cluster_whose_process_was_killed() -> None:
    place = Path("/tmp")
    with subprocess.Popen(
        [sys.executable, "-c", STARTS, place],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        directory = Path(json.loads(process.stdout.readline())[0])
        assert directory.parent == place
        assert list(working_in(directory))
        process.kill()
    wait_until(lambda: not directory.exists(), "the directory is gone")
    assert not list(working_in(directory))
