"""Live reads: long-polls and event streams (protocol §5.7, §5.8).

A long-poll is one wait in the engine.  An event stream is one :class:`EventReader`: it catches up
from chunks, then subscribes at the tail; from there on the engine calls it, and it writes what
all readers of a publication share straight to its transport.  A reader whose transport is full
is left behind: its task waits for room, catches up from the files and subscribes again, or the
sender cuts it off.  So a slow reader costs a bounded buffer and holds nobody up.

Everything runs on the event loop.  The client's going cancels the task of its request, which
frees all there is.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from durable_streams.http.event_stream import EventStream
from durable_streams.http.presence import cancelled_when_gone
from durable_streams.model.errors import Draining, StreamError
from durable_streams.settings import KIB
from durable_streams.wire import replies, sse
from durable_streams.wire.cursor import MAX_JITTER_S, next_cursor

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from aiohttp import web

    from durable_streams.filestore.store import FileStore
    from durable_streams.http.sending import Answer, Sender
    from durable_streams.model.commands import Read
    from durable_streams.model.offsets import Offset
    from durable_streams.model.results import Chunk, Publication, StreamRef
    from durable_streams.settings import HttpSettings

BATCH_BYTES: Final = 64 * KIB
"""Of appends that share an event: written to every reader at once, or read by one that catches up.
A larger append is an event of its own, which each reader is sent piece by piece."""

PIECE_BYTES: Final = 24 * KIB
"""Of such an event: so much of it a slow reader holds in memory."""

ENDINGS_PER_TURN: Final = 16
"""Of live reads that end when the server goes down, each of which has an answer to end."""

SHORTEST_LIFETIME: Final = 0.9
"""Event streams end at 90 to 100 % of their lifetime, lest all of them reconnect together."""


class _Batch(NamedTuple):
    """A publication as it is sent, and where that leaves its readers."""

    framed: bytes
    held: sse.Held
    encoded_s: float


class LiveReads:
    """The live readers of one server."""

    def __init__(
        self,
        engine: FileStore,
        settings: HttpSettings,
        sender: Sender,
        *,
        clock: Callable[[], float],
        random: Random,
    ) -> None:
        self.engine = engine
        self.settings = settings
        self.clock = clock
        self.random = random
        self.draining = False
        self._sender = sender
        self.turns = sender.turns
        self._polls: set[asyncio.Timeout] = set()
        self._readers: set[EventReader] = set()

    def cursor(self, client: int | None) -> int:
        """Return the cursor of an answer to a client that sent ``client``."""
        return next_cursor(client, self.clock(), self.random.randint(1, MAX_JITTER_S))

    def drain(self) -> None:
        """End all live reads cleanly, those to come as well: the server is going down."""
        if self.draining:
            return
        self.draining = True
        self._end_some()

    def _end_some(self) -> None:
        """End some live reads, and the others in the next turns of the loop."""
        loop = asyncio.get_running_loop()
        for _ in range(ENDINGS_PER_TURN):
            if self._polls:
                self._polls.pop().reschedule(loop.time())
            elif self._readers:
                self._readers.pop().ended(Draining())
            else:
                return
        loop.call_soon(self._end_some)

    async def wait_for_data(self, stream: StreamRef, chunk: Chunk) -> Chunk:
        """Return ``chunk``, or if it is empty the first one that is not, until the timeout."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self.settings.long_poll_timeout_s
        with self.engine.following(stream):
            while not chunk.size_bytes and not chunk.closed:
                left_s = deadline_s - loop.time()
                if left_s <= 0 or not await self._wait(stream, chunk.end, left_s):
                    return chunk
                chunk = await self.engine.read(stream, chunk.end, is_end=True)
            return chunk

    async def _wait(self, stream: StreamRef, at: Offset, timeout_s: float) -> bool:
        if self.draining:
            return False
        poll = asyncio.timeout(None)  # no timeout of its own: drain() sets one
        try:
            async with poll:
                self._polls.add(poll)
                return await self.engine.wait(stream, at, timeout_s)
        except TimeoutError:
            return False
        finally:
            self._polls.discard(poll)

    async def serve_events(
        self, request: web.BaseRequest, stream: StreamRef, command: Read
    ) -> Answer:
        """Answer with the stream's events until it, the client or the lifetime ends."""
        with self.engine.following(stream):
            chunk = await self.engine.read(stream, command.start, max_bytes=BATCH_BYTES)
            if command.resumed and chunk.closed and chunk.end == command.start:
                return self._sender.answer(replies.nothing_follows(chunk.end))
            return await self._send_events(request, stream, command, chunk)

    async def _send_events(
        self, request: web.BaseRequest, stream: StreamRef, command: Read, chunk: Chunk
    ) -> Answer:
        reply = replies.Reply(200, replies.sse_headers(stream.content_type))
        try:
            events = await EventStream.open(self._sender, request, reply)
            reader = EventReader(self, stream, events, chunk, self.cursor(command.cursor))
            self._readers.add(reader)
            try:
                with events.cut_off_on_failure(), cancelled_when_gone(request):
                    # If the stream is no more, the client learns why when it reconnects.
                    with suppress(StreamError):
                        await reader.run(chunk)
                    await events.finish()
            finally:
                self._readers.discard(reader)
                reader.close()
        finally:
            chunk.release()
        return events.answer


class EventReader:
    """One event stream: a subscriber of the engine, and the task that feeds it otherwise."""

    __slots__ = (
        "_cursor",
        "_encoding",
        "_end",
        "_ends_s",
        "_engine",
        "_events",
        "_group",
        "_held",
        "_keepalive_s",
        "_live",
        "_loop",
        "_over",
        "_stream",
        "_timer",
        "_wake",
        "_written_s",
    )

    def __init__(
        self, live: LiveReads, stream: StreamRef, events: EventStream, chunk: Chunk, cursor: int
    ) -> None:
        """``chunk`` is where the reader begins; ``cursor`` is the least it is sent."""
        self._live = live
        self._engine = live.engine
        self._stream = stream
        self._events = events
        self._encoding = sse.Encoding.of(stream.content_type)
        self._cursor = cursor
        # Bytes before _end were taken in; _held are those of them that were not sent yet.
        self._end = chunk.start
        self._held = sse.NOTHING_HELD
        # Readers of one group that hold nothing back get the same bytes.
        self._group = (events.chunked, cursor)
        self._over = live.draining
        self._wake: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._written_s = self._loop.time()
        shortened = live.random.uniform(SHORTEST_LIFETIME, 1.0)
        self._ends_s = self._written_s + live.settings.sse_lifetime_s * shortened
        # The last event came to all readers of a stream together; comments need not.
        self._keepalive_s = live.settings.sse_keepalive_s * shortened
        self._timer = self._loop.call_later(0, self._tick)

    def close(self) -> None:
        """Leave the engine and the clock."""
        self._over = True
        self._timer.cancel()
        self._engine.unsubscribe(self._stream, self)

    async def run(self, chunk: Chunk) -> None:
        """Send ``chunk`` and all that follows, until the stream or the reader's time is over."""
        await self._catch_up(chunk)
        while not chunk.closed and not self._over:
            if chunk.at_tail and self._engine.subscribe(self._stream, chunk.end, self):
                if not await self._follow():
                    return
                await self._events.drain()
            chunk = await self._engine.read(
                self._stream, self._end, is_end=True, max_bytes=BATCH_BYTES
            )
            if chunk.size_bytes or chunk.closed:
                await self._catch_up(chunk)
            else:
                chunk.release()
                await asyncio.sleep(0)

    async def _follow(self) -> bool:
        """Let the engine call until this reader falls behind (True) or is over (False)."""
        self._wake = self._loop.create_future()
        try:
            await self._wake
        finally:
            self._wake = None
            self._engine.unsubscribe(self._stream, self)
        return not self._over

    # Called by the engine

    def published(self, publication: Publication) -> None:
        """Write what was published, or fall behind; see :class:`~durable_streams.model.results`."""
        if self._wake is None or publication.start < self._end:
            return
        if len(publication.data) > BATCH_BYTES:
            self._stop_following()
            return
        batch = publication.encoded.get(self._group) if not self._held.data else None
        if batch is None:
            batch = self._encode(publication)
        assert isinstance(batch, _Batch)
        if not self._events.push(batch.framed):
            self._stop_following()
            return
        self._held = batch.held
        self._end = publication.end
        self._written_s = batch.encoded_s
        if publication.closed:
            self._over = True
            self._stop_following()

    def overtaken(self) -> None:
        """Catch up from the files."""
        self._stop_following()

    def ended(self, reason: StreamError) -> None:  # noqa: ARG002 - it shows on reconnecting
        """End the event stream: there is nothing to follow any more."""
        self._over = True
        self._stop_following()

    def _encode(self, publication: Publication) -> _Batch:
        """Encode a publication, for all who are where this reader is."""
        encoded = publication.encoded
        key = (self._group, self._held) if self._held.data else self._group
        known = encoded.get(key)
        if known is not None:
            assert isinstance(known, _Batch)
            return known
        wire, held, _ = sse.encode_batch(
            self._encoding,
            self._held,
            publication.start,
            publication.data,
            publication.end,
            closed=publication.closed,
            cursor=max(self._cursor, self._live.cursor(None)),
            up_to_date=True,
        )
        batch = _Batch(self._events.frame(wire), held, self._loop.time())
        encoded[key] = batch
        return batch

    # Called by the clock

    def _tick(self) -> None:
        now_s = self._loop.time()
        if now_s >= self._ends_s:
            self._over = True
            self._stop_following()
            return
        if now_s >= self._written_s + self._keepalive_s:
            # Only a follower is between two events; the others are busy anyway.
            if self._wake is not None:
                self._events.push(self._events.frame(sse.KEEP_ALIVE))
            self._written_s = now_s
        at_s = min(self._written_s + self._keepalive_s, self._ends_s)
        self._timer = self._loop.call_at(at_s, self._tick)

    def _stop_following(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
            self._wake = None

    # Catching up

    async def _catch_up(self, chunk: Chunk) -> None:
        """Send a chunk as one batch, and release it."""
        try:
            await self._live.turns.take()
            batch = sse.Batch(self._encoding, self._held, self._end)
            in_memory = [part for part in chunk.parts if isinstance(part, bytes)]
            if chunk.size_bytes <= BATCH_BYTES and len(in_memory) == len(chunk.parts):
                wire = batch.part(b"".join(in_memory))
            else:
                wire = await self._send_all_but_last(batch, chunk)
            ended = batch.end(
                chunk.end,
                closed=chunk.closed,
                cursor=max(self._cursor, self._live.cursor(None)),
                up_to_date=chunk.at_tail,
            )
            self._held, self._end = ended.held, chunk.end
            await self._events.write(self._events.frame(wire + ended.wire))
        finally:
            chunk.release()
        self._written_s = self._loop.time()

    async def _send_all_but_last(self, batch: sse.Batch, chunk: Chunk) -> bytes:
        """Send what a batch begins with, piece by piece, whenever there is room; the rest of it.

        It is sent to its end although the reader's time may be over.  If its stream ends, the
        connection is cut off: clients would take half an event for a whole one.
        """
        wire = b""
        try:
            async for piece in self._engine.pieces(chunk, PIECE_BYTES):
                if wire:
                    await self._events.write(self._events.frame(wire))
                    await self._live.turns.take()
                wire = batch.part(piece)
        except StreamError as error:
            raise ConnectionResetError("the stream ended in the middle of an event") from error
        return wire
