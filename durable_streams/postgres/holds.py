"""Live readers hold their streams: no TTL ends what somebody follows, on any node.

A hold is a lease of some seconds by the database's clock, which a node renews while it has readers.
It is taken before anything else is read after a reader came, and given up, with the TTL beginning
anew, after the last one left.  A node that stood still may find that a stream has ended meanwhile,
and been said to be gone: that one stays so, and its readers are told.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from durable_streams.postgres.statements import HELD, now

if TYPE_CHECKING:
    import uuid

    from durable_streams.postgres.database import Clock
    from durable_streams.postgres.sessions import Session
    from durable_streams.postgres.streams import Stream

RENEW_S: Final = 1.5
"""Between two renewals of a lease of five seconds."""

_PROMPT_S: Final = 2.0
"""So long after a reader came it counts when it came; later, when its hold is written down."""

_HOLD: Final = f"""
with asked as (select * from unnest($2::bigint[], $3::bigint[]) as a(stream, since_ms)),
live as (
 select s.id from ds.streams s join asked a on a.stream = s.id
  where s.ttl_s is not null and not s.soft_deleted
    and (s.deadline_ms > coalesce(a.since_ms, {now("$4")}) or {HELD})
  order by s.id for no key update of s),
used as (
 update ds.streams s set deadline_ms = {now("$4")} + s.ttl_s * 1000
  from live l where l.id = s.id and s.deadline_ms < {now("$4")} + s.ttl_s * 500)
insert into ds.holds (stream, node, until)
 select id, $1::uuid, clock_timestamp() + interval '5 s' from live
 on conflict (stream, node) do update set until = excluded.until
 returning stream
"""  # noqa: S608 - of constants

_LET_GO: Final = f"""
with gone as (
 select * from unnest($2::bigint[], $3::bigint[]) as g(stream, left_ms)),
unheld as (
 delete from ds.holds h using gone g where h.stream = g.stream and h.node = $1::uuid),
live as (
 select s.id, g.left_ms from ds.streams s join gone g on g.stream = s.id
  where s.ttl_s is not null and not s.soft_deleted
    and (s.deadline_ms > {now("$4")} or {HELD})
  order by s.id for no key update of s)
update ds.streams s set deadline_ms = greatest(s.deadline_ms, l.left_ms + s.ttl_s * 1000)
 from live l where l.id = s.id
"""  # noqa: S608 - of constants
"""Only of what lives, maybe by the lease that ends here: what all have said is gone stays so."""

_FORGET: Final = """
with old as (
 select stream, node from ds.holds where until < clock_timestamp() - interval '1 minute'
  for update skip locked)
delete from ds.holds h using old o where h.stream = o.stream and h.node = o.node
"""
"""Not what a node that stood still renews just now: each would wait for the other."""


class Holds:
    """Those of a node."""

    def __init__(self, node: uuid.UUID, clock: Clock) -> None:
        self._node = node
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._held: dict[int, Stream] = {}
        self._came: dict[int, tuple[int, float]] = {}
        self._left: dict[int, int] = {}
        self._renewed_s = 0.0
        self._one_by_one = asyncio.Lock()

    def come(self, stream: Stream) -> None:
        """A reader follows a stream."""
        stream.followers += 1
        if stream.followers == 1 and stream.row.lifetime.ttl_s is not None:
            self._held[stream.number] = stream
            self._came[stream.number] = (self._clock.now_ms(), self._loop.time())
            self._left.pop(stream.number, None)

    def leave(self, stream: Stream) -> None:
        """A reader has left."""
        stream.followers -= 1
        if not stream.followers and self._held.pop(stream.number, None) is not None:
            self._came.pop(stream.number, None)
            self._left[stream.number] = self._clock.now_ms()

    @property
    def is_due(self) -> bool:
        """Whether something has to be written down before anything is read."""
        return bool(self._came or self._left)

    @property
    def is_renewal_due(self) -> bool:
        """Whether the leases have to be renewed."""
        return bool(self._held) and self._loop.time() - self._renewed_s > RENEW_S

    async def write(self, session: Session) -> None:
        """Write down who came and who left, behind whoever does that already.

        Two at once, on two sessions, might give up what has just been taken again.
        """
        async with self._one_by_one:
            came, self._came = self._came, {}
            left, self._left = self._left, {}
            prompt_s = self._loop.time() - _PROMPT_S
            try:
                if came:
                    since = [ms if at_s > prompt_s else None for ms, at_s in came.values()]
                    await self._hold(session, list(came), since)
                if left:
                    left_ms, now_ms = list(left.values()), self._clock.parameter
                    await session.fetch(_LET_GO, self._node, list(left), left_ms, now_ms)
            except BaseException:
                self._not_written(came, left)
                raise

    def _not_written(self, came: dict[int, tuple[int, float]], left: dict[int, int]) -> None:
        """Have it written the next time, but for what is not so any more."""
        self._came = {
            number: at for number, at in came.items() if number in self._held
        } | self._came
        self._left = {
            number: at for number, at in left.items() if number not in self._held
        } | self._left

    async def renew(self, session: Session) -> None:
        """Renew the leases of all that are followed."""
        async with self._one_by_one:
            numbers = list(self._held)
            self._renewed_s = self._loop.time()
            await self._hold(session, numbers, [None] * len(numbers))
        await session.fetch(_FORGET)

    async def end(self, session: Session) -> None:
        """Give up all, as if their readers left now, and write down who has left."""
        self._left |= dict.fromkeys(self._held, self._clock.now_ms())
        self._held.clear()
        self._came.clear()
        await self.write(session)

    async def _hold(self, session: Session, numbers: list[int], since: list[int | None]) -> None:
        held = await session.fetch(_HOLD, self._node, numbers, since, self._clock.parameter)
        for number in {*numbers} - {record["stream"] for record in held}:
            stream = self._held.get(number)
            if stream is not None:  # it has ended, as the next look at it tells its readers
                stream.is_stale = True
