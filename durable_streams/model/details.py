"""All that is known of one stream, as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from durable_streams.model.offsets import Offset
    from durable_streams.model.paths import StreamPath
    from durable_streams.model.results import StreamRow

MOST_DETAILS: Final = 100
"""Of each kind that a stream may have any number of: segments, producers, forks."""


class ProducerSeen(msgspec.Struct, frozen=True, gc=False):
    """A producer as a stream remembers it: its newest epoch, and its last append in that."""

    id: str
    epoch: int
    seq: int
    last_ms: int


class StreamDetails(msgspec.Struct, frozen=True):
    """What is known of a stream beside its bytes; times are milliseconds since 1970.

    ``begin``: the offset that it begins at; above ``ZERO`` if another stream was at its path
    shortly before, or at its source's.  ``left_s``: as :meth:`.Store.left_s` has it.

    ``segments``: how many it is kept in, of which the first has the number in ``begin``;
    ``segment_bytes``: sizes of the last ones, in order.  ``producers``: how many it remembers;
    ``last_producers``: those that appended last, the very last first.  ``forks``: paths of streams
    that were made of it and are still there; ``more_forks``: there may be more.  Each has at most
    ``MOST_DETAILS``.

    ``followers``: readers that follow it now; of those, ``long_polls`` wait for news, and
    ``subscribers`` (event streams) are at the tail.  The others are catching up.
    """

    row: StreamRow
    begin: Offset
    left_s: int | None
    segments: int
    segment_bytes: Sequence[int]
    producers: int
    last_producers: Sequence[ProducerSeen]
    forks: Sequence[StreamPath]
    more_forks: bool
    followers: int
    long_polls: int
    subscribers: int
