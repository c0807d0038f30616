"""What the file store has counted, and how it is now, for whoever watches it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable_streams.measuring import Family, Kind, StoreNumbers, counter, gauge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable_streams.filestore.core import Core
    from durable_streams.filestore.files.recovery import Recovery


def numbers_of(core: Core, recovery: Recovery, duplicates: int) -> StoreNumbers:
    """A copy of all of it; on the loop, and quick."""
    committer = core.pipeline.committer
    return StoreNumbers(
        committer.took.copy(),
        committer.shared.copy(),
        committer.bytes,
        duplicates,
        len(core.catalog),
        core.admission.waiting,
        (*_of_files(core), *_of_disk(core), *_of_recovery(recovery)),
    )


def _of_files(core: Core) -> Iterator[Family]:
    pipeline = core.pipeline
    mode = core.settings.durability.value
    yield Family(
        Kind.GAUGE, "durability", "Always 1; what is acknowledged.", {(mode,): 1}, ("mode",)
    )
    checkpointer, lag = pipeline.freeing.checkpointer, pipeline.lag
    yield gauge(
        "files_lag_seconds",
        "How long the oldest write that is durable has not been in the streams' files.",
        0.0 if lag.since is None else core.loop.time() - lag.since,
    )
    yield gauge("files_lag_bytes", "What the streams' files still have to get.", lag.bytes)
    yield counter(
        "checkpoints_total", "Times that the journal was freed.", checkpointer.finished_count
    )
    yield counter(
        "checkpoint_sync_seconds_total",
        "Time in which streams' files were synced for that.",
        checkpointer.syncing_s,
    )
    yield gauge("journal_files", "Journal files in use.", pipeline.journal.full_files() + 1)
    yield gauge(
        "journal_files_limit",
        "The most there may be; when all are full, writes are held up.",
        core.settings.journal_files,
    )


def _of_disk(core: Core) -> Iterator[Family]:
    room = core.pipeline.room.seen
    yield gauge(
        "disk_free_bytes",
        "Room on the disk for the data directory; 0 while a quota refuses more.",
        room and room.free_bytes,
    )
    yield gauge("disk_free_inodes", "Files that can still be made there.", room and room.inodes)
    yield gauge(
        "disk_reserve_bytes",
        "Room below which only deletions are taken.",
        room and room.reserve_bytes,
    )


def _of_recovery(recovery: Recovery) -> Iterator[Family]:
    yield gauge(
        "recovery_duration_seconds",
        "How long opening took: locking, recovery, and beginning the journal.",
        recovery.duration_s,
    )
    yield gauge("recovery_records", "Writes that recovery brought to the files.", recovery.records)
    yield gauge(
        "recovery_records_left_out",
        "Records of the journal that did not continue the files.",
        recovery.left_out,
    )
    yield gauge(
        "recovery_journal_damages",
        "Damaged places in the journal, which is kept in aside/ then.",
        recovery.damage,
    )
    yield gauge(
        "recovery_torn_bytes",
        "Bytes behind the ends of streams that recovery moved to aside/.",
        recovery.torn_bytes,
    )
