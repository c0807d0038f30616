"""Verify a database: every byte of every stream is read, and every checksum computed again.

Each stream is looked at as it is at one moment, while nodes go on serving; of a stream some runs
are in memory at a time.  Of a fork its own runs are read, and that they continue
its source where it was made: what it has of that is checked there.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

import msgspec

from durable_streams.model.offsets import Offset
from durable_streams.model.paths import parse_path_text
from durable_streams.postgres import versions
from durable_streams.postgres.batches import tables
from durable_streams.postgres.connecting import Hosts, NoDatabase
from durable_streams.postgres.copied_streams import is_acknowledging, open_session
from durable_streams.postgres.reading import Reading, RunCache
from durable_streams.postgres.rows import FIRST_CHAIN, row_of, sort_key
from durable_streams.postgres.sessions import Refused, Session, Unknown
from durable_streams.postgres.statements import ROWS
from durable_streams.postgres.versions import Fit
from durable_streams.postgres.walks import Broken, Walk, chain_behind
from durable_streams.rules.producers import IDLE_MS
from durable_streams.transfers import NotReached

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import asyncpg

    from durable_streams.postgres.rows import Row
    from durable_streams.postgres.urls import DatabaseUrl
    from durable_streams.postgres.walks import Fetch, Step
    from durable_streams.rules.producers import ProducerState

_AT_ONCE: Final = 100

_NEXT: Final = f"""
select id, sort_key from ds.streams where id > $1 order by id limit {_AT_ONCE}
"""  # noqa: S608 - of a constant

_BEYOND: Final = """
select segment, start from ds.runs where stream = $1 and (segment, start) >= ($2, $3) limit 1
"""

_BURIED: Final = """
select g.stream from ds.graves g join ds.streams s on s.id = g.stream where not g.swept
"""

_OWNERLESS: Final = """
select stream from (select distinct stream from ds.runs) as r
 where not exists(select from ds.streams s where s.id = r.stream)
   and not exists(select from ds.graves g where g.stream = r.stream)
"""


class Kind(Enum):
    """How bad it is, as ``maintenance`` has it of files."""

    NOTE = "note"
    INCOMPLETE = "incomplete"
    DAMAGE = "damage"


class Found(msgspec.Struct, frozen=True):
    """One thing out of the ordinary: which row, what, of which stream, and what that means."""

    kind: Kind
    place: str
    text: str
    stream: str = ""
    meaning: str = ""


class Counts(msgspec.Struct):
    """How much was looked at."""

    streams: int = 0
    appends: int = 0
    data_bytes: int = 0


async def verify(
    url: DatabaseUrl, report: Callable[[Found], None], progress: Callable[[Counts], None]
) -> Counts:
    """Look at everything; ``progress`` is called after each stream.  :class:`NoDatabase`."""
    try:
        session = await open_session(Hosts(url))
    except NotReached as error:
        raise NoDatabase(str(error)) from None
    try:
        version = await versions.read(session.fetch)
        fit = versions.of_streams(version)
        if fit is not Fit.FITS:
            raise NoDatabase(f"{url}: {fit.value}")
        counts = await _Verification(session, report, progress).run()
        if not await is_acknowledging(session):
            text = "no commit is acknowledged now"
            meaning = "standbys are away, or another server was promoted, and has more"
            report(Found(Kind.NOTE, "ds.streams", text, meaning=meaning))
    except (Refused, Unknown) as error:
        raise NoDatabase(f"{url}: {error}") from None
    finally:
        session.terminate()
    return counts


class _Verification:
    def __init__(
        self,
        session: Session,
        report: Callable[[Found], None],
        progress: Callable[[Counts], None],
    ) -> None:
        self._session = session
        self._fetch = session.fetch
        self._report = report
        self._progress = progress
        self._counts = Counts()

    async def run(self) -> Counts:
        last: int | None = -1
        while last is not None:
            last = await self._some(last)
        for record in await self._fetch(_OWNERLESS):
            text = "they are of no stream, and of none that was removed: its row is lost"
            self._report(Found(Kind.INCOMPLETE, f"ds.runs, stream {record['stream']}", text))
        for record in await self._fetch(_BURIED):
            text = "it is of a stream that is there, of which nodes remove nothing meanwhile"
            self._report(Found(Kind.DAMAGE, f"ds.graves, stream {record['stream']}", text))
        return self._counts

    async def _some(self, last: int) -> int | None:
        """The streams behind a number; the last one's, None: there are no more."""
        keys = {record["id"]: record["sort_key"] for record in await self._fetch(_NEXT, last)}
        for number, key in keys.items():
            await self._session.run("begin isolation level repeatable read read only")
            producers = await tables(self._fetch, [number])
            for record in await self._fetch(ROWS, [], [number], None):
                if key != sort_key(parse_path_text(record["path"])):
                    text, meaning = "its sort_key is not that of its path", "lists are wrong"
                    place = f"ds.streams, id {number}"
                    self._report(Found(Kind.DAMAGE, place, text, record["path"], meaning))
                await self._stream(record, producers[number].states)
                self._counts.streams += 1
                self._progress(self._counts)
            await self._session.run("commit")
        return max(keys) if keys else None

    async def _stream(self, record: asyncpg.Record, producers: Mapping[str, ProducerState]) -> None:
        number, stream = record["id"], record["path"]
        place = f"ds.streams, id {number}"

        def damaged(text: str, meaning: str = "") -> None:
            self._report(Found(Kind.DAMAGE, place, text, stream, meaning))

        try:
            row = row_of(record)
        except (msgspec.MsgspecError, TypeError) as error:
            damaged(f"it cannot be read: {error}", "the stream answers 500")
            return
        if row.inherited and row.fork_of is None:
            damaged("it is a fork of nothing", "what it has of its source may be removed")
        check = _StreamCheck(self._fetch, row, producers, self._counts)
        try:
            await check.run()
        except Broken as broken:
            kind = Kind.INCOMPLETE if broken.is_missing else Kind.DAMAGE
            meaning = f"it is sound up to {broken.at.token}; what is behind answers 500"
            self._report(Found(kind, broken.place, broken.text, stream, meaning))
            return
        for text, meaning in check.problems():
            damaged(text, meaning)


class _StreamCheck:
    """One stream's own runs, and what they come to."""

    def __init__(
        self, fetch: Fetch, row: Row, producers: Mapping[str, ProducerState], counts: Counts
    ) -> None:
        self._fetch = fetch
        self._row = row
        self._producers = producers
        self._counts = counts
        self._since_ms = (row.last_write_ms or 0) - IDLE_MS
        self._last: dict[str, tuple[int, int]] = {}
        self._own_bytes = 0
        self._chain = b""
        self._beyond = ""
        self._inherited_bytes = 0
        self._is_of_another = False

    async def run(self) -> None:
        row, fetch = self._row, self._fetch
        chain = await chain_behind(fetch, row.inherited) if row.inherited else FIRST_CHAIN
        walk = Walk(fetch, row.point, chain)
        for layer in row.own:
            async for steps in walk.over(layer):
                self._take(steps)
        self._chain = walk.chain or FIRST_CHAIN
        for run in await fetch(_BEYOND, row.id, *row.tail):
            self._beyond = f"segment {run['segment']}, start {run['start']}"
        if row.inherited and row.fork_of is not None:
            await self._look_at_source(row, row.fork_of)

    async def _look_at_source(self, row: Row, number: int) -> None:
        """Whether a fork has what its source has up to there."""
        (record,) = await self._fetch(ROWS, [], [number], None)
        source = row_of(record)
        reading = Reading(parse_path_text(record["path"]), source, RunCache(self._fetch))
        shift = row.first_segment - source.first_segment
        point = Offset(row.point.segment - shift, row.point.position)
        self._is_of_another = reading.layers_up_to(point, shift) != row.inherited
        if not self._is_of_another:
            self._inherited_bytes = await reading.size_up_to(point)
        else:
            self._inherited_bytes = row.size_bytes - self._own_bytes

    def _take(self, steps: Sequence[Step]) -> None:
        self._counts.appends += len(steps)
        for step in steps:
            self._own_bytes += len(step.data)
            claim = step.claim
            if claim is not None and (claim.id in self._producers or step.time_ms > self._since_ms):
                self._last[claim.id] = claim.epoch, claim.seq
        self._counts.data_bytes += sum([len(step.data) for step in steps])

    def problems(self) -> list[tuple[str, str]]:
        """What the row says that its runs do not, and what that means."""
        row, found = self._row, list[tuple[str, str]]()
        if self._chain != row.chain:
            found.append(
                (
                    f"its checksum at the tail {row.tail.token} is not that of its bytes",
                    "offsets that were told may be given again",
                )
            )
        if self._beyond:
            found.append((f"it has a run behind its tail ({self._beyond})", "writes to it fail"))
        size_bytes = self._inherited_bytes + self._own_bytes
        if size_bytes != row.size_bytes:
            found.append((f"it says {row.size_bytes} bytes, and has {size_bytes}", ""))
        if self._is_of_another:
            text = "what it is a fork of has not the layers that it says"
            found.append((text, "it has bytes of another stream, or some of it may be removed"))
        if row.closed_alone and row.closed_by is not None:
            claim = row.closed_by
            self._last[claim.id] = claim.epoch, claim.seq
        for name in sorted(self._producers.keys() | self._last.keys()):
            state, last = self._producers.get(name), self._last.get(name)
            known = None if state is None else (state.epoch, state.seq)
            if known != last:
                said = "is not known" if known is None else f"is at {known[0]}, {known[1]}"
                is_at = "has no append" if last is None else f"came to {last[0]}, {last[1]}"
                found.append(
                    (
                        f"producer {name!r} {said} (epoch, sequence), and {is_at}",
                        "a producer's retry may be refused, or stored twice",
                    )
                )
        return found
