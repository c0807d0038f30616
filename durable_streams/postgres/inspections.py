"""What is told of streams beside their bytes: lists, records, details.  No use of them.

Lists and details are shown behind a barrier of their own, begun when all was read.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from durable_streams.model.commands import Last, Since
from durable_streams.model.details import MOST_DETAILS, StreamDetails
from durable_streams.model.errors import NotOpen
from durable_streams.model.paths import parse_path_text, path_text
from durable_streams.model.results import ForkedFrom, NodeSeen, StreamPage, StreamRow
from durable_streams.postgres.batches import tables
from durable_streams.postgres.reading import Reading, RunCache
from durable_streams.postgres.records import RecordReader
from durable_streams.postgres.rows import keys_below, row_of, sort_key
from durable_streams.postgres.statements import ROWS
from durable_streams.rules.json_marks import Marks
from durable_streams.rules.last_producers import last_producers
from durable_streams.settings import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from durable_streams.model.commands import Place
    from durable_streams.model.details import ProducerSeen
    from durable_streams.model.paths import StreamPath
    from durable_streams.model.records import RecordsPage
    from durable_streams.postgres.access import Access
    from durable_streams.postgres.database import Clock
    from durable_streams.postgres.readers import Readers
    from durable_streams.postgres.rows import Row
    from durable_streams.postgres.sessions import Session
    from durable_streams.postgres.standbys import Standbys

_LOOKED_AT_ONCE: Final = 256
"""Paths that are offered to a filter at a time."""

_MARKS_BYTES: Final = MIB
"""Of memory for where messages end in appends that have many: some 500 MiB of such appends."""

_PATHS: Final = """
select path from ds.streams
 where sort_key > $1 and sort_key >= $2 and sort_key < $3 order by sort_key limit $4
"""

_FORKS: Final = """
select path from ds.streams where fork_of = $1 order by sort_key limit $2
"""

_NODES: Final = """
select name, program, (extract(epoch from began) * 1000)::bigint,
  (extract(epoch from seen) * 1000)::bigint, node = $1
 from ds.nodes where seen > clock_timestamp() - interval '10 s' order by began, node
"""


class Inspections:
    """The verbs that tell of streams."""

    def __init__(
        self, access: Access, readers: Readers, runs: RunCache, standbys: Standbys, clock: Clock
    ) -> None:
        self._access = access
        self._readers = readers
        self._runs = runs
        self._standbys = standbys
        self._clock = clock
        self._marks = Marks(_MARKS_BYTES)

    # -- lists -----------------------------------------------------------------------------

    async def page(
        self,
        prefix: StreamPath,
        after: StreamPath,
        limit: int,
        may: Callable[[StreamPath], bool] | None,
        most: int,
    ) -> StreamPage:
        """A page of a list."""
        if self._access.closed:
            raise NotOpen
        paths, end = await self._chosen(prefix, after, limit, may, most)
        rows = await self._readers.do(partial(self._rows, paths))
        return StreamPage(rows, end)

    async def _chosen(
        self,
        prefix: StreamPath,
        after: StreamPath,
        limit: int,
        may: Callable[[StreamPath], bool] | None,
        most: int,
    ) -> tuple[list[StreamPath], StreamPath | None]:
        """The next paths that may be listed, and up to where was looked; None: to the end."""
        first, end = keys_below(prefix)
        chosen: list[StreamPath] = []
        looked_at = 0
        while not most or looked_at < most:
            asked = limit - len(chosen) if may is None else _LOOKED_AT_ONCE
            asked = min(asked, most - looked_at) if most else asked
            records = await self._readers.fetch(_PATHS, sort_key(after), first, end, asked)
            found = [parse_path_text(record["path"]) for record in records]
            for path in found:
                if may is None or may(path):
                    chosen.append(path)
                    if len(chosen) == limit:
                        return chosen, path
            if len(found) < asked:
                return chosen, None
            after = found[-1]
            looked_at += asked
        return chosen, after

    async def _rows(self, paths: Sequence[StreamPath], session: Session) -> list[StreamRow]:
        """The rows of those that are there, in the order of the paths."""
        names = [path_text(path) for path in paths]
        records = await session.fetch(ROWS, names, [], self._clock.parameter)
        at = {record["path"]: row_of(record) for record in records}
        await self._standbys.barrier(session)
        return [
            _told(path, row)
            for path, row in zip(paths, map(at.get, names), strict=True)
            if row is not None and not row.soft_deleted and not row.is_expired(row.now_ms)
        ]

    async def nodes(self, this: UUID) -> list[NodeSeen]:
        """The nodes that were there a moment ago; which one ``this`` is."""
        found = await self._readers.fetch(_NODES, this)
        return [NodeSeen(*record) for record in found]

    # -- one stream ------------------------------------------------------------------------

    async def records(self, path: StreamPath, place: Place, limit: int) -> RecordsPage:
        """A page of records."""
        stream, row = await self._access.at(path)
        async with self._access.there_if_damaged(stream):
            reading = Reading(path, row, self._runs)
            page = await RecordReader(row, reading, self._marks).page(place, limit)
        if isinstance(place, Last | Since):  # of what ended meanwhile the first are gone before
            await self._access.of(stream)
        return page

    async def details(self, path: StreamPath) -> StreamDetails:
        """All that is known of a stream; its readers are those of this node."""
        stream, row = await self._access.at(path)
        number, first = row.tail.segment, row.first_segment
        reading = Reading(path, row, self._runs)
        sizes = await reading.segment_sizes(max(first, number + 1 - MOST_DETAILS), number)
        count, producers, forks = await self._readers.do(partial(self._beside, row.id))
        await self._access.of(stream)  # what ended meanwhile has fewer of all
        end_ms = _ends_at_ms(row)
        return StreamDetails(
            _told(path, row),
            row.begin,
            None if end_ms is None else max(0, end_ms - row.now_ms) // 1000,
            number + 1 - first,
            (*sizes, row.tail.position),
            count,
            producers,
            forks[:MOST_DETAILS],
            len(forks) > MOST_DETAILS,
            stream.followers,
            len(stream.audience.waiters),
            len(stream.audience.subscribers),
        )

    async def _beside(
        self, number: int, session: Session
    ) -> tuple[int, list[ProducerSeen], list[StreamPath]]:
        """How many producers a stream has, the last ones, and forks of it."""
        states = (await tables(session.fetch, [number]))[number].states
        forks = await session.fetch(_FORKS, number, MOST_DETAILS + 1)
        await self._standbys.barrier(session)
        found = [parse_path_text(record["path"]) for record in forks]
        return len(states), last_producers(states.items()), found


def _ends_at_ms(row: Row) -> int | None:
    if row.held and row.lifetime.ttl_s is not None:
        return row.now_ms + row.lifetime.ttl_s * 1000
    return row.deadline_ms


def _told(path: StreamPath, row: Row) -> StreamRow:
    """What lists say of a stream."""
    fork = None
    if row.requested.source is not None:
        fork = ForkedFrom(row.requested.source, row.point)
    return StreamRow(
        path,
        f"{row.id:016x}",
        row.content_type,
        row.tail,
        row.size_bytes,
        row.created_ms,
        row.last_write_ms,
        row.closed,
        row.lifetime,
        _ends_at_ms(row),
        fork,
    )
