"""Versions of the tables: the steps from one to the next, and who can work with which.

``ds.versions`` has a row for each step that was taken: its number, and ``needs``, the oldest
program that can work with the tables since, by the newest step that it knows.  So a database is
migrated first, while nodes of the version before go on, and nodes are replaced afterwards, one by
one.  A step that those cannot bear is parted in two: one that they can, and one a version later.

Nodes that are older still may serve while a step is taken that they cannot bear.  They are told
before, once the step was tried and taken back: ``needs`` goes up by a commit of its own, each node
sees it with its next heartbeat, and shows nothing more at the latest ``heartbeat.MOST_S`` later.
After ``OUT_S`` the step is taken, in one transaction with the end of all lanes (:mod:`.fencing`),
without which nobody writes streams; and one that begins is looked at behind its commit.  What may
come later still, from a node that stood still meanwhile, is what has no lane: renewals of TTLs,
holds, and the sweep of graves.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Final

from durable_streams.postgres import schema
from durable_streams.postgres.connecting import Hosts, NoDatabase, explained
from durable_streams.postgres.sessions import COMMAND, Refused, Session, Unknown
from durable_streams.postgres.statements import BARRIER
from durable_streams.postgres.waits import waited_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    import asyncpg

    from durable_streams.postgres.urls import DatabaseUrl

    Fetch = Callable[..., Awaitable[list[asyncpg.Record]]]

_TABLE: Final = """
create table if not exists ds.versions (
    version integer primary key,
    needs integer not null,
    taken timestamptz not null default clock_timestamp()
);
"""

ALONE: Final = "select pg_advisory_xact_lock(7310579661349056101)"
"""Until its end a transaction is the only one that changes versions; the number is any."""

_LOCK_TIMEOUT: Final = "2s"
"""A step that has to wait longer for a table lets nodes, who queue behind it, go first."""

NEWEST: Final = "select version, needs from ds.versions order by version desc limit 2"

OUT_S: Final = 5.0
"""After which no older node shows anything: more than ``heartbeat.MOST_S``."""

_NEED: Final = """
update ds.versions set needs = $1
 where needs < $1 and version = (select max(version) from ds.versions)
"""

FENCE: Final = "lock table ds.lanes in share row exclusive mode; delete from ds.lanes"
"""Behind all who write, or begin to; those who come behind it find no row, or what is needed."""

_NO_LOCK: Final = frozenset({"55P03", "40P01"})
"""Codes of a lock that was not had: in time, or as a write waits for one that the step has."""

_IN_THE_WAY: Final = """
select a.pid, a.application_name as name, coalesce(a.state, 'not to be seen') as state
 from pg_stat_activity a
 where a.pid <> pg_backend_pid() and a.datname = current_database()
   and coalesce(a.xact_start < clock_timestamp() - interval '2 s', true)
   and exists(select from pg_locks l join pg_class c on c.oid = l.relation
    where l.pid = a.pid and l.granted and c.relnamespace = to_regnamespace('ds'))
 order by a.xact_start limit 5
"""
"""Who has held a table for as long as a step waits, the oldest first."""

_TRIES: Final = 30
_PAUSE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Step:
    """What leads to a version from the one before, in one transaction."""

    version: int
    needs: int
    sql: str


STEPS: Final[tuple[Step, ...]] = (
    Step(1, 1, schema.CREATE),
    Step(2, 1, schema.KEEP),
)
"""All there ever were, in order; a database may be at any of them."""

VERSION: Final = STEPS[-1].version
"""What this program knows."""


COPYING: Final = 2**31 - 1
"""What a database has while all streams of another store are copied into it."""


RETIRED: Final = COPYING - 1
"""What it has when all its streams were copied, and are served elsewhere."""

REINSTATE: Final = f"delete from ds.versions where version = {RETIRED}"  # noqa: S608 - a constant
"""What takes that back, by hand."""

RETIRE_BY_HAND: Final = (
    f"insert into ds.versions (version, needs) values ({RETIRED}, {RETIRED}) on conflict do nothing"  # noqa: S608 - of constants
)
"""What has no node serve a database any more."""

RETIRE: Final = (
    f"begin; {ALONE}; set local lock_timeout = '{_LOCK_TIMEOUT}'; {FENCE}; {RETIRE_BY_HAND}; commit"
)
"""A script that has no node serve a database any more, nor write what it had taken before.

It does not wait for long, as whoever copies has locks that a write may wait for.
"""

NEWER: Final = (
    "its tables are of version {version.number}, and this program, which is of version {known}, "
    "may serve them: replace it when there is time"
)


class Fit(Enum):
    """How the tables of a database and a program go together."""

    EMPTY = "it has no tables: run durable-streams store init"
    OLD = "its tables are of an older version: run durable-streams store migrate"
    FITS = "its tables fit"
    NEW = "its tables are of a version that is too new: install a newer durable-streams-server"
    RETIRED = (
        "it is retired: its streams were copied to another store, which is to be served instead; "
        f"to serve this one again, run psql with: {REINSTATE}"
    )
    COPYING = "a copy into it was begun and has not ended: run durable-streams store copy again"


@dataclass(frozen=True, slots=True)
class Version:
    """What a database has; ``number`` 0: nothing.  ``retired``: its streams are elsewhere."""

    number: int = 0
    needs: int = 0
    retired: bool = False

    def fit(self, known: int = VERSION) -> Fit:
        """Whether a program that knows all steps up to ``known`` can work with it."""
        if not self.number:
            return Fit.EMPTY
        if self.retired:
            return Fit.RETIRED
        if self.needs == COPYING:
            return Fit.COPYING
        if self.needs > known:
            return Fit.NEW
        return Fit.OLD if self.number < known else Fit.FITS


async def read(fetch: Fetch) -> Version:
    """What a database has, by its ``fetch``, which raises what it does."""
    ((is_there,),) = await fetch("select to_regclass('ds.versions') is not null")
    if not is_there:
        return Version()
    return await _newest(fetch)


async def _newest(fetch: Fetch) -> Version:
    rows = await fetch(NEWEST)
    if not rows:
        return Version()
    is_retired = rows[0]["version"] == RETIRED
    row = rows[-1] if is_retired else rows[0]
    return Version(row["version"], row["needs"], retired=is_retired)


async def misfit(fetch: Fetch) -> Fit | None:
    """Why this program cannot work with tables that are there; None if it can."""
    fit = (await _newest(fetch)).fit()
    return None if fit is Fit.FITS else fit


def of_streams(version: Version) -> Fit:
    """The same for who only reads what is there, retired or not."""
    return replace(version, retired=False).fit()


async def initialise(url: DatabaseUrl, steps: Sequence[Step] = STEPS) -> bool:
    """Make the tables; False if they are there already.  It may be repeated.

    :class:`NoDatabase` says that it was not done, or that nobody knows.
    """
    async with _session(url) as session:
        ((encoding,),) = await session.fetch("show server_encoding")
        if encoding != "UTF8":
            raise NoDatabase(
                f"{url}: its encoding is {encoding}: make one with createdb --encoding UTF8 "
                "--template template0"
            )
        async with _changing(session):
            if (await read(session.fetch)).number:
                return False
            ((is_there,),) = await session.fetch("select to_regnamespace('ds') is not null")
            if not is_there:
                await session.run("create schema ds")
            await session.run(_TABLE)
            for step in steps:
                await _take(session, step)
    return True


async def migrate(
    url: DatabaseUrl,
    tell: Callable[[int], None],
    steps: Sequence[Step] = STEPS,
    stopping: Callable[[int], None] = lambda _: None,
    *,
    tries: int = _TRIES,
) -> Version:
    """Take the steps that a database has not; tells each, returns what it has then.

    ``stopping``: told, before a step that some programs cannot bear, which is the oldest that can.
    ``tries``: to lock what a step needs, each for some seconds.
    It may be repeated.  :class:`NoDatabase`: there are no tables, or those of a newer program, or
    it is not to be had, or nobody knows whether a step was taken.
    """
    async with _session(url) as session:
        while True:
            version = await read(session.fetch)
            fit = version.fit(steps[-1].version)
            if fit is Fit.FITS:
                async with waited_for(session):
                    await session.fetch(BARRIER)
                return version
            if fit is not Fit.OLD:
                raise NoDatabase(f"{url}: {fit.value}")
            before, step = steps[version.number - 1], steps[version.number]
            sql = [step.sql]
            try:
                if step.needs > before.needs:
                    sql = [FENCE, step.sql]
                    await _alone(session, version, partial(_try, session, *sql), tries)
                    stopping(step.needs)
                    await _alone(session, version, partial(session.fetch, _NEED, step.needs), tries)
                    await asyncio.sleep(OUT_S)
                if await _alone(session, version, partial(_take, session, step, *sql), tries):
                    tell(step.version)
            except Refused as error:
                if error.code not in _NO_LOCK:
                    raise
                raise NoDatabase(f"{url}: {await _in_the_way(session, before)}") from None


@asynccontextmanager
async def _session(url: DatabaseUrl) -> AsyncIterator[Session]:
    """One whose problems are lines for the user: :class:`NoDatabase`."""
    session = await Session.open(Hosts(url), name=COMMAND)
    try:
        yield session
    except Refused as error:
        cause = error.__cause__
        problem = explained(cause if isinstance(cause, Exception) else error, url)
        raise NoDatabase(problem) from None
    except Unknown as error:
        raise NoDatabase(
            f"{url}: whether it was done is not known ({error}): run it again, which does no harm"
        ) from None
    finally:
        session.terminate()


@asynccontextmanager
async def _changing(session: Session, lock_timeout: str = "0") -> AsyncIterator[None]:
    """A transaction in which nobody else changes versions; it ends with a barrier.

    So standbys have what it wrote, and what it found.
    """
    async with waited_for(session):
        try:
            await session.run(f"begin; set local lock_timeout = '{lock_timeout}'; {ALONE}")
            yield
            await session.fetch(BARRIER)
            await session.run("commit")
        except Refused:
            await session.run("rollback")
            raise


async def _alone(
    session: Session, version: Version, work: Callable[[], Awaitable[object]], tries: int
) -> bool:
    """Do something about a version; False if others have taken the next step meanwhile."""
    for left in reversed(range(tries)):
        try:
            async with _changing(session, _LOCK_TIMEOUT):
                if (await read(session.fetch)).number != version.number:
                    return False
                await work()
                return True
        except Refused as error:
            if error.code not in _NO_LOCK or not left:
                raise
            await asyncio.sleep(_PAUSE_S)
    return False


async def _try(session: Session, *sql: str) -> None:
    """See that a step can be taken, while nobody has been stopped for it, and take it back."""
    await session.run("savepoint untried")
    for script in sql:
        await session.run(script)
    await session.run("rollback to savepoint untried")


async def _in_the_way(session: Session, before: Step) -> str:
    """Why the step after another one was not taken, which had to wait for tables."""
    rows = await session.fetch(_IN_THE_WAY)
    who = ", ".join(f"process {row['pid']} ({row['name']}, {row['state']})" for row in rows)
    is_told = (await _newest(session.fetch)).needs > before.needs
    then = "nobody serves until it is" if is_told else "nodes go on as they are"
    return (
        f"step {before.version + 1} was not taken, as others hold tables: {who or 'not seen'}; "
        f"end them (pg_terminate_backend) and run it again: {then}"
    )


async def _take(session: Session, step: Step, *sql: str) -> None:
    for script in sql or (step.sql,):
        await session.run(script)
    await session.fetch(
        "insert into ds.versions (version, needs) values ($1, $2)", step.version, step.needs
    )
