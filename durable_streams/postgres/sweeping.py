"""What ended is removed: expired streams, bytes of streams that are no more, what nodes left.

Each in steps, so that nothing is locked for long; several nodes may do it at once.  An expired
stream is not there for anybody; how soon it is removed matters to the room it takes, and to the
limits it counts for.  While the clock is in doubt (:mod:`.doubt`) nothing expired is removed, nor
what was replaced at its path meanwhile: its grave is ``kept`` then.  Nor is anything forgotten that
offsets of removed streams, or unknown outcomes, are told by.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from durable_streams.model.errors import StreamError
from durable_streams.model.paths import parse_path_text
from durable_streams.postgres.endings import bury
from durable_streams.postgres.statements import HELD

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_streams.postgres.doubt import Doubt
    from durable_streams.postgres.endings import Buried
    from durable_streams.postgres.readers import Readers
    from durable_streams.postgres.sessions import Session
    from durable_streams.postgres.tasks import Tasks
    from durable_streams.postgres.transactions import Transaction, Transactions
    from durable_streams.settings import Settings

GRAVES_S: Final = 5.0
"""Between two searches for bytes of streams that are no more."""

_ABSENT_S: Final = 24 * 3600.0
"""After which a node that was not heard of is gone, and nobody learns what its last writes were."""

_STEP: Final = 500
"""Runs, or producers, that are removed in one commit."""

_GRAVES: Final = """
select g.stream from ds.graves g where not g.swept and g.kept is null
 and not exists(select from ds.streams s where s.id = g.stream) limit 100
"""
"""Those of streams that are no more: nobody but a hand makes others, and nothing is lost by it."""

_SWEEP: Final = """
with part as (
 select ctid from ds.{table} where stream = $1
  and exists(select from ds.graves where stream = $1 and kept is null)
  and not exists(select from ds.streams where id = $1) limit $2),
removed as (delete from ds.{table} where ctid in (select ctid from part) returning 1)
select count(*) as number from removed
"""
"""Whether the stream has ended is asked here again: this may be done on another server than the
one where its grave was found, and the end of the stream was lost with that one.
"""

_SWEPT: Final = """
update ds.graves set swept = true where stream = $1
 and not exists(select from ds.runs where stream = $1)
 and not exists(select from ds.producers where stream = $1)
"""
"""Nothing is left on the server that this is told to, whichever the steps before were done on."""

_RELEASE: Final = "update ds.graves set kept = null where kept is not null"
"""What was kept while the clock was in doubt is removed as everything is."""

_FORGOTTEN: Final = "delete from ds.graves where swept and removed_ms < $1"

_LEFT_BEHIND: Final = """
with gone as (
 delete from ds.nodes where seen < to_timestamp($1::float8) returning node)
delete from ds.lanes where node in (select node from gone)
"""

_EXPIRED: Final = f"""
select s.id, s.path from ds.streams s
 where s.deadline_ms < $2 and not s.soft_deleted and s.id > $1
   and not (s.ttl_s is not null and {HELD})
   and not exists(select from ds.streams f where f.fork_of = s.id)
 order by s.id limit 100
"""  # noqa: S608 - of a constant

log = logging.getLogger("durable_streams.postgres")


class Sweeper:
    """Looks now and then; ``ended``: told of streams that were removed."""

    def __init__(
        self,
        readers: Readers,
        transactions: Transactions,
        doubt: Doubt,
        settings: Settings,
        *,
        ended: Callable[[Buried | None], None],
        tasks: Tasks,
    ) -> None:
        self._readers = readers
        self._transactions = transactions
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
                    await self.remove_left_behind()
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
        remembered_s = self._settings.remember_removed_s
        now_ms = await self._doubt.believed_ms(self._readers.fetch, remembered_s)
        if now_ms is not None:
            remembered_ms = round(min(remembered_s * 1000, 2**53))
            await self._readers.fetch(_FORGOTTEN, now_ms - remembered_ms)

    async def remove_left_behind(self) -> None:
        """Remove what nodes left that are not heard of any more."""
        now_ms = await self._doubt.believed_ms(self._readers.fetch, _ABSENT_S)
        if now_ms is not None:
            await self._readers.fetch(_LEFT_BEHIND, now_ms / 1000 - _ABSENT_S)

    async def remove_expired(self) -> None:
        """Remove all that has expired, and that nobody needs, unless the clock is in doubt."""
        now_ms = await self._readers.do(self._release)
        if now_ms is None:
            return
        last = -1
        while found := await self._readers.fetch(_EXPIRED, last, now_ms):
            for record in found:
                last = record["id"]
                await self._remove(record["path"], last)

    async def _release(self, session: Session) -> int | None:
        """What time it is, if that is believed: then nothing is kept any more on that server."""
        now_ms = await self._doubt.believed_ms(session.fetch)
        if now_ms is not None:
            await session.fetch(_RELEASE)
        return now_ms

    async def _remove(self, path: str, number: int) -> None:
        async def work(transaction: Transaction) -> Buried | None:
            now_ms = await self._doubt.believed_ms(transaction.fetch)  # of the server it is done at
            if now_ms is None:
                return None
            return await bury(transaction, number, now_ms, only_expired=True)

        await self._transactions.run(parse_path_text(path), work, self._ended)


async def _step(table: str, number: int, session: Session) -> bool:
    """Remove some rows of a stream; whether there may be more."""
    (record,) = await session.fetch(_SWEEP.format(table=table), number, _STEP)
    return bool(record["number"] == _STEP)
