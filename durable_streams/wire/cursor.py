"""Cursors of live answers: they keep caches from answering a poll for ever (protocol §10.1)."""

from __future__ import annotations

from typing import Final

INTERVAL_S: Final = 20
EPOCH_S: Final = 1_728_432_000
"""2024-10-09T00:00:00Z, where the intervals are counted from."""

MAX_JITTER_S: Final = 3600

MAX_DIGITS: Final = 64
"""Of a client's cursor.  Ours have 7, but a client may make up a greater one, and what we add to
that has to be understood when it comes back: else cursors went backwards."""


def next_cursor(client: int | None, now_s: float, jitter_s: int) -> int:
    """Return the number of the current interval, or a greater one than the client's.

    ``client`` is the cursor the client sent, ``jitter_s`` a random number from 1 to
    ``MAX_JITTER_S``; it is used only if the client's cursor has caught up with the clock.
    """
    interval = max(0, int((now_s - EPOCH_S) // INTERVAL_S))  # whatever the clock says
    if client is None or client < interval:
        return interval
    return client + 1 + (jitter_s - 1) // INTERVAL_S
