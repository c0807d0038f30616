"""A row that a node writes every second: as long as that works, it talks to the primary.

A primary that was deposed does not know it, and answers reads.  It cannot commit what no standby
confirms.  So what was read is shown only if a heartbeat was committed that was sent at most so many
seconds before, by a clock that goes on while the machine sleeps, and on the server that was read.

Before each of them the version of the tables is looked at: a step may have been taken since that
this program cannot bear (:mod:`.versions`).  Then nothing is shown any more, and no row is written.

Where none is committed for as long, another server is looked for that takes writes, and all
sessions are ended that lead elsewhere.  If that one confirms nothing either, the next is tried.
Which one is right nobody has to know: none acknowledges anything but by its standbys.

Behind the first good one after such a time, and before anything is shown, those look at the
database who go on by what they know while it is away.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from typing import TYPE_CHECKING, Final

from durable_streams.model.errors import DatabaseUnconfirmed
from durable_streams.postgres import versions
from durable_streams.postgres.connecting import NoDatabase
from durable_streams.postgres.sessions import Refused, Unknown
from durable_streams.program import version

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from durable_streams.model.errors import Unavailable
    from durable_streams.postgres.database import Database
    from durable_streams.postgres.sessions import Session
    from durable_streams.postgres.standbys import Standbys
    from durable_streams.postgres.tasks import Tasks

EVERY_S: Final = 1.0
"""Between two of them."""

MOST_S: Final = 3.0
"""How long ago the last good one was sent, at most, when something that was read is shown."""

_ASLEEP: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

_BEAT: Final = """
update ds.nodes set beats = beats + 1, seen = clock_timestamp() where node = $1
 returning exists(select from ds.nodes
  where node <> $1 and seen > clock_timestamp() - interval '10 s') as has_others,
 (select count(flush_lsn) from pg_stat_replication
  where sync_state in ('sync', 'quorum', 'potential')) as standbys,
 (select extract(epoch from max(flush_lag))::float8 from pg_stat_replication) as lag_s,
 pg_has_role('pg_read_all_stats', 'usage') as sees_standbys
"""
_BORN: Final = """
insert into ds.nodes (node, name, program) values ($1, $2, $3) on conflict (node) do nothing
"""
GONE: Final = """
with gone as (delete from ds.nodes where node = $1),
unheld as (delete from ds.holds where node = $1)
delete from ds.lanes where node = $1
"""
"""Nothing is left of a node that has no write under way."""

_WAITS: Final = (
    "the start waits: the database confirms no commit until enough of the standbys are there that "
    "its synchronous_standby_names asks for"
)

log = logging.getLogger("durable_streams.postgres")


def now_s() -> float:
    """Seconds, also those in which the machine slept."""
    return time.clock_gettime(_ASLEEP)


class Heartbeat:
    """A node's, whose name among others is ``node``; ``sent_s``: when the last good one was.

    ``has_others``: whether there were other nodes then, in the last seconds.  ``first_looks``: done
    before anything is shown again where nothing was for a time; a heartbeat fails as they do.
    """

    def __init__(self, database: Database, standbys: Standbys) -> None:
        self._database = database
        self._standbys = standbys
        self._server: object = None
        self._tried: object = None
        self._moved_s = -MOST_S
        self.node = database.node
        self._session: Session | None = None
        self.sent_s = -MOST_S
        self.has_others = True
        self.first_looks: list[Callable[[Session], Awaitable[None]]] = []

    def check(self, session: Session) -> None:
        """Raise ``Unavailable`` if what was just read may be of a primary that was deposed.

        ``Unknown``: the session that read it leads to another server than the heartbeat's.
        """
        if session.server != self._server:
            raise Unknown("the session leads to another server than the heartbeat's")
        refusal = self.refusal()
        if refusal is not None:
            raise refusal

    def refusal(self, after_s: float = MOST_S) -> Unavailable | None:
        """Why nothing can be told or written now, if the last good one is so long ago."""
        outdated = self._database.outdated()
        if outdated is not None or now_s() - self.sent_s <= after_s:
            return outdated
        return DatabaseUnconfirmed(
            "the database has confirmed nothing for some seconds: too few standbys are there, or "
            "another server has taken over; try again"
        )

    async def start(self, tasks: Tasks) -> None:
        """The first one, and all others; :class:`NoDatabase` if the first one fails.

        It waits for standbys as any commit does, and says so.
        """
        saying = asyncio.get_running_loop().call_later(MOST_S, log.warning, _WAITS)
        try:
            await self._beat()
        except (Refused, Unknown) as error:
            raise NoDatabase(f"the database takes no heartbeat: {error}") from None
        finally:
            saying.cancel()
        tasks.lasting("heartbeat", self._run())
        tasks.lasting("moves", self._watch())

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self._beat()
            except (NoDatabase, Refused, Unknown) as error:
                log.warning("no heartbeat: %s", error)
                self.terminate()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            if now_s() - max(self.sent_s, self._moved_s) > MOST_S:
                await self._database.leave(self._tried)
                self._moved_s = now_s()

    async def _beat(self) -> None:
        sent_s, mark = now_s(), self._standbys.mark
        session, is_new = self._session, self._session is None
        if session is None:
            session = self._session = await self._database.connect()
            self._tried = session.server
        self._database.judge(await versions.misfit(session.fetch))
        if self._database.misfit is not None:
            return
        if is_new:
            await session.fetch(_BORN, self.node, socket.gethostname(), version())
        beat = await session.fetch(_BEAT, self.node)
        if beat:
            self.has_others = beat[0]["has_others"]
            if beat[0]["sees_standbys"]:
                counted = self._database.counted
                counted.standbys, counted.lag_s = beat[0]["standbys"], beat[0]["lag_s"] or 0.0
        else:
            await session.fetch(_BORN, self.node, socket.gethostname(), version())
        if not await self._standbys.still_wait(mark, session):
            raise Unknown("commits may not have waited for standbys")
        if self.refusal() is not None:
            for look in self.first_looks:
                await look(session)
        self._server, self.sent_s = session.server, sent_s
        self._database.confirmed(session.server)

    def terminate(self) -> None:
        """Close the session."""
        if self._session is not None:
            self._session.terminate()
            self._session = None
