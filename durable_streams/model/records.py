"""What was appended to a stream, as data: who wrote what, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from durable_streams.model.commands import ProducerClaim
    from durable_streams.model.offsets import Offset


class Record(msgspec.Struct, frozen=True, gc=False):
    """One append, or one message of a JSON stream.

    ``start``, ``end``: a read from ``start`` begins with it, one from ``end`` behind it.
    ``time_ms``: when it was accepted, in milliseconds since 1970, by the clock of the server.
    ``size_bytes``: of what was appended; of a JSON message without the comma that is behind it in
    the stream; 0: a close without data, which ends where it starts.  ``producer``: whose append it
    is in, if a producer's.  ``closed``: it is the last one of a stream that is closed.
    """

    start: Offset
    end: Offset
    time_ms: int
    size_bytes: int
    producer: ProducerClaim | None = None
    closed: bool = False


class RecordsPage(msgspec.Struct, frozen=True):
    """Some records, in stream order.

    ``next``: the offset behind them, where the next page begins.  ``at_tail``: nothing was behind
    them.  ``closed``: and nothing ever will be.
    """

    records: list[Record]
    next: Offset
    at_tail: bool
    closed: bool
