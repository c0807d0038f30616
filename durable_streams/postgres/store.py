"""The store of streams in PostgreSQL: its verbs, and its life from opening to closing.

Nothing here is answered from what the node remembers: a write is confirmed by the statement that
compares and sets, everything else by a row that was read after the request came.  Cancelling a
caller cancels only its wait.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from durable_streams.model.errors import (
    DatabaseMigrated,
    DatabaseUnconfirmed,
    Draining,
    InvalidJson,
    NotOpen,
    Overloaded,
    PayloadTooLarge,
    StorageFailed,
    StreamError,
)
from durable_streams.model.results import Chunk, Created
from durable_streams.postgres.access import own
from durable_streams.postgres.database import Clock, unavailable
from durable_streams.postgres.endings import delete
from durable_streams.postgres.heartbeat import GONE, now_s
from durable_streams.postgres.parts import connected
from durable_streams.postgres.reading import Reading
from durable_streams.postgres.shared_rows import shared_keys, shared_tokens
from durable_streams.postgres.texts import check_append, check_create, check_path
from durable_streams.postgres.tickets import Writing
from durable_streams.rules import json_mode, media_type
from durable_streams.rules.appends import check_syntax
from durable_streams.settings import MIB, Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from durable_streams.measuring import StoreNumbers
    from durable_streams.model.commands import Append, Create, Place
    from durable_streams.model.details import StreamDetails
    from durable_streams.model.offsets import Offset, Start
    from durable_streams.model.paths import StreamPath
    from durable_streams.model.records import RecordsPage
    from durable_streams.model.results import (
        Appended,
        NodeSeen,
        StreamInfo,
        StreamPage,
        StreamRef,
        Subscriber,
    )
    from durable_streams.postgres.parts import Parts
    from durable_streams.postgres.rows import Row
    from durable_streams.postgres.sessions import Session
    from durable_streams.postgres.streams import Stream
    from durable_streams.postgres.transactions import Transaction

LARGE_BODY: Final = 64 * 1024
"""Bytes; parsing more than this leaves the loop."""

_FINISHED_S: Final = 10.0
"""For what is under way when the store is closed; what is not known by then is said to be so."""

_LEAVING_S: Final = 2.0
"""For a node that leaves to be deleted from the database, which has no need of it."""

_UNCONFIRMED_S: Final = 6.0
"""Without a heartbeat, after which nothing waits for another any more."""

_LOOK_S: Final = 0.5

MOST_WAITING_BYTES: Final = 64 * MIB
"""Of bodies that wait for their commit; what comes then is refused."""


class PostgresStore:
    """Streams in a database; use :meth:`at` and :meth:`close`."""

    def __init__(self, parts: Parts) -> None:
        settings = self.settings = parts.settings
        self.max_append_bytes = settings.max_append_bytes
        self.remember_removed_s = settings.remember_removed_s
        self._max_read_bytes = settings.max_read_bytes
        self._parts = parts
        self._database, self._clock = parts.database, parts.database.clock
        self._counted = parts.database.counted
        self._heartbeat, self._standbys, self._tasks = parts.heartbeat, parts.standbys, parts.tasks
        self._streams, self._holds, self._runs = parts.streams, parts.holds, parts.runs
        self._following, self._access = parts.following, parts.access
        self._inspections = parts.inspections
        self._appends, self._transactions = parts.appends, parts.transactions
        shared = parts.readers, parts.heartbeat, parts.standbys, parts.transactions
        self.tokens, self.signing_keys = shared_tokens(*shared), shared_keys(*shared)
        self._draining = False
        self._closing: asyncio.Task[None] | None = None
        self._tasks.lasting("refusals", self._refuse())

    @classmethod
    async def at(
        cls,
        url: str,
        settings: Settings | None = None,
        *,
        now_ms: Callable[[], int] | None = None,
        producers_bytes: int = MIB,
    ) -> PostgresStore:
        """Connect to a database that has the tables; :class:`DataDirectoryError` says why not.

        ``now_ms``, ``producers_bytes``: what time it is, and what the producers of a stream may
        take, which only tests have otherwise.
        """
        settings = settings or Settings()
        return cls(await connected(url, settings, Clock(now_ms), producers_bytes))

    recovery = "streams in a database"

    @property
    def fault(self) -> StreamError | None:
        """Why the node has to be started again, if it has."""
        return self.bug

    # -- writes ----------------------------------------------------------------------------

    def create_now(self, command: Create, body: bytes) -> None:  # noqa: ARG002
        """Not now: what is answered was read in the database after it was asked for."""
        self._check_body(body)

    async def create(self, command: Create, body: bytes) -> Created:
        """PUT; on a quorum when this returns."""
        check_create(command)
        self._check_write(body)

        async def work(transaction: Transaction) -> tuple[bool, Row]:
            return await self._parts.births.create(transaction, command, body)

        def made(result: tuple[bool, Row]) -> None:
            self._streams.learn(command.path, result[1])
            self._counted.size_bytes += len(body) if result[0] else 0

        created, row = await self._transactions.run(command.path, work, made)
        stream = self._streams.learn(command.path, row)
        return Created(created=created, info=stream.info(row))

    def append_now(self, command: Append, body: bytes) -> Writing | None:
        """Begin :meth:`append`; None for a large body of JSON, which is looked through first."""
        check_syntax(command, bool(body))
        check_append(command)
        self._check_write(body)
        if len(body) > LARGE_BODY and media_type.is_json(command.content_type or ""):
            return None
        return self._put(Writing(command, body))

    async def append(self, command: Append, body: bytes) -> Appended:
        """POST; on a quorum when this returns."""
        writing = self.append_now(command, body)
        if writing is None:
            parsed = await asyncio.to_thread(_try_parse, body)
            self._check_write(body)
            writing = self._put(Writing(command, body, parsed))
        await writing.wait()
        return writing.outcome()

    def _put(self, writing: Writing) -> Writing:
        if self._appends.waiting_bytes > MOST_WAITING_BYTES:
            raise Overloaded("too much waits for the database: try again")
        self._appends.put(writing)
        return writing

    async def delete(self, path: StreamPath) -> None:
        """DELETE; on a quorum when this returns."""
        check_path(path)
        self._check_write(b"")
        work = partial(delete, path, self._clock.parameter)
        await self._transactions.run(path, work, self._following.buried)

    def _check_body(self, body: bytes) -> None:
        if type(body) is not bytes:
            raise TypeError(f"a body must be bytes, not {type(body).__name__}")
        if len(body) > self.max_append_bytes:
            raise PayloadTooLarge(self.max_append_bytes)

    def _check_write(self, body: bytes) -> None:
        self._check_body(body)
        refusal = self.refusal()
        if refusal is not None:
            raise refusal

    # -- reads -----------------------------------------------------------------------------

    async def head(self, path: StreamPath) -> StreamInfo:
        """HEAD; renews nothing."""
        stream, row = await self._access.at(path)
        return stream.info(row)

    async def list_streams(
        self,
        prefix: StreamPath,
        after: StreamPath,
        limit: int,
        *,
        may: Callable[[StreamPath], bool] | None = None,
        most: int = 0,
    ) -> StreamPage:
        """Streams at and below a prefix whose paths come behind ``after``."""
        check_path(prefix)
        check_path(after)
        return await self._inspections.page(prefix, after, limit, may, most)

    async def records(self, path: StreamPath, place: Place, limit: int) -> RecordsPage:
        """Records from a place on."""
        return await self._inspections.records(path, place, limit)

    async def details(self, path: StreamPath) -> StreamDetails:
        """All that is known of a stream; its readers are those of this node."""
        return await self._inspections.details(path)

    def open_now(self, path: StreamPath) -> None:
        """Not now: no answer comes from a node's memory, as another node may have moved it."""

    async def open(self, path: StreamPath) -> Stream:
        """The stream at a path, for reading; renews a TTL."""
        stream, _ = await self._access.at(path, uses=True)
        return stream

    def read_now(self, stream: StreamRef, start: Offset | Start) -> None:
        """Not now: as :meth:`open_now`."""

    async def read(
        self,
        stream: StreamRef,
        start: Offset | Start,
        *,
        is_end: bool = False,
        max_bytes: int | None = None,
    ) -> Chunk:
        """A bounded chunk from an offset, empty at the tail."""
        opened, row = await self._access.of(stream)
        most = self._max_read_bytes if max_bytes is None else min(max_bytes, self._max_read_bytes)
        reading = self._reading(opened, row)
        async with self._access.there_if_damaged(opened):
            found = await reading.from_(start, most, is_end=is_end)
        at_tail = found.end == row.tail
        return Chunk(
            opened,
            found.start,
            found.end,
            found.chain,
            (found.data,) if found.data else (),
            len(found.data),
            at_tail,
            row.closed and at_tail,
        )

    def _reading(self, stream: Stream, row: Row) -> Reading:
        return Reading(stream.path, row, self._runs)

    async def bytes_of(self, chunk: Chunk) -> bytes:
        """All bytes of a chunk."""
        return b"".join([part for part in chunk.parts if isinstance(part, bytes)])

    async def pieces(self, chunk: Chunk, size: int) -> AsyncIterator[bytes]:
        """The bytes of a chunk, so many at a time, each read when it is asked for."""
        chunk.parts = ()
        stream = own(chunk.stream)
        self._access.check_there(stream)
        segment, end = chunk.end
        begin = end - chunk.size_bytes
        pieces = self._reading(stream, stream.row).pieces(segment, begin, end, size)
        async with self._access.there_if_damaged(stream):
            async for piece in pieces:
                yield piece

    async def sizes(self, chunk: Chunk) -> list[int]:
        """How many bytes of a chunk each append in it has, in order."""
        stream = own(chunk.stream)
        segment, end = chunk.end
        reading = self._reading(stream, stream.row)
        async with self._access.there_if_damaged(stream):
            return await reading.sizes(segment, end - chunk.size_bytes, end)

    # -- live reads ------------------------------------------------------------------------

    @contextmanager
    def following(self, stream: StreamRef) -> Iterator[None]:
        """A context that a live reader is in: no TTL ends the stream meanwhile."""
        opened = own(stream)
        self._holds.come(opened)
        try:
            yield
        finally:
            self._holds.leave(opened)

    def left_s(self, stream: StreamRef) -> int | None:
        """Seconds, rounded down, until the stream ends if nobody uses it; None: it does not."""
        opened = own(stream)
        row, now_ms = opened.row, self._clock.now_ms()
        if row.lifetime.ttl_s is not None and opened.followers:
            return row.lifetime.ttl_s
        return None if row.deadline_ms is None else max(0, row.deadline_ms - now_ms) // 1000

    async def wait(self, stream: StreamRef, at: Offset, timeout_s: float) -> bool:
        """Wait until there is data past ``at`` or the stream is closed."""
        opened = self._access.known(stream)
        if opened.row.tail > at or opened.row.closed:
            return True
        if self._draining:
            return False
        self._following.came(opened)
        return await opened.audience.wait(timeout_s) or opened.row.tail > at

    def subscribe(self, stream: StreamRef, at: Offset, subscriber: Subscriber) -> bool:
        """Hand all publications from ``at`` on to a subscriber; False if that is not the tail."""
        opened = self._access.known(stream)
        if self._draining:
            raise Draining
        if opened.row.tail != at or opened.row.closed:
            return False
        if not opened.audience.subscribers and not self._following.is_looking(opened):
            opened.published, opened.published_closed = at, False
        if opened.published != at or self._following.is_looking(opened):
            return False
        opened.audience.join(subscriber)
        self._following.came(opened)
        return True

    def unsubscribe(self, stream: StreamRef, subscriber: Subscriber) -> None:
        """Stop that; no error if it had stopped."""
        own(stream).audience.leave(subscriber)

    # -- health, and the end ---------------------------------------------------------------

    @property
    def bug(self) -> StreamError | None:
        """Why a part of the node has ended, if one did."""
        return self._tasks.bug

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` is done."""
        return self._access.closed

    def refusal(self) -> StreamError | None:
        """Why no write is taken now; None if writes are."""
        if self.closed:
            return NotOpen()
        if self._draining:
            return Draining()
        return self.bug or self._trouble()

    def _trouble(self) -> StreamError | None:
        """What is wrong with the database; None if it is good."""
        problem = self._standbys.problem
        if problem:
            return unavailable(problem, DatabaseUnconfirmed)
        return self._database.refusal() or self._heartbeat.refusal(_UNCONFIRMED_S)

    async def _refuse(self) -> None:
        """Answer those who wait, while the database cannot do what they wait for.

        But for writes that were sent to it: what becomes of them is to be found out before.
        Whoever follows a stream goes to another node if this one is too old.
        """
        while True:
            await asyncio.sleep(_LOOK_S)
            trouble = self._trouble()
            if trouble is not None:
                self._parts.refuse(trouble)
            if isinstance(trouble, DatabaseMigrated):
                self._end_waits(trouble)

    @property
    def numbers(self) -> StoreNumbers:
        """What this node has counted."""
        heartbeat_s = now_s() - self._heartbeat.sent_s
        return self._counted.numbers(len(self._streams), self._appends.waiting, heartbeat_s)

    async def nodes(self) -> list[NodeSeen]:
        """Those that were there a moment ago."""
        return await self._inspections.nodes(self._database.node)

    def writes_wait(self) -> bool:
        """Whether a write that comes now waits for the database, which is not there."""
        return bool(self._database.problem)

    def out_of_service(self) -> list[StreamPath]:
        """None: streams share what can fail."""
        return []

    def drain(self) -> None:
        """Refuse new writes, end waits and subscriptions; what was accepted goes on."""
        if not self._draining:
            self._draining = True
            self._end_waits(Draining())

    def _end_waits(self, reason: StreamError) -> None:
        for stream in self._streams.all():
            stream.audience.drain(reason)

    async def close(self) -> None:
        """Drain, finish what was accepted, and let go of everything."""
        self.drain()
        if self._closing is None:
            self._closing = self._tasks.once("closing", self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await self._parts.deliveries.finished()
        try:
            async with asyncio.timeout(_FINISHED_S):
                await self._appends.finished()
                await self._transactions.finished()
        except TimeoutError:
            unknown = StorageFailed("the database has not said what became of a write")
            self._appends.give_up(unknown)
            self._transactions.give_up(unknown)
        self._access.closed = True
        with suppress(StreamError, TimeoutError):
            await asyncio.wait_for(self._parts.readers.do(self._leave), _LEAVING_S)
        self._parts.terminate()
        await self._tasks.stop()

    async def _leave(self, session: Session) -> None:
        await self._holds.end(session)
        await session.fetch(GONE, self._database.node)


def _try_parse(body: bytes) -> bytes | StreamError:
    try:
        return json_mode.to_wire(body, allow_empty=False)[0]
    except InvalidJson as error:
        return error
