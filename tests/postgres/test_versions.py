"""Steps from one version of the tables to the next, on a real database."""

from __future__ import annotations

import asyncio
import re
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from durable_streams.postgres import heartbeat
from durable_streams.postgres.connecting import Hosts, NoDatabase
from durable_streams.postgres.fencing import Lane
from durable_streams.postgres.sessions import Session
from durable_streams.postgres.statements import ADVANCE
from durable_streams.postgres.urls import parse
from durable_streams.postgres.versions import (
    FENCE,
    OUT_S,
    RETIRE,
    STEPS,
    VERSION,
    Fit,
    Step,
    Version,
    initialise,
    migrate,
    read,
)
from tests.postgres.sessions import until_it_waits
from tests.postgres.stores import until
from tests.postgres.test_store_commands import configured
from tools.server_process import ROOT

if TYPE_CHECKING:
    from tests.postgres.conftest import Database

FIRST: Final = Step(1, 1, "create table ds.things (id int primary key)")
SECOND: Final = Step(2, 1, "alter table ds.things add column name text")
THIRD: Final = Step(3, 2, "alter table ds.things alter column name set not null")
ADVISORY: Final = re.compile(r"advisory_(?:xact_)?lock\((\d+)")
WRONG: Final = Step(2, 1, "alter table ds.things add column name text; select 1 / 0")


@pytest.mark.parametrize(
    ("version", "known", "fit"),
    [
        (Version(), 1, Fit.EMPTY),
        (Version(1, 1), 1, Fit.FITS),
        (Version(1, 1), 2, Fit.OLD),
        (Version(2, 1), 1, Fit.FITS),  # migrated first, while nodes of the version before go on
        (Version(2, 1), 2, Fit.FITS),
        (Version(3, 2), 1, Fit.NEW),
        (Version(3, 2), 2, Fit.FITS),
    ],
)
def test_who_can_work_with_which_version(version: Version, known: int, fit: Fit) -> None:
    assert version.fit(known) is fit


def test_every_step_can_be_borne_by_programs_of_the_version_before() -> None:
    """They serve while it is taken."""
    assert [step.version for step in STEPS] == list(range(1, len(STEPS) + 1))
    assert all(step.needs < step.version for step in STEPS[1:])
    assert STEPS[0].needs == 1
    assert len(STEPS) == VERSION
    needs = [step.needs for step in STEPS]
    assert needs == sorted(needs)


def test_each_advisory_lock_has_a_number_of_its_own() -> None:
    """What has the same one waits for each other, without a reason."""
    sources = (ROOT / "durable_streams").rglob("*.py")
    numbers = [n for each in sources for n in ADVISORY.findall(each.read_text())]
    assert len(numbers) > 3
    assert len(numbers) == len(set(numbers))


def test_who_is_told_to_stop_shows_nothing_any_more_when_the_step_is_taken() -> None:
    assert heartbeat.MOST_S + heartbeat.EVERY_S < OUT_S


async def version_of(database: Database) -> Version:
    session = await database.connect()
    try:
        return await read(session.fetch)
    finally:
        session.terminate()


async def test_an_empty_database_is_made_one_of_streams_once(database: Database) -> None:
    url = parse(database.url)
    assert await version_of(database) == Version()
    made = await asyncio.gather(*[initialise(url) for _ in range(4)])
    assert sorted(made) == [False, False, False, True]
    assert await version_of(database) == Version(VERSION, STEPS[-1].needs)


async def test_steps_are_taken_one_by_one_and_each_once(database: Database) -> None:
    url = parse(database.url)
    await initialise(url, (FIRST,))
    told: list[int] = []
    assert await migrate(url, told.append, (FIRST,)) == Version(1, 1)
    assert told == []
    steps = (FIRST, SECOND, replace(THIRD, needs=1))
    both = [migrate(url, told.append, steps) for _ in range(2)]
    assert await asyncio.gather(*both) == [Version(3, 1)] * 2
    assert sorted(told) == [2, 3]


async def test_a_step_that_fails_leaves_what_was(database: Database) -> None:
    url = parse(database.url)
    await initialise(url, (FIRST,))
    with pytest.raises(NoDatabase, match="division by zero"):
        await migrate(url, lambda _: None, (FIRST, WRONG))
    assert await version_of(database) == Version(1, 1)
    assert await migrate(url, lambda _: None, (FIRST, SECOND)) == Version(2, 1)


async def test_what_is_empty_or_too_new_is_not_migrated(database: Database) -> None:
    url = parse(database.url)
    with pytest.raises(NoDatabase, match="store init"):
        await migrate(url, lambda _: None)
    await initialise(url, (FIRST, SECOND, THIRD))
    with pytest.raises(NoDatabase, match="install a newer"):
        await migrate(url, lambda _: None, (FIRST,))


async def test_a_step_lets_those_go_first_who_use_its_table(database: Database) -> None:
    """It waits for the table in turns, so that nodes that come meanwhile do not wait behind it."""
    url = parse(database.url)
    await initialise(url, (FIRST,))
    user = await database.connect()
    transaction = user.transaction()
    await transaction.start()
    await user.execute("insert into ds.things values (1)")
    primary = database.cluster.primary
    steps = asyncio.ensure_future(migrate(url, lambda _: None, (FIRST, SECOND)))
    waits = "select pid from pg_stat_activity where wait_event = 'relation' and query ~ 'alter'"
    while not await asyncio.to_thread(primary.query, waits):
        assert not steps.done()
    other = await database.connect()
    # Behind it at first; and as it gives up, before it.
    assert await other.execute("insert into ds.things values (2)") == "INSERT 0 1"
    await transaction.rollback()
    assert await steps == Version(2, 1)
    for session in (user, other):
        session.terminate()


async def test_who_holds_a_table_is_named_before_anybody_is_stopped_for_a_step(
    database: Database,
) -> None:
    url = parse(database.url)
    await initialise(url)
    step = Step(VERSION + 1, VERSION, "alter table ds.streams add column more text")
    stopped: list[int] = []

    async def migrated() -> Version:
        return await migrate(url, lambda _: None, (*STEPS, step), stopped.append, tries=1)

    user = await database.connect(settings={"application_name": "backup"})
    transaction = user.transaction()
    await transaction.start()
    await user.execute("select from ds.streams")
    named = rf"process {user.get_server_pid()} \(backup, idle in transaction\)"
    with pytest.raises(NoDatabase, match=rf"{named}.*nodes go on as they are"):
        await migrated()
    assert stopped == []
    assert await version_of(database) == Version(VERSION, STEPS[-1].needs)
    await transaction.rollback()

    late = asyncio.ensure_future(migrated())
    await until(lambda: late.done() or stopped, "nodes are told")
    await user.execute("begin; select from ds.streams")
    with pytest.raises(NoDatabase, match=rf"{named}.*nobody serves until it is"):
        await late
    await user.execute("rollback")
    assert await migrated() == Version(VERSION + 1, VERSION)
    user.terminate()


async def test_a_step_that_a_write_and_it_wait_for_each_other_in_is_tried_again(
    database: Database,
) -> None:
    """As of nodes with much to do: some have locked a stream when the step has all lanes."""
    url = parse(database.url)
    await initialise(url)
    step = Step(VERSION + 1, VERSION, "alter table ds.streams add column more text")
    writer = await database.connect(settings={"deadlock_timeout": "1min"})  # the step is to notice
    transaction = writer.transaction()
    await transaction.start()
    await writer.execute("lock table ds.streams in row exclusive mode")
    migrating = asyncio.ensure_future(migrate(url, lambda _: None, (*STEPS, step)))
    waits = "select count(*) from pg_locks where not granted and mode = 'AccessExclusiveLock'"
    while not await writer.fetchval(waits):
        await asyncio.sleep(0)
    await writer.execute("delete from ds.lanes")  # goes on when the step has given way
    await transaction.commit()
    assert await migrating == Version(VERSION + 1, VERSION)
    writer.terminate()


async def test_no_node_holds_a_lane_for_long_that_stands_still_while_it_looks_at_it(
    database: Database,
) -> None:
    session = await Session.open(Hosts(parse(database.url)))
    await session.run("create table things (id int); begin; lock table things")
    await session.is_lost()


async def lane_of(database: Database) -> Lane:
    return await Lane.begin(await Session.open(Hosts(parse(database.url))), uuid.uuid4())


async def test_who_has_begun_to_write_or_begins_is_behind_a_step_that_it_cannot_bear(
    database: Database,
) -> None:
    """Whatever its heartbeats say: nothing of it is written once the step is taken."""
    await initialise(parse(database.url))
    early = await lane_of(database)
    step = await database.connect()
    transaction = step.transaction()
    await transaction.start()
    await step.execute(FENCE)
    await step.execute("insert into ds.versions values ($1, $1)", VERSION + 1)
    late = asyncio.ensure_future(lane_of(database))
    waits = "select pid from pg_stat_activity where wait_event = 'relation' and query ~ 'ds.lanes'"
    while not await asyncio.to_thread(database.cluster.primary.query, waits):
        assert not late.done()
    await transaction.commit()
    with pytest.raises(NoDatabase, match="too new"):
        await late
    assert await early.session.run(ADVANCE.format(lane=early.id, number=1)) == "UPDATE 0"
    early.session.terminate()
    step.terminate()


async def test_who_has_begun_to_write_does_not_go_on_where_a_database_is_retired(
    database: Database,
) -> None:
    """A node that stood still meanwhile, which nobody saw."""
    await initialise(parse(database.url))
    early = await lane_of(database)
    session = await database.connect()
    await session.execute(RETIRE)
    assert await early.session.run(ADVANCE.format(lane=early.id, number=1)) == "UPDATE 0"
    with pytest.raises(NoDatabase, match="retired"):
        await lane_of(database)
    early.session.terminate()
    session.terminate()


async def test_settings_of_a_user_do_not_get_in_the_way_of_steps(database: Database) -> None:
    url, primary = parse(database.url), database.cluster.primary
    for setting in (
        "statement_timeout = '50ms'",
        "synchronous_commit = off",
        "default_transaction_isolation = serializable",
    ):
        primary.query(f"alter database {database.name} set {setting}")
    seen = "create table ds.seen as select current_setting('synchronous_commit') as waits"
    slow = Step(2, 1, f"select pg_sleep(0.2); {seen}")
    await initialise(url, (FIRST,))
    both = [migrate(url, lambda _: None, (FIRST, slow)) for _ in range(2)]
    assert await asyncio.gather(*both) == [Version(2, 1)] * 2
    assert primary.query("select waits from ds.seen", database.name) == "on"


async def test_a_database_of_another_encoding_is_refused(database: Database) -> None:
    name = f"{database.name}_latin"
    primary = database.cluster.primary
    primary.query(f"create database {name} encoding LATIN1 template template0 locale 'C'")
    try:
        with pytest.raises(NoDatabase, match="its encoding is LATIN1: make one with createdb"):
            await initialise(parse(primary.url(name)))
    finally:
        primary.query(f"drop database {name} with (force)")


async def a_commit_that_waits(database: Database, work: asyncio.Future[Any]) -> None:
    primary = database.cluster.primary
    waits = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'"
    await until(lambda: work.done() or primary.query(waits) == "1", "its commit waits")
    assert not work.done()


@pytest.mark.parametrize("verb", ["init", "migrate"])
async def test_it_is_not_done_for_sure_where_commits_wait_for_none_meanwhile(
    database: Database, verb: str
) -> None:
    url, cluster, told = parse(database.url), database.cluster, list[int]()
    if verb == "migrate":
        await initialise(url, (FIRST,))

    async def work() -> object:
        if verb == "init":
            return await initialise(url)
        return await migrate(url, told.append, (FIRST, SECOND))

    with configured(cluster, synchronous_standby_names=cluster.quorum):
        for node in cluster.standbys:
            node.pause()
        done = asyncio.ensure_future(work())
        await a_commit_that_waits(database, done)
        await asyncio.to_thread(cluster.primary.configure, synchronous_standby_names="")
        with pytest.raises(NoDatabase, match=r"whether it was done is not known .*: run it again"):
            await done
        assert told == []
    cluster.mend()
    assert await work() == (False if verb == "init" else Version(2, 1))


@pytest.mark.parametrize("verb", ["init", "migrate"])
async def test_what_is_there_already_is_not_said_to_be_before_a_standby_has_it(
    database: Database, verb: str
) -> None:
    """As when somebody, or something, has ended the wait of whoever made it."""
    url, cluster = parse(database.url), database.cluster
    for node in cluster.standbys:
        node.pause()
    made = asyncio.ensure_future(initialise(url))
    await a_commit_that_waits(database, made)
    cluster.primary.query(
        "select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'"
    )
    with pytest.raises(NoDatabase, match=r"whether it was done is not known"):
        await made
    again = asyncio.ensure_future(
        initialise(url) if verb == "init" else migrate(url, lambda _: None)
    )
    await a_commit_that_waits(database, again)
    cluster.mend()
    assert await again == (False if verb == "init" else Version(VERSION, STEPS[-1].needs))


async def test_nothing_is_answered_before_a_standby_has_the_tables(database: Database) -> None:
    for node in database.cluster.standbys:
        node.pause()
    made = asyncio.ensure_future(initialise(parse(database.url)))
    primary = database.cluster.primary
    waits = "select pid from pg_stat_activity where wait_event = 'SyncRep'"
    while not (found := await asyncio.to_thread(primary.query, waits)):
        assert not made.done()
    await until_it_waits(primary, int(found))
    assert not made.done()
    database.cluster.mend()
    assert await made
