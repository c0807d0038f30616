"""Event streams (protocol §5.8): one :class:`EventReader` each.

It catches up from chunks, then subscribes at the tail; from there on the store calls it, and it
writes what all readers of a publication share straight to where its events go.  A reader for which
there is no room there is left behind: its task waits for room, catches up from the files and
subscribes again, or its front cuts it off.  So a slow reader costs a bounded buffer and holds
nobody up.

Everything runs on the event loop, and nothing here knows a transport: :class:`Events` is what a
front has for one.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from durable_streams.model.errors import StreamError
from durable_streams.settings import KIB
from durable_streams.wire import sse

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from durable_streams.http.turns import Turns
    from durable_streams.model.results import Chunk, Publication, StreamRef
    from durable_streams.settings import HttpSettings
    from durable_streams.store import Store

BATCH_BYTES: Final = 64 * KIB
"""Of appends that share an event: written to every reader at once, or read by one that catches up.
A larger append is an event of its own, which each reader is sent piece by piece."""

PIECE_BYTES: Final = 24 * KIB
"""Of such an event: so much of it a slow reader holds in memory."""

SHORTEST_LIFETIME: Final = 0.9
"""Event streams end at 90 to 100 % of their lifetime, lest all of them reconnect together."""


@dataclass(slots=True, eq=False)
class _Batch:
    """A publication as it is sent, and where that leaves its readers.

    ``key``: what readers look for next who were sent it, see :attr:`EventReader._key`.
    """

    framed: bytes
    held: sse.Held
    encoded_s: float
    key: object
    closed: bool


class Events(Protocol):
    """Where the events of one reader go, in the order in which they are handed over.

    Readers with equal ``chunked`` frame events alike, so that they may share them.
    """

    @property
    def chunked(self) -> bool:
        """How events are framed."""

    def frame(self, data: bytes) -> bytes:
        """The events as they are sent."""

    def push(self, framed: bytes) -> bool:
        """Send framed events if there is room; False if there is none, or nobody to send to."""

    async def write(self, framed: bytes) -> None:
        """Send framed events, and wait until there is room for more."""

    async def drain(self) -> None:
        """Wait until there is room."""


class Shared(Protocol):
    """What the readers of one server have in common."""

    @property
    def store(self) -> Store:
        """Where the streams are."""

    @property
    def settings(self) -> HttpSettings:
        """How long events and pauses last."""

    @property
    def turns(self) -> Turns:
        """Who reads from files takes one."""

    @property
    def random(self) -> Random:
        """For what must not happen to all at once."""

    @property
    def draining(self) -> bool:
        """Whether the server is going down."""

    def cursor(self, client: int | None) -> int:
        """The cursor of an answer to a client that sent ``client``."""


class EventReader:
    """One event stream: a subscriber of the store, and the task that feeds it otherwise."""

    __slots__ = (
        "_charge",
        "_cursor",
        "_encoding",
        "_end",
        "_ends_s",
        "_events",
        "_group",
        "_held",
        "_keepalive_s",
        "_key",
        "_loop",
        "_over",
        "_shared",
        "_store",
        "_stream",
        "_timer",
        "_wake",
        "_written_s",
    )

    def __init__(
        self,
        shared: Shared,
        stream: StreamRef,
        events: Events,
        chunk: Chunk,
        cursor: int,
        *,
        most_s: float,
        charge: Callable[[int], None] | None,
    ) -> None:
        """``chunk`` is where the reader begins; ``cursor`` is the least it is sent.

        ``most_s``: how long it may last; its lifetime may be shorter.  ``charge``: as for
        :meth:`LiveReads.reader`.
        """
        self._shared = shared
        self._charge = charge
        self._store = shared.store
        self._stream = stream
        self._events = events
        self._encoding = sse.Encoding.of(stream.content_type)
        self._cursor = cursor
        # Bytes before _end were taken in; _held are those of them that were not sent yet.
        self._end = chunk.start
        self._held = sse.NOTHING_HELD
        # Readers of one group that hold the same back get the same bytes.
        self._group = (events.chunked, cursor)
        self._key = self._key_with(self._held)
        self._over = shared.draining
        self._wake: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._written_s = self._loop.time()
        shortened = shared.random.uniform(SHORTEST_LIFETIME, 1.0)
        lifetime_s = min(shared.settings.sse_lifetime_s * shortened, most_s)
        self._ends_s = self._written_s + lifetime_s
        # The last event came to all readers of a stream together; comments need not.
        self._keepalive_s = shared.settings.sse_keepalive_s * shortened
        self._timer = self._loop.call_later(0, self._tick)

    def close(self) -> None:
        """Leave the store and the clock."""
        self._over = True
        self._timer.cancel()
        self._store.unsubscribe(self._stream, self)

    async def run(self, chunk: Chunk) -> None:
        """Send ``chunk`` and all that follows, until the stream or the reader's time is over."""
        await self._catch_up(chunk)
        while not chunk.closed and not self._over:
            if chunk.at_tail and self._store.subscribe(self._stream, chunk.end, self):
                if not await self._follow():
                    return
                await self._events.drain()
            chunk = await self._store.read(
                self._stream, self._end, is_end=True, max_bytes=BATCH_BYTES
            )
            if chunk.size_bytes or chunk.closed:
                await self._catch_up(chunk, is_first=False)
            else:  # it is empty, so it holds no files
                await asyncio.sleep(0)

    async def _follow(self) -> bool:
        """Let the store call until this reader falls behind (True) or is over (False)."""
        self._wake = self._loop.create_future()
        try:
            await self._wake
        finally:
            self._wake = None
            self._store.unsubscribe(self._stream, self)
        return not self._over

    # Called by the store

    def published(self, publication: Publication) -> None:
        """Write what was published, or fall behind; see :class:`~durable_streams.model.results`."""
        # Each reader of each publication comes by here: nothing that can be done once for all.
        if self._wake is None or publication.start < self._end:
            return
        batch: _Batch | None = publication.encoded.get(self._key)
        if batch is None:
            batch = self._encode(publication)
        if batch is None or not self._events.push(batch.framed):
            self._stop_following()
            return
        self._end = publication.end
        self._written_s = batch.encoded_s
        if batch.key is not self._key:
            self._held, self._key = batch.held, batch.key
        if batch.closed:
            self._over = True
            self._stop_following()

    def overtaken(self) -> None:
        """Catch up from the files."""
        self._stop_following()

    def ended(self, reason: StreamError) -> None:  # noqa: ARG002 - it shows on reconnecting
        """End the event stream: there is nothing to follow any more."""
        self._over = True
        self._stop_following()

    def _key_with(self, held: sse.Held) -> object:
        """What a reader of this group looks for among what was encoded, if it holds this back."""
        return (self._group, held) if held.data else self._group

    def _encode(self, publication: Publication) -> _Batch | None:
        """Encode a publication, for all who are where this reader is; None if it is too large."""
        if len(publication.data) > BATCH_BYTES:
            return None
        wire, held, _ = sse.encode_batch(
            self._encoding,
            self._held,
            publication.start,
            publication.data,
            publication.end,
            closed=publication.closed,
            cursor=max(self._cursor, self._shared.cursor(None)),
            up_to_date=True,
        )
        framed = self._events.frame(wire)
        key = self._key if held == self._held else self._key_with(held)
        batch = _Batch(framed, held, self._loop.time(), key, publication.closed)
        publication.encoded[self._key] = batch
        return batch

    # Called by the clock, and by who knows how long it may last

    def ends_within(self, most_s: float) -> None:
        """Last no longer than that from now on."""
        ends_s = self._loop.time() + most_s
        if ends_s < self._ends_s and not self._over:
            self._ends_s = ends_s
            self._timer.cancel()
            self._timer = self._loop.call_at(min(ends_s, self._timer.when()), self._tick)

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

    async def _catch_up(self, chunk: Chunk, *, is_first: bool = True) -> None:
        """Send a chunk as one batch, and release it."""
        with chunk:
            await self._shared.turns.take()
            if self._over and not is_first:  # what came meanwhile may not be for its reader
                return
            if self._charge is not None:
                self._charge(chunk.size_bytes)
            batch = sse.Batch(self._encoding, self._held, self._end)
            in_memory = [part for part in chunk.parts if isinstance(part, bytes)]
            if chunk.size_bytes <= BATCH_BYTES and len(in_memory) == len(chunk.parts):
                wire = batch.part(b"".join(in_memory))
            else:
                wire = await self._send_all_but_last(batch, chunk)
            ended = batch.end(
                chunk.end,
                closed=chunk.closed,
                cursor=max(self._cursor, self._shared.cursor(None)),
                up_to_date=chunk.at_tail,
            )
            self._held, self._end = ended.held, chunk.end
            self._key = self._key_with(self._held)
            await self._events.write(self._events.frame(wire + ended.wire))
        self._written_s = self._loop.time()

    async def _send_all_but_last(self, batch: sse.Batch, chunk: Chunk) -> bytes:
        """Send what a batch begins with, piece by piece, whenever there is room; the rest of it.

        It is sent to its end although the reader's time may be over.  If its stream ends, the
        connection is cut off: clients would take half an event for a whole one.
        """
        wire = b""
        try:
            async for piece in self._store.pieces(chunk, PIECE_BYTES):
                if wire:
                    await self._events.write(self._events.frame(wire))
                    await self._shared.turns.take()
                wire = batch.part(piece)
        except StreamError as error:
            raise ConnectionResetError("the stream ended in the middle of an event") from error
        return wire
