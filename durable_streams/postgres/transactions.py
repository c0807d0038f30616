"""What takes several statements: creates, deletes, and appends that lost a race.

Each transaction is fenced as every write is (:mod:`.fencing`), holds locks for a bounded time, and
is done again from its beginning where others were in its way.  Its commit is a barrier: what it
read is on a quorum when it is answered, also where it wrote nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar
from zlib import crc32

from durable_streams.model.errors import StreamError
from durable_streams.model.paths import path_text
from durable_streams.postgres.connecting import NoDatabase
from durable_streams.postgres.database import AGAIN, failure, nobody_knows, unavailable
from durable_streams.postgres.fencing import Lane, settle
from durable_streams.postgres.sessions import Refused, Unknown
from durable_streams.postgres.statements import ADVANCE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg

    from durable_streams.model.paths import StreamPath
    from durable_streams.postgres.counted import Counted
    from durable_streams.postgres.database import Database
    from durable_streams.postgres.standbys import Standbys
    from durable_streams.postgres.tasks import Tasks

_T = TypeVar("_T")

log = logging.getLogger("durable_streams.postgres")

WORKERS: Final = 4
"""Transactions at a time; those about one path follow each other."""

_TRIES: Final = 20
"""Of a transaction that is always in others' way; each may take the time of a lock."""


class Transaction:
    """What a transaction may do; ``lane``: the one it is fenced by."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.fetch: Callable[..., Awaitable[list[asyncpg.Record]]] = lane.session.fetch


class _Job(Generic[_T]):
    def __init__(
        self,
        work: Callable[[Transaction], Awaitable[_T]],
        then: Callable[[_T], None] | None,
        writes: int,
    ) -> None:
        self.work = work
        self.writes = writes
        self.then = then
        self.is_begun = False
        self.done: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self.done.add_done_callback(_looked_at)


def _looked_at(done: asyncio.Future[Any]) -> None:
    if not done.cancelled():
        done.exception()


def worker_of(path: StreamPath) -> int:
    """Which worker does what is about a path."""
    return crc32(path_text(path).encode()) % WORKERS


class Transactions:
    """Workers that do them, each with a session of its own; :meth:`finished` before the end."""

    def __init__(
        self,
        database: Database,
        standbys: Standbys,
        tasks: Tasks,
        statements: tuple[str, ...],
        counted: Counted,
    ) -> None:
        """``statements``: all that are ever used in one."""
        self._counted = counted
        self._statements = statements
        self._database = database
        self._standbys = standbys
        self._queues: list[asyncio.Queue[_Job[Any]]] = [asyncio.Queue() for _ in range(WORKERS)]
        self._lanes: list[Lane | None] = [None] * WORKERS
        self._waiting: set[_Job[Any]] = set()
        for at in range(WORKERS):
            tasks.lasting("transactions", self._work(at))

    async def run(
        self,
        path: StreamPath,
        work: Callable[[Transaction], Awaitable[_T]],
        then: Callable[[_T], None] | None = None,
        writes: int = 1,
    ) -> _T:
        """Do it, and ``then`` what is to be done at once when it is; goes on if cancelled.

        ``writes``: how many it is of.
        """
        job = _Job(work, then, writes)
        self._waiting.add(job)
        job.done.add_done_callback(lambda _: self._waiting.discard(job))
        self._queues[worker_of(path)].put_nowait(job)
        return await asyncio.shield(job.done)

    async def finished(self) -> None:
        """Return when none is under way."""
        for queue in self._queues:
            await queue.join()

    def give_up(self, error: StreamError) -> None:
        """Tell all that wait that nobody knows."""
        self.refuse(error, begun=True)

    def refuse(self, error: StreamError, *, begun: bool = False) -> None:
        """Tell all whose turn has not come, of whom nothing is stored; or all, also ``begun``."""
        for job in [*self._waiting]:
            if not job.done.done() and (begun or not job.is_begun):
                job.done.set_exception(error.again())

    def terminate(self) -> None:
        """Close the sessions."""
        for lane in self._lanes:
            if lane is not None:
                lane.session.terminate()

    async def _work(self, at: int) -> None:
        queue = self._queues[at]
        while True:
            job = await queue.get()
            if job.done.done():  # refused meanwhile
                queue.task_done()
                continue
            job.is_begun = True
            try:
                result = await self._do(at, job)
            except Exception as error:  # noqa: BLE001 - it is raised where it belongs
                if not job.done.done():
                    job.done.set_exception(error)
            else:
                if job.then is not None:
                    job.then(result)
                if not job.done.done():
                    job.done.set_result(result)
            finally:
                queue.task_done()

    async def _do(self, at: int, job: _Job[Any]) -> Any:  # noqa: ANN401 - of any job
        for _ in range(_TRIES):
            lane = self._lanes[at] or await self._begin_lane(at)
            number, result = lane.number, None
            try:
                is_done, result = await self._once(lane, job)
                if is_done:
                    return result
                self._lanes[at] = None
                lane.session.terminate()
            except _Committing as unknown:
                self._lanes[at] = None
                found = await settle(self._database, self._standbys, lane)
                if found is None:
                    raise nobody_knows() from None
                if found[0] >= number:
                    return unknown.result
            except Unknown:  # before the commit was sent: what is not committed is nothing
                self._lanes[at] = None
                lane.session.terminate()
            except Refused as error:
                await self._roll_back(at, lane, number)
                if error.code not in AGAIN:
                    raise failure(error) from None
                log.info("a transaction is tried again: %s", error)
            except StreamError:
                await self._roll_back(at, lane, number, barrier=True)
                raise
            except BaseException:  # a bug, say: nothing of it may be committed with what comes next
                self._lanes[at] = None
                lane.session.terminate()
                raise
        raise unavailable("the database is busy with the stream")

    async def _begin_lane(self, at: int) -> Lane:
        try:
            session = await self._database.connect_for_transactions()
            try:
                await session.prepare((*self._statements, "commit", "rollback"))
            except BaseException:  # nobody has it yet
                session.terminate()
                raise
            lane = self._lanes[at] = await Lane.begin(session, self._database.node)
        except (NoDatabase, Refused, Unknown) as error:
            raise self._database.refusal() or unavailable(str(error)) from None
        return lane

    async def _once(self, lane: Lane, job: _Job[Any]) -> tuple[bool, Any]:
        """Whether it is done, and its result; it is not where the lane was ended."""
        mark, begun_s = self._standbys.mark, time.monotonic()
        begun = ADVANCE.format(lane=lane.id, number=lane.number)
        if await lane.session.run(begun) != "UPDATE 1":
            return False, None
        lane.number += 1
        result = await job.work(Transaction(lane))
        try:
            await lane.session.fetch("commit")
        except Unknown:
            raise _Committing(result) from None
        if not await self._standbys.still_wait(mark, lane.session):
            raise _Committing(result)
        self._counted.commit(time.monotonic() - begun_s, job.writes)
        return True, result

    async def _roll_back(self, at: int, lane: Lane, number: int, *, barrier: bool = False) -> None:
        """Undo it; with a barrier, if what was read is going to be told."""
        try:
            await lane.session.fetch("rollback")
            lane.number = number
            if barrier:
                await self._standbys.barrier(lane.session)
        except (Refused, Unknown) as error:
            self._lanes[at] = None
            lane.session.terminate()
            if barrier:
                raise unavailable(str(error)) from None


class _Committing(Exception):
    """A commit was sent, and nobody knows what became of it."""

    def __init__(self, result: object) -> None:
        super().__init__()
        self.result = result
