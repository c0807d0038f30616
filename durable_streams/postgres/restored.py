"""After a database was restored to an earlier time: no offset that was told before leads anywhere.

What was acknowledged since that time is gone, and the next appends would get its offsets: whoever
read up to there would go on in the middle of what is new.  So all streams get higher numbers for
their segments, above any that they can have had, and an offset of before lies before the beginning:
the reader is told so (``OffsetGone``).  No run is touched: a stream begins with what it had as a
fork begins with what its source has, under other numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durable_streams.model.paths import parse_path_text
from durable_streams.postgres import facts, versions
from durable_streams.postgres.connecting import Hosts, NoDatabase
from durable_streams.postgres.copied_streams import (
    NOW,
    need_no_node_since,
    need_no_nodes,
    open_session,
)
from durable_streams.postgres.reading import Reading, RunCache
from durable_streams.postgres.rows import layers_text, row_of
from durable_streams.postgres.sessions import Refused, Session, Unknown
from durable_streams.postgres.statements import ROWS
from durable_streams.postgres.versions import Fit
from durable_streams.postgres.waits import waited_for
from durable_streams.transfers import TransferError

if TYPE_CHECKING:
    import asyncpg

    from durable_streams.postgres.urls import DatabaseUrl

HIGHER_BY: Final = 1 << 20
"""Segments, of 16 MiB each: what no stream was given in the time that was lost."""

_AT_ONCE: Final = 500

_NEXT: Final = f"select id from ds.streams where id > $1 order by id limit {_AT_ONCE}"  # noqa: S608

_MOVE: Final = f"""
update ds.streams s set layers = m.layers, version = version + 1,
  first_segment = first_segment + {HIGHER_BY}, segment = segment + {HIGHER_BY}
 from unnest($1::bigint[], $2::text[]) as m(id, layers) where s.id = m.id
"""  # noqa: S608 - of a constant

_GRAVES: Final = f"""
update ds.graves set next_segment = next_segment + {HIGHER_BY},
  removed_ms = (extract(epoch from clock_timestamp()) * 1000)::bigint
"""  # noqa: S608 - of a constant


async def renumber(url: DatabaseUrl) -> int:
    """Do it, in one transaction; how many streams there are.  :class:`NoDatabase`.

    No node serves the database: what one knows of streams is not what is there afterwards.
    """
    await facts.need_acknowledgements(url)
    try:
        session = await open_session(Hosts(url))
    except TransferError as error:
        raise NoDatabase(str(error)) from None
    try:
        fit = (await versions.read(session.fetch)).fit()
        if fit is not Fit.FITS:
            raise NoDatabase(f"{url}: {fit.value}")
        ((now,),) = await session.fetch(NOW)
        await need_no_nodes(session, url)
        await session.run("begin; lock table ds.nodes, ds.streams, ds.graves in exclusive mode")
        await need_no_node_since(session, url, now)  # one that comes later waits, and knows nothing
        count, last = 0, -1
        while numbers := [record["id"] for record in await session.fetch(_NEXT, last)]:
            last = numbers[-1]
            count += len(numbers)
            records = await session.fetch(ROWS, [], numbers, None)
            layers = [await _moved(session, record) for record in records]
            await session.fetch(_MOVE, [record["id"] for record in records], layers)
        await session.fetch(_GRAVES)
        async with waited_for(session):
            await session.run("commit")
    except Refused as error:
        raise NoDatabase(f"{url}: nothing was changed: {error}") from None
    except Unknown as error:
        raise NoDatabase(
            f"{url}: whether it was done is not known ({error}): run it again, which does no harm"
        ) from None
    except TransferError as error:
        raise NoDatabase(str(error)) from None
    finally:
        session.terminate()
    return count


async def _moved(session: Session, record: asyncpg.Record) -> str | None:
    """The layers of a stream that has what it had under higher numbers."""
    row = row_of(record)
    if row.tail == row.begin:
        return None
    reading = Reading(parse_path_text(record["path"]), row, RunCache(session.fetch))
    return layers_text(reading.layers_up_to(row.tail, HIGHER_BY))
