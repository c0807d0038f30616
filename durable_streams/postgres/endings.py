"""Streams end: for good, with the ancestors that only waited for them, or only for their forks.

A stream and all its ancestors are locked in one statement, in the order in which all locks are
taken; their forks are counted in another one, which so sees what was committed meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from durable_streams.model.errors import StreamNotFound
from durable_streams.model.paths import path_text
from durable_streams.postgres.decisions import why_unusable
from durable_streams.postgres.rows import row_of
from durable_streams.postgres.statements import HELD, ROWS

if TYPE_CHECKING:
    from durable_streams.model.paths import StreamPath
    from durable_streams.postgres.transactions import Transaction

_FAMILY: Final = f"""
with recursive up as (
 select id, fork_of from ds.streams where id = $1
 union all select s.id, s.fork_of from up,
  lateral (select id, fork_of from ds.streams where id = up.fork_of offset 0) as s)
select s.id, s.path, s.fork_of, s.version, s.segment, s.position, s.soft_deleted, s.deadline_ms,
  s.ttl_s is not null and {HELD} as held
 from ds.streams s where s.id = any(array(select id from up)) order by s.id for update of s
"""  # noqa: S608 - of a constant

_FORKS: Final = """
select fork_of, count(*) as number from ds.streams where fork_of = any($1::bigint[]) group by 1
"""

_GRAVE: Final = """
insert into ds.graves (stream, path, next_segment, removed_ms, kept)
 select s.id, s.path, $2, $3, case when $4::boolean then to_jsonb(s) end
  from ds.streams s where s.id = $1
 on conflict (stream) do update set path = excluded.path, next_segment = excluded.next_segment,
  removed_ms = excluded.removed_ms, kept = excluded.kept, swept = false
"""
"""What is kept of a stream, beside its bytes: its row, so that it can be had again by hand.

Where a hand has made one before, the stream could not end otherwise.
"""

_REMOVE: Final = "delete from ds.streams where id = $1 and version = $2 returning id"

_KEEP: Final = """
update ds.streams set soft_deleted = true, version = version + 1
 where id = $1 and version = $2 returning id
"""


STATEMENTS: Final = (ROWS, _FAMILY, _FORKS, _GRAVE, _REMOVE, _KEEP)
"""All that a delete uses."""


class Buried(msgspec.Struct):
    """The numbers of streams that are no more, and of one that is kept for its forks."""

    removed: list[int] = msgspec.field(default_factory=list)
    kept: int | None = None


async def delete(path: StreamPath, told_ms: int | None, transaction: Transaction) -> Buried:
    """End the stream at a path; raises why there is none."""
    found = await transaction.fetch(ROWS, [path_text(path)], [], told_ms)
    row = row_of(found[0]) if found else None
    problem = why_unusable(path, row, row.now_ms if row else 0)
    if row is None or problem is not None:
        assert problem is not None
        raise problem
    buried = await bury(transaction, row.id, row.now_ms)
    if buried is None:
        raise StreamNotFound(path_text(path))
    return buried


async def bury(
    transaction: Transaction,
    number: int,
    now_ms: int,
    *,
    only_expired: bool = False,
    keep: bool = False,
) -> Buried | None:
    """End a stream; None if there is none, or, if so asked, it has not expired after all.

    ``keep``: what it held is not removed yet.
    """
    fetch = transaction.fetch
    family = {record["id"]: record for record in await fetch(_FAMILY, number)}
    stream = family.get(number)
    if stream is None or stream["soft_deleted"]:
        return None
    deadline_ms = stream["deadline_ms"]
    if only_expired and (deadline_ms is None or deadline_ms > now_ms or stream["held"]):
        return None
    counted = await fetch(_FORKS, list(family))
    forks = {record["fork_of"]: record["number"] for record in counted}
    buried = Buried()
    while not forks.get(stream["id"]):
        next_segment = stream["segment"] + (stream["position"] > 0)
        await fetch(_GRAVE, stream["id"], next_segment, now_ms, keep)
        await fetch(_REMOVE, stream["id"], stream["version"])
        buried.removed.append(stream["id"])
        source = family.get(stream["fork_of"])
        if source is None:
            return buried
        forks[source["id"]] -= 1
        if not source["soft_deleted"]:
            return buried
        stream = source
    if not stream["soft_deleted"]:
        await fetch(_KEEP, stream["id"], stream["version"])
        buried.kept = stream["id"]
    return buried
