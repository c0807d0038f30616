"""What a stream remembers of its producers, and whom it forgets when there is no room for one more.

None is forgotten while there is room.  When there is none, those go that have been idle for over
seven days by the times of their appends' records, the longest idle first, and no more of them than
take the room that is needed.  If they do not take it, the new producer is refused.

Room is bytes, and places as well where there is a limit of their number.  Who lacks both is told of
the bytes.  A producer that the stream knows is never refused.

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

from durable_streams.model.errors import TooManyProducers, TooManyRequests
from durable_streams.rules.producers import IDLE_MS

if TYPE_CHECKING:
    from durable_streams.rules.producers import ProducerState

ENTRY_BYTES: Final = 54
"""Of a producer in JSON, at most, beside its id: an array of three numbers of up to 16 digits."""

_FORGOTTEN_BYTES: Final = 2048
"""Of the table, which one append frees at most: more than any producer takes, and few to name."""

_RETRY_AFTER_S: Final = 60
"""Of who is one too many: it takes days until somebody may be forgotten, so there is no hurry."""

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

    def room_for(self, name: str, now_ms: int, limit_bytes: int, limit: int = 0) -> tuple[str, ...]:
        """Who has to be forgotten for one more producer; changes nothing.

        ``limit``: how many there may be; 0: any number.  Where less was allowed than before, the
        table shrinks with each new producer.  Raises :class:`TooManyProducers` where bytes are
        missing, :class:`TooManyRequests` where there are only too many.
        """
        missing_bytes = self.size_bytes + producer_bytes(name) - limit_bytes
        too_many = len(self.states) + 1 - limit if limit else 0
        if missing_bytes <= 0 and too_many <= 0:
            return ()
        longest_idle = self._pick(missing_bytes, too_many)
        longest_idle = longest_idle or self._pick_anew(missing_bytes, too_many)
        if not longest_idle or now_ms - longest_idle[-1][1].time_ms <= IDLE_MS:
            if missing_bytes > 0:
                raise TooManyProducers(len(self.states), limit_bytes, ENTRY_BYTES)
            raise TooManyRequests(
                f"the stream has {len(self.states)} producers, and may have {limit}. Those that "
                "have been idle for over 7 days make room, and there are too few of them. A new "
                "id for each run is the usual cause: keep the id and raise the epoch, or use "
                "another stream",
                _RETRY_AFTER_S,
            )
        return tuple([name for name, _ in longest_idle])

    def _pick_anew(self, size_bytes: int, number: int) -> list[tuple[str, ProducerState]]:
        """:meth:`_pick` after a look at all."""
        self._oldest = nsmallest(_LOOKED_FOR, self.states.items(), key=_time_of)
        self._oldest.reverse()
        self.younger_ms = self._oldest[0][1].time_ms if self._oldest else 0
        return self._pick(size_bytes, number)

    def _pick(self, size_bytes: int, number: int) -> list[tuple[str, ProducerState]]:
        """The oldest that together take so many bytes, and are so many; none if they are not.

        Oldest first.  ``_FORGOTTEN_BYTES`` are enough in any case.
        """
        picked: list[tuple[str, ProducerState]] = []
        taken_bytes = 0

        def is_enough() -> bool:
            if taken_bytes >= _FORGOTTEN_BYTES:
                return True
            return taken_bytes >= size_bytes and len(picked) >= number

        while self._oldest and not is_enough():
            name, state = self._oldest.pop()
            if self.states.get(name) is state:  # else it has appended since, or is gone
                picked.append((name, state))
                taken_bytes += producer_bytes(name)
        self._oldest.extend(reversed(picked))
        return picked if is_enough() else []


def _time_of(entry: tuple[str, ProducerState]) -> int:
    return entry[1].time_ms


def producer_bytes(name: str) -> int:
    """What a producer takes in JSON at most."""
    return len(_quote(name)) + ENTRY_BYTES
