"""A timing wheel: which streams are to be looked at when.

Whoever is put on it comes round once, at its time or after ``HORIZON_S``, whichever is sooner: who
has longer to wait, or whose time has moved meanwhile, is put on it again.  So it holds the streams
that are open, and those that were closed within the horizon: one reference each, and a weak one, as
streams come and go.  Putting one on it and taking one off cost the same with any number of them.

Owned by the event loop; time is the loop's, in seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from weakref import ref

if TYPE_CHECKING:
    from durable_streams.filestore.streams.stream import Stream

TICK_S: Final = 0.5
HORIZON_S: Final = 60.0
"""Nobody waits for longer; with 100,000 streams on it that is 1,700 a second."""

_SLOTS: Final = int(HORIZON_S / TICK_S) + 2  # the one in which we are, and none is met twice


class Wheel:
    """Streams by the time at which they are to be looked at."""

    def __init__(self, now_s: float) -> None:
        self._slots: list[list[ref[Stream]]] = [[] for _ in range(_SLOTS)]
        self._turn = int(now_s / TICK_S)

    def __len__(self) -> int:
        return sum(map(len, self._slots))

    def put(self, stream: Stream, delay_s: float) -> None:
        """Have a stream come round after a delay, not sooner, and not before the next turn."""
        turns = int(min(max(delay_s, 0.0), HORIZON_S) / TICK_S) + 1
        self._slots[(self._turn + turns) % _SLOTS].append(ref(stream))

    def take_all(self) -> list[ref[Stream]]:
        """Everybody, whatever the time: the clock that they go by has jumped."""
        found = [reference for slot in self._slots for reference in slot]
        self._slots = [[] for _ in range(_SLOTS)]
        return found

    def turn(self, now_s: float) -> list[ref[Stream]] | None:
        """Those of the next turn whose time has come; None if it is not yet time for that."""
        turn = int(now_s / TICK_S)
        if turn <= self._turn:
            return None
        self._turn = max(self._turn + 1, turn - _SLOTS)  # who slept for long goes round once
        slot = self._turn % _SLOTS
        found, self._slots[slot] = self._slots[slot], []
        return found
