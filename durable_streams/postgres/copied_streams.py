"""The streams of a database as a copy reads them, every checksum compared; and one that is copied.

A database is copied while no node serves it.  That is looked up at the beginning and at the end,
and in between a lock keeps everybody from writing to its streams; what is read is of one moment.
A primary that was replaced and left running takes all of that: so it has to acknowledge a commit,
then and then again, and nothing that it has not was acknowledged elsewhere.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec

from durable_streams.model.commands import ForkRequest, Lifetime
from durable_streams.model.errors import InvalidRequest
from durable_streams.model.offsets import Offset
from durable_streams.model.paths import parse_path_text, path_text
from durable_streams.postgres import versions
from durable_streams.postgres.batches import tables
from durable_streams.postgres.connecting import Hosts, NoDatabase
from durable_streams.postgres.facts import ACKNOWLEDGED_WITHIN_S
from durable_streams.postgres.rows import row_of, sort_key
from durable_streams.postgres.schema import EVERYWHERE
from durable_streams.postgres.sessions import COMMAND, NODE, Refused, Session, Unknown
from durable_streams.postgres.statements import BARRIER, ROWS
from durable_streams.postgres.versions import Fit
from durable_streams.postgres.waits import waited_for
from durable_streams.postgres.walks import Broken, Walk
from durable_streams.transfers import (
    AGAIN,
    Appended,
    Damaged,
    InUse,
    Moved,
    NotReached,
    NotUsable,
    Removed,
    TransferError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    import asyncpg

    from durable_streams.model.paths import StreamPath
    from durable_streams.postgres.rows import Row
    from durable_streams.postgres.urls import DatabaseUrl
    from durable_streams.postgres.walks import Step
    from durable_streams.rules.producer_table import ProducerTable

_AT_ONCE: Final = 100
"""Streams that are looked up with one question."""

_NEXT: Final = f"""
select id, sort_key from ds.streams where id > $1 order by id limit {_AT_ONCE}
"""  # noqa: S608 - of a constant

_REMOVED: Final = "select path, max(next_segment) as first from ds.graves group by path"

_SECRETS: Final = """
select (select count(*) from ds.tokens) as tokens, (select count(*) from ds.signing_keys) as keys
"""

_NODES: Final = """
select node, name, beats from ds.nodes where seen > clock_timestamp() - interval '10 s'
"""

_SESSIONS: Final = f"""
select count(*) from pg_stat_activity where datname = current_database()
 and application_name = '{NODE}' and pid <> pg_backend_pid()
"""  # noqa: S608 - of a constant
"""Of nodes, also of one that stands still; those of other users may not be seen."""

_BEATS_S: Final = 3.0
"""In which a node that is there has a heartbeat, or shows nothing any more."""

_SINCE: Final = "select array(select distinct name from ds.nodes where seen > $1)"

NOW: Final = "select clock_timestamp() as now"

_LOCK: Final = """
begin isolation level repeatable read read only; set local lock_timeout = '2s';
lock table ds.streams, ds.runs, ds.producers in share mode
"""

_IDENTITY: Final = """
select (pg_control_system()).system_identifier::text || '/'
  || (select oid from pg_database where datname = current_database())::text as identity,
 clock_timestamp() as now
"""


class DatabaseStreams:
    """What a copy reads of a database, in a session."""

    def __init__(self, session: Session, url: DatabaseUrl) -> None:
        self.name = str(url)
        self._session = session

    async def fetch(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        """Run a statement; :class:`NotReached` if that cannot be."""
        try:
            return await self._session.fetch(sql, *arguments)
        except Refused as error:
            raise TransferError(f"{self.name}: it refuses that: {error}") from None
        except Unknown as error:
            raise NotReached(f"{self.name}: {error}: {AGAIN}") from None

    async def all(self) -> AsyncIterator[Sequence[Moved]]:
        """Every stream."""
        last = -1
        while found := await self.fetch(_NEXT, last):
            keys = {record["id"]: record["sort_key"] for record in found}
            last = max(keys)
            streams = await self._moved(await self.fetch(ROWS, [], [*keys], None))
            for stream in streams:
                if keys[int(stream.key)] != sort_key(stream.path):
                    path = path_text(stream.path)
                    raise Damaged(f"{self.name}: {path}: its sort_key is not that of its path")
            yield streams

    async def at(self, path: StreamPath) -> Moved | None:
        """The stream at a path."""
        found = await self._moved(await self.fetch(ROWS, [path_text(path)], [], None))
        return found[0] if found else None

    async def row_at(self, path: StreamPath) -> Row | None:
        """Its row."""
        found = await self.fetch(ROWS, [path_text(path)], [], None)
        return row_of(found[0]) if found else None

    async def _moved(self, records: list[asyncpg.Record]) -> list[Moved]:
        producers = await tables(self.fetch, [record["id"] for record in records])
        try:
            return self._told_of(records, producers)
        except (msgspec.MsgspecError, TypeError, InvalidRequest) as error:
            raise Damaged(f"{self.name}: a row of ds.streams cannot be read: {error}") from None

    def _told_of(
        self, records: list[asyncpg.Record], producers: Mapping[int, ProducerTable]
    ) -> list[Moved]:
        return [
            Moved(
                str(row.id),
                parse_path_text(record["path"]),
                row.content_type,
                row.lifetime,
                Lifetime(
                    row.requested.ttl_s, row.requested.expires_at, row.requested.expires_at_ms
                ),
                _fork(row),
                None if row.fork_of is None else str(row.fork_of),
                row.point,
                row.created_ms,
                row.deadline_ms,
                row.soft_deleted,
                row.first_segment,
                row.tail,
                row.chain,
                row.closed,
                row.closed_by,
                row.stream_seq,
                producers[row.id].states,
            )
            for record in records
            for row in [row_of(record)]
        ]

    async def appends(self, stream: Moved, behind: Offset) -> AsyncIterator[Sequence[Appended]]:
        """The appends of a stream."""
        row = await self.row_at(stream.path)
        if row is None or str(row.id) != stream.key or row.tail != stream.tail:
            raise Damaged(f"{self.name}: {path_text(stream.path)} changes: somebody writes there")
        layers, walk = (*row.inherited, *row.own), Walk(self.fetch, row.begin)
        is_whole = not row.inherited or behind < row.point
        if not is_whole:
            layers, walk = row.own, Walk(self.fetch, row.point, None)
        size_bytes, written_ms = 0, None
        try:
            for layer in layers:
                async for steps in walk.over(layer):
                    size_bytes += sum([len(step.data) for step in steps])
                    if layer.stream == row.id:
                        written_ms = steps[-1].time_ms
                    if batch := [_told(row, step) for step in steps if _ends(step) > behind]:
                        yield batch
        except Broken as error:
            raise Damaged(f"{self.name}: {path_text(stream.path)}: {error}") from None
        if walk.chain not in {None, row.chain}:
            raise Damaged(f"{self.name}: {path_text(stream.path)}: its runs are not all there")
        if is_whole and size_bytes != row.size_bytes:
            said = f"it says {row.size_bytes} bytes, and has {size_bytes}"
            raise Damaged(f"{self.name}: {path_text(stream.path)}: {said}")
        if not row.closed_alone and written_ms != row.last_write_ms:
            said = "it was not written last when it says"
            raise Damaged(f"{self.name}: {path_text(stream.path)}: {said}")
        if row.closed_alone:
            time_ms = row.created_ms if row.last_write_ms is None else row.last_write_ms
            segment, end = row.tail
            yield [Appended(segment, end, end, time_ms, row.closed_by, True, b"")]

    async def removed(self) -> Removed:
        """Where other streams have to begin above the segments of those that were there."""
        found = {record["path"]: record["first"] for record in await self.fetch(_REMOVED)}
        floor = found.pop(EVERYWHERE, 0)
        return Removed(floor, {parse_path_text(path): first for path, first in found.items()})

    async def close(self) -> None:
        """End the session."""
        self._session.terminate()


def _fork(row: Row) -> ForkRequest | None:
    asked = row.requested
    if asked.source is None:
        return None
    offset = None if asked.offset is None else Offset(*asked.offset)
    return ForkRequest(asked.source, offset, asked.sub_offset)


def _ends(step: Step) -> Offset:
    return Offset(step.segment, step.end)


def _told(row: Row, step: Step) -> Appended:
    closes = row.closed and not row.closed_alone and _ends(step) == row.tail
    return Appended(step.segment, step.begin, step.end, step.time_ms, step.claim, closes, step.data)


class SourceDatabase(DatabaseStreams):
    """A database that is copied; use :meth:`open`, and :meth:`close` it."""

    by_hand = f"run psql with: {versions.RETIRE_BY_HAND}"

    def __init__(self, session: Session, url: DatabaseUrl, identity: str, began: object) -> None:
        super().__init__(session, url)
        self.identity = identity
        self._url = url
        self._began = began

    @classmethod
    async def open(cls, url: DatabaseUrl) -> SourceDatabase:
        """Look that no node serves it, and keep others from writing.

        :class:`InUse`; :class:`NotReached` also if it acknowledges no commit.
        """
        hosts = Hosts(url)
        session = await open_session(hosts)
        try:
            fit = versions.of_streams(await versions.read(session.fetch))
            if fit is not Fit.FITS:
                raise NotUsable(f"{url}: {fit.value}")
            (row,) = await session.fetch(_IDENTITY)
            await need_no_nodes(session, url)
            await _need_acknowledgement(session, url)
            try:
                await session.run(_LOCK)
            except Refused as error:
                raise InUse(f"{url}: somebody writes there: {error}") from None
        except Refused as error:
            session.terminate()
            raise TransferError(f"{url}: it refuses that: {error}") from None
        except Unknown as error:
            session.terminate()
            raise NotReached(f"{url}: {error}") from None
        except BaseException:
            session.terminate()
            raise
        return cls(session, url, row["identity"], row["now"])

    async def check_still(self) -> None:
        """Raise :class:`InUse` if a node was started meanwhile.

        :class:`NotReached` if another server is the primary, or may be.
        """
        session = await self._beside()
        try:
            await _need_acknowledgement(session, self._url)
            await need_no_node_since(session, self._url, self._began)
        except (Refused, Unknown) as error:
            raise NotReached(f"{self.name}: {error}: {AGAIN}") from None
        finally:
            session.terminate()

    async def _beside(self) -> Session:
        """Another session of the server that is copied."""
        session = await open_session(Hosts(self._url))
        if session.server != self._session.server:
            session.terminate()
            raise NotReached(f"{self.name}: another server takes writes by now: {AGAIN}")
        return session

    async def left(self) -> str:
        """How many tokens and keys it has."""
        ((tokens, keys),) = await self.fetch(_SECRETS)
        found = [(tokens, "token", ""), (keys, "key", " of signed URLs")]
        return " and ".join(
            [f"{number} {what}{'s'[: number != 1]}{of}" for number, what, of in found if number]
        )

    async def retire(self, _: str) -> str:
        """Have no node serve it any more; how that is taken back."""
        taken_back = f"somebody runs psql with: {versions.REINSTATE}"
        session = await self._beside()
        try:
            async with waited_for(session):
                await session.run(versions.RETIRE)
        except Refused as error:
            raise TransferError(f"{self.name}: it cannot be retired: {error}") from None
        except Unknown as error:
            raise NotReached(
                f"{self.name}: whether it is retired is not known ({error}): {AGAIN}; if it is, "
                f"nobody serves it until {taken_back}"
            ) from None
        finally:
            session.terminate()
        return taken_back


async def open_session(hosts: Hosts) -> Session:
    """One for whoever copies or verifies, which is none of a node; :class:`NotReached`."""
    try:
        return await Session.open(hosts, name=COMMAND)
    except NoDatabase as error:
        raise NotReached(str(error)) from None


async def is_acknowledging(session: Session) -> bool:
    """Whether a commit of a session is acknowledged; if not, it is of no use afterwards."""
    try:
        async with asyncio.timeout(ACKNOWLEDGED_WITHIN_S):
            await session.fetch(BARRIER)
    except TimeoutError:
        return False
    return True


async def _need_acknowledgement(session: Session, url: DatabaseUrl) -> None:
    if not await is_acknowledging(session):
        raise NotReached(
            f"{url}: no commit is acknowledged there now: if another server was promoted, name "
            "that one alone, as it has more; else see to it that the standbys run and are connected"
        )


async def need_no_nodes(session: Session, url: DatabaseUrl) -> None:
    """:class:`InUse` if nodes serve a database; takes a moment if one did so seconds ago."""
    before = {each["node"]: each for each in await session.fetch(_NODES)}
    ((sessions,),) = await session.fetch(_SESSIONS)
    there = [*before.values()]
    if before and not sessions:
        await asyncio.sleep(_BEATS_S)  # as one that was killed, or restored, may be in the table
        there = [
            each
            for each in await session.fetch(_NODES)
            if each["node"] not in before or before[each["node"]]["beats"] != each["beats"]
        ]
    if there or sessions:
        names = ", ".join(sorted({each["name"] for each in there})) or "by their sessions"
        raise InUse(f"{url}: nodes serve it ({names}): stop them")


async def need_no_node_since(session: Session, url: DatabaseUrl, moment: object) -> None:
    """:class:`InUse` if a node had a heartbeat since, by the clock of the database."""
    ((names,),) = await session.fetch(_SINCE, moment)
    if names:
        raise InUse(f"{url}: a node was started meanwhile ({', '.join(names)}): stop it")
