"""All settings, built once and passed down; nothing in the package reads the environment."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

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


_MAY_BE_INFINITE: Final = frozenset({"held_up_s"})


def _check(settings: DataclassInstance) -> None:
    """Refuse values of another type than a setting's own, which is that of its default.

    An ``int`` does for seconds, and the text of a :class:`Durability` for one, as whoever reads
    them from the environment has it.
    """
    for field in fields(settings):
        value: Any = getattr(settings, field.name)
        default: Any = field.default
        wanted = type(default)
        if wanted is Durability and isinstance(value, str):
            object.__setattr__(settings, field.name, _durability(value))
        elif wanted is float and type(value) in (int, float):
            is_time = math.isfinite(value) or (value == math.inf and field.name in _MAY_BE_INFINITE)
            if not (is_time and value >= 0):
                raise ValueError(f"{field.name} must be a number of seconds, not {value}")
        elif type(value) is not wanted:
            raise TypeError(
                f"{field.name} must be {wanted.__name__}, not {type(value).__name__} ({value!r})"
            )
        elif wanted is int and value < 0:
            raise ValueError(f"{field.name} must not be negative, as {value} is")


def _durability(text: str) -> Durability:
    try:
        return Durability(text)
    except ValueError:
        names = ", ".join(repr(mode.value) for mode in Durability)
        raise ValueError(f"durability must be one of {names}, not {text!r}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of the engine (the HTTP server has its own, :class:`HttpSettings`).

    Names end in the unit: ``_bytes``, or ``_s`` for seconds.  A value below a limit named here
    raises ``ValueError``, one of another type ``TypeError``.
    """

    durability: Durability = Durability.FSYNC
    """What an acknowledgement means; its text (``"fsync"``) does as well."""

    sync_interval_s: float = 1.0
    """Between two syncs of the journal, in the mode ``INTERVAL`` only; looked at every 0.5 s."""

    max_append_bytes: int = 16 * MIB
    """The largest body of one append or create, at least 1; a larger one: ``PayloadTooLarge``."""

    segment_bytes: int = 16 * MIB
    """Size, at least 1, of a segment file; it is larger only if one append is."""

    index_bytes: int = 4 * MIB
    """Size, at least 1, of an index that ends its segment; producers may make it larger."""

    max_read_bytes: int = 4 * MIB
    """The most that one read returns; an append that is larger is returned whole."""

    journal_file_bytes: int = 64 * MIB
    """Size of each journal file, at least twice ``max_append_bytes`` plus 1 MiB."""

    journal_files: int = 4
    """The most journal files there are, at least 2; when all are full, writes are held up until
    one is free."""

    max_open_streams: int = 100_000
    """Streams kept open in memory though nobody uses them; fewer if they have many producers."""

    max_open_files: int = 8_192
    """Descriptors kept open for streams' files, half of them for reading, half for writing; at most
    a fifth of the process's limit (its soft one, which is not raised: ``serve`` does that)."""

    reserve_bytes: int = 64 * MIB
    """Room on the disk, beside what is on its way to the files, below which only deletions are
    taken; never more than a sixteenth of the volume."""

    max_lag_s: float = 0.25
    """How long the streams' files may lag behind the journal before new writes are held up."""

    held_up_s: float = 5.0
    """How long a write that is held up waits while nothing moves, neither to the journal nor to the
    streams' files; then ``Overloaded``.  While anything moves it waits for its turn.  ``math.inf``:
    it waits for its turn, however long that takes."""

    reclaim_delay_s: float = 3600.0
    """From a start, or a jump of the clock, until the files of expired streams may be removed."""

    reclaim_interval_s: float = 3600.0
    """Between two searches for expired streams whose files can be removed."""

    def __post_init__(self) -> None:
        """Refuse what cannot work, with an error that says what can."""
        _check(self)
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
    """Settings of the HTTP layer.

    Names end in the unit: ``_bytes``, or ``_s`` for seconds.  Those marked *server only* mean
    nothing to ``mount``: there they are up to the application.
    """

    prefix: str = "/v1/stream"
    """URL path below which the streams are."""

    long_poll_timeout_s: float = 30.0
    """How long a long-poll waits for data before it is answered 204."""

    sse_lifetime_s: float = 60.0
    """After which an event stream is ended, to be reopened; a random 0 to 10 % earlier."""

    sse_keepalive_s: float = 15.0
    """Silence in an event stream after which a comment is sent; a random 0 to 10 % earlier."""

    stall_timeout_s: float = 30.0
    """How long a client may take nothing of an answer before its connection is cut off."""

    body_timeout_s: float = 30.0
    """How long a request body may take, and 1 s more for each 16 KiB of it; then 408."""

    head_timeout_s: float = 30.0
    """How long the head of a request may take, from its first byte on; then 408 (server only)."""

    keepalive_timeout_s: float = 120.0
    """How long a connection may be idle between two requests; longer than its proxy's (server
    only)."""

    shutdown_grace_s: float = 5.0
    """How long requests under way may take when the server stops (server only)."""

    max_connections: int = 10_000
    """Connections served at a time; one more is answered 503 (server only).  ``serve`` takes fewer
    if the limit of open files is low."""

    max_bodies_bytes: int = 256 * MIB
    """All request bodies in memory, without the first 64 KiB of each; what exceeds it gets 503.

    At least ``Settings.max_append_bytes``, the largest body, if this is less.
    """

    private_caching: bool = False
    """Whether answers say ``private``, which keeps them out of shared caches."""

    immutable_max_age_s: int = 60
    """How long caches may keep an answer that ends before the tail; longer if no path is reused."""

    access_log: bool = False
    """Whether every request is logged (server only)."""

    fast_lane: bool = True
    """Whether plain small requests are answered without aiohttp (server only)."""

    def __post_init__(self) -> None:
        """Refuse what cannot work, with an error that says what can."""
        _check(self)
