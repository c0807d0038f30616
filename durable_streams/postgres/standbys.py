"""Whether commits still wait for standbys: asked after each, before it is answered.

A primary whose ``synchronous_standby_names`` is emptied, by a fail-over manager or by hand,
releases all commits that wait as plain successes, though no standby has them.  So the names, and
when the configuration was read, are looked at after a commit and before its answer; one look serves
all commits that were done when it began.  If something has changed, nobody knows what the commit is
worth, and it is fenced as any unknown one.  So it is where the look was at another server than the
one that committed: two primaries may be up at a time, and what one is told the other is not.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from durable_streams.postgres.connecting import NoDatabase
from durable_streams.postgres.sessions import Refused, Unknown
from durable_streams.postgres.statements import BARRIER
from durable_streams.postgres.waits import ASK, Said

if TYPE_CHECKING:
    from durable_streams.postgres.database import Database
    from durable_streams.postgres.sessions import Session
    from durable_streams.postgres.tasks import Tasks


class Standbys:
    """Looks for all who commit something.

    ``mark``: to be had before a commit is sent; it is another one after every change that was seen.
    """

    def __init__(self, database: Database, tasks: Tasks, *, allow_unreplicated: bool) -> None:
        self._database = database
        self.allow_unreplicated = allow_unreplicated
        self._session: Session | None = None
        self._said: Said | None = None
        self.mark = 0
        self._asking: list[tuple[object, asyncio.Future[bool]]] = []
        self._news = asyncio.Event()
        tasks.lasting("looks at standbys", self._run())

    async def still_wait(self, mark: int, session: Session) -> bool:
        """Whether what a session has committed since ``mark`` did wait for standbys."""
        if self.allow_unreplicated:
            return True
        asked: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._asking.append((session.server, asked))
        self._news.set()
        return await asked and mark == self.mark

    async def barrier(self, session: Session) -> None:
        """Commit behind what a session has read; ``Unknown`` if that may be on no standby."""
        mark = self.mark
        await session.fetch(BARRIER)
        if not await self.still_wait(mark, session):
            raise Unknown("commits may not have waited for standbys")

    @property
    def problem(self) -> str:
        """Why nothing that is committed can be relied on; empty if it can."""
        if self.allow_unreplicated or self._said is None or self._said.names:
            return ""
        return "commits of the database wait for no standby"

    def terminate(self) -> None:
        """Close the session."""
        if self._session is not None:
            self._session.terminate()
            self._session = None

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            asking, self._asking = self._asking, []
            is_good = await self.look()
            looked_at = None if self._said is None else self._said.started
            for server, asked in asking:
                if not asked.done():
                    asked.set_result(is_good and server == looked_at)
            if any(server != looked_at for server, _ in asking):
                self.terminate()  # the next look is where sessions are opened by then

    async def look(self) -> bool:
        """Whether standbys are waited for now, and a look at what is configured."""
        before = self._said
        try:
            if self._session is None:
                self._session = await self._database.connect()
            (row,) = await self._session.fetch(ASK)
        except (NoDatabase, Refused, Unknown):
            self.terminate()
            self._said = None
            self.mark += 1
            return False
        self._said = Said(row["names"], row["loaded"], row["started"])
        if self._said != before:
            self.mark += 1
        return bool(self._said.names)
