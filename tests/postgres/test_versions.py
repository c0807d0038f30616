"""Steps from one version of the tables to the next, on a real database."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.postgres.connecting import NoDatabase
from durable_streams.postgres.urls import parse
from durable_streams.postgres.versions import (
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

if TYPE_CHECKING:
    from tests.postgres.conftest import Database

FIRST: Final = Step(1, 1, "create table ds.things (id int primary key)")
SECOND: Final = Step(2, 1, "alter table ds.things add column name text")
THIRD: Final = Step(3, 2, "alter table ds.things alter column name set not null")
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
    both = [migrate(url, told.append, (FIRST, SECOND, THIRD)) for _ in range(2)]
    assert await asyncio.gather(*both) == [Version(3, 2)] * 2
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


async def test_a_database_of_another_encoding_is_refused(database: Database) -> None:
    name = f"{database.name}_latin"
    primary = database.cluster.primary
    primary.query(f"create database {name} encoding LATIN1 template template0 locale 'C'")
    try:
        with pytest.raises(NoDatabase, match="its encoding is LATIN1: make one with createdb"):
            await initialise(parse(primary.url(name)))
    finally:
        primary.query(f"drop database {name} with (force)")


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
