"""Live delivery: who waits for a stream's next bytes.

A long-poll is one future among the waiters; an SSE reader is one entry among the subscribers.
Publications reach subscribers in order, each subscriber seeing those from the moment it came.
All deliveries of all streams go in slices, a bounded number in a turn of the event loop, so that
acknowledgements and other streams are not held up by one with thousands of readers.  Whatever is
due to more readers than a turn takes waits in turn with what is due to those of other streams.

What waits is bounded: a stream whose subscribers do not keep up lets go of them all, and each one
reads on by itself (``overtaken``).  Everything here runs on the event loop and blocks nowhere.
"""

from __future__ import annotations

import logging
from collections import deque
from itertools import repeat
from typing import TYPE_CHECKING, Final

from durable_streams.settings import MIB
from durable_streams.waiters import Waiters

if TYPE_CHECKING:
    import asyncio

    from durable_streams.model.errors import StreamError
    from durable_streams.model.results import Publication, Subscriber

MAX_QUEUED: Final = 64
"""Publications of one stream that are on their way to subscribers; rarely more than one."""

MAX_QUEUED_BYTES: Final = 16 * MIB
"""Of the data in all of them; what comes beyond is not queued, so it is one publication more."""

_TURN: Final = 64  # publications handed over in a turn of the loop: about 1 ms
_SHARE: Final = 16  # of those, to one stream's readers before the next stream's have their turn
_TASK: Final = 4  # what waking a task takes, which then does something, in such deliveries

_BUG: Final = "bug: a reader was not told of something"
"""It raised what it must not, which is no business of the others, nor of writers."""

log = logging.getLogger("durable_streams")


class Deliveries:
    """What is due to the readers of all streams."""

    def __init__(self, loop: asyncio.AbstractEventLoop, max_queued: int = MAX_QUEUED) -> None:
        """``max_queued``: see ``MAX_QUEUED``."""
        self.max_queued = max_queued
        self.loop = loop
        self._due: deque[Audience] = deque()
        self._left = _TURN
        self._is_counting = False
        self._changes = Waiters(loop)
        self.queued_bytes = 0

    def begin(self, audience: Audience) -> None:
        """Something is due to an audience; some of it is delivered before this returns."""
        if not audience.is_due:
            audience.is_due = True
            self._due.append(audience)
        self._deliver()

    def _deliver(self) -> None:
        while self._due and self._left > 0:
            audience = self._due.popleft()
            share = min(self._left, _SHARE) if self._due else self._left
            self._left -= audience.deliver(share)
            audience.is_due = audience.has_more
            if audience.is_due:
                self._due.append(audience)
        if not self._due:
            self._changes.wake()
        if not self._is_counting:
            self._is_counting = True
            self.loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._left, self._is_counting = _TURN, False
        if self._due:
            self._deliver()

    async def finished(self) -> None:
        """Return when nothing is due any more."""
        while self._due:
            await self._changes.wait()


class Audience:
    """The waiters and subscribers of one stream.

    ``is_due``: whether it is in line for its deliveries.
    """

    __slots__ = ("_deliveries", "_leaving", "_queue", "_woken", "is_due", "subscribers", "waiters")

    def __init__(self, deliveries: Deliveries | None) -> None:
        """``deliveries`` may be missing where nobody ever joins."""
        self.waiters: dict[asyncio.Future[bool], None] = {}
        self.subscribers: dict[Subscriber, None] = {}
        self.is_due = False
        self._deliveries = deliveries
        self._woken: deque[tuple[asyncio.Future[bool], bool | StreamError]] = deque()
        self._leaving: dict[Subscriber, StreamError | None] = {}
        self._queue: deque[tuple[Publication, list[Subscriber]]] = deque()

    def __bool__(self) -> bool:
        return bool(self.waiters or self.subscribers)

    async def wait(self, timeout_s: float) -> bool:
        """Wait until something changes; False after the timeout, or when the store drains.

        Raises if the stream ends.
        """
        assert self._deliveries is not None
        loop = self._deliveries.loop
        waiter: asyncio.Future[bool] = loop.create_future()
        self.waiters[waiter] = None
        timer = loop.call_later(timeout_s, _time_out, waiter)
        try:
            return await waiter
        finally:
            timer.cancel()
            self.waiters.pop(waiter, None)

    def join(self, subscriber: Subscriber) -> None:
        """Hand every publication from now on to a subscriber."""
        self._leaving.pop(subscriber, None)
        self.subscribers[subscriber] = None

    def leave(self, subscriber: Subscriber) -> None:
        """Tell a subscriber nothing any more."""
        self._leaving.pop(subscriber, None)
        self.subscribers.pop(subscriber, None)

    # -- what becomes due ------------------------------------------------------------------

    def wake(self) -> None:
        """Something changed: long-polls look again."""
        self._wake(True)

    def _wake(self, outcome: bool | StreamError) -> None:
        if self.waiters:
            self._woken.extend(zip(self.waiters, repeat(outcome)))
            self.waiters.clear()
            self._begin()

    def publish(self, publication: Publication) -> None:
        """Hand a publication to everybody who is here now."""
        if not self.subscribers:
            return
        deliveries = self._deliveries
        assert deliveries is not None
        if len(self._queue) >= deliveries.max_queued or deliveries.queued_bytes >= MAX_QUEUED_BYTES:
            self._dismiss(None)
            return
        self._queue.append((publication, list(self.subscribers)))
        deliveries.queued_bytes += len(publication.data)
        self._begin()

    def end(self, reason: StreamError) -> None:
        """The stream is no more: everybody leaves."""
        self._wake(reason)
        self._dismiss(reason)

    def drain(self, reason: StreamError) -> None:
        """The engine goes down: waits are over, subscribers leave."""
        self._wake(False)
        self._dismiss(reason)

    def _dismiss(self, reason: StreamError | None) -> None:
        """Subscribers leave; what is still queued for them is dropped."""
        if self.subscribers:
            self._leaving.update(zip(self.subscribers, repeat(reason)))
            self.subscribers.clear()
            while self._queue:
                self._take_from_queue()
            self._begin()

    def _begin(self) -> None:
        assert self._deliveries is not None
        self._deliveries.begin(self)

    # -- a slice of it ---------------------------------------------------------------------

    @property
    def has_more(self) -> bool:
        """Whether anything is due."""
        return bool(self._woken or self._leaving or self._queue)

    def deliver(self, most: int) -> int:
        """Deliver some of what is due; how much that was, about ``most``."""
        done = self._deliver_woken(most // 2 if self._leaving or self._queue else most)
        while self._leaving and done < most:
            subscriber, reason = self._leaving.popitem()
            try:
                if reason is None:
                    subscriber.overtaken()
                else:
                    subscriber.ended(reason)
            except Exception:
                log.critical(_BUG, exc_info=True)
            done += _TASK
        while self._queue and done < most:
            done += self._deliver_published(most - done)
        return done

    def _deliver_published(self, most: int) -> int:
        publication, receivers = self._queue[0]
        now = receivers[-most:]
        del receivers[-most:]
        if not receivers:
            self._take_from_queue()
        here = self.subscribers
        for subscriber in now:
            if subscriber in here:
                try:
                    subscriber.published(publication)
                except Exception:
                    log.critical(_BUG, exc_info=True)
                    self.leave(subscriber)  # or else it would go on behind what it missed
        return len(now)

    def _deliver_woken(self, most: int) -> int:
        done = 0
        while self._woken and done < most:
            waiter, outcome = self._woken.popleft()
            if waiter.done():
                continue
            if isinstance(outcome, bool):
                waiter.set_result(outcome)
            else:
                waiter.set_exception(outcome)
            done += _TASK
        return done

    def _take_from_queue(self) -> None:
        publication, _ = self._queue.popleft()
        assert self._deliveries is not None
        self._deliveries.queued_bytes -= len(publication.data)


def _time_out(waiter: asyncio.Future[bool]) -> None:
    if not waiter.done():
        waiter.set_result(False)


NOBODY: Final = Audience(None)
"""What streams that nobody follows have in common; it stays empty, see ``Stream.followed``."""
