"""All that is wrong with one generation of the machine, and which errors that explains."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from durable_streams.model.errors import DiskFull, Overloaded
from durable_streams.settings import MIB, Durability

if TYPE_CHECKING:
    from durable_streams.model.paths import StreamPath
    from durable_streams.settings import Settings
    from tools.simulation.faults import Faults
    from tools.simulation.intruders import Intruders
    from tools.simulation.poison import Poison


class Troubles(NamedTuple):
    """Calls of the disk that fail, other programs, values that raise, and a small journal."""

    faults: Faults
    intruders: Intruders
    poison: Poison
    settings: Settings

    @property
    def keeps_uses(self) -> bool:
        """Whether a use of a stream is surely remembered."""
        calm = not (self.faults.kind or self.intruders.active or self.poison.active)
        return calm and self.settings.durability is Durability.FSYNC

    @property
    def may_be_final(self) -> bool:
        """Whether writing may have ended for good."""
        return self.faults.fails or self.intruders.took_journal

    def check(self, error: Exception, path: StreamPath, now_ms: int) -> None:
        """Whether there is a reason for an error that a request at a path got."""
        if isinstance(error, Overloaded):
            small = self.settings.journal_file_bytes < MIB
            slow = small or self.faults.kind or self.intruders.active
            assert slow, f"nothing is slow, and {error!r}"
        elif isinstance(error, DiskFull):
            assert self.faults.explain_full(now_ms), f"there is room, and {error!r}"
        else:
            explained = (
                self.faults.fails
                or self.intruders.explain(error)
                or self.poison.explain(error, path)
            )
            assert explained, f"nothing failed, and {error!r}"
