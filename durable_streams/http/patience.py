"""How much may wait for a client, for how long, and what is said of one that is cut off.

These are the same in every front, whatever it has for a connection.
"""

from __future__ import annotations

import logging
from typing import Final

from durable_streams.settings import KIB
from durable_streams.wire.signed_query import redacted

HIGH_WATER_BYTES: Final = 64 * KIB
LOW_WATER_BYTES: Final = 16 * KIB
"""When a buffer is full, and when it has room again (uvloop's own low-water mark is 16 bytes, which
wakes writers for nothing)."""

logger = logging.getLogger("durable_streams")


def stalled(patience_s: float, target: str, peer: str | None) -> ConnectionResetError:
    """Log that a client has taken nothing for too long; the error that says so."""
    logger.warning(
        "dropped a reader that took nothing for %g s",
        patience_s,
        extra={"path": redacted(target), "peer": peer},
    )
    return ConnectionResetError("the client takes no data")


def cut_off(error: Exception, target: str) -> ConnectionResetError:
    """Log why an answer was not sent to its end; the error that says so."""
    logger.error(
        "cut off an answer: %s",
        error,
        extra={"path": redacted(target)},
        exc_info=None if isinstance(error, OSError | EOFError) else error,
    )
    return ConnectionResetError("the answer was cut off")
