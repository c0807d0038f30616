"""What a stream remembers of its producers, and whom it forgets when there is no room for one more.

None is forgotten while there is room.  When there is none, those go that have been idle for over
seven days by the times of their appends' records, the longest idle first, and no more of them than
take the room that is needed.  If they do not take it, the new producer is refused.

It is decided once, for an append, and is part of what that append is: a store that keeps streams
keeps whom it made them forget, too.  So nobody has to decide it again: replay, copies and a start
with another limit all come to the same producers.

A clock that is ahead makes many seem idle, and still no more are forgotten than new ones come; who
appends meanwhile is kept for longer.  A clock that is behind makes none seem idle.

The longest idle are looked for among all only once for many new producers (``_LOOKED_FOR``),
accepted or refused: a client that invents ids costs little for each.
"""

from __future__ import annotations

from heapq import nsmallest
from typing import TYPE_CHECKING, Final

import msgspec

from durable_streams.model.errors import TooManyProducers
from durable_streams.rules.producers import IDLE_MS

if TYPE_CHECKING:
    from durable_streams.rules.producers import ProducerState

ENTRY_BYTES: Final = 54
"""Of a producer in JSON, at most, beside its id: an array of three numbers of up to 16 digits."""

_FORGOTTEN_BYTES: Final = 2048
"""Of the table, which one append frees at most: more than any producer takes, and few to name."""

_LOOKED_FOR: Final = 1024
"""Of the oldest, each time that all are looked at: many more than take ``_FORGOTTEN_BYTES``."""

_quote: Final = msgspec.json.Encoder().encode


class ProducerTable:
    """The producers of a stream by id, and what they take in JSON at most."""

    __slots__ = ("_oldest", "size_bytes", "states", "younger_ms")

    def __init__(self, states: dict[str, ProducerState]) -> None:
        self.states = states
        self.size_bytes = sum(map(producer_bytes, states))
        # The oldest when all were looked at, oldest last; all others are at most as old as
        # ``younger_ms``.
        self._oldest: list[tuple[str, ProducerState]] = []
        self.younger_ms = 0

    def put(self, name: str, state: ProducerState) -> None:
        """A producer has appended, or is as it was before."""
        if name not in self.states:
            self.size_bytes += producer_bytes(name)
        self.states[name] = state
        if state.time_ms < self.younger_ms:  # the clock went back, or an append failed
            self._oldest, self.younger_ms = [], 0

    def remove(self, name: str) -> None:
        """Forget a producer."""
        del self.states[name]
        self.size_bytes -= producer_bytes(name)

    def room_for(self, name: str, now_ms: int, limit_bytes: int) -> tuple[str, ...]:
        """Who has to be forgotten for one more producer; changes nothing.

        Where less was allowed than before, the table shrinks with each new producer.  Raises
        :class:`TooManyProducers`.
        """
        missing = self.size_bytes + producer_bytes(name) - limit_bytes
        if missing <= 0:
            return ()
        missing = min(missing, _FORGOTTEN_BYTES)
        longest_idle = self._pick(missing) or self._pick_anew(missing)
        if not longest_idle or now_ms - longest_idle[-1][1].time_ms <= IDLE_MS:
            raise TooManyProducers(len(self.states), limit_bytes, ENTRY_BYTES)
        return tuple([name for name, _ in longest_idle])

    def _pick_anew(self, size_bytes: int) -> list[tuple[str, ProducerState]]:
        """:meth:`_pick` after a look at all."""
        self._oldest = nsmallest(_LOOKED_FOR, self.states.items(), key=_time_of)
        self._oldest.reverse()
        self.younger_ms = self._oldest[0][1].time_ms if self._oldest else 0
        return self._pick(size_bytes)

    def _pick(self, size_bytes: int) -> list[tuple[str, ProducerState]]:
        """The oldest that together take so many bytes, oldest first; none if they do not."""
        picked: list[tuple[str, ProducerState]] = []
        while size_bytes > 0 and self._oldest:
            name, state = self._oldest.pop()
            if self.states.get(name) is state:  # else it has appended since, or is gone
                picked.append((name, state))
                size_bytes -= producer_bytes(name)
        self._oldest.extend(reversed(picked))
        return picked if size_bytes <= 0 else []


def _time_of(entry: tuple[str, ProducerState]) -> int:
    return entry[1].time_ms


def producer_bytes(name: str) -> int:
    """What a producer takes in JSON at most."""
    return len(_quote(name)) + ENTRY_BYTES
