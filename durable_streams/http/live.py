"""Live reads: long-polls and event streams (protocol §5.7, §5.8), of one server.

A long-poll is one wait in the store, an event stream is one :class:`~event_reader.EventReader`.
Who reads is known of both, so that they end with the rights of their reader.  The client's going
cancels the task of its request, which frees all there is.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from durable_streams.access.door import INVALID, OPEN
from durable_streams.http.event_reader import EventReader
from durable_streams.model.errors import Draining, Unauthenticated
from durable_streams.wire.cursor import MAX_JITTER_S, next_cursor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

    from durable_streams.access.door import Door
    from durable_streams.access.principals import Principal
    from durable_streams.http.event_reader import Events
    from durable_streams.http.turns import Turns
    from durable_streams.model.offsets import Offset
    from durable_streams.model.paths import StreamPath
    from durable_streams.model.results import Chunk, StreamRef
    from durable_streams.settings import HttpSettings
    from durable_streams.store import Store

RECHECKS_PER_TURN: Final = 256
"""Of live reads, when what is known of tokens and keys has changed: each takes microseconds."""

ENDINGS_PER_TURN: Final = 16
"""Of live reads that end when the server goes down, each of which has an answer to end."""


class _Holder(NamedTuple):
    """Who reads, and what."""

    principal: Principal
    path: StreamPath


def _revoked() -> Unauthenticated:
    return Unauthenticated("the credentials have expired, or were revoked", INVALID)


class LiveReads:
    """The live readers of one server: ``polls`` that wait, and ``readers`` of events.

    ``turns``: those of all who read from files, event streams included.  ``door``: knows who may
    go on reading; a live read ends with the rights of its reader.
    """

    def __init__(
        self,
        store: Store,
        settings: HttpSettings,
        turns: Turns,
        door: Door = OPEN,
        *,
        clock: Callable[[], float],
        random: Random,
    ) -> None:
        self.store = store
        self.settings = settings
        self.door = door
        self.clock = clock
        self.random = random
        self.draining = False
        self.turns = turns
        self.polls: dict[asyncio.Timeout, _Holder] = {}
        self.readers: dict[EventReader, _Holder] = {}

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
            if self.polls:
                self.polls.popitem()[0].reschedule(loop.time())
            elif self.readers:
                self.readers.popitem()[0].ended(Draining())
            else:
                return
        loop.call_soon(self._end_some)

    def recheck(self) -> None:
        """End the live reads of those who may not read any more: what is known of them changed."""
        self._recheck_some([*self.polls.items(), *self.readers.items()])

    def _recheck_some(self, reads: list[tuple[asyncio.Timeout | EventReader, _Holder]]) -> None:
        """Look at some of them, and at the others in the next turns of the loop."""
        loop = asyncio.get_running_loop()
        for read, holder in reads[-RECHECKS_PER_TURN:]:
            if self.door.may_read(*holder):
                if isinstance(read, EventReader):
                    read.ends_within(self.door.left_s(holder.principal))
            elif isinstance(read, EventReader):
                read.ended(_revoked())
            elif read in self.polls:  # else it is over, and must not be touched
                del self.polls[read]
                read.reschedule(loop.time())
        del reads[-RECHECKS_PER_TURN:]
        if reads:
            loop.call_soon(self._recheck_some, reads)

    async def wait_for_data(self, stream: StreamRef, chunk: Chunk, principal: Principal) -> Chunk:
        """Return ``chunk``, or if it is empty the first one that is not, until the timeout.

        :class:`Unauthenticated` if ``principal`` may not read any more meanwhile.
        """
        loop = asyncio.get_running_loop()
        holder = _Holder(principal, stream.path)
        most_s = min(self.settings.long_poll_timeout_s, self.door.left_s(principal))
        deadline_s = loop.time() + most_s
        with self.store.following(stream):
            while not chunk.size_bytes and not chunk.closed:
                self._check(holder)
                left_s = deadline_s - loop.time()
                is_news = left_s > 0 and await self._wait(stream, chunk.end, left_s, holder)
                self._check(holder)
                if not is_news:
                    return chunk
                chunk = await self.store.read(stream, chunk.end, is_end=True)
            return chunk

    def _check(self, holder: _Holder) -> None:
        if not self.door.may_read(*holder):
            raise _revoked()

    async def _wait(self, stream: StreamRef, at: Offset, timeout_s: float, holder: _Holder) -> bool:
        if self.draining:
            return False
        poll = asyncio.timeout(None)  # no timeout of its own: drain() sets one
        try:
            async with poll:
                self.polls[poll] = holder
                return await self.store.wait(stream, at, timeout_s)
        except TimeoutError:
            return False
        finally:
            self.polls.pop(poll, None)

    @contextmanager
    def reader(
        self,
        stream: StreamRef,
        events: Events,
        chunk: Chunk,
        cursor: int,
        principal: Principal,
        *,
        charge: Callable[[int], None] | None = None,
    ) -> Iterator[EventReader]:
        """A reader of events, which begins with a chunk and leaves with the ``with`` block.

        ``charge``: told how many bytes it sends of what it catches up with, not of what it follows.
        :class:`Unauthenticated` if ``principal`` may not read any more since it was admitted.
        """
        holder = _Holder(principal, stream.path)
        self._check(holder)
        most_s = self.door.left_s(principal)
        reader = EventReader(self, stream, events, chunk, cursor, most_s=most_s, charge=charge)
        self.readers[reader] = holder
        try:
            yield reader
        finally:
            self.readers.pop(reader, None)
            reader.close()
