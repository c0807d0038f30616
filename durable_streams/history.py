"""What was appended to a stream, and when, as the library tells it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durable_streams.model.commands import ProducerClaim
    from durable_streams.model.records import RecordsPage


@dataclass(frozen=True, slots=True)
class Record:
    """One append, or one message of a JSON stream.

    A read from ``offset`` begins with it, one from ``next_offset`` behind it.  ``time_ms``: when it
    was accepted, in milliseconds since 1970.  ``size_bytes``: of what was appended; 0 is a close
    without data.  ``producer``: whose append it is in, if a producer's.  ``closed``: it is the last
    one of a stream that is closed.
    """

    offset: str
    next_offset: str
    time_ms: int
    size_bytes: int
    producer: ProducerClaim | None
    closed: bool


@dataclass(frozen=True, slots=True)
class RecordsResult:
    """Some records, in the order of the stream.

    Go on from ``next_offset``, until ``up_to_date``: there was nothing behind them.  ``closed``:
    and nothing ever will be.
    """

    records: list[Record]
    next_offset: str
    up_to_date: bool
    closed: bool


def told(page: RecordsPage) -> RecordsResult:
    """A page of a store's as the library has it."""
    records = [
        Record(
            record.start.token,
            record.end.token,
            record.time_ms,
            record.size_bytes,
            record.producer,
            record.closed,
        )
        for record in page.records
    ]
    return RecordsResult(records, page.next.token, page.at_tail, page.closed)
