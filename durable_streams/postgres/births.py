"""Streams come to be: fresh, or as forks of others."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

from durable_streams.model.errors import (
    ContentTypeMismatch,
    SourceGone,
    StreamExists,
    StreamGone,
    Unavailable,
)
from durable_streams.model.offsets import Offset
from durable_streams.model.paths import path_text
from durable_streams.postgres import doubt, endings, statements, token_rows
from durable_streams.postgres.decisions import chained, why_unusable
from durable_streams.postgres.endings import bury
from durable_streams.postgres.reading import RUNS as _RUNS
from durable_streams.postgres.reading import SIZES as _SIZES
from durable_streams.postgres.reading import Reading, RunCache
from durable_streams.postgres.rows import (
    FIRST_CHAIN,
    Row,
    keys_below,
    layers_text,
    requested,
    requested_text,
    row_of,
    sort_key,
)
from durable_streams.postgres.schema import EVERYWHERE
from durable_streams.postgres.sessions import Refused
from durable_streams.rules import json_mode, media_type
from durable_streams.rules.creates import fork_lifetime, matches
from durable_streams.rules.lifetime import deadline_ms
from durable_streams.rules.stream_counts import StreamCounts

if TYPE_CHECKING:
    from durable_streams.model.commands import Create, ForkRequest
    from durable_streams.model.paths import StreamPath
    from durable_streams.model.stream_limits import StreamLimit
    from durable_streams.postgres.database import Clock
    from durable_streams.postgres.doubt import Doubt
    from durable_streams.postgres.rows import Layer
    from durable_streams.postgres.transactions import Transaction

_NEW: Final = """
with made as (
 insert into ds.streams (id, path, content_type, first_segment, segment, position, chain, closed,
   ttl_s, expires_at, expires_at_ms, deadline_ms, created_ms, requested, fork_of, layers,
   sort_key, closed_alone, size_bytes, last_write_ms)
  values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,
   $17, $18, $19, $20)
  on conflict (path) do nothing returning id),
stored as (
 insert into ds.runs (stream, segment, start, ends, times, before, chain, data)
  select id, $5, $21::bigint, array[$6::bigint], array[$13::bigint], $22::bytea, $7, $23::bytea
   from made where $23 is not null)
select id from made
"""
"""A stream, and the run that it begins with, if it has any."""

_LOOK: Final = f"""
select {statements.now("$2")} as now_ms,
  (select coalesce(max(next_segment), 0) from ds.graves where path in ($1, '{EVERYWHERE}'))
    as above,
  (select id from ds.streams where path = $1) as there
"""  # noqa: S608 - of constants
"""What time it is, where another stream may begin at a path, and whether one is there.

All graves count that are left, however old they are by a clock that may be wrong.
"""

_ABOVE: Final = "select coalesce(max(next_segment), 0) as above from ds.graves where path = $1"

_SOURCE: Final = statements.LOCKED_ROWS.replace("for no key update of s", "for key share of s")

_COUNT: Final = """
select count(*) as number from (select from ds.streams
 where sort_key >= $1 and sort_key < $2 limit $3) as found
"""

_ONE_BY_ONE: Final = "select pg_advisory_xact_lock(hashtextextended('ds.streams:' || $1, 0))"

STATEMENTS: Final = (
    *(_LOOK, _NEW, _ABOVE, _SOURCE, _COUNT, _ONE_BY_ONE, _RUNS, _SIZES),
    *endings.STATEMENTS,
    *token_rows.STATEMENTS,
    doubt.SERVER,
    *(statements.BARRIER, statements.LOCKED_ROWS, statements.PRODUCERS, statements.WRITE),
)
"""All that transactions use, for creates, deletes, appends and tokens."""

_TRIES: Final = 5


class Births:
    """Makes streams, each in a transaction."""

    def __init__(
        self,
        clock: Clock,
        clock_doubt: Doubt,
        limits: tuple[StreamLimit, ...],
    ) -> None:
        self._clock = clock
        self._doubt = clock_doubt
        self._limits = limits

    async def create(
        self, transaction: Transaction, command: Create, body: bytes
    ) -> tuple[bool, Row]:
        """Whether the stream was made, and its row; raises what the create is refused with."""
        path = path_text(command.path)
        for _ in range(_TRIES):
            (look,) = await transaction.fetch(_LOOK, path, self._clock.parameter)
            now_ms, found = look["now_ms"], []
            if look["there"] is not None:
                found = await transaction.fetch(statements.ROWS, [path], [], self._clock.parameter)
                if not found:
                    continue
            if found:
                row = row_of(found[0])
                problem = why_unusable(command.path, row, now_ms)
                if isinstance(problem, StreamGone):
                    raise StreamExists(path, "it was deleted, and its forks still need it")
                if problem is None:
                    matches(row.identity(), command)
                    return False, row
                keep = await self._doubt.is_there(transaction.fetch)
                await bury(transaction, row.id, now_ms, only_expired=True, keep=keep)
                continue
            made = await self._make(transaction, command, body, now_ms, look["above"])
            if made is not None:
                await self._check_above(transaction, path, look["above"])
                return True, made
        raise Unavailable("others make and remove the stream all the time: try again")

    @staticmethod
    async def _check_above(transaction: Transaction, path: str, above: int) -> None:
        """Have all done again if others have made and removed a stream since that was looked up.

        None can any more, as this one is there; nor was the statement that made it sure to see it.
        """
        (now,) = await transaction.fetch(_ABOVE, path)
        if now["above"] > above:
            raise Refused("40001", "a stream was removed there meanwhile")

    async def _make(
        self, transaction: Transaction, command: Create, body: bytes, now_ms: int, first: int
    ) -> Row | None:
        """The new row; None if somebody else has just made one.  ``first``: its first segment."""
        fetch = transaction.fetch
        content_type = command.content_type or media_type.DEFAULT
        lifetime, fork_of = command.lifetime, None
        layers: tuple[Layer, ...] = ()
        tail, chain = Offset(first, 0), FIRST_CHAIN
        source, size_bytes = None, 0
        if command.fork is not None:
            source = await self._source(transaction, command, command.fork, now_ms)
            content_type = source.content_type
            lifetime = fork_lifetime(source.lifetime, lifetime)
        data = _wire(content_type, body)
        if source is not None and command.fork is not None:
            reading = Reading(command.fork.source, source, RunCache(fetch))
            cut, chain = await reading.cut(command.fork)
            size_bytes = await reading.size_up_to(cut)
            first = max(first, source.first_segment)
            shift = first - source.first_segment
            layers = reading.layers_up_to(cut, shift)
            tail, fork_of = Offset(cut.segment + shift, cut.position), source.id
        await self._count(transaction, command.path)
        before, start = chain, tail
        if data:
            chain = chained(chain, data)
            tail = Offset(tail.segment, tail.position + len(data))
        row = Row(
            secrets.randbits(63),
            0,
            content_type,
            first,
            tail,
            chain,
            command.closed,
            None,
            command.closed and not data,
            size_bytes + len(data),
            now_ms if data or command.closed else None,
            None,
            lifetime,
            deadline_ms(lifetime, now_ms),
            now_ms,
            requested(command),
            False,
            fork_of,
            layers,
            False,
            False,
            now_ms,
        )
        is_new = await fetch(
            _NEW, *_columns(command.path, row), start.position, before, data or None
        )
        return row if is_new else None

    async def _source(
        self, transaction: Transaction, command: Create, request: ForkRequest, now_ms: int
    ) -> Row:
        """The row of a fork's source, which stays until the transaction ends."""
        found = await transaction.fetch(_SOURCE, [path_text(request.source)], self._clock.parameter)
        row = row_of(found[0]) if found else None
        problem = why_unusable(request.source, row, now_ms)
        if isinstance(problem, StreamGone):
            raise SourceGone(path_text(request.source))
        if row is None or problem is not None:
            assert problem is not None
            raise problem
        given = command.content_type
        if given is not None and not media_type.same(given, row.content_type):
            raise ContentTypeMismatch(row.content_type, given)
        return row

    async def _count(self, transaction: Transaction, path: StreamPath) -> None:
        """``TooManyRequests`` where there are as many as there may be; nobody else counts then."""
        limits = [count.limit for count in StreamCounts(self._limits).at(path)]
        if not limits:
            return
        counts = StreamCounts(limits)
        for count in counts.at(path):
            prefix = path_text(count.limit.prefix) if count.limit.prefix else ""
            await transaction.fetch(_ONE_BY_ONE, prefix)
            below = keys_below(count.limit.prefix)
            (record,) = await transaction.fetch(_COUNT, *below, count.limit.most)
            count.number = record["number"]
        counts.take(path)


def _columns(path: StreamPath, row: Row) -> list[Any]:
    """A new row, as ``_NEW`` takes it."""
    return [
        row.id,
        path_text(path),
        row.content_type,
        row.first_segment,
        *row.tail,
        row.chain,
        row.closed,
        row.lifetime.ttl_s,
        row.lifetime.expires_at,
        row.lifetime.expires_at_ms,
        row.deadline_ms,
        row.created_ms,
        requested_text(row.requested),
        row.fork_of,
        layers_text(row.layers),
        sort_key(path),
        row.closed_alone,
        row.size_bytes,
        row.last_write_ms,
    ]


def _wire(content_type: str, body: bytes) -> bytes:
    if not body or not media_type.is_json(content_type):
        return body
    return json_mode.to_wire(body, allow_empty=True)[0]
