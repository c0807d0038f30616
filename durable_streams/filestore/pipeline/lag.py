"""The lag: batches that are durable and not yet in the streams' files."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


class Lag:
    """How far the files are behind the journal.

    ``since``: when the oldest batch that is not in files became durable, None if all are.
    ``bytes``: what the files still have to get.  ``moved_s``: when anything that writers wait for
    went on, as far as is known.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, last: int) -> None:
        """``last``: the last batch of the journal, which is in files."""
        self._loop = loop
        self._batches: deque[tuple[int, float, int]] = deque()  # number, since when, bytes
        self._last = last
        self.since: float | None = None
        self.bytes = 0
        self.moved_s = loop.time()

    def moves(self) -> None:
        """Something that writers wait for went on."""
        self.moved_s = self._loop.time()

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._batches)

    @property
    def last(self) -> int:
        """The last durable batch if it is not in files, else 0."""
        return self._batches[-1][0] if self._batches else 0

    @property
    def applied(self) -> int:
        """Every batch up to this one is in files."""
        return self._batches[0][0] - 1 if self._batches else self._last

    def begins(self, number: int, size_bytes: int) -> None:
        """A batch is durable."""
        now = self.moved_s = self._loop.time()
        self._last = number
        self._batches.append((number, now, size_bytes))
        if self.since is None:
            self.since = now
        self.bytes += size_bytes

    def ends(self, number: int) -> None:
        """Every batch up to a number is in files."""
        while self._batches and self._batches[0][0] <= number:
            self.bytes -= self._batches.popleft()[2]
        self.since = self._batches[0][1] if self._batches else None
