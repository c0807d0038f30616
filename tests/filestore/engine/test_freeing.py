"""Freeing: when the journal forgets what the streams' files have, and when it must not."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.pipeline.freeing import _CHECKPOINT_AFTER_S
from durable_streams.filestore.store import FileStore
from durable_streams.model.errors import StorageFailed
from durable_streams.settings import KIB, Durability
from tests.copying import copy_live
from tests.driving import append, content, directory, put
from tests.filestore.engine.by_hand import QUIET, HandRuntime, done
from tests.filestore.engine.faulty import SMALL_JOURNAL
from tools.inside import batches, freed_up_to, full_journal_files, pipeline

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from durable_streams.filestore.pipeline.freeing import Freeing
    from durable_streams.settings import Settings
    from tests.filestore.files.staged_disk import StagedDisk

UNSYNCED = replace(SMALL_JOURNAL, durability=Durability.NONE)


class Freed:
    """A store with the streams ``s`` and ``t`` in files, whose threads a test does by hand."""

    def __init__(self, engine: FileStore, runtime: HandRuntime) -> None:
        self.engine = engine
        self.runtime = runtime

    @classmethod
    async def at(cls, data: Path, disk: StagedDisk, settings: Settings = SMALL_JOURNAL) -> Freed:
        runtime = HandRuntime()
        return cls(await FileStore.at(data, settings, disk, runtime, QUIET), runtime)

    @property
    def freeing(self) -> Freeing:
        return pipeline(self.engine).freeing

    @property
    def waiting(self) -> tuple[int, int]:
        """Jobs of the threads that a checkpoint goes through."""
        return self.runtime.hand("apply").jobs, self.runtime.hand("checkpoint").jobs

    async def begin(self) -> None:
        for path in "st":
            await done(put(self.engine, path, b"one."), self.runtime)
            await done(append(self.engine, path, b"two."), self.runtime)
        await self.runtime.do_all()
        self.freeing.checkpoint()
        await self.runtime.do_all()
        assert freed_up_to(self.engine) == batches(self.engine)

    async def write(self, path: str = "t") -> None:
        """Append, to the files: a checkpoint has something to sync, and to free."""
        await done(append(self.engine, path, b"more"), self.runtime, "commit", "apply")

    async def fill_the_journal(self) -> None:
        """Until one of its files is full; nothing of it comes to the streams' files."""
        while not full_journal_files(self.engine):
            await done(append(self.engine, "t", bytes(60 * KIB)), self.runtime, "commit")

    async def close(self) -> None:
        await self.runtime.do_all()
        await self.engine.close()


@pytest.fixture
async def freed(data: Path, disk: StagedDisk) -> AsyncIterator[Freed]:
    freed = await Freed.at(data, disk)
    await freed.begin()
    yield freed
    disk.heal()
    await freed.close()


async def found_by_a_start(data: Path, settings: Settings = SMALL_JOURNAL) -> str:
    """What the journal had that the files may lack."""
    engine = await FileStore.at(data, settings)
    await engine.close()
    return engine.recovery


# -- when it is due ------------------------------------------------------------------------


async def test_while_no_file_of_the_journal_is_full_nothing_is_synced(freed: Freed) -> None:
    await done(append(freed.engine, "t", b"three."), freed.runtime, "commit", "apply")
    assert freed.waiting == (0, 0)


async def test_a_full_file_is_freed_when_all_in_it_is_in_files_and_synced(freed: Freed) -> None:
    await freed.fill_the_journal()
    assert freed.waiting == (1, 0)  # to apply; a checkpoint would free nothing yet
    before, last = freed_up_to(freed.engine), batches(freed.engine)
    await freed.runtime.do("apply")
    assert freed.waiting == (1, 0)  # to say what is to be synced
    await freed.runtime.do("apply")
    assert freed.waiting == (0, 1)
    assert (freed_up_to(freed.engine), full_journal_files(freed.engine)) == (before, 1)
    await freed.runtime.do("checkpoint")
    assert (freed_up_to(freed.engine), full_journal_files(freed.engine)) == (last, 0)


async def test_what_waits_for_room_in_the_journal_goes_on_when_a_file_is_free(
    freed: Freed,
) -> None:
    committer = pipeline(freed.engine).committer
    writing: list[asyncio.Task[None]] = []
    while not committer.stalled:
        writing.append(asyncio.create_task(append(freed.engine, "t", bytes(60 * KIB))))
        await freed.runtime.do("commit")
    assert full_journal_files(freed.engine) == 1
    await freed.runtime.do_all()
    await asyncio.gather(*writing)


async def test_one_that_something_hinders_is_tried_again_after_a_moment_and_not_at_once(
    freed: Freed, data: Path, disk: StagedDisk
) -> None:
    await freed.write("s")
    await freed.fill_the_journal()
    # From here on nothing is appended: what hinders the files holds writers up once it is noticed.
    (file,) = directory(data, "s").glob("*.seg")
    file.unlink()
    disk.fail("open_write", errno.ENOSPC, "data/aside/")
    assert not freed.freeing.is_due()
    await freed.runtime.do("apply", "apply")
    assert freed.waiting == (0, 0)
    freed.freeing.look()
    assert freed.waiting == (0, 0)
    assert freed.freeing.is_due()
    disk.heal()
    freed.freeing.checkpoint()
    await freed.runtime.do_all()
    assert not freed.freeing.is_due()


async def test_one_is_due_when_the_last_was_long_ago(freed: Freed) -> None:
    freed.freeing._last_s -= _CHECKPOINT_AFTER_S
    assert freed.freeing.is_due()
    freed.freeing.checkpoint()
    assert not freed.freeing.is_due()


async def test_what_a_start_left_in_full_files_is_synced_as_a_whole_before_they_are_used(
    freed: Freed, data: Path, disk: StagedDisk
) -> None:
    """Its files were written by the recovery, which has them open no more."""
    await freed.fill_the_journal()
    image = copy_live(data, data.with_name("image"))
    started = await Freed.at(image, disk, replace(SMALL_JOURNAL, journal_files=3))
    assert full_journal_files(started.engine) == 2
    before = disk.calls["sync_file_system"]
    await started.runtime.do_all()
    assert full_journal_files(started.engine) == 0
    assert disk.calls["sync_file_system"] == before + 1
    await started.close()


# -- what forbids it -----------------------------------------------------------------------


async def test_after_a_fault_none_is_begun_and_none_under_way_frees_anything(
    freed: Freed,
) -> None:
    before = freed_up_to(freed.engine)
    await freed.write()
    freed.freeing.checkpoint()
    await freed.runtime.do("apply")
    pipeline(freed.engine).health.set_fault(StorageFailed("a sync failed"))
    await freed.runtime.do("checkpoint", "apply")
    assert freed_up_to(freed.engine) == before
    freed.freeing.checkpoint()
    assert freed.waiting == (0, 0)


async def test_at_the_end_none_is_begun_and_none_under_way_frees_anything(freed: Freed) -> None:
    before = freed_up_to(freed.engine)
    await freed.write()
    freed.freeing.checkpoint()
    await freed.runtime.do("apply")
    freed.freeing.ends()
    await freed.runtime.do("checkpoint", "apply")
    assert freed_up_to(freed.engine) == before
    freed.freeing.checkpoint()
    assert freed.waiting == (0, 0)


async def test_what_a_stream_out_of_service_misses_is_in_the_journal_once_more_before(
    freed: Freed, data: Path, disk: StagedDisk
) -> None:
    disk.fail("pwrite", errno.EIO, "data/streams/s@")
    await done(append(freed.engine, "s", b"three."), freed.runtime, "commit", "apply")
    await freed.fill_the_journal()
    before, last = freed_up_to(freed.engine), batches(freed.engine)
    await freed.runtime.do("apply", "apply", "checkpoint")
    assert freed_up_to(freed.engine) == before
    await freed.runtime.do("commit")
    assert freed_up_to(freed.engine) == last
    await freed.runtime.do_all()
    await freed.engine.close()
    disk.heal()
    engine = await FileStore.at(data, SMALL_JOURNAL)
    assert await content(engine, "s") == b"one.two.three."
    await engine.close()


async def test_no_checkpoint_is_made_for_a_journal_that_has_to_keep_too_much(
    freed: Freed, disk: StagedDisk
) -> None:
    """It stays full, until the stream can be written."""
    pipeline(freed.engine).outages.kept_bytes += SMALL_JOURNAL.journal_file_bytes
    await freed.fill_the_journal()
    await freed.runtime.do("apply")
    assert freed.waiting == (0, 0)
    pipeline(freed.engine).outages.kept_bytes -= SMALL_JOURNAL.journal_file_bytes
    freed.freeing.look()
    assert freed.waiting == (1, 0)


async def test_what_only_open_files_have_stays_in_the_journal_while_that_has_room(
    freed: Freed, data: Path, disk: StagedDisk
) -> None:
    await freed.write("s")
    for file in directory(data, "s").glob("*.seg"):
        file.unlink()
    disk.fail("open_write", errno.EACCES, "data/aside/")
    before = freed_up_to(freed.engine)
    await freed.write()
    freed.freeing.checkpoint()
    await freed.runtime.do_all()
    assert freed_up_to(freed.engine) == before
    await freed.fill_the_journal()
    await freed.runtime.do_all()
    assert freed_up_to(freed.engine) > before


# -- the last time -------------------------------------------------------------------------


async def test_the_last_one_leaves_nothing_to_a_start(freed: Freed, data: Path) -> None:
    await done(append(freed.engine, "t", b"three."), freed.runtime, "commit")
    await freed.engine.close()
    assert await found_by_a_start(data) == "nothing to recover"


async def test_with_files_of_which_nobody_knows_what_they_have_there_is_no_last_one(
    freed: Freed, data: Path
) -> None:
    await done(append(freed.engine, "t", b"three."), freed.runtime, "commit")
    pipeline(freed.engine).health.set_fault(StorageFailed("a sync failed"))
    await freed.engine.close()
    assert "recovered" in await found_by_a_start(data)


async def test_a_last_one_that_cannot_sync_is_told_and_leaves_all_to_the_next_start(
    freed: Freed, data: Path, disk: StagedDisk
) -> None:
    await done(append(freed.engine, "t", b"three."), freed.runtime, "commit")
    disk.fail("sync", errno.EIO, "data/streams/")
    await freed.engine.close()
    assert "the last checkpoint failed" in str(freed.engine.fault)
    assert "recovered" in await found_by_a_start(data)
    assert disk.open_files == []


async def test_a_bug_in_the_last_one_is_told_as_one(
    freed: Freed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def buggy(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr("durable_streams.filestore.pipeline.freeing.sync_dirty", buggy)
    await freed.engine.close()
    assert "bug: the last checkpoint failed" in caplog.text
    assert "the last checkpoint failed" in str(freed.engine.fault)


async def test_what_is_left_to_the_journal_is_durable_there_in_every_mode(
    data: Path, disk: StagedDisk
) -> None:
    freed = await Freed.at(data, disk, UNSYNCED)
    await freed.begin()
    await freed.write("s")
    (file,) = directory(data, "s").glob("*.seg")
    file.unlink()
    disk.fail("open_write", errno.ENOSPC, "data/aside/")
    before = disk.calls["sync"]
    await freed.engine.close()
    assert freed.engine.fault is not None
    assert disk.calls["sync"] == before + 1
    assert (data / "UNSYNCED").exists()


async def test_a_proper_end_takes_the_mark_of_unsynced_writes_away(
    data: Path, disk: StagedDisk
) -> None:
    freed = await Freed.at(data, disk, UNSYNCED)
    await freed.begin()
    assert (data / "UNSYNCED").exists()
    await freed.engine.close()
    assert not (data / "UNSYNCED").exists()


async def test_an_end_that_keeps_something_for_a_stream_out_of_service_frees_nothing(
    freed: Freed, data: Path, disk: StagedDisk
) -> None:
    disk.fail("pwrite", errno.EIO, "data/streams/s@")
    await done(append(freed.engine, "s", b"three."), freed.runtime, "commit", "apply")
    await freed.engine.close()
    disk.heal()
    engine = await FileStore.at(data, SMALL_JOURNAL)
    assert await content(engine, "s") == b"one.two.three."
    await engine.close()
