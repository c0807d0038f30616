"""The core: what is open together, and how it is let go, each thing once and in order."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.core import Core
from durable_streams.filestore.files.directory import DataDirectory
from durable_streams.filestore.opening import open_files
from durable_streams.filestore.pipeline.pipeline import QUEUE_BYTES
from durable_streams.filestore.runtime.supervisor import Supervisor
from durable_streams.filestore.store import FileStore
from durable_streams.model.errors import DataDirectoryInUse, Draining, NotOpen
from durable_streams.settings import Durability
from tests.copying import copy_live
from tests.driving import append, content, put
from tests.filestore.engine.by_hand import QUIET, HandRuntime, Noted, stream, turns
from tests.filestore.engine.faulty import SMALL_JOURNAL
from tests.filestore.files.history import History

if TYPE_CHECKING:
    from pathlib import Path

    from durable_streams.filestore.runtime.closing import Step
    from durable_streams.settings import Settings
    from tests.filestore.files.staged_disk import StagedDisk

WRITES, NO_MORE, TICKS, CHECKPOINTS, THREADS, FILES, ERRANDS, LOCK = range(8)
"""The steps of closing."""


class Opened:
    """A core without verbs, whose threads a test does by hand."""

    def __init__(self, core: Core, runtime: HandRuntime) -> None:
        self.core = core
        self.runtime = runtime
        self._steps: list[Step] = core.steps_of_closing()
        assert len(self._steps) == LOCK + 1

    @classmethod
    async def at(cls, data: Path, disk: StagedDisk, settings: Settings = SMALL_JOURNAL) -> Opened:
        runtime = HandRuntime()
        supervisor = Supervisor(runtime)
        directory, journal, recovery = await supervisor.run(open_files, disk, data, settings, QUIET)
        core = Core(
            directory,
            settings,
            runtime,
            supervisor,
            journal,
            tuning=QUIET,
            verify=recovery.unsynced,
            outages=recovery.kept,
            removed=recovery.removed,
        )
        return cls(core, runtime)

    def submit(self) -> Noted:
        """Send the birth of a stream on its way."""
        record = History().create(b"one.")
        operation = Noted("", stream("s", record.id), [], [record])
        self.core.pipeline.submit(operation)
        return operation

    async def step(self, number: int) -> None:
        await self._steps[number]()

    async def close(self, after: int = -1) -> None:
        """All steps, or those behind one."""
        self.core.drain()
        await self.runtime.do_all()
        for number in range(after + 1, LOCK + 1):
            await self.step(number)


@pytest.fixture
async def opened(data: Path, disk: StagedDisk) -> Opened:
    """Closed by its test."""
    return await Opened.at(data, disk)


async def is_locked(data: Path, disk: StagedDisk) -> bool:
    def look() -> bool:
        try:
            DataDirectory.open(disk, data).close()
        except DataDirectoryInUse:
            return True
        return False

    return await asyncio.to_thread(look)


async def found(data: Path) -> bytes:
    """What the next server has of the stream."""
    engine = await FileStore.at(data, SMALL_JOURNAL)
    try:
        return await content(engine, "s")
    finally:
        await engine.close()


# -- draining ------------------------------------------------------------------------------


async def test_a_drained_one_admits_nobody_and_none_of_those_who_wait(opened: Opened) -> None:
    core = opened.core
    large = Noted("", stream("none"), [], size_bytes=QUEUE_BYTES + 1)
    core.pipeline.submit(large)
    await turns()
    waiting = asyncio.create_task(core.admission.admit())
    await turns()
    assert not waiting.done()
    core.drain()
    with pytest.raises(Draining):
        await waiting
    with pytest.raises(Draining):
        await core.admission.admit()
    await opened.close()


async def test_that_a_drained_ones_tasks_end_is_no_news(
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    opened.core.drain()
    opened.core._ticking.cancel()
    await turns()
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []
    await opened.close()


# -- closing -------------------------------------------------------------------------------


async def test_closing_waits_for_what_was_accepted(opened: Opened, data: Path) -> None:
    operation = opened.submit()
    opened.core.drain()
    closing = asyncio.create_task(opened.step(WRITES))
    await turns()
    assert not closing.done()
    await opened.runtime.do("commit")
    await closing
    await opened.close(WRITES)
    assert (operation.pending, operation.error) == (False, None)
    assert await found(data) == b"one."


async def test_who_was_admitted_before_and_comes_after_all_that_is_refused(
    opened: Opened,
) -> None:
    opened.core.drain()
    for number in (WRITES, NO_MORE):
        await opened.step(number)
    assert isinstance(opened.submit().error, Draining)
    await opened.close(NO_MORE)


async def test_no_tick_comes_between_the_end_of_the_threads_and_that_of_the_files(
    opened: Opened,
) -> None:
    opened.core.drain()
    for number in (WRITES, NO_MORE, TICKS):
        await opened.step(number)
    assert opened.core._ticking.done()
    await opened.close(TICKS)


async def test_a_checkpoint_that_is_under_way_ends_before_its_thread(opened: Opened) -> None:
    opened.core.drain()
    opened.core.pipeline.freeing.checkpoint()
    finishing = asyncio.create_task(opened.step(CHECKPOINTS))
    await turns()
    assert not finishing.done()
    await opened.runtime.do("apply", "checkpoint")
    await finishing
    await opened.close()


async def test_what_the_threads_still_had_to_do_is_in_files_before_those_are_synced(
    opened: Opened, data: Path
) -> None:
    opened.submit()
    await turns()
    await opened.runtime.do("commit")
    opened.core.drain()
    for number in range(THREADS + 1):
        await opened.step(number)
    assert [path.read_bytes() for path in data.glob("streams/s@/*.seg")] == [b"one."]
    assert not opened.core.pipeline.lag
    await opened.close(THREADS)


async def test_files_that_are_open_for_writing_are_let_go_when_they_are_durable(
    opened: Opened, disk: StagedDisk
) -> None:
    opened.core.drain()
    for number in range(FILES):
        await opened.step(number)
    assert [path for path in disk.open_files if path.suffix == ".journal"]
    await opened.step(FILES)
    assert not [path for path in disk.open_files if path.suffix == ".journal"]
    await opened.close(FILES)


async def test_the_lock_is_held_while_somebody_who_left_may_still_write(
    opened: Opened, data: Path, disk: StagedDisk
) -> None:
    left = threading.Event()
    opened.core.executor.submit(left.wait)
    opened.core.drain()
    for number in range(ERRANDS):
        await opened.step(number)
    waiting = asyncio.create_task(opened.step(ERRANDS))
    await turns()
    waits = not waiting.done()
    left.set()
    await waiting
    assert waits
    assert await is_locked(data, disk)
    await opened.step(LOCK)
    assert not await is_locked(data, disk)


async def test_the_lock_is_let_go_last(opened: Opened, data: Path, disk: StagedDisk) -> None:
    opened.core.drain()
    for number in range(LOCK):
        await opened.step(number)
        assert await is_locked(data, disk)
    await opened.step(LOCK)
    assert not await is_locked(data, disk)
    assert disk.open_files == []


async def test_what_is_asked_of_a_closed_one_is_refused(opened: Opened) -> None:
    await opened.close()
    with pytest.raises(NotOpen):
        await opened.core.run(int)
    with pytest.raises(NotOpen):
        await opened.core.admission.admit()


async def test_the_directory_is_let_go_whatever_became_of_the_files_that_were_read(
    opened: Opened, data: Path, disk: StagedDisk
) -> None:
    def buggy() -> None:
        raise KeyError("a bug")

    opened.core.drain()
    for number in range(LOCK):
        await opened.step(number)
    opened.core._held.callback(buggy)  # is asked first
    with pytest.raises(KeyError):
        await opened.step(LOCK)
    assert not await is_locked(data, disk)


async def left_unclean(data: Path) -> Path:
    """What a kill leaves of a server that acknowledges what it has not synced."""
    engine = await FileStore.at(data, replace(SMALL_JOURNAL, durability=Durability.NONE))
    await put(engine, "s", b"one.")
    await append(engine, "s", b"two.")
    image = copy_live(data, data.with_name("image"))
    await engine.close()
    return image


async def test_what_was_not_verified_is_verified_by_the_next_start(
    data: Path, disk: StagedDisk
) -> None:
    image = await left_unclean(data)
    unsynced = replace(SMALL_JOURNAL, durability=Durability.NONE)
    opened = await Opened.at(image, disk, unsynced)
    assert opened.core.catalog.verifying
    await opened.close()
    assert (image / "UNSYNCED").exists()


# -- giving up -----------------------------------------------------------------------------


async def test_one_that_is_abandoned_leaves_what_a_crash_leaves_and_nothing_open(
    opened: Opened, data: Path, disk: StagedDisk
) -> None:
    opened.submit()
    await turns()
    await opened.runtime.do("commit")
    await asyncio.to_thread(opened.core.abandon)
    assert disk.open_files == []
    assert not await is_locked(data, disk)
    await opened.core.supervisor.stop(opened.core._ticking)
    assert await found(data) == b"one."


async def test_one_that_is_abandoned_admits_nobody(opened: Opened) -> None:
    await asyncio.to_thread(opened.core.abandon)
    with pytest.raises(NotOpen):
        await opened.core.admission.admit()
    with pytest.raises(NotOpen):
        await opened.core.run(int)
    await opened.core.supervisor.stop(opened.core._ticking)


async def test_one_that_is_abandoned_lets_go_of_all_whatever_became_of_its_threads(
    opened: Opened, data: Path, disk: StagedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def buggy() -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(opened.core.pipeline, "stop_threads", buggy)
    with pytest.raises(KeyError):
        await asyncio.to_thread(opened.core.abandon)
    assert disk.open_files == []
    assert not await is_locked(data, disk)
    await opened.core.supervisor.stop(opened.core._ticking)


async def test_it_can_be_abandoned_when_it_is_closed(
    opened: Opened, data: Path, disk: StagedDisk
) -> None:
    """Its descriptors may be somebody else's by then."""
    await opened.close()
    with_another = await Opened.at(data, disk)
    await asyncio.to_thread(opened.core.abandon)
    assert await is_locked(data, disk)
    await with_another.close()
