"""Sessions that read, and rows of streams that may be shown.

What is read need not be on a quorum: a restart of the primary shows commits that no standby has.
So a row is shown when its version is known to be there, or behind a barrier: a commit on the same
session, begun when the row had been read.  Rows are read for all who ask at once, who all asked
before.  Nothing is shown if the last good heartbeat is too old by then (:mod:`.heartbeat`).
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from durable_streams.model.errors import NotOpen
from durable_streams.model.paths import path_text
from durable_streams.postgres.connecting import NoDatabase
from durable_streams.postgres.database import AGAIN, failure, unavailable
from durable_streams.postgres.rows import row_of
from durable_streams.postgres.sessions import Refused, Unknown
from durable_streams.postgres.statements import RENEW, ROWS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg

    from durable_streams.model.errors import StreamError
    from durable_streams.model.paths import StreamPath
    from durable_streams.postgres.database import Database
    from durable_streams.postgres.heartbeat import Heartbeat
    from durable_streams.postgres.holds import Holds
    from durable_streams.postgres.rows import Row
    from durable_streams.postgres.sessions import Session
    from durable_streams.postgres.standbys import Standbys
    from durable_streams.postgres.streams import Stream, Streams
    from durable_streams.postgres.tasks import Tasks

    Work = Callable[[Session], Awaitable[Any]]

_T = TypeVar("_T")

SESSIONS: Final = 4
"""That read; each has one statement under way."""

_MOST: Final = 256
"""Rows in a statement."""

RENEW_EVERY_MS: Final = 1000
"""A TTL that was renewed so short a time ago is not renewed again; a tenth of it, if less."""


class Readers:
    """Sessions that read, and whatever waits for one."""

    def __init__(self, database: Database, heartbeat: Heartbeat, tasks: Tasks) -> None:
        self._database = database
        self._heartbeat = heartbeat
        self._is_closed = False
        self._waiting: set[asyncio.Future[Any]] = set()
        self._work: asyncio.Queue[tuple[Work, asyncio.Future[Any]]] = asyncio.Queue()
        self._sessions: list[Session | None] = [None] * SESSIONS
        for at in range(SESSIONS):
            tasks.lasting("reads", self._run(at))

    async def do(self, work: Callable[[Session], Awaitable[_T]]) -> _T:
        """Have something read, on one session; ``Unavailable`` if that cannot be."""
        if self._is_closed:
            raise NotOpen
        done: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._waiting.add(done)
        done.add_done_callback(self._waiting.discard)
        self._work.put_nowait((work, done))
        return await done

    async def fetch(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        """What one statement reads."""
        return await self.do(lambda session: session.fetch(sql, *arguments))

    async def _run(self, at: int) -> None:
        while True:
            work, done = await self._work.get()
            if done.done():
                continue
            try:
                result = await self._once(at, work)
            except Exception as error:  # noqa: BLE001 - it is raised where it belongs
                if not done.done():
                    done.set_exception(error)
            else:
                if not done.done():
                    done.set_result(result)

    async def _once(self, at: int, work: Callable[[Session], Awaitable[_T]]) -> _T:
        outdated = self._database.outdated()
        if outdated is not None:
            raise outdated
        for is_last in (False, True):  # one that was lost unused is noticed by its use
            session = self._sessions[at]
            is_new = session is None
            try:
                if session is None:
                    session = self._sessions[at] = await self._database.connect()
                begun_s = time.monotonic()
                result = await work(session)
                self._heartbeat.check(session)
                self._database.counted.read(time.monotonic() - begun_s)
            except NoDatabase as error:
                raise self._database.refusal() or unavailable(str(error)) from None
            except Refused as error:
                if error.code in AGAIN and not is_last:
                    continue
                raise failure(error) from None
            except Unknown as error:
                assert session is not None
                self._sessions[at] = None
                session.terminate()
                if is_new:
                    raise unavailable(str(error)) from None
            else:
                return result
        raise unavailable("the database does not answer")

    def refuse(self, error: StreamError) -> None:
        """Tell all who wait for something to be read; nothing is kept of what was not begun."""
        _refuse(self._waiting, error)
        while not self._work.empty():  # it may be long until a session is free again
            self._work.get_nowait()

    def terminate(self) -> None:
        """Close the sessions; who waits for one is told."""
        self._is_closed = True
        self.refuse(NotOpen())
        for session in self._sessions:
            if session is not None:
                session.terminate()


class _Asked:
    """Who wants the row of a path, or of a stream that is known, maybe to use it."""

    __slots__ = ("done", "number", "path", "uses")

    def __init__(self, path: StreamPath | None, number: int | None, *, uses: bool) -> None:
        self.path = path
        self.number = number
        self.uses = uses
        self.done: asyncio.Future[Row | None] = asyncio.get_running_loop().create_future()


class Rows:
    """Rows of streams as they are after somebody asked, on a quorum."""

    def __init__(
        self,
        readers: Readers,
        *,
        heartbeat: Heartbeat,
        standbys: Standbys,
        streams: Streams,
        holds: Holds,
        database: Database,
        tasks: Tasks,
    ) -> None:
        self._readers = readers
        self._holds = holds
        self._standbys = standbys
        self._heartbeat = heartbeat
        self._streams = streams
        self._clock = database.clock
        self._asked: list[_Asked] = []
        self._waiting: set[asyncio.Future[Row | None]] = set()
        self._tasks = tasks
        self._under_way = 0

    async def at(self, path: StreamPath, *, uses: bool = False) -> Row | None:
        """The row at a path; ``uses``: that renews a TTL."""
        return await self._ask(_Asked(path, None, uses=uses))

    async def of(self, stream: Stream, *, uses: bool = False) -> Row | None:
        """The row of a stream; None if it is no more."""
        return await self._ask(_Asked(None, stream.number, uses=uses))

    async def _ask(self, asked: _Asked) -> Row | None:
        self._asked.append(asked)
        self._waiting.add(asked.done)
        asked.done.add_done_callback(self._waiting.discard)
        if self._under_way < SESSIONS:
            self._under_way += 1
            self._tasks.once("rows", self._answer())
        return await asked.done

    def refuse(self, error: StreamError) -> None:
        """Tell all who wait for a row; nothing is kept of what was not begun."""
        _refuse(self._waiting, error)
        self._asked.clear()

    def terminate(self) -> None:
        """Tell all who wait that nothing is read any more."""
        self.refuse(NotOpen())

    async def _answer(self) -> None:
        """Answer those who have asked by now, and those who come meanwhile."""
        try:
            await self._answer_all()
        finally:
            self._under_way -= 1

    async def _answer_all(self) -> None:
        while self._asked:
            taken, self._asked = self._asked[:_MOST], self._asked[_MOST:]
            try:
                await self._readers.do(partial(self._read, taken))
            except Exception as error:  # noqa: BLE001 - all of them are told
                for asked in taken:
                    if not asked.done.done():
                        asked.done.set_exception(error)
                        asked.done.exception()

    async def _read(self, taken: list[_Asked], session: Session) -> None:
        paths = {path_text(asked.path): asked.path for asked in taken if asked.path is not None}
        numbers = {asked.number for asked in taken if asked.number is not None}
        known = self._versions(taken)
        if self._holds.is_due:
            await self._holds.write(session)
        records = await session.fetch(ROWS, list(paths), list(numbers), self._clock.parameter)
        at: dict[str, Row] = {record["path"]: row_of(record) for record in records}
        by_number = {row.id: row for row in at.values()}
        if any(row.version < known.get(row.id, 0) for row in by_number.values()):
            raise Unknown("the session leads to a server that another one has replaced")
        found = [
            at.get(path_text(asked.path))
            if asked.path is not None
            else by_number.get(asked.number or 0)
            for asked in taken
        ]
        used = {row.id for asked, row in zip(taken, found, strict=True) if row and asked.uses} & {
            row.id for row in at.values() if self._is_due(row)
        }
        renewed: dict[int, int] = {}
        if used:
            records = await session.fetch(RENEW, list(used), self._clock.parameter)
            renewed = {record["id"]: record["deadline_ms"] for record in records}
        if not all(self._is_known(row) for row in found):
            await self._standbys.barrier(session)
        self._heartbeat.check(session)
        for asked, row in zip(taken, found, strict=True):
            if row is not None:
                self._clock.learn(row.now_ms)
            if not asked.done.done():
                asked.done.set_result(_renewed(row, renewed))

    def _versions(self, taken: list[_Asked]) -> dict[int, int]:
        """Those that are known of what is asked for: no primary has earlier ones, as a quorum had.

        Where commits wait for nobody, a fail-over may take back what is known.
        """
        if self._standbys.allow_unreplicated:
            return {}
        streams = [
            self._streams.numbered(asked.number or 0)
            if asked.path is None
            else self._streams.at(asked.path)
            for asked in taken
        ]
        return {stream.number: stream.row.version for stream in streams if stream is not None}

    def _is_known(self, row: Row | None) -> bool:
        """Whether a quorum has it: else what it says may be undone."""
        if row is None or row.soft_deleted or row.is_expired(row.now_ms):
            return False
        stream = self._streams.numbered(row.id)
        if stream is None:
            return False
        return stream.row.version >= row.version or (stream.told != "" and stream.told == row.mark)

    def _is_due(self, row: Row) -> bool:
        """Whether a use has to be written down."""
        ttl_s = row.lifetime.ttl_s
        if ttl_s is None or row.deadline_ms is None or row.is_expired(row.now_ms):
            return False
        gained_ms = row.now_ms + ttl_s * 1000 - row.deadline_ms
        return gained_ms > min(RENEW_EVERY_MS, ttl_s * 100)


def _refuse(waiting: set[asyncio.Future[_T]], error: StreamError) -> None:
    for done in [*waiting]:
        if not done.done():
            done.set_exception(error.again())
            done.exception()  # whoever has left need not hear of it


def _renewed(row: Row | None, deadlines: dict[int, int]) -> Row | None:
    if row is None or row.id not in deadlines:
        return row
    return msgspec.structs.replace(row, deadline_ms=deadlines[row.id])
