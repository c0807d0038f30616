"""All settings, built once and passed down; nothing in the package reads the environment."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB


class Durability(Enum):
    """What an acknowledgement means.

    FSYNC: on disk, survives power loss.  INTERVAL: handed to the kernel and synced every
    ``sync_interval_s``.  NONE: handed to the kernel.  The last two survive a killed process.
    """

    FSYNC = "fsync"
    INTERVAL = "interval"
    NONE = "none"


def least_journal_file_bytes(max_append_bytes: int) -> int:
    """The smallest journal file that has room for the largest append and what goes with it."""
    return 2 * max_append_bytes + MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of the engine (the HTTP server has its own, :class:`HttpSettings`)."""

    durability: Durability = Durability.FSYNC
    sync_interval_s: float = 1.0
    max_append_bytes: int = 16 * MIB
    segment_bytes: int = 16 * MIB
    index_bytes: int = 4 * MIB
    max_read_bytes: int = 4 * MIB
    journal_file_bytes: int = 64 * MIB
    journal_files: int = 4
    max_open_streams: int = 100_000
    max_open_files: int = 8_192
    max_lag_s: float = 0.25
    reclaim_delay_s: float = 3600.0
    reclaim_interval_s: float = 3600.0

    def __post_init__(self) -> None:
        """Refuse what cannot work, with a ``ValueError`` that says what can."""
        least = least_journal_file_bytes(self.max_append_bytes)
        if self.journal_file_bytes < least:
            raise ValueError(
                f"a journal file has to hold the largest append twice: at least {least} bytes, "
                f"not {self.journal_file_bytes}"
            )
        if min(self.max_append_bytes, self.segment_bytes, self.index_bytes) < 1:
            raise ValueError("sizes have to be positive")
        if self.journal_files < 2:
            raise ValueError("the journal needs at least 2 files")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """Settings of the HTTP layer; sizes in bytes, times in seconds."""

    prefix: str = "/v1/stream"
    long_poll_timeout_s: float = 30.0
    sse_lifetime_s: float = 60.0
    sse_keepalive_s: float = 15.0
    stall_timeout_s: float = 30.0
    body_timeout_s: float = 30.0
    keepalive_timeout_s: float = 75.0
    shutdown_grace_s: float = 5.0
    max_connections: int = 10_000
    max_body_bytes: int = 16 * MIB
    max_bodies_bytes: int = 256 * MIB
    private_caching: bool = False
    immutable_max_age_s: int = 60
    access_log: bool = False
    fast_lane: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot work, with a ``ValueError`` that says what can."""
        if self.max_bodies_bytes < self.max_body_bytes:
            raise ValueError(
                "all request bodies together need room for the largest: at least "
                f"{self.max_body_bytes} bytes, not {self.max_bodies_bytes}"
            )
