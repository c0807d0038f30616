"""Whether the wall clock can be relied on to tell that streams have expired.

Not shortly after a start (a backup may just have been restored) nor after a jump.  Meanwhile
expired streams are expired for everybody, but what they held is not thrown away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

JUMP_S: Final = 60.0
"""More than two looks of a process can be apart by, beside what the steady clock says."""


class Clock:
    """Watches the wall clock; :meth:`look` regularly.  ``jumps``: how many were noticed."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, now_ms: Callable[[], int], delay_s: float
    ) -> None:
        """``delay_s``: for how long it is not relied on after a start or a jump."""
        self._loop = loop
        self._now_ms = now_ms
        self._delay_s = delay_s
        self.jumps = 0
        self._wall_ms, self._steady_s = now_ms(), loop.time()
        self._relied_on_from_s = self._steady_s + delay_s

    def look(self) -> None:
        """Notice a jump."""
        wall_ms, steady_s = self._now_ms(), self._loop.time()
        drift_s = abs((wall_ms - self._wall_ms) / 1000 - (steady_s - self._steady_s))
        self._wall_ms, self._steady_s = wall_ms, steady_s
        if drift_s > JUMP_S:
            self._relied_on_from_s = steady_s + self._delay_s
            self.jumps += 1

    @property
    def is_reliable(self) -> bool:
        """Whether it has been steady for long enough."""
        self.look()
        return self._loop.time() >= self._relied_on_from_s
