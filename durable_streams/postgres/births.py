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
from durable_streams.postgres import statements
from durable_streams.postgres.decisions import chained, why_unusable
from durable_streams.postgres.endings import bury
from durable_streams.postgres.reading import Reading, RunCache
from durable_streams.postgres.rows import (
    FIRST_CHAIN,
    layers_text,
    requested_text,
    row_of,
)
from durable_streams.rules import json_mode, media_type
from durable_streams.rules.creates import fork_lifetime, matches
from durable_streams.rules.lifetime import deadline_ms
from durable_streams.rules.stream_counts import StreamCounts

if TYPE_CHECKING:
    from durable_streams.model.commands import Create, ForkRequest
    from durable_streams.model.paths import StreamPath
    from durable_streams.model.stream_limits import StreamLimit
    from durable_streams.postgres.database import Clock
    from durable_streams.postgres.rows import Layer, Row
    from durable_streams.postgres.transactions import Transaction

_NEW: Final = """
insert into ds.streams (id, path, content_type, first_segment, segment, position, chain, closed,
  ttl_s, expires_at, expires_at_ms, deadline_ms, created_ms, requested, fork_of, layers)
 values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
 on conflict (path) do nothing returning id
"""

_FIRST_RUN: Final = """
insert into ds.runs (stream, segment, start, ends, times, before, chain, data)
 values ($1, $2, $3, $4, $5, $6, $7, $8)
"""

_NOW: Final = f"select {statements.now('$1')} as now_ms"

_SOURCE: Final = statements.LOCKED_ROWS.replace("for no key update of s", "for key share of s")

_ABOVE: Final = """
select coalesce(max(next_segment), 0) as first from ds.graves
 where path = $1 and removed_ms > $2
"""

_COUNT: Final = """
select count(*) as number from (select from ds.streams
 where $1 = '' or path = $1 or (path >= $1 || '/' and path < $1 || '0') limit $2) as found
"""

_ONE_BY_ONE: Final = "select pg_advisory_xact_lock(hashtextextended('ds.streams:' || $1, 0))"

_TRIES: Final = 5


class Births:
    """Makes streams, each in a transaction."""

    def __init__(
        self, clock: Clock, limits: tuple[StreamLimit, ...], remember_removed_s: float
    ) -> None:
        self._clock = clock
        self._limits = limits
        self._remember_ms = round(min(remember_removed_s * 1000, 2**53))

    async def create(
        self, transaction: Transaction, command: Create, body: bytes
    ) -> tuple[bool, Row]:
        """Whether the stream was made, and its row; raises what the create is refused with."""
        path = path_text(command.path)
        for _ in range(_TRIES):
            now_ms = (await transaction.fetch(_NOW, self._clock.parameter))[0]["now_ms"]
            found = await transaction.fetch(statements.ROWS, [path], [], self._clock.parameter)
            if found:
                row = row_of(found[0])
                problem = why_unusable(command.path, row, now_ms)
                if isinstance(problem, StreamGone):
                    raise StreamExists(path, "it was deleted, and its forks still need it")
                if problem is None:
                    matches(row.identity(), command)
                    return False, row
                await bury(transaction, row.id, now_ms, only_expired=True)
                continue
            made = await self._make(transaction, command, body, now_ms)
            if made is not None:
                return True, made
        raise Unavailable("others make and remove the stream all the time: try again")

    async def _make(
        self, transaction: Transaction, command: Create, body: bytes, now_ms: int
    ) -> Row | None:
        """The new row; None if somebody else has just made one."""
        fetch = transaction.fetch
        content_type = command.content_type or media_type.DEFAULT
        lifetime, fork_of = command.lifetime, None
        layers: tuple[Layer, ...] = ()
        (above,) = await fetch(_ABOVE, path_text(command.path), now_ms - self._remember_ms)
        first = above["first"]
        tail, chain = Offset(first, 0), FIRST_CHAIN
        source = None
        if command.fork is not None:
            source = await self._source(transaction, command, command.fork, now_ms)
            content_type = source.content_type
            lifetime = fork_lifetime(source.lifetime, lifetime)
        data = _wire(content_type, body)
        if source is not None and command.fork is not None:
            reading = Reading(command.fork.source, source, RunCache(fetch))
            cut, chain = await reading.cut(command.fork)
            first = max(first, source.first_segment)
            shift = first - source.first_segment
            layers = reading.layers_up_to(cut, shift)
            tail, fork_of = Offset(cut.segment + shift, cut.position), source.id
        await self._count(transaction, command.path)
        before, start = chain, tail
        if data:
            chain = chained(chain, data)
            tail = Offset(tail.segment, tail.position + len(data))
        number = secrets.randbits(63)
        arguments: list[Any] = [
            number,
            path_text(command.path),
            content_type,
            first,
            *tail,
            chain,
            command.closed,
            lifetime.ttl_s,
            lifetime.expires_at,
            lifetime.expires_at_ms,
            deadline_ms(lifetime, now_ms),
            now_ms,
            requested_text(command),
            fork_of,
            layers_text(layers),
        ]
        if not await fetch(_NEW, *arguments):
            return None
        if data:
            await fetch(_FIRST_RUN, number, *start, [tail.position], [now_ms], before, chain, data)
        (record,) = await fetch(statements.ROWS, [], [number], self._clock.parameter)
        return row_of(record)

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
            (record,) = await transaction.fetch(_COUNT, prefix, count.limit.most)
            count.number = record["number"]
        counts.take(path)


def _wire(content_type: str, body: bytes) -> bytes:
    if not body or not media_type.is_json(content_type):
        return body
    return json_mode.to_wire(body, allow_empty=True)[0]
