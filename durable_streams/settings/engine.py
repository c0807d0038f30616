"""Settings of the engine: where streams live, and what an acknowledgement means."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from durable_streams.model.setting import check, setting
from durable_streams.model.stream_limits import parse_limits
from durable_streams.settings.sizes import MIB


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
    """Settings of the engine (the HTTP server has its own, :class:`HttpSettings`).

    Names end in the unit: ``_bytes``, or ``_s`` for seconds.  A value out of the bounds named here
    raises ``ValueError``, one of another type ``TypeError``.
    """

    durability: Durability = setting(
        Durability.FSYNC,
        help="what an acknowledgement means",
        more="Its text (``'fsync'``) does as well.",
        flag=True,
    )
    sync_interval_s: float = setting(
        1.0,
        help="time between two syncs of the journal, with ``interval`` only",
        more="Looked at every 0.5 s.",
    )
    max_append_bytes: int = setting(
        16 * MIB,
        least=1,
        help="largest body of one append or create; a larger one is answered 413",
        more="In programs: ``PayloadTooLarge``.",
        flag=True,
    )
    segment_bytes: int = setting(
        16 * MIB,
        least=1,
        help="size at which a stream begins its next segment file",
        more="A segment is larger only if one append is.",
        flag=True,
    )
    index_bytes: int = setting(
        4 * MIB,
        least=1,
        help="size of an index at which its segment ends, too",
        more="Producers may make an index larger.",
    )
    max_read_bytes: int = setting(
        4 * MIB,
        help="the most that one read returns",
        more="An append that is larger is returned whole.",
    )
    journal_file_bytes: int = setting(
        64 * MIB,
        help="size of each journal file, at least twice ``max_append_bytes`` plus 1 MiB",
        more="``serve`` takes so much if the setting is not given.",
    )
    journal_files: int = setting(
        4,
        least=2,
        help="the most journal files there are",
        more="When all are full, writes are held up until one is free.",
    )
    max_open_streams: int = setting(
        100_000,
        help="streams kept open in memory though nobody uses them",
        more="Fewer if they have many producers.",
    )
    max_open_files: int = setting(
        8_192,
        help="descriptors kept open for streams' files, half for reading and half for writing",
        more="At most a fifth of the process's limit (its soft one, which is not raised: ``serve`` "
        "does that).",
    )
    reserve_bytes: int = setting(
        64 * MIB,
        help="room on the disk below which only deletions are taken; at most 1/16 of the volume",
        more="What is on its way to the files counts as taken.",
        flag=True,
    )
    max_lag_s: float = setting(
        0.25,
        help="how long streams' files may lag behind the journal before new writes are held up",
    )
    held_up_s: float = setting(
        5.0,
        infinite=True,
        help="how long a write that is held up waits while nothing moves, neither to the journal "
        "nor to the streams' files",
        more="Then it is ``Overloaded``, 503.  While anything moves it waits for its turn.  "
        "``math.inf``: it waits for its turn, however long that takes.",
    )
    remember_removed_s: float = setting(
        420.0,
        help="how long after the end of a stream one that is made at its path begins above its "
        "segments",
        more="Caches may have pieces of it: at least 360 seconds more than what "
        "``HttpSettings.immutable_max_age_s`` says.",
    )
    max_streams: tuple[str, ...] = setting(
        (),
        help="how many streams there may be at and below a prefix, such as ``chat=1000``, or "
        "``=100000`` for all; one more is answered 429",
        more="The prefix is one of whole segments.  What expired counts until it is removed.",
        flag=True,
    )
    max_producers: int = setting(
        0,
        help="producers that one stream may have; 0: as many as their table has room for",
        more="For one more those are forgotten that have been idle for over 7 days; if there is "
        "none, it is answered 429.  Producers that the stream knows are never refused.",
        flag=True,
    )
    store_allow_unreplicated: bool = setting(
        False,
        help="with a database as the store: open one whose commits wait for no standby",
        more="Such as a service that replicates below, or one that may lose what it acknowledged.",
        flag=True,
    )
    lock_wait_s: float = setting(
        0.0,
        infinite=True,
        help="how long to wait for the data directory while another process has it open",
        more="For a successor that is started before its predecessor has ended.  It opens a moment "
        "after that, and is refused after this time; 0: at once.  ``math.inf``: it waits for its "
        "turn, as a standby.  A database needs no wait.",
        flag=True,
    )
    reclaim_delay_s: float = setting(
        3600.0,
        help="time from a start, or a jump of the clock, until the files of expired streams may be "
        "removed",
    )
    reclaim_interval_s: float = setting(
        3600.0,
        help="time between two searches for expired streams whose files can be removed",
    )

    def __post_init__(self) -> None:
        """Refuse what cannot work, with an error that says what can."""
        check(self)
        try:
            parse_limits(self.max_streams)
        except ValueError as error:
            raise ValueError(f"max_streams: {error}") from None
        least = least_journal_file_bytes(self.max_append_bytes)
        if self.journal_file_bytes < least:
            raise ValueError(
                "journal_file_bytes: a journal file has to hold the largest append twice: at "
                f"least {least} bytes, not {self.journal_file_bytes}"
            )
