"""What is in an open file only, as its name was taken and there is no place to keep it."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.store import FileStore
from durable_streams.model.errors import Overloaded, StreamOutOfService
from durable_streams.settings import KIB, Durability
from tests.copying import copy_live
from tests.driving import append, content, directory, put
from tests.filestore.engine.faulty import IMPATIENT, SMALL_JOURNAL, written
from tools.inside import checkpoint, checkpoints_finished, out_of_service

if TYPE_CHECKING:
    from pathlib import Path

    from durable_streams.settings import Settings
    from tests.filestore.files.staged_disk import StagedDisk


async def with_a_file_removed(data: Path, disk: StagedDisk) -> FileStore:
    """An engine whose writers do not wait for long, with ``t``, and ``s`` without its segment."""
    engine = await written(data, disk, IMPATIENT, ("s", "t"))
    (file,) = directory(data, "s").glob("*.seg")
    file.unlink()
    return engine


async def test_a_file_that_can_be_put_nowhere_holds_up_writers_no_longer_than_they_wait(
    data: Path, disk: StagedDisk
) -> None:
    engine = await with_a_file_removed(data, disk)
    disk.fail("open_write", errno.ENOSPC, "data/aside/")

    async def fill_the_journal() -> None:
        while True:
            await append(engine, "t", bytes(60 * KIB))

    with pytest.raises(Overloaded):
        await asyncio.wait_for(fill_the_journal(), 30)
    disk.heal()
    await asyncio.wait_for(out_of_service(engine, "s"), 30)
    await checkpoints_finished(engine)
    await append(engine, "t", b"goes on")
    await engine.close()


async def test_an_aside_that_cannot_be_written_stops_no_other_stream(
    data: Path, disk: StagedDisk
) -> None:
    """Whoever removed the file is told, and what it held is kept when that is seen to."""
    engine = await with_a_file_removed(data, disk)
    disk.fail("open_write", errno.EACCES, "data/aside/")
    for _ in range(3 * IMPATIENT.journal_files * IMPATIENT.journal_file_bytes // (60 * KIB)):
        await append(engine, "t", bytes(60 * KIB))
    assert engine.out_of_service() == [("s",)]
    with pytest.raises(StreamOutOfService, match=r"aside.*let us write there"):
        await append(engine, "s", b"three.")
    assert not list((data / "aside").iterdir())
    disk.heal()
    await checkpoint(engine)
    assert b"one.two." in [kept.read_bytes() for kept in (data / "aside").iterdir()]
    await engine.close()


async def test_a_last_checkpoint_that_can_put_a_file_nowhere_says_nothing_of_the_files(
    data: Path, disk: StagedDisk
) -> None:
    settings = replace(SMALL_JOURNAL, durability=Durability.INTERVAL)
    engine = await written(data, disk, settings)
    (file,) = directory(data, "s").glob("*.seg")
    file.rename(data.parent / "away")
    disk.fail("open_write", errno.ENOSPC, "data/aside/")
    await engine.close()
    assert engine.fault is not None
    assert (data / "UNSYNCED").exists()
    (data.parent / "away").rename(file)
    again = await FileStore.at(data, settings)
    assert await content(again, "s") == b"one.two."
    await again.close()


async def with_all_files_removed(data: Path, disk: StagedDisk, settings: Settings) -> FileStore:
    """An engine with ``s``, whose files only it has: they were removed, and ``aside/`` refuses."""
    engine = await written(data, disk, settings)
    for suffix in (".seg", ".idx"):
        (file,) = directory(data, "s").glob(f"*{suffix}")
        file.unlink()
    disk.fail("open_write", errno.EACCES, "data/aside/")
    return engine


async def after_a_start(data: Path) -> bytes:
    engine = await FileStore.at(data, SMALL_JOURNAL)
    try:
        return await content(engine, "s")
    finally:
        await engine.close()


async def test_a_proper_end_leaves_to_the_journal_what_only_open_files_have(
    data: Path, disk: StagedDisk, caplog: pytest.LogCaptureFixture
) -> None:
    engine = await with_all_files_removed(data, disk, SMALL_JOURNAL)
    await engine.close()
    assert engine.fault is None
    assert "stream s: what was written to its files could be put nowhere" in caplog.text
    assert await after_a_start(data) == b"one.two."


async def test_an_end_that_leaves_something_to_the_journal_is_marked_where_writes_are_not_synced(
    data: Path, disk: StagedDisk
) -> None:
    settings = replace(SMALL_JOURNAL, durability=Durability.INTERVAL)
    engine = await with_all_files_removed(data, disk, settings)
    await engine.close()
    assert (data / "UNSYNCED").exists()
    assert await after_a_start(data) == b"one.two."


async def test_a_checkpoint_frees_nothing_that_only_open_files_have_while_the_journal_has_room(
    data: Path, disk: StagedDisk
) -> None:
    engine = await with_all_files_removed(data, disk, SMALL_JOURNAL)
    await checkpoint(engine)
    await put(engine, "t")  # whose batch says what the journal need not keep
    image = copy_live(data, data.with_name("image"))
    disk.heal()
    await engine.close()
    assert await after_a_start(image) == b"one.two."
