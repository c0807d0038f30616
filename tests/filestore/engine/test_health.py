"""Health: what ends all writing, what is said of it, and what it does not say."""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.files.disk import FailedSync
from durable_streams.filestore.pipeline.admission import Admission
from durable_streams.filestore.pipeline.health import Health
from durable_streams.filestore.runtime.supervisor import Supervisor
from durable_streams.model.errors import StorageFailed
from tests.filestore.engine.by_hand import HandRuntime

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from durable_streams.model.errors import StreamError
    from tests.filestore.files.staged_disk import StagedDisk

FIRST, LATER = StorageFailed("the first"), StorageFailed("a later one")


class Watched:
    """A data directory's health; ``ended``: with what all writes were ended, each time."""

    def __init__(self, disk: StagedDisk) -> None:
        self.ended: list[StreamError] = []
        self.held_up = False
        self.supervisor = Supervisor(HandRuntime())
        self.admission = Admission(
            asyncio.get_running_loop(),
            3600,
            is_held_up=lambda: self.held_up,
            last_moved=lambda: 0.0,
        )
        self.health = Health(self.admission, self.supervisor, disk, self.ended.append)


@pytest.fixture
async def watched(disk: StagedDisk) -> AsyncIterator[Watched]:
    watched = Watched(disk)
    yield watched
    watched.supervisor.abandon()


def fail_a_sync(disk: StagedDisk, tmp_path: Path) -> None:
    """Of a file that has nothing to do with anything."""
    disk.fail("sync", errno.EIO, times=1)
    fd = disk.open_write(tmp_path / "file")
    try:
        with pytest.raises(FailedSync):
            disk.sync(fd)
    finally:
        disk.close(fd)


async def test_at_first_nothing_is_wrong(watched: Watched) -> None:
    assert (watched.health.fault, watched.health.bug, watched.health.is_sound) == (None, None, True)


async def test_a_fault_ends_what_is_on_its_way_and_lets_nobody_in_any_more(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.held_up = True
    waiting = asyncio.create_task(watched.admission.admit())
    await asyncio.sleep(0)
    watched.health.set_fault(FIRST)
    assert watched.ended == [FIRST]
    with pytest.raises(StorageFailed, match="the first"):
        await waiting
    watched.held_up = False
    with pytest.raises(StorageFailed, match="the first"):
        await watched.admission.admit()
    assert caplog.messages == [f"{FIRST}; reads go on"]


async def test_the_first_fault_is_the_one_that_is_told(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.health.set_fault(FIRST)
    watched.health.set_fault(LATER)
    assert watched.health.fault is FIRST
    assert watched.ended == [FIRST]
    assert caplog.messages == [f"{FIRST}; reads go on"]


async def test_after_a_fault_nobody_knows_what_the_files_have(watched: Watched) -> None:
    watched.health.set_fault(FIRST)
    assert not watched.health.is_sound


async def test_nor_if_a_task_had_ended_before_it(watched: Watched) -> None:
    watched.health.task_ended(FIRST)
    watched.health.set_fault(LATER)
    assert watched.health.fault is FIRST
    assert not watched.health.is_sound


async def test_a_task_that_ended_stops_the_writes_and_harms_no_file(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.health.task_ended(FIRST)
    assert watched.health.fault is FIRST
    assert watched.health.is_sound
    assert watched.ended == [FIRST]
    assert caplog.messages == [f"{FIRST}; reads go on"]


async def test_that_a_task_ends_with_its_data_directory_is_no_news_and_stops_the_writes(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.supervisor.is_ending = True
    watched.health.task_ended(FIRST)
    assert watched.health.fault is FIRST
    assert watched.ended == [FIRST]
    assert caplog.messages == []


async def test_a_task_that_ends_then_takes_nothing_back_of_what_was_said_before(
    watched: Watched,
) -> None:
    watched.health.set_fault(FIRST)
    watched.supervisor.is_ending = True
    watched.health.task_ended(LATER)
    assert watched.health.fault is FIRST
    assert watched.ended == [FIRST]


async def test_a_checkpoint_that_could_not_sync_is_final_and_says_what_the_system_said(
    watched: Watched,
) -> None:
    watched.health.sync_failed(OSError(errno.EIO, "Input/output error"))
    assert not watched.health.is_sound
    assert "syncing the streams' files failed" in str(watched.health.fault)
    assert "Input/output error" in str(watched.health.fault)


async def test_a_sync_that_failed_anywhere_is_final_for_all(
    watched: Watched, disk: StagedDisk, tmp_path: Path
) -> None:
    watched.health.look_for_failed_sync()
    assert watched.ended == []
    fail_a_sync(disk, tmp_path)
    watched.health.look_for_failed_sync()
    assert isinstance(watched.health.fault, StorageFailed)
    assert not watched.health.is_sound
    assert watched.ended == [watched.health.fault]


async def test_a_sync_that_failed_after_a_task_had_ended_leaves_the_files_unknown_all_the_same(
    watched: Watched, disk: StagedDisk, tmp_path: Path
) -> None:
    watched.health.task_ended(FIRST)
    fail_a_sync(disk, tmp_path)
    watched.health.look_for_failed_sync()
    assert watched.health.fault is FIRST
    assert not watched.health.is_sound


async def test_the_bug_is_what_ended_a_part_of_the_server(watched: Watched) -> None:
    watched.health.set_fault(FIRST)
    assert watched.health.bug is None  # a restart may help, but the disk is what is wrong
    watched.supervisor.met("apply", KeyError("a bug"))
    assert "apply" in str(watched.health.bug)


async def test_a_last_checkpoint_that_fails_is_told_by_whoever_asks_and_in_the_log(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    """In a thread, where nobody who waits may be woken."""
    failed = OSError(errno.EIO, "Input/output error")
    await asyncio.to_thread(watched.health.last_checkpoint_failed, failed)
    assert "the last checkpoint failed" in str(watched.health.fault)
    assert watched.ended == []
    assert "the next start reads the journal" in caplog.text
