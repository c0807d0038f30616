"""Offsets: where in a stream a byte is.

An offset is a segment number and a byte position in that segment.  Its token is
``%016d_%016d``, so that tokens sort as strings in the order of the stream (protocol
section 8).  ``-1`` (the beginning) and ``now`` (the tail) are accepted from clients and never
sent to them.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple


class Offset(NamedTuple):
    """A position in a stream; offsets of one stream compare in stream order."""

    segment: int
    position: int

    @property
    def token(self) -> str:
        """The offset as clients see it."""
        return f"{self.segment:016d}_{self.position:016d}"


ZERO: Final = Offset(0, 0)
"""The beginning of every stream, wherever its first segment is."""


class Start(Enum):
    """The two symbolic offsets of a read."""

    BEGINNING = "-1"
    NOW = "now"
