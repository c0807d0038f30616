"""What was appended, as records: from what each run says of its appends, and the messages in them.

Of JSON the bytes are looked into for as long as a page needs, from the last mark before it
(``json_marks``).  What a page is made of lies below the tail of a row that a quorum has, and runs
do not change, so there is nothing more to wait for.
"""

from __future__ import annotations

import asyncio
import sys
from bisect import bisect_right
from typing import TYPE_CHECKING, Final, NamedTuple

from durable_streams.model.commands import Last, Since
from durable_streams.model.offsets import Offset
from durable_streams.model.records import Record, RecordsPage
from durable_streams.postgres.rows import claims_of
from durable_streams.rules import media_type
from durable_streams.rules.json_borders import Borders
from durable_streams.rules.json_marks import marks_among
from durable_streams.settings import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    import asyncpg

    from durable_streams.model.commands import Place, ProducerClaim
    from durable_streams.postgres.reading import Reading
    from durable_streams.postgres.rows import Layer, Row
    from durable_streams.rules.json_marks import Mark, Marks

_RUNS_AT_ONCE: Final = 64
_LOOKED_INTO_BYTES: Final = MIB  # of JSON at a time, and in a page beyond its first appends
_OFF_THE_LOOP_BYTES: Final = 64 * KIB

_FIRST_PIECE_BYTES: Final = 16 * KIB
"""Of JSON that is looked into first, then twice as much each time: a page takes no more than some
multiple of its own bytes."""

_AHEAD: Final = """
select segment, start, ends, times, claims from ds.runs
 where stream = $1 and (segment, start) < ($4, $5)
   and (segment, start) >= ($2, coalesce((select start from ds.runs
     where stream = $1 and segment = $2 and start <= $3 order by start desc limit 1), $3))
 order by segment, start limit $6
"""
"""What runs say, from the one on that has a position."""

_BACK: Final = """
select segment, start, ends, times, claims from ds.runs
 where stream = $1 and (segment, start) < ($2, $3) order by segment desc, start desc limit $4
"""
"""What the last runs before a position say, the last one first."""

_SINCE: Final = """
select start from ds.runs where stream = $1 and segment = $2 and times[cardinality(times)] >= $3
 order by start limit 1
"""
"""The first run of a segment that is of a time or later."""


class _Append(NamedTuple):
    segment: int
    begin: int
    end: int
    time_ms: int
    claim: ProducerClaim | None


class RecordReader:
    """Reads pages of records of one stream, as its row says it is."""

    def __init__(self, row: Row, reading: Reading, marks: Marks) -> None:
        self._row = row
        self._marks = marks
        self._reading = reading
        self._fetch = reading.fetch
        self._is_json = media_type.is_json(row.content_type)

    async def page(self, place: Place, limit: int) -> RecordsPage:
        """Up to ``limit`` records from a place on."""
        row, tail, close = self._row, self._row.tail, self._close()
        if isinstance(place, Last):
            records = await self._last(place.count - len(close)) + close
        else:
            since_ms = place.time_ms if isinstance(place, Since) else None
            if isinstance(place, Since):
                offset = await self._since(place.time_ms)
            else:
                offset = self._reading.placed(place)
            records = await self._from(offset, limit)
            if not records or records[-1].end == tail:
                records += [each for each in close if each.time_ms >= (since_ms or 0)]
        records = records[:limit]
        following = records[-1].end if records else tail
        at_tail = following == tail and (not records or records[-1].closed or not row.closed)
        return RecordsPage(records, following, at_tail, at_tail and row.closed)

    def _close(self) -> list[Record]:
        """The close, if it brought no data."""
        row = self._row
        if not row.closed_alone:
            return []
        time_ms = row.created_ms if row.last_write_ms is None else row.last_write_ms
        return [Record(row.tail, row.tail, time_ms, 0, row.closed_by, True)]

    async def _from(self, offset: Offset, limit: int) -> list[Record]:
        """Those that end behind an offset; fewer, if more bytes had to be looked into."""
        records: list[Record] = []
        looked_into = 0
        async for group in self._ahead(offset, limit):
            behind = offset.position if group[0].segment == offset.segment else 0
            begin, ends = await self._ends(group, behind, limit - len(records))
            looked_into += ends[-1] - begin
            records += await self._records(group, begin, ends)
            if len(records) >= limit or (self._is_json and looked_into > _LOOKED_INTO_BYTES):
                return records
        tail = self._row.tail
        if offset < tail and tail.position and (not records or records[-1].end != tail):
            raise self._reading.gap(records[-1].end if records else offset)
        return records

    async def _last(self, count: int) -> list[Record]:
        records: list[Record] = []
        if count > 0:
            async for group in self._back():
                begin, ends = await self._ends(group, 0, sys.maxsize)
                more = len(ends) - (count - len(records))
                if more > 0:
                    begin, ends = ends[more - 1], ends[more:]
                records = await self._records(group, begin, ends) + records
                if len(records) == count:
                    break
        return records

    async def _since(self, time_ms: int) -> Offset:
        """Where the first run is that is of a time or later; the tail if none is."""
        for layer, start, end in self._reading.parts():
            if not await self._is_before(layer, end, time_ms):
                continue
            low, high = start.segment, end.segment
            while low < high:
                middle = (low + high) // 2
                if await self._is_before(layer, Offset(middle + 1, 0), time_ms):
                    high = middle
                else:
                    low = middle + 1
            found = await self._fetch(_SINCE, layer.stream, low - layer.shift, time_ms)
            return Offset(low, found[0]["start"] if found else 0)
        return self._row.tail

    async def _is_before(self, layer: Layer, end: Offset, time_ms: int) -> bool:
        """Whether what is of a time or later begins before an offset."""
        last = await self._fetch(_BACK, layer.stream, end.segment - layer.shift, end.position, 1)
        return bool(last) and last[0]["times"][-1] >= time_ms

    # -- appends ---------------------------------------------------------------------------

    async def _ahead(self, offset: Offset, limit: int) -> AsyncIterator[list[_Append]]:
        """Appends that end behind an offset, in groups of one segment each."""
        at = offset
        for layer, start, end in self._reading.parts():
            at = max(at, start)
            while at < end:
                found = await self._fetch(
                    _AHEAD,
                    layer.stream,
                    at.segment - layer.shift,
                    at.position,
                    end.segment - layer.shift,
                    end.position,
                    min(limit, _RUNS_AT_ONCE),
                )
                appends = [
                    each
                    for record in found
                    for each in _appends(layer, end, record)
                    if Offset(each.segment, each.end) > at
                ]
                if not appends:
                    break
                for group in self._groups(appends):
                    yield group
                at = Offset(appends[-1].segment, appends[-1].end)

    async def _back(self) -> AsyncIterator[list[_Append]]:
        """Groups of appends, the last one first."""
        for layer, start, end in reversed(self._reading.parts()):
            at = end
            while at > start:
                segment = at.segment - layer.shift
                found = await self._fetch(_BACK, layer.stream, segment, at.position, _RUNS_AT_ONCE)
                appends = [
                    each for record in reversed(found) for each in _appends(layer, end, record)
                ]
                if not appends:
                    break
                for group in reversed(list(self._groups(appends))):
                    yield group
                at = Offset(appends[0].segment, appends[0].begin)

    def _groups(self, appends: Sequence[_Append]) -> Iterator[list[_Append]]:
        """Appends of a segment that follow one another, of not too many bytes to look into."""
        group: list[_Append] = []
        for each in appends:
            if group:
                last = group[-1]
                if each.begin != (last.end if each.segment == last.segment else 0):
                    raise self._reading.gap(Offset(last.segment, last.end))
                size = each.end - group[0].begin
                if each.segment != last.segment or (self._is_json and size > _LOOKED_INTO_BYTES):
                    yield group
                    group = []
            group.append(each)
        if group:
            yield group

    async def _ends(
        self, group: Sequence[_Append], behind: int, most: int
    ) -> tuple[int, Sequence[int]]:
        """Where records of a group end that do so behind a position, and where the first begins.

        At least one does; up to ``most``, of those that are known without looking into anything.
        """
        if not self._is_json:
            return group[0].begin, [each.end for each in group]
        segment, end = group[0].segment, group[-1].end
        which = (f"{self._row.id}", segment, group[0].begin, "")
        mark = self._marks.before(which, behind, 0)
        at = begin = mark.position
        before, size = mark.messages, _FIRST_PIECE_BYTES
        borders = Borders()
        ends: list[int] = []
        seen: list[Mark] = []
        while at < end and len(ends) < most:
            piece = await self._reading.bytes_in(segment, at, min(at + size, end))
            found = await _fed(borders, piece, at)
            seen += marks_among(found, seen[-1] if seen else mark, before)
            before += len(found)
            first = bisect_right(found, behind)
            if first:
                begin = found[first - 1]
            ends += found[first : first + most - len(ends)]
            at, size = at + len(piece), min(2 * size, _LOOKED_INTO_BYTES)
        self._marks.keep(which, mark, seen)
        if not ends:
            raise self._reading.gap(Offset(segment, begin))
        return begin, ends

    async def _records(
        self, group: Sequence[_Append], begin: int, ends: Sequence[int]
    ) -> list[Record]:
        """The records of a group that end there, and the first of which begins there."""
        row, segment = self._row, group[0].segment
        start = Offset(segment, begin)
        if not begin and segment > row.first_segment:  # one position, one offset
            (size,) = await self._reading.segment_sizes(segment - 1, segment)
            start = Offset(segment - 1, size)
        records: list[Record] = []
        of = iter(group)
        append = next(of)
        for stop in ends:
            while append.end <= begin:
                append = next(of)
            end, size = Offset(segment, stop), stop - begin - self._is_json
            closes = row.closed and not row.closed_alone and end == row.tail
            records.append(Record(start, end, append.time_ms, size, append.claim, closes))
            start, begin = end, stop
        return records


def _appends(layer: Layer, end: Offset, record: asyncpg.Record) -> Iterator[_Append]:
    """The appends of a run that a layer has, up to where that ends."""
    segment, begin = record["segment"] + layer.shift, record["start"]
    ends = record["ends"]
    claims = claims_of(record["claims"], len(ends))
    for stop, time_ms, claim in zip(ends, record["times"], claims, strict=True):
        cut = min(stop, end.position) if segment == end.segment else stop
        if cut > begin:
            yield _Append(segment, begin, cut, time_ms, claim)
        begin = stop


async def _fed(borders: Borders, piece: bytes, begin: int) -> list[int]:
    """Where messages end in the next piece, which begins at a position."""
    if len(piece) > _OFF_THE_LOOP_BYTES:
        found = await asyncio.to_thread(borders.feed, piece)
    else:
        found = borders.feed(piece)
    return [begin + at for at in found]
