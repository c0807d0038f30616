"""Offsets as clients write them: tokens, ``-1`` and ``now`` (protocol section 8)."""

from __future__ import annotations

import re
from typing import Final

from durable_streams.model.errors import InvalidOffset
from durable_streams.model.offsets import ZERO, Offset, Start

_TOKEN: Final = re.compile(r"[0-9]{16}_[0-9]{16}", re.ASCII)


def parse_offset(token: str) -> Offset:
    """Read a token; :class:`InvalidOffset` if it is not exactly one."""
    if not _TOKEN.fullmatch(token):
        raise InvalidOffset(f"malformed offset {token[:64]!r}: use a Stream-Next-Offset unchanged")
    return Offset(int(token[:16]), int(token[17:]))


def parse_point(token: str) -> Offset:
    """Read where to fork: a token, or ``-1``, which the zero token stands for as well."""
    match token:
        case "-1":
            return ZERO
        case _:
            return parse_offset(token)


def parse_start(token: str) -> Offset | Start:
    """Read the ``offset`` of a read: a token, ``-1`` or ``now``."""
    match token:
        case "-1":
            return Start.BEGINNING
        case "now":
            return Start.NOW
        case _:
            return parse_offset(token)
