"""An open store's parts: what the verbs work with, how they know each other, how they are let go.

Nothing is decided here.  Each part has a room of its own: ``appends`` and ``transactions`` are the
ways of all writes, reads are answered from ``rows`` and ``runs``, live readers are told by
``following`` and ``notices``, and ``heartbeat`` and ``standbys`` say whether any of it is believed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from durable_streams.live import Deliveries
from durable_streams.model.errors import DataDirectoryError
from durable_streams.model.stream_limits import parse_limits
from durable_streams.postgres.access import Access
from durable_streams.postgres.appends import Appends
from durable_streams.postgres.births import STATEMENTS, Births
from durable_streams.postgres.connecting import NoDatabase
from durable_streams.postgres.counted import Counted
from durable_streams.postgres.database import Database
from durable_streams.postgres.decisions import Limits
from durable_streams.postgres.doubt import Doubt
from durable_streams.postgres.following import Following
from durable_streams.postgres.heartbeat import Heartbeat
from durable_streams.postgres.holds import Holds
from durable_streams.postgres.inspections import Inspections
from durable_streams.postgres.notices import Notices
from durable_streams.postgres.opening import need_fit
from durable_streams.postgres.readers import Readers, Rows
from durable_streams.postgres.reading import RunCache
from durable_streams.postgres.standbys import Standbys
from durable_streams.postgres.streams import Streams
from durable_streams.postgres.sweeping import Sweeper
from durable_streams.postgres.tasks import Tasks
from durable_streams.postgres.transactions import Transactions
from durable_streams.postgres.urls import NoDatabaseUrl, parse

if TYPE_CHECKING:
    from durable_streams.model.errors import StreamError
    from durable_streams.postgres.database import Clock
    from durable_streams.settings import Settings


class Parts:
    """The parts of an open store; what lasts of them has begun."""

    def __init__(
        self,
        database: Database,
        heartbeat: Heartbeat,
        standbys: Standbys,
        tasks: Tasks,
        *,
        settings: Settings,
        producers_bytes: int,
    ) -> None:
        self.settings = settings
        self.database = database
        self.heartbeat = heartbeat
        self.standbys = standbys
        self.tasks = tasks
        self.deliveries = Deliveries(asyncio.get_running_loop())
        self.streams = Streams(self.deliveries)
        self.readers = Readers(database, heartbeat, tasks)
        self.runs = RunCache(self.readers.fetch)
        self.holds = Holds(database.node, database.clock)
        self.rows = Rows(
            self.readers,
            heartbeat=heartbeat,
            standbys=standbys,
            streams=self.streams,
            holds=self.holds,
            database=database,
            tasks=tasks,
        )
        self.notices = Notices(
            database, heartbeat, are_replicated=not settings.store_allow_unreplicated
        )
        self.following = Following(
            self.streams,
            self.rows,
            self.readers,
            self.runs,
            database.clock,
            holds=self.holds,
            notices=self.notices,
            tasks=tasks,
        )
        self.access = Access(self.streams, self.rows, self.following, database.clock)
        self.inspections = Inspections(
            self.access, self.readers, self.runs, standbys, database.clock
        )
        self._begin_writes(Limits(producers_bytes, settings.max_producers))
        self.notices.start(self.following.heard, self.following.asked, tasks)

    def _begin_writes(self, limits: Limits) -> None:
        database, standbys, tasks = self.database, self.standbys, self.tasks
        settings, counted = self.settings, database.counted
        self.transactions = Transactions(database, standbys, tasks, STATEMENTS, counted)
        doubt = Doubt(database.clock, settings.reclaim_delay_s)
        self.births = Births(database.clock, doubt, parse_limits(settings.max_streams))
        self.sweeper = Sweeper(
            self.readers,
            self.transactions,
            doubt,
            settings,
            ended=self.following.buried,
            tasks=tasks,
        )
        self.appends = Appends(
            database,
            standbys,
            streams=self.streams,
            transactions=self.transactions,
            limits=limits,
            written=self.following.written,
            contended=self.notices.ask,
            counted=counted,
            tasks=tasks,
        )

    def refuse(self, error: StreamError) -> None:
        """Answer all who wait, but for those whose writes were sent to the database."""
        for part in (self.appends, self.transactions, self.rows, self.readers):
            part.refuse(error)

    def terminate(self) -> None:
        """Close all sessions."""
        for part in (
            self.heartbeat,
            self.standbys,
            self.notices,
            self.appends,
            self.transactions,
            self.readers,
            self.rows,
        ):
            part.terminate()


async def connected(url: str, settings: Settings, clock: Clock, producers_bytes: int) -> Parts:
    """Those of a database that has the tables; :class:`DataDirectoryError` says why not."""
    try:
        where = parse(url)
    except NoDatabaseUrl as error:
        raise DataDirectoryError(str(error)) from None
    allow_unreplicated = settings.store_allow_unreplicated
    database = Database(where, clock, Counted())
    tasks = Tasks()
    standbys = Standbys(database, tasks, allow_unreplicated=allow_unreplicated)
    heartbeat = Heartbeat(database, standbys)
    try:
        await need_fit(database.hosts, allow_unreplicated=allow_unreplicated)
        await standbys.look()
        await heartbeat.start(tasks)
        return Parts(
            database,
            heartbeat,
            standbys,
            tasks,
            settings=settings,
            producers_bytes=producers_bytes,
        )
    except BaseException as error:  # cancelled as well: nothing of it is left
        heartbeat.terminate()
        standbys.terminate()
        await tasks.stop()
        if isinstance(error, NoDatabase):
            raise DataDirectoryError(str(error)) from None
        raise
