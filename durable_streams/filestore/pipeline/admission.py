"""Admission: whether a write may be decided now, and who is next.

Writes are held up while the streams' files lag behind the journal, or too much is on its way to it;
then writers stand in one line, in the order in which they came, and nobody who comes later passes
them.  So a busy disk slows all writers, and every queue behind this line is bounded.

A writer waits as long as anything moves.  :class:`Overloaded` gets who has waited for
``held_up_s`` in which nothing did, both counted from the later of its arrival and the last
movement: who came together is refused together.  Only the first in line looks and has a timer, so
that ten thousand who wait cost nothing.

The line is as long as there are callers: over HTTP as many as connections, with the bodies that
``max_bodies_bytes`` allows.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from itertools import islice
from typing import TYPE_CHECKING, Final

from durable_streams.model.errors import DiskFull, Draining, NotOpen, Overloaded
from durable_streams.waiters import resolve

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from durable_streams.model.errors import StorageFailed, StreamError, Unavailable

CALLED_TOGETHER: Final = 64
"""Writers who are called from the line in one turn of the loop, so that they share a batch."""

COME_BACK_S: Final = 5
"""What a writer is told to wait before it tries again, after nothing moved."""


_TIMER_SLACK_S: Final = 0.001  # a timer may fire a little early


class _Place:
    """Of one writer in the line."""

    __slots__ = ("arrived", "called")

    def __init__(self, arrived: float) -> None:
        self.arrived = arrived
        self.called: asyncio.Future[None] | None = None

    @property
    def is_called(self) -> bool:
        """Whether it looks in this turn of the loop, or the next."""
        return self.called is None or self.called.done()

    def call(self) -> None:
        """Let it look again."""
        if self.called is not None:
            resolve(self.called)


class Admission:
    """The line of writers, and why nobody is admitted at all.

    ``fault``: a failure that is final.  ``draining``: the data directory is being closed, or
    ``closed``.
    ``full``: there is no room, or no data directory; may pass.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        held_up_s: float,
        *,
        is_held_up: Callable[[], bool],
        last_moved: Callable[[], float],
    ) -> None:
        """``last_moved``: when anything came nearer to the files, by the loop's clock."""
        self._loop = loop
        self._held_up_s = held_up_s
        self._is_held_up = is_held_up
        self._last_moved = last_moved
        self._line: OrderedDict[_Place, None] = OrderedDict()
        self.fault: StorageFailed | None = None
        self.draining = self.closed = False
        self.full: DiskFull | Unavailable | None = None

    @property
    def waiting(self) -> int:
        """How many wait in the line."""
        return len(self._line)

    def refusal(self) -> StreamError | None:
        """Why no write is taken now, None if writes are."""
        if self.fault is not None:
            return self.fault
        if self.draining:
            return NotOpen() if self.closed else Draining()
        return self.full

    def is_open(self) -> bool:
        """Whether a write may be decided now, passing nobody."""
        return not (
            self._line
            or self.fault is not None
            or self.draining
            or self.full is not None
            or self._is_held_up()
        )

    def set_fault(self, fault: StorageFailed) -> None:
        """No write is taken any more."""
        self.fault = fault
        self._look_all()

    def drain(self) -> None:
        """Admit no more writes, and none of those that wait to be."""
        self.draining = True
        self._look_all()

    def set_full(self, full: DiskFull | Unavailable | None) -> None:
        """There is no room, or there is again (None)."""
        self.full = full
        if full is not None:
            self._look_all()

    async def admit(self, *, frees: bool = False) -> None:
        """Return when a write may be decided; raises if it may not.

        ``frees``: it makes room, so it may be made on a full disk.
        """
        if self._passes(frees) or (not self._line and not self._is_held_up()):
            return
        place = _Place(self._loop.time())
        self._line[place] = None
        try:
            while not self._passes(frees) and not self._is_next(place):
                await self._called(place)
        finally:
            del self._line[place]
            self.look()

    def _passes(self, frees: bool) -> bool:
        """Whether a write need not wait; raises if it must not be made."""
        refusal = self.refusal()
        if refusal is None:
            return False
        if frees and isinstance(refusal, DiskFull):
            return True
        raise refusal.again()

    def _is_first(self, place: _Place) -> bool:
        return next(iter(self._line)) is place

    def _is_next(self, place: _Place) -> bool:
        """Whether it is a writer's turn; raises if nothing has moved for too long."""
        if not self._is_first(place):
            return False
        if not self._is_held_up():
            return True
        if self._loop.time() >= self._deadline(place) - _TIMER_SLACK_S:
            raise Overloaded(
                f"writes outrun the disk: nothing moved for {self._held_up_s:g} s; "
                f"try again in {COME_BACK_S} s",
                COME_BACK_S,
            )
        return False

    def _deadline(self, place: _Place) -> float:
        return max(place.arrived, self._last_moved()) + self._held_up_s

    async def _called(self, place: _Place) -> None:
        """Return when a writer should look again."""
        place.called = self._loop.create_future()
        timer: asyncio.TimerHandle | None = None
        if self._is_first(place) and self._held_up_s < math.inf:
            timer = self._loop.call_at(self._deadline(place), place.call)
        try:
            await place.called
        finally:
            place.called = None
            if timer is not None:
                timer.cancel()

    def look(self) -> None:
        """Something may have changed: call those who are next."""
        first = next(iter(self._line), None)
        if first is None or first.is_called:  # and whoever leaves looks who follows
            return
        if self._is_held_up():
            first.call()
        else:
            for place in list(islice(self._line, CALLED_TOGETHER)):
                place.call()

    def _look_all(self) -> None:
        for place in list(self._line):
            place.call()
