"""Opening a data directory: lock it, recover it, and begin its journal.  Blocking code."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from durable_streams.descriptors import share
from durable_streams.filestore.files.directory import FULL, DataDirectory
from durable_streams.filestore.files.journal import Journal, SyncFailed
from durable_streams.filestore.files.recovery import Recovery, recover
from durable_streams.filestore.files.retired_file import check_not_retired
from durable_streams.filestore.runtime import forgotten
from durable_streams.model.errors import DataDirectoryError, DataDirectoryInUse
from durable_streams.settings import Durability

if TYPE_CHECKING:
    from concurrent.futures import Future
    from pathlib import Path

    from durable_streams.filestore.files.disk import Disk
    from durable_streams.filestore.tuning import Tuning
    from durable_streams.settings import Settings

    Opened = tuple[DataDirectory, Journal, Recovery]


def open_files(
    disk: Disk, data_dir: Path, settings: Settings, tuning: Tuning, *, was_there: bool = False
) -> Opened:
    """Lock, recover, and begin the journal; blocks.

    What this process has open and nobody can close any more gives way.  ``was_there``: see
    :meth:`.DataDirectory.open`.
    """
    with suppress(DataDirectoryInUse):
        return open_free_files(disk, data_dir, settings, was_there=was_there)
    forgotten.let_go(data_dir, tuning)
    return open_free_files(disk, data_dir, settings, was_there=was_there)


def open_free_files(
    disk: Disk, data_dir: Path, settings: Settings, *, was_there: bool = False
) -> Opened:
    """The same of what nobody has open, unless its streams are served elsewhere."""
    begin_s = time.monotonic()
    directory = DataDirectory.open(disk, data_dir, was_there=was_there)
    try:
        check_not_retired(directory)
        in_sync = settings.durability is Durability.FSYNC
        recovery = recover(
            directory,
            share(settings.max_open_files).files // 2,
            max_journal_files=settings.journal_files if in_sync else 0,
        )
        if not in_sync:
            directory.mark_unsynced()
        try:
            journal = _begin_journal(directory, settings, recovery)
        except OSError as error:
            if error.errno not in FULL or not directory.give_up_reserve():
                raise
            journal = _begin_journal(directory, settings, recovery)
    except (OSError, SyncFailed) as error:
        directory.close()
        message = f"cannot begin the journal of {directory.root}: {error}"
        raise DataDirectoryError(message) from error
    except BaseException:
        directory.close()
        raise
    recovery.duration_s = time.monotonic() - begin_s
    recovery.torn_bytes = directory.torn_bytes
    return directory, journal, recovery


def close_unused(opening: Future[Opened]) -> None:
    """Let go of what is opened for nobody, in whichever thread that comes to its end.

    Whoever opens the directory next in this process waits for that.
    """
    left = forgotten.leaving()

    def close(opening: Future[Opened]) -> None:
        try:
            if not opening.cancelled() and opening.exception() is None:
                directory, journal, _ = opening.result()
                try:
                    journal.close()
                finally:
                    directory.close()
        finally:
            left.set_result(None)

    opening.add_done_callback(close)


def _begin_journal(directory: DataDirectory, settings: Settings, recovery: Recovery) -> Journal:
    return Journal(
        directory,
        file_bytes=settings.journal_file_bytes,
        max_files=settings.journal_files,
        generation=recovery.generation,
        number=recovery.last,
        checkpointed=recovery.checkpointed,
        sync=settings.durability is Durability.FSYNC,
        kept=[record for kept in recovery.kept.values() for record in kept.records],
    )
