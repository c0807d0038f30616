"""A database that a copy is made in, which no node serves before it is whole.

Until then it has the marks of :mod:`.copy_marks`.  A stream's runs come first, some at a time, then
its row, which nobody sees before: so a stream with a row is there whole, and one without goes on
behind its last run, unless its runs are not those of its source any more.  In the end no run is
left that is of no stream.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from durable_streams.model.commands import ForkRequest
from durable_streams.model.errors import InvalidRequest, StreamError
from durable_streams.model.offsets import Offset
from durable_streams.model.paths import path_text
from durable_streams.postgres import copy_marks, facts, texts, versions
from durable_streams.postgres.connecting import Hosts, NoDatabase
from durable_streams.postgres.copied_streams import DatabaseStreams, open_session
from durable_streams.postgres.decisions import chained
from durable_streams.postgres.reading import Reading, RunCache
from durable_streams.postgres.rows import (
    FIRST_CHAIN,
    Layer,
    Requested,
    claim_text,
    claims_text,
    layers_text,
    requested_text,
    sort_key,
)
from durable_streams.postgres.schema import EVERYWHERE
from durable_streams.postgres.sessions import Refused, Session, Unknown
from durable_streams.postgres.waits import are_waited_for, waited_for
from durable_streams.postgres.walks import is_same
from durable_streams.settings import KIB, MIB
from durable_streams.transfers import (
    AGAIN,
    Damaged,
    NotReached,
    TransferError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from durable_streams.postgres.urls import DatabaseUrl
    from durable_streams.transfers import Appended, Moved, Removed

RUN_BYTES: Final = 64 * KIB
"""Of appends that are put in one row, as rows of that size are read fastest."""

_RUN_APPENDS: Final = 1000
_STATEMENT_BYTES: Final = 4 * MIB

_ANALYSE: Final = "analyze ds.streams, ds.runs, ds.producers"

_GRAVES: Final = """
insert into ds.graves (stream, path, next_segment, removed_ms, swept)
 select stream, path, first, (extract(epoch from clock_timestamp()) * 1000)::bigint, true
  from unnest($1::bigint[], $2::text[], $3::bigint[]) as t(stream, path, first)
 on conflict (stream) do update set next_segment = excluded.next_segment
"""

_THERE: Final = "select id from ds.streams where id = any($1::bigint[])"

_FIRST: Final = """
select segment, start, before from ds.runs where stream = $1 order by segment, start limit 1
"""

_REMOVE: Final = "delete from ds.runs where stream = $1"

_DROP: Final = """
with recursive gone as (
 select unnest($1::bigint[]) as id
 union select s.id from ds.streams s join gone g on s.fork_of = g.id),
forgotten as (delete from ds.producers where stream in (select id from gone))
delete from ds.streams where id in (select id from gone)
"""
"""Streams and their forks; their runs stay, as most such streams have only grown."""

_OWNERLESS: Final = """
with recursive owner as (
 (select stream from ds.runs order by stream limit 1)
 union all
 select (select r.stream from ds.runs r where r.stream > o.stream order by r.stream limit 1)
  from owner o where o.stream is not null)
select stream from owner
 where stream is not null and not exists(select from ds.streams s where s.id = owner.stream)
"""
"""Runs of what was begun, and is not in the source any more: one look for each stream."""

_LAST: Final = """
select segment, ends[cardinality(ends)] as position, chain, times[cardinality(times)] as time_ms
 from ds.runs where stream = $1 order by segment desc, start desc limit 1
"""

_RUNS: Final = """
insert into ds.runs (stream, segment, start, ends, times, claims, before, chain, data)
 select $1, segment, start, ends::bigint[], times::bigint[], claims, before, chain, data
  from unnest($2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::bytea[],
   $8::bytea[], $9::bytea[])
   as t(segment, start, ends, times, claims, before, chain, data)
"""

_ROW: Final = """
with made as (
 insert into ds.streams (id, path, sort_key, content_type, first_segment, segment, position, chain,
   closed, closed_by, closed_alone, size_bytes, last_write_ms, stream_seq, ttl_s, expires_at,
   expires_at_ms, deadline_ms, created_ms, requested, soft_deleted, fork_of, layers)
  values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
   $20, $21, $22, $23)
  returning id)
insert into ds.producers (stream, producer, epoch, seq, seen_ms)
 select id, producer, epoch, seq, seen_ms
  from made, unnest($24::text[], $25::bigint[], $26::bigint[], $27::bigint[])
   as t(producer, epoch, seq, seen_ms)
"""
"""A stream, and its producers."""


class TargetDatabase(DatabaseStreams):
    """One; use :meth:`open`, and :meth:`close` it."""

    keeps_seen = True

    def __init__(
        self,
        session: Session,
        url: DatabaseUrl,
        salt: str,
        *,
        was_begun: bool,
        has_standbys: bool,
    ) -> None:
        """``has_standbys``: commits waited for some when it was opened."""
        super().__init__(session, url)
        self._salt = salt
        self.was_begun = was_begun
        undone = copy_marks.EMPTIED if was_begun else copy_marks.TAKEN_BACK
        self.given_up = f"somebody runs psql with: {undone}"
        self._has_standbys = has_standbys
        self._runs = RunCache(self.fetch)

    @classmethod
    async def open(cls, url: DatabaseUrl, source: str) -> TargetDatabase:
        """Begin a copy of a source, or go on; :class:`Occupied`, :class:`InUse`."""
        assert source.replace("/", "").isalnum()
        try:
            await facts.need_acknowledgements(url)
            await versions.initialise(url)
        except NoDatabase as error:
            raise NotReached(str(error)) from None
        session = await open_session(Hosts(url))
        try:
            has_standbys = await are_waited_for(session)
            salt, was_begun = await copy_marks.begin(session, url, source)
        except Refused as error:
            session.terminate()
            raise TransferError(f"{url}: it refuses that: {error}") from None
        except Unknown as error:
            session.terminate()
            raise NotReached(f"{url}: {error}") from None
        except BaseException:
            session.terminate()
            raise
        return cls(session, url, salt, was_begun=was_begun, has_standbys=has_standbys)

    def key_of(self, key: str) -> str:
        """What the copy of an incarnation is called: its number here."""
        return str(self._number(key))

    def _number(self, key: str) -> int:
        digest = blake2b(f"{self._salt} {key}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) >> 1

    def refusal(self, stream: Moved) -> str:
        """What is no text in PostgreSQL."""
        try:
            texts.check_moved(stream)
        except InvalidRequest as error:
            return str(error)
        return ""

    async def find(self, streams: Sequence[Moved]) -> set[str]:
        """Those that are there whole."""
        numbers = {self._number(stream.key): stream.key for stream in streams}
        return {numbers[record["id"]] for record in await self.fetch(_THERE, list(numbers))}

    async def add(
        self,
        stream: Moved,
        appends: Callable[[Offset], AsyncIterator[Sequence[Appended]]],
    ) -> None:
        """Have a stream, whole."""
        try:
            await self._add(stream, appends)
        except (StreamError, TransferError) as error:
            if isinstance(error, NotReached | Damaged):
                raise
            raise Damaged(f"{path_text(stream.path)}: {error}") from None

    async def _add(
        self,
        stream: Moved,
        appends: Callable[[Offset], AsyncIterator[Sequence[Appended]]],
    ) -> None:
        number = self._number(stream.key)
        layers, own, chain, size_bytes = await self._inherited(stream)
        writer = _Writer(self, number, own, chain)
        await writer.resume(stream.tail, appends)
        async for batch in appends(writer.at):
            await writer.put(batch)
        await writer.flush()
        size_bytes += await self._own_bytes(number)
        asked, fork = stream.requested, stream.fork
        requested = Requested(asked.ttl_s, asked.expires_at, asked.expires_at_ms)
        if fork is not None:
            offset = None if fork.offset is None else (fork.offset.segment, fork.offset.position)
            requested = Requested(
                asked.ttl_s,
                asked.expires_at,
                asked.expires_at_ms,
                fork.source,
                offset,
                fork.sub_offset,
            )
        producers = sorted(stream.producers.items())
        await self.fetch(
            _ROW,
            *(number, path_text(stream.path), sort_key(stream.path), stream.content_type),
            *(stream.first_segment, *stream.tail, writer.chain),
            *(stream.closed, claim_text(stream.closed_by), writer.closed_alone),
            *(size_bytes, writer.last_ms, stream.stream_seq),
            *(stream.lifetime.ttl_s, stream.lifetime.expires_at, stream.lifetime.expires_at_ms),
            *(stream.deadline_ms, stream.created_ms, requested_text(requested)),
            *(stream.soft_deleted, None if stream.source is None else self._number(stream.source)),
            layers_text(layers),
            [name for name, _ in producers],
            [state.epoch for _, state in producers],
            [state.seq for _, state in producers],
            [state.time_ms for _, state in producers],
        )

    async def _own_bytes(self, number: int) -> int:
        ((size,),) = await self.fetch(
            "select coalesce(sum(length(data)), 0)::bigint from ds.runs where stream = $1", number
        )
        return int(size)

    async def _inherited(self, stream: Moved) -> tuple[tuple[Layer, ...], Offset, bytes, int]:
        """What a stream has of its source: layers, where its own begins, checksum, bytes."""
        if stream.source is None or stream.fork is None or stream.point == stream.begin:
            return (), stream.begin, FIRST_CHAIN, 0
        source = await self.row_at(stream.fork.source)
        if source is None or source.id != self._number(stream.source):
            raise Damaged(f"{self.name}: {path_text(stream.path)}: its source is not there")
        shift = stream.first_segment - source.first_segment
        point = Offset(stream.point.segment - shift, stream.point.position)
        reading = Reading(stream.fork.source, source, self._runs)
        _, chain = await reading.cut(ForkRequest(stream.fork.source, point))
        size_bytes = await reading.size_up_to(point)
        return reading.layers_up_to(point, shift), stream.point, chain, size_bytes

    async def drop(self, streams: Sequence[Moved]) -> None:
        """Have some no more, nor their forks."""
        await self.fetch(_DROP, [int(stream.key) for stream in streams])

    async def settle(self) -> None:
        """All is committed; what was begun, and is of no stream now, is removed."""
        if self.was_begun:
            for record in await self.fetch(_OWNERLESS):
                await self.fetch(_REMOVE, record["stream"])

    async def finish(self, removed: Removed, state: str) -> None:
        """Let nodes serve it."""
        places = [(path_text(path), first) for path, first in removed.paths.items()]
        if removed.floor:
            places.append((EVERYWHERE, removed.floor))
        numbers = [self._number(f"removed {path}") for path, _ in places]
        await self.fetch(
            _GRAVES, numbers, [path for path, _ in places], [first for _, first in places]
        )
        await self.fetch(_ANALYSE)
        try:  # all that was committed before is on a standby that has this
            async with waited_for(self._session, as_before=self._has_standbys):
                await self._session.run(copy_marks.END.format(state=state))
        except Refused as error:
            raise NotReached(f"{self.name}: {error}: {AGAIN}") from None
        except Unknown as error:
            raise NotReached(
                f"{self.name}: whether the copy is whole there is not known ({error}): {AGAIN}"
            ) from None


async def _is_end(
    appends: Callable[[Offset], AsyncIterator[Sequence[Appended]]], at: Offset
) -> bool:
    """Whether an append ends there; a source that was put back may have others than it had."""
    async for batch in appends(Offset(at.segment, at.position - 1)):
        return Offset(batch[0].segment, batch[0].end) == at
    return False


class _Writer:
    """The runs of one stream; ``at``, ``chain``: where they end; ``last_ms``: its last write."""

    def __init__(self, target: TargetDatabase, number: int, at: Offset, chain: bytes) -> None:
        self._target = target
        self._number = number
        self.at = at
        self.chain = chain
        self.last_ms: int | None = None
        self.closed_alone = False
        self._rows: list[tuple[Any, ...]] = []
        self._row: list[Appended] = []
        self._size = 0
        self._bytes = 0

    async def resume(
        self,
        tail: Offset,
        appends: Callable[[Offset], AsyncIterator[Sequence[Appended]]],
    ) -> None:
        """Go on behind the last run that is there; without any that the stream has not any more."""
        for first in await self._target.fetch(_FIRST, self._number):
            (last,) = await self._target.fetch(_LAST, self._number)
            end = Offset(last["segment"], last["position"])
            begin = Offset(first["segment"], first["start"])
            is_of_it = is_same(self.at, begin) and first["before"] == self.chain and end <= tail
            if is_of_it and await _is_end(appends, end):
                self.at, self.chain, self.last_ms = end, last["chain"], last["time_ms"]
            else:
                await self._target.fetch(_REMOVE, self._number)

    async def put(self, batch: Sequence[Appended]) -> None:
        """Some more appends."""
        for append in batch:
            self.last_ms = append.time_ms
            if not append.data:
                self.closed_alone = append.closes
                continue
            if self._row and (
                append.segment != self._row[0].segment
                or self._size + len(append.data) > RUN_BYTES
                or len(self._row) == _RUN_APPENDS
            ):
                self._end_row()
                if self._bytes >= _STATEMENT_BYTES:
                    await self._send()
            self._row.append(append)
            self._size += len(append.data)

    async def flush(self) -> None:
        """All that came is committed when this returns."""
        self._end_row()
        await self._send()

    def _end_row(self) -> None:
        row, self._row = self._row, []
        if not row:
            return
        before = self.chain
        for append in row:
            self.chain = chained(self.chain, append.data)
        ends, times = (
            "{" + ",".join(map(str, values)) + "}"
            for values in ([each.end for each in row], [each.time_ms for each in row])
        )
        self._rows.append(
            (
                *(row[0].segment, row[0].begin, ends, times),
                claims_text([append.claim for append in row]),
                *(before, self.chain, b"".join([append.data for append in row])),
            )
        )
        self._bytes += self._size
        self._size = 0

    async def _send(self) -> None:
        rows, self._rows, self._bytes = self._rows, [], 0
        if rows:
            await self._target.fetch(_RUNS, self._number, *zip(*rows, strict=True))
