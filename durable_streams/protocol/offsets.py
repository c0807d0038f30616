"""Offsets: where in a stream a byte is.

An offset is a segment number and a byte position in that segment.  Its token is
``%016d_%016d``, so that tokens sort as strings in the order of the stream (protocol
section 8).  ``-1`` (the beginning) and ``now`` (the tail) are accepted from clients and never
sent to them.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final, NamedTuple

from durable_streams.errors import InvalidOffset

_TOKEN: Final = re.compile(r"[0-9]{16}_[0-9]{16}", re.ASCII)


class Offset(NamedTuple):
    """A position in a stream; offsets of one stream compare in stream order."""

    segment: int
    position: int

    @property
    def token(self) -> str:
        """The offset as clients see it."""
        return f"{self.segment:016d}_{self.position:016d}"

    @classmethod
    def parse(cls, token: str) -> Offset:
        """Read a token; :class:`InvalidOffset` if it is not exactly one."""
        if not _TOKEN.fullmatch(token):
            raise InvalidOffset(
                f"malformed offset {token[:64]!r}: use a Stream-Next-Offset unchanged"
            )
        return cls(int(token[:16]), int(token[17:]))


ZERO: Final = Offset(0, 0)


class Start(Enum):
    """The two symbolic offsets of a read."""

    BEGINNING = "-1"
    NOW = "now"


def parse_start(token: str) -> Offset | Start:
    """Read the ``offset`` of a read: a token, ``-1`` or ``now``."""
    match token:
        case "-1":
            return Start.BEGINNING
        case "now":
            return Start.NOW
        case _:
            return Offset.parse(token)
