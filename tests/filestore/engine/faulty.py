"""A store on a disk that does what a test says, with journals so small that they fill up."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from durable_streams.filestore.store import FileStore
from durable_streams.filestore.tuning import Tuning
from durable_streams.settings import KIB, MIB, Settings
from tests.driving import append, put
from tools.inside import in_files

if TYPE_CHECKING:
    from pathlib import Path

    from durable_streams.filestore.files.disk import Disk
    from tests.filestore.files.staged_disk import StagedDisk

SMALL_JOURNAL: Final = Settings(
    max_append_bytes=64 * KIB, journal_file_bytes=2 * MIB, journal_files=2
)
DEFAULT: Final = Tuning()
IMPATIENT: Final = replace(SMALL_JOURNAL, held_up_s=0.05)


async def started(
    data: Path, disk: StagedDisk, settings: Settings = SMALL_JOURNAL, tuning: Tuning = DEFAULT
) -> FileStore:
    """A server with the stream ``s``, all of it in files."""
    engine = await FileStore.at(data, settings, disk, tuning=tuning)
    await put(engine, "s", b"one.")
    await in_files(engine, "s")
    return engine


async def written(
    data: Path,
    disk: Disk | None = None,
    settings: Settings = SMALL_JOURNAL,
    paths: tuple[str, ...] = ("s",),
) -> FileStore:
    """A server with streams of two appends, all of it in files, which are open for writing."""
    engine = await FileStore.at(data, settings, disk)
    for path in paths:
        await put(engine, path, b"one.")
        await append(engine, path, b"two.")
    await in_files(engine, *paths)
    return engine
