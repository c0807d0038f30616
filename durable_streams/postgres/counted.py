"""What a node has counted since its store was opened."""

from __future__ import annotations

from durable_streams.measuring import COUNTS, SECONDS, StoreNumbers, Tally


class Counted:
    """``size_bytes``: what was committed; ``duplicates``: appends that were there already."""

    def __init__(self) -> None:
        self._took, self._shared = Tally(SECONDS), Tally(COUNTS)
        self.size_bytes = 0
        self.duplicates = 0

    def commit(self, took_s: float, writes: int) -> None:
        """Count a commit, and how many writes had a share in it."""
        self._took.add(took_s)
        self._shared.add(writes)

    def numbers(self, open_streams: int, waiting: int) -> StoreNumbers:
        """A copy of all of it."""
        return StoreNumbers(
            self._took.copy(),
            self._shared.copy(),
            self.size_bytes,
            self.duplicates,
            open_streams,
            waiting,
        )
