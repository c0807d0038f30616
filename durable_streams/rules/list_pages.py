"""How many streams a page of a list has."""

from __future__ import annotations

from typing import Final

from durable_streams.model.errors import InvalidRequest

DEFAULT_LISTED: Final = 100
"""Streams of a page, if nobody says how many."""

MAX_LISTED: Final = 1000
"""Streams of a page: each may take a look at the disk, and all are in memory at once."""

MOST_LOOKED_AT: Final = 10_000
"""Paths that are offered to a filter for one page: some 20 ms, in slices."""


def check_limit(limit: int) -> int:
    """How many were asked for; :class:`InvalidRequest` if a page cannot have so many."""
    if not 1 <= limit <= MAX_LISTED:
        raise InvalidRequest(f"limit must be from 1 to {MAX_LISTED}, not {limit}")
    return limit
