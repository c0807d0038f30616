"""A small table, and what happens to commits to it: for what we rely on in PostgreSQL and asyncpg.

These are facts about them, not about our store: a row of ``things`` has a version that is compared
and set, a row of ``lanes`` says how far a session that writes has come, as the store's have it.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from tests.postgres.sessions import until_gone, until_it_waits
from tools.postgres_cluster import Proxy, Way

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from tests.postgres.conftest import Database
    from tests.postgres.sessions import Session
    from tools.postgres_cluster import PostgresCluster

TABLES: Final = """
create table things (id bigint primary key, version bigint not null default 0, name text unique);
create table stored (thing bigint not null, batch uuid not null);
create table lanes (lane uuid primary key, batch bigint not null default 0, won bigint[]);
"""

INSERT: Final = "insert into things (id) values ($1)"
COMPARE_AND_SET: Final = """
with moved as (update things set version = version + 1 where id = $1 and version = $2 returning id)
insert into stored select id, $3 from moved returning thing
"""


class Scene:
    """A database with the tables, an onlooker, and sessions that are ended at the end."""

    def __init__(self, database: Database, onlooker: Session) -> None:
        self.database = database
        self.onlooker = onlooker
        self._numbers = itertools.count(1)
        self._opened: list[Session] = []
        self._tasks: list[asyncio.Future[Any]] = []
        self.proxy = Proxy(database.cluster.primary.port)

    @property
    def cluster(self) -> PostgresCluster:
        """What it runs on."""
        return self.database.cluster

    @property
    def number(self) -> int:
        """One that nothing has yet."""
        return next(self._numbers)

    async def session(
        self, settings: dict[str, str] | None = None, *, proxied: bool = False
    ) -> Session:
        """A session of the primary."""
        port = self.proxy.port if proxied else None
        session = await self.database.connect(port=port, settings=settings)
        self._opened.append(session)
        return session

    async def thing(self) -> int:
        """A new row; its id."""
        number = self.number
        await self.onlooker.execute(INSERT, number)
        return number

    def begin(self, work: Awaitable[Any]) -> asyncio.Future[Any]:
        """Let it go on beside."""
        task = asyncio.ensure_future(work)
        self._tasks.append(task)
        return task

    async def is_there(self, number: int) -> bool:
        """Whether sessions of the primary see a row."""
        found = await self.onlooker.fetchval("select count(*) from things where id = $1", number)
        return bool(found == 1)

    async def until_there(self, number: int) -> None:
        """Return when they do."""
        look = f"select count(*) from things where id = {number}"
        primary, name = self.cluster.primary, self.database.name
        await asyncio.to_thread(primary.wait_until, look, "1", "the row is visible", name)

    async def times_stored(self, thing: int) -> int:
        """How many writes to a row there were."""
        found: int = await self.onlooker.fetchval(
            "select count(*) from stored where thing = $1", thing
        )
        return found

    def pause_standbys(self) -> None:
        """No commit is acknowledged from now on."""
        for node in self.cluster.standbys:
            node.pause()

    def resume_standbys(self) -> None:
        """All is acknowledged again."""
        for node in self.cluster.standbys:
            node.resume()

    async def waiting(self, session: Session, statement: str, *values: Any) -> asyncio.Future[Any]:
        """A statement whose commit waits for the standbys, which are paused for it."""
        self.pause_standbys()
        commit = self.begin(session.execute(statement, *values))
        await until_it_waits(self.cluster.primary, session.get_server_pid())
        return commit

    async def late(self, statement: str, *values: Any) -> Late:
        """A statement that is on its way when its sender is cut off."""
        session = await self.session(proxied=True)
        prepared = await session.prepare(statement)
        pid = session.get_server_pid()
        self.proxy.hold(Way.THERE)
        sent = self.begin(prepared.fetch(*values))
        await self.proxy.held()
        session.terminate()
        await asyncio.gather(sent, return_exceptions=True)
        return Late(self, pid)

    async def end(self) -> None:
        """End what is still there."""
        self.cluster.mend()
        for session in self._opened:
            session.terminate()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.onlooker.terminate()
        self.proxy.close()


class Late:
    """A statement of somebody who has gone."""

    def __init__(self, scene: Scene, pid: int) -> None:
        self._scene = scene
        self.pid = pid

    def arrive(self) -> None:
        """Let the server have it."""
        self._scene.proxy.release()

    async def over(self) -> None:
        """Return when the server is done with it."""
        await until_gone(self._scene.cluster.primary, self.pid)

    async def until_it_waits(self, event: str = "SyncRep") -> None:
        """Return when it waits for this."""
        await until_it_waits(self._scene.cluster.primary, self.pid, event)


@asynccontextmanager
async def staged(database: Database) -> AsyncIterator[Scene]:
    """The tables, made."""
    onlooker = await database.connect()
    scene = Scene(database, onlooker)
    try:
        await onlooker.execute(TABLES)
        yield scene
    finally:
        await scene.end()


def batch_id() -> uuid.UUID:
    """What a write is known by."""
    return uuid.uuid4()
