"""How many streams there are for each limit, and when there may be no more.

A stream counts while it takes room at its path: from the decision to create it until its deletion
is durable.  So one that has expired counts until it is removed, or another takes its place, and one
that was deleted counts for as long as forks need it.

Nothing here waits: whether there is room is asked, and the room taken, in one step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durable_streams.model.errors import TooManyRequests

if TYPE_CHECKING:
    from collections.abc import Iterable

    from durable_streams.model.paths import StreamPath
    from durable_streams.model.stream_limits import StreamLimit

RETRY_AFTER_S: Final = 60
"""Of who is one too many: somebody has to delete a stream before there is room."""


class StreamCount:
    """Streams that one limit is for; ``number``: how many there are, None: not counted yet."""

    __slots__ = ("limit", "number")

    def __init__(self, limit: StreamLimit, number: int | None) -> None:
        self.limit = limit
        self.number = number


class StreamCounts:
    """The streams of all limits; without any it costs nothing."""

    def __init__(self, limits: Iterable[StreamLimit], number: int | None = None) -> None:
        """``number``: of the streams that there are below each, None if they are to be counted."""
        self._counts = {limit.prefix: StreamCount(limit, number) for limit in limits}
        self._lengths = sorted({len(prefix) for prefix in self._counts})

    def at(self, path: StreamPath) -> list[StreamCount]:
        """Those that a stream at a path is one of, the widest first."""
        found: list[StreamCount] = []
        for length in self._lengths:
            if length > len(path):
                break
            count = self._counts.get(path[:length])
            if count is not None:
                found.append(count)
        return found

    def is_known(self, path: StreamPath) -> bool:
        """Whether all of those were counted."""
        return all(count.number is not None for count in self.at(path))

    def take(self, path: StreamPath) -> None:
        """One more at a path, all of whose counts are known; :class:`TooManyRequests`."""
        counts = self.at(path)
        for count in counts:
            assert count.number is not None
            if count.number >= count.limit.most:
                raise TooManyRequests(count.limit.refusal, RETRY_AFTER_S)
        for count in counts:
            assert count.number is not None
            count.number += 1

    def give_back(self, path: StreamPath) -> None:
        """One less at a path: it came to nothing, or has ended."""
        for count in self.at(path):
            if count.number is not None:
                count.number -= 1
