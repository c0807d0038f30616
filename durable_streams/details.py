"""All that is known of one stream, as the library tells it: see :meth:`.Streams.details`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from durable_streams.listing import listed_stream
from durable_streams.model.paths import path_text
from durable_streams.model.results import UnusableRow

if TYPE_CHECKING:
    from durable_streams.listing import ListedStream
    from durable_streams.model.details import ProducerSeen, StreamDetails


@dataclass(frozen=True, slots=True)
class Details:
    """What is known of a stream beside its bytes.

    ``stream``: what a list says of it.  If that has an ``error``, the stream cannot be used now,
    and nothing else is known.  ``begin``: the offset that it begins at; other than zero if another
    stream was at its path shortly before, or at its source's.  ``left_s``: seconds until it ends if
    nobody uses it; None: it does not end by itself.

    ``segments``: how many files it is kept in, ``segment_bytes``: sizes of the last ones.
    ``producers``: how many it remembers, ``last_producers``: those that appended last, the very
    last first.  ``forks``: paths of streams that were made of it and are still there;
    ``more_forks``: there may be more.  Of each at most 100.

    ``followers``: readers that follow it now; ``long_polls`` of them wait for news, ``subscribers``
    are at the tail of an event stream, and the others are catching up.
    """

    stream: ListedStream
    begin: str = ""
    left_s: int | None = None
    segments: int = 0
    segment_bytes: tuple[int, ...] = ()
    producers: int = 0
    last_producers: tuple[ProducerSeen, ...] = ()
    forks: tuple[str, ...] = ()
    more_forks: bool = False
    followers: int = 0
    long_polls: int = 0
    subscribers: int = 0


def described(found: StreamDetails | UnusableRow) -> Details:
    """What a store tells, in the words of the library."""
    if isinstance(found, UnusableRow):
        return Details(listed_stream(found))
    return Details(
        listed_stream(found.row),
        found.begin.token,
        found.left_s,
        found.segments,
        tuple(found.segment_bytes),
        found.producers,
        tuple(found.last_producers),
        tuple(map(path_text, found.forks)),
        found.more_forks,
        found.followers,
        found.long_polls,
        found.subscribers,
    )
