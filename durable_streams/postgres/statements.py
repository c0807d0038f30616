"""The statements that streams are read and written with.

``$now`` of each is null, or the time that a test says it is: all others take the database's clock.
"""

from __future__ import annotations

from typing import Final

_CLOCK: Final = "coalesce({}::bigint, (extract(epoch from clock_timestamp()) * 1000)::bigint)"

HELD: Final = """exists(
   select from ds.holds h where h.stream = s.id and h.until > clock_timestamp())"""
"""Whether somebody follows a stream, on any node: no TTL ends it then."""

_ROW: Final = f"""id, path, version, content_type, first_segment, segment, position, chain, closed,
 closed_by, closed_alone, size_bytes, last_write_ms, stream_seq, ttl_s, expires_at, expires_at_ms,
 deadline_ms, created_ms, requested,
 soft_deleted, fork_of, layers,
 exists(select from ds.streams f where f.fork_of = s.id) as forked,
 s.ttl_s is not null and {HELD} as held"""


def now(parameter: str) -> str:
    """The time, where a parameter does not say another."""
    return _CLOCK.format(parameter)


ROWS: Final = f"""
select {_ROW}, {now("$3")} as now_ms from ds.streams s
 where path = any($1::text[]) or id = any($2::bigint[])
"""  # noqa: S608 - of constants
"""The rows of streams at paths, and of ids."""

PRODUCERS: Final = """
select stream, producer, epoch, seq, seen_ms from ds.producers where stream = any($1::bigint[])
"""
"""All producers of streams."""

LOCKED_ROWS: Final = f"""
select {_ROW}, {now("$2")} as now_ms from ds.streams s
 where path = any($1::text[]) order by id for no key update of s
"""  # noqa: S608 - of constants
"""The rows of streams at paths, which nobody else writes until the transaction ends."""

RENEW: Final = f"""
with live as (
 select id from ds.streams s
  where id = any($1::bigint[]) and ttl_s is not null and not soft_deleted
    and (deadline_ms > {now("$2")} or {HELD})
  order by id for no key update skip locked)
update ds.streams s set deadline_ms = {now("$2")} + s.ttl_s * 1000
 from live where s.id = live.id returning s.id, s.deadline_ms
"""  # noqa: S608 - of constants
"""Somebody used these streams: their TTLs begin anew, if they have not ended meanwhile."""

BARRIER: Final = "select pg_logical_emit_message(true, '', '')"
"""Its commit waits for the quorum to have all that was committed before."""

_ALIVE: Final = f"""s.deadline_ms is null or s.deadline_ms > (select now_ms from clock)
   or s.ttl_s is not null and {HELD}"""  # noqa: S608 - of constants

WRITE: Final = f"""
with clock as materialized (select {now("$3")} as now_ms),
mine as (
 select from ds.lanes where lane = $1::uuid and batch = $2::bigint - 1 for no key update),
input as (
 select * from unnest($4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::boolean[],
   $9::text[], $10::text[], $11::bytea[], $12::bigint[], $13::text[], $14::text[], $15::bytea[],
   $16::bytea[], $28::boolean[])
  as t(id, version, segment, position, closed, closed_by, stream_seq, chain, start, ends, claims,
   before, data, closed_alone)),
locked as (
 select s.id from ds.streams s join input i on s.id = i.id
  where exists(select from mine) and s.version = i.version and s.chain = i.before
    and not s.soft_deleted and ({_ALIVE})
  order by s.id for no key update of s skip locked),
moved as (
 update ds.streams s set version = s.version + 1, segment = i.segment, position = i.position,
   closed = i.closed, closed_by = i.closed_by, closed_alone = i.closed_alone,
   size_bytes = s.size_bytes + coalesce(length(i.data), 0),
   last_write_ms = (select now_ms from clock), stream_seq = i.stream_seq, chain = i.chain,
   deadline_ms = case when s.ttl_s is null then s.deadline_ms
     else (select now_ms from clock) + s.ttl_s * 1000 end
  from input i join locked l on l.id = i.id where s.id = i.id returning s.id),
stored as (
 insert into ds.runs (stream, segment, start, ends, times, claims, before, chain, data)
  select i.id, i.segment, i.start, i.ends::bigint[],
    array_fill((select now_ms from clock), array[cardinality(i.ends::bigint[])]),
    i.claims, i.before, i.chain, i.data
   from input i join moved m on m.id = i.id where i.start is not null),
forgotten as (
 delete from ds.producers p using
   unnest($22::bigint[], $23::text[]) as f(stream, producer) join moved m on m.id = f.stream
  where p.stream = f.stream and p.producer = f.producer),
known as (
 insert into ds.producers (stream, producer, epoch, seq, seen_ms)
  select p.* from unnest($17::bigint[], $18::text[], $19::bigint[], $20::bigint[], $21::bigint[])
    as p(stream, producer, epoch, seq, seen_ms) join moved m on m.id = p.stream
  on conflict (stream, producer) do update
   set epoch = excluded.epoch, seq = excluded.seq, seen_ms = excluded.seen_ms),
confirmed as (
 select s.id from ds.streams s
   join unnest($24::bigint[], $25::bigint[], $26::bytea[]) as k(id, version, chain)
    on s.id = k.id and s.version = k.version and s.chain = k.chain
  where exists(select from mine)
    and ({_ALIVE})),
used as (
 select s.id from ds.streams s join confirmed c on c.id = s.id
  where s.id = any($27::bigint[]) and s.ttl_s is not null
  order by s.id for no key update of s skip locked),
renewed as (
 update ds.streams s set deadline_ms = (select now_ms from clock) + s.ttl_s * 1000
  from used u where u.id = s.id),
done as (
 update ds.lanes set batch = $2, won = array(select id from moved)
  where lane = $1 and exists(select from mine))
select exists(select from mine) as is_mine, array(select id from moved) as moved,
 array(select id from confirmed) as confirmed, (select now_ms from clock) as now_ms
"""  # noqa: S608 - of constants
"""Compare and set: many streams, one commit, which is a barrier as well.

It locks the lane's row first, and writes nothing if that is not where it should be (``fencing``);
then the rows whose version is the one decided on, with the same bytes: a fail-over that lost
commits has others at that version.  Gives the ids that moved, and of those that were only looked at
the ids that are as they were then.
"""

ADVANCE: Final = """
begin; update ds.lanes set batch = {number} where lane = '{lane}' and batch = {number} - 1
"""
"""The same fence, for a transaction of several statements: a script that begins it."""
