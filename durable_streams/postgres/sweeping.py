"""What ended is removed: expired streams, bytes of streams that are no more, what nodes left.

Each in steps, so that nothing is locked for long; several nodes may do it at once.  An expired
stream is not there for anybody; how soon it is removed matters to the room it takes, and to the
limits it counts for.  While the clock is in doubt (:mod:`.doubt`) nothing expired is removed, nor
what was replaced at its path meanwhile: its grave is ``kept`` then.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from durable_streams.model.errors import StreamError
from durable_streams.model.paths import parse_path_text
from durable_streams.postgres.endings import bury
from durable_streams.postgres.statements import HELD, now

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_streams.postgres.database import Clock
    from durable_streams.postgres.doubt import Doubt
    from durable_streams.postgres.endings import Buried
    from durable_streams.postgres.readers import Readers
    from durable_streams.postgres.sessions import Session
    from durable_streams.postgres.tasks import Tasks
    from durable_streams.postgres.transactions import Transaction, Transactions
    from durable_streams.settings import Settings

GRAVES_S: Final = 5.0
"""Between two searches for bytes of streams that are no more."""

_STEP: Final = 500
"""Runs, or producers, that are removed in one commit."""

_GRAVES: Final = "select stream from ds.graves where not swept and kept is null limit 100"

_SWEEP: Final = """
with part as (select ctid from ds.{table} where stream = $1 limit $2),
removed as (delete from ds.{table} where ctid in (select ctid from part) returning 1)
select count(*) as number from removed
"""

_SWEPT: Final = "update ds.graves set swept = true where stream = $1"

_RELEASE: Final = "update ds.graves set kept = null where kept is not null"
"""What was kept while the clock was in doubt is removed as everything is."""

_FORGOTTEN: Final = f"""
delete from ds.graves where swept and removed_ms < {now("$2")} - $1
"""  # noqa: S608 - of constants

_LEFT_BEHIND: Final = """
with gone as (
 delete from ds.nodes where seen < clock_timestamp() - interval '1 day' returning node)
delete from ds.lanes where node in (select node from gone)
"""

_EXPIRED: Final = f"""
select s.id, s.path from ds.streams s
 where s.deadline_ms < {now("$2")} and not s.soft_deleted and s.id > $1
   and not (s.ttl_s is not null and {HELD})
   and not exists(select from ds.streams f where f.fork_of = s.id)
 order by s.id limit 100
"""  # noqa: S608 - of constants

_NOW: Final = f"select {now('$1')} as now_ms"

log = logging.getLogger("durable_streams.postgres")


class Sweeper:
    """Looks now and then; ``ended``: told of streams that were removed."""

    def __init__(
        self,
        readers: Readers,
        transactions: Transactions,
        clock: Clock,
        doubt: Doubt,
        settings: Settings,
        *,
        ended: Callable[[Buried | None], None],
        tasks: Tasks,
    ) -> None:
        self._readers = readers
        self._transactions = transactions
        self._clock = clock
        self._settings = settings
        self._ended = ended
        self._doubt = doubt
        self._loop = asyncio.get_running_loop()
        tasks.lasting("sweeper", self._run())

    async def _run(self) -> None:
        next_s = self._loop.time() + self._settings.reclaim_interval_s
        while True:
            await asyncio.sleep(GRAVES_S)
            try:
                await self.sweep_graves()
                if self._loop.time() >= next_s:
                    next_s = self._loop.time() + self._settings.reclaim_interval_s
                    await self._readers.fetch(_LEFT_BEHIND)
                    await self.remove_expired()
            except StreamError as error:
                log.info("nothing is removed now: %s", error)

    async def sweep_graves(self) -> None:
        """Remove what is left of streams that are no more, and forget where they were."""
        for record in await self._readers.fetch(_GRAVES):
            number = record["stream"]
            for table in ("runs", "producers"):
                while await self._readers.do(partial(_step, table, number)):
                    pass
            await self._readers.fetch(_SWEPT, number)
        remembered_ms = round(min(self._settings.remember_removed_s * 1000, 2**53))
        await self._readers.fetch(_FORGOTTEN, remembered_ms, self._clock.parameter)

    async def remove_expired(self) -> None:
        """Remove all that has expired, and that nobody needs, unless the clock is in doubt."""
        if await self._doubt.is_there(self._readers.fetch):
            return
        await self._readers.fetch(_RELEASE)
        last = -1
        while found := await self._readers.fetch(_EXPIRED, last, self._clock.parameter):
            for record in found:
                last = record["id"]
                await self._remove(record["path"], last)

    async def _remove(self, path: str, number: int) -> None:
        async def work(transaction: Transaction) -> Buried | None:
            (record,) = await transaction.fetch(_NOW, self._clock.parameter)
            return await bury(transaction, number, record["now_ms"], only_expired=True)

        await self._transactions.run(parse_path_text(path), work, self._ended)


async def _step(table: str, number: int, session: Session) -> bool:
    """Remove some rows of a stream; whether there may be more."""
    (record,) = await session.fetch(_SWEEP.format(table=table), number, _STEP)
    return bool(record["number"] == _STEP)
