"""Live delivery: who waits for a stream's next bytes.

A long-poll is one future among the waiters; an SSE reader is one entry among the subscribers.
Publications reach subscribers in order, each subscriber seeing those from the moment it came.
Fan-out runs in slices, so that acknowledgements and other streams are not held up by one with
thousands of readers.  Everything here runs on the event loop and blocks nowhere.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from durable_streams.errors import StreamError
    from durable_streams.results import Publication, Subscriber

_SLICE: Final = 64  # deliveries per turn of the loop: about 1 ms


class Audience:
    """The waiters and subscribers of one stream."""

    __slots__ = ("_queue", "_running", "subscribers", "waiters")

    def __init__(self) -> None:
        self.waiters: dict[asyncio.Future[bool], None] = {}
        self.subscribers: dict[Subscriber, None] = {}
        self._queue: list[tuple[Publication, list[Subscriber]]] = []  # rarely more than one
        self._running = False

    def __bool__(self) -> bool:
        return bool(self.waiters or self.subscribers)

    def wake(self) -> None:
        """Something changed: long-polls look again."""
        for waiter in list(self.waiters):
            if not waiter.done():
                waiter.set_result(True)
        self.waiters.clear()

    def publish(self, publication: Publication) -> None:
        """Hand a publication to everybody who is here now."""
        if not self.subscribers:
            return
        self._queue.append((publication, list(self.subscribers)))
        if not self._running:
            self._deliver()

    def _deliver(self) -> None:
        publication, receivers = self._queue[0]
        for subscriber in receivers[-_SLICE:]:
            if subscriber in self.subscribers:
                subscriber.published(publication)
        del receivers[-_SLICE:]
        if not receivers:
            del self._queue[0]
        self._running = bool(self._queue)
        if self._running:
            asyncio.get_running_loop().call_soon(self._deliver)

    def end(self, reason: StreamError) -> None:
        """The stream is no more: everybody leaves."""
        for waiter in list(self.waiters):
            if not waiter.done():
                waiter.set_exception(reason)
        self.waiters.clear()
        self.dismiss(reason)

    def dismiss(self, reason: StreamError) -> None:
        """Subscribers leave; what is still queued for them is dropped."""
        subscribers = list(self.subscribers)
        self.subscribers.clear()
        for subscriber in subscribers:
            subscriber.ended(reason)


NOBODY: Final = Audience()
"""What streams that nobody follows have in common; it stays empty, see ``Stream.followed``."""
