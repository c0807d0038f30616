"""What a node has counted since its store was opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable_streams.measuring import (
    COUNTS,
    SECONDS,
    Family,
    StoreNumbers,
    Tally,
    counter,
    gauge,
    histogram,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class Counted:
    """``size_bytes``: what was committed; ``duplicates``: appends that were there already.

    ``conflicts``: streams that had moved when a batch was to move them.  ``unknown``: writes whose
    outcome had to be found out.  ``moves``: to another server.  ``sessions``: opened.
    ``heartbeat_s``: how long ago the last good one was sent.  ``standbys``, ``lag_s``: those that
    can acknowledge, and how far the last of them is behind; None: not known.
    """

    def __init__(self) -> None:
        self._took, self._shared = Tally(SECONDS), Tally(COUNTS)
        self._reads = Tally(SECONDS)
        self.size_bytes = 0
        self.duplicates = 0
        self.conflicts = 0
        self.unknown = 0
        self.notices_sent = 0
        self.notices_heard = 0
        self.moves = 0
        self.sessions = 0
        self.standbys: int | None = None
        self.lag_s: float | None = None

    def commit(self, took_s: float, writes: int) -> None:
        """Count a commit, and how many writes had a share in it."""
        self._took.add(took_s)
        self._shared.add(writes)

    def read(self, took_s: float) -> None:
        """Count what was read at once, on one session."""
        self._reads.add(took_s)

    def numbers(self, open_streams: int, waiting: int, heartbeat_s: float) -> StoreNumbers:
        """A copy of all of it."""
        return StoreNumbers(
            self._took.copy(),
            self._shared.copy(),
            self.size_bytes,
            self.duplicates,
            open_streams,
            waiting,
            tuple(self._of_database(heartbeat_s)),
        )

    def _of_database(self, heartbeat_s: float) -> Iterator[Family]:
        yield counter(
            "database_conflicts_total",
            "Streams that another node had moved meanwhile, so that they were decided on again.",
            self.conflicts,
        )
        yield gauge(
            "database_heartbeat_age_seconds",
            "How long ago the last heartbeat was sent that the database has confirmed.",
            heartbeat_s,
        )
        yield counter(
            "database_moves_total",
            "Times that the node went to another server, as the one before confirmed nothing.",
            self.moves,
        )
        yield counter(
            "database_notices_heard_total",
            "Notifications of other nodes about streams to look at.",
            self.notices_heard,
        )
        yield counter(
            "database_notices_sent_total",
            "Notifications to other nodes about streams to look at.",
            self.notices_sent,
        )
        yield histogram(
            "database_read_duration_seconds",
            "How long reads took that were done at once, with the barrier behind them.",
            self._reads.copy(),
        )
        yield counter("database_sessions_opened_total", "Sessions that were opened.", self.sessions)
        yield gauge(
            "database_standby_lag_seconds",
            "How far the slowest standby is behind that commits may wait for.",
            self.lag_s,
        )
        yield gauge(
            "database_standbys",
            "Standbys that can acknowledge commits; without pg_read_all_stats it is not known.",
            self.standbys,
        )
        yield counter(
            "database_unknown_outcomes_total",
            "Writes whose outcome had to be found out, as a connection was lost, say.",
            self.unknown,
        )
