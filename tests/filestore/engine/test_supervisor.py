"""No thread and no task of an open data directory ends in silence."""

from __future__ import annotations

import asyncio
import errno
import pkgutil
import threading
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.runtime.machine import Runtime
from durable_streams.filestore.store import FileStore
from durable_streams.filestore.tuning import Tuning
from durable_streams.model.errors import DataDirectoryError, DiskFull, StorageFailed
from durable_streams.settings import Durability
from tests.copying import copy_live
from tests.driving import append, content, fork, put
from tests.filestore.engine.faulty import SMALL_JOURNAL, started
from tests.filestore.files.staged_disk import StagedDisk
from tools.inside import begin_checkpoint, journal_is_open, on_their_way

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SETTINGS = replace(SMALL_JOURNAL, reclaim_delay_s=0.0)
THREADS = 3 + 8
"""The workers, and what is in the executor."""

PLACES = {
    "filestore.pipeline.apply.Applier._take": "apply",
    "filestore.files.writer.StreamWriter.append": "apply",
    "filestore.files.writer.StreamWriter.strayed": "apply",
    "filestore.files.writer.StreamWriter.take_dirty": "apply",
    "filestore.files.writer.StreamWriter.synced": "apply",
    "filestore.pipeline.checkpoints.sync_dirty": "checkpoint",
    "filestore.files.journal.Journal.write": "commit",
    "filestore.runtime.clock.Clock.look": "ticks",
    "filestore.pipeline.room.Room.look": "ticks",
    "filestore.verbs.uses.Uses._write_some": "uses",
    "filestore.verbs.lifetimes.Reclaimer._walk": "reclaimer",
    "filestore.verbs.verification.Verifier._walk": "verifier",
    "filestore.verbs.trash.Trash._remove": "trash",
    "filestore.pipeline.freeing.Freeing.look": "a step on the event loop",
    "filestore.streams.stream.Stream.forget_applied": "what follows a write",
}


def ours() -> list[threading.Thread]:
    found = [t for t in threading.enumerate() if t.name.startswith("durable-streams-")]
    return [thread for thread in found if thread.is_alive()]


async def no_threads_are_left() -> None:
    while ours():
        await asyncio.sleep(0)


async def left_unclean(data: Path) -> None:
    """A killed server that did not sync, with something in its trash."""
    engine = await FileStore.at(data, replace(SETTINGS, durability=Durability.NONE))
    await put(engine, "s", b"one.")
    copy_live(data, data.with_name("image"))
    await engine.close()
    (data.with_name("image") / "trash" / "left").mkdir()


@pytest.mark.parametrize(("place", "what"), PLACES.items())
async def test_a_bug_ends_writing_is_told_and_harms_nobody_who_reads(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    place: str,
    what: str,
) -> None:
    await left_unclean(tmp_path / "data")

    original, is_open = pkgutil.resolve_name(f"durable_streams.{place}"), False

    def buggy(*arguments: object) -> object:
        if is_open:
            raise KeyError("a bug")
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(f"durable_streams.{place}", buggy)
        is_open = what == "trash"  # which begins with what it finds
        engine = await FileStore.at(tmp_path / "image", SETTINGS, tuning=Tuning(tick_s=0.0))
        is_open = True
        with suppress(StorageFailed):  # where it comes sooner
            await append(engine, "s", b"two.")
        forking = asyncio.create_task(fork(engine, "f", "s"))  # waits for the files
        while engine.bug is None:
            begin_checkpoint(engine)
            await asyncio.sleep(0)
        with suppress(StorageFailed):
            await forking
        for refused in (append(engine, "s", b"x"), put(engine, "t"), engine.delete(("s",))):
            with pytest.raises(StorageFailed, match="until the server is restarted"):
                await refused
        assert await content(engine, "s") in {b"one.", b"one.two."}
        await engine.close()
    told = [record for record in caplog.records if what in record.getMessage() and record.exc_info]
    assert told, caplog.text
    assert f"({what})" in str(engine.bug)
    survivor = await FileStore.at(tmp_path / "image", SETTINGS)
    await append(survivor, "s", b"three.")
    assert (await content(survivor, "s")).endswith(b"three.")
    await survivor.close()


async def test_a_fork_that_becomes_durable_when_nothing_comes_to_files_any_more_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = StagedDisk()
    engine = await started(tmp_path / "data", disk)
    gate = disk.hold("pwrite", "data/journal")
    forking = asyncio.create_task(fork(engine, "f", "s"))
    await asyncio.to_thread(gate.reached.wait)

    def buggy(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr("durable_streams.filestore.files.writer.StreamWriter.take_dirty", buggy)
    begin_checkpoint(engine)
    while engine.bug is None:
        await asyncio.sleep(0)
    gate.open()
    with pytest.raises(StorageFailed):
        await forking
    await engine.close()


async def test_a_task_that_somebody_else_cancels_is_missed(tmp_path: Path) -> None:
    engine = await FileStore.at(tmp_path / "data", SETTINGS)
    for task in asyncio.all_tasks():
        if task.get_name() == "durable-streams-ticks":
            task.cancel()
    while engine.bug is None:
        await asyncio.sleep(0)
    assert isinstance(engine.refusal(), StorageFailed)
    await engine.close()


def test_streams_in_a_task_that_the_loop_s_end_cancels_are_closed_as_they_should_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def use(began: asyncio.Event) -> None:
        engine = await FileStore.at(tmp_path / "data", SETTINGS)
        try:
            await put(engine, "s", b"one.")
            began.set()
            await asyncio.Event().wait()
        finally:
            await engine.close()

    async def main() -> None:
        began = asyncio.Event()
        left = asyncio.create_task(use(began))
        await began.wait()
        assert not left.done()

    async def what_recovery_found() -> str:
        engine = await FileStore.at(tmp_path / "data", SETTINGS)
        await engine.close()
        return engine.recovery

    asyncio.run(main())  # which cancels the engine's own tasks as well
    found = asyncio.run(what_recovery_found())
    assert found == asyncio.run(what_recovery_found())
    assert "bug" not in caplog.text


# -- threads -------------------------------------------------------------------------------


async def test_all_threads_are_there_before_anything_is_asked(tmp_path: Path) -> None:
    engine = await FileStore.at(tmp_path / "data", SETTINGS)
    assert len(ours()) == THREADS
    await engine.close()
    await no_threads_are_left()


@pytest.mark.parametrize("allowed", range(THREADS))
async def test_without_enough_threads_nothing_is_opened_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: int
) -> None:
    start, left = threading.Thread.start, allowed

    def limited(thread: threading.Thread) -> None:
        nonlocal left
        if not left:
            raise RuntimeError("can't start new thread")
        left -= 1
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", limited)
        with pytest.raises(DataDirectoryError, match=r"threads .*pids\.max"):
            await FileStore.at(tmp_path / "data", SETTINGS)
    await no_threads_are_left()
    assert not (tmp_path / "data").exists()


async def test_a_directory_that_cannot_be_opened_leaves_no_thread(tmp_path: Path) -> None:
    engine = await FileStore.at(tmp_path / "data", SETTINGS)
    with pytest.raises(DataDirectoryError, match="in use"):
        await FileStore.at(tmp_path / "data", SETTINGS)
    await engine.close()
    await no_threads_are_left()


async def test_whoever_is_cancelled_while_it_opens_a_directory_keeps_nothing_of_it(
    tmp_path: Path,
) -> None:
    disk = StagedDisk()
    await (await FileStore.at(tmp_path / "data", SETTINGS)).close()
    gate = disk.hold("pwrite", "data/journal")
    opening = asyncio.create_task(FileStore.at(tmp_path / "data", SETTINGS, disk))
    await asyncio.to_thread(gate.reached.wait)
    opening.cancel()
    with suppress(asyncio.CancelledError):
        await opening
    with pytest.raises(DataDirectoryError, match="in use"):
        await FileStore.at(tmp_path / "data", SETTINGS, tuning=Tuning(let_go_s=0.0))
    gate.open()
    await no_threads_are_left()
    assert not disk.open_files
    await (await FileStore.at(tmp_path / "data", SETTINGS)).close()


@pytest.mark.parametrize(
    "place",
    [
        "filestore.store.Core",
        "filestore.store.Verifier",
        "filestore.core.Ticks",
        "filestore.store.Uses",
    ],
)
async def test_a_directory_with_which_nothing_can_begin_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def buggy(*_: object, **__: object) -> None:
        raise KeyError("a bug")

    await left_unclean(tmp_path / "data")
    with monkeypatch.context() as patch:
        patch.setattr(f"durable_streams.{place}", buggy)
        with pytest.raises(KeyError):
            await FileStore.at(tmp_path / "image", SETTINGS)
    await no_threads_are_left()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await (await FileStore.at(tmp_path / "image", SETTINGS)).close()


# -- closing -------------------------------------------------------------------------------


async def test_the_directory_is_ours_until_all_that_runs_in_it_has_ended(tmp_path: Path) -> None:
    disk, data = StagedDisk(), tmp_path / "data"
    await (await started(data, disk)).close()
    engine = await FileStore.at(data, SETTINGS, disk)
    gate = disk.hold("open_read", "data/streams/s@")
    reading = asyncio.create_task(content(engine, "s"))
    await asyncio.to_thread(gate.reached.wait)
    reading.cancel()  # and what it asked for goes on
    closing = asyncio.create_task(engine.close())
    while journal_is_open(engine):  # the last that is closed before the directory
        await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not closing.done()
    with pytest.raises(DataDirectoryError, match="in use"):
        await FileStore.at(data, SETTINGS)
    gate.open()
    await closing
    await (await FileStore.at(data, SETTINGS)).close()


@pytest.mark.parametrize("fails", [False, True])
async def test_who_cannot_be_told_how_a_write_ended_keeps_nobody_from_being_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fails: bool
) -> None:
    disk = StagedDisk()
    engine = await started(tmp_path / "data", disk)
    gate = disk.hold("pwrite", "data/journal")
    first = asyncio.create_task(append(engine, "s", b"two."))
    await asyncio.to_thread(gate.reached.wait)
    rest = [asyncio.create_task(append(engine, "s", b"three.")) for _ in range(3)]
    await asyncio.sleep(0)

    def buggy() -> None:
        raise KeyError("a bug")

    for operation in on_their_way(engine):
        operation._callbacks.insert(0, buggy)
    if fails:
        disk.fail("pwrite", errno.ENOSPC, "data/journal", times=1)
    gate.open()
    ends = await asyncio.gather(first, *rest, return_exceptions=True)
    assert [isinstance(end, DiskFull) for end in ends] == [fails] * 4
    assert caplog.text.count("was not told how a write ended") == 4
    await engine.close()


async def test_a_reader_who_cannot_be_told_of_an_append_harms_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = await started(tmp_path / "data", StagedDisk())

    class Buggy:
        def published(self, _: object) -> None:
            raise KeyError("a bug")

        def overtaken(self) -> None:
            """It would read on."""

        def ended(self, _: object) -> None:
            raise KeyError("another bug")

    stream, tail = await engine.open(("s",)), (await engine.head(("s",))).tail
    assert engine.subscribe(stream, tail, Buggy())
    await append(engine, "s", b"two.")
    assert engine.subscribe(stream, (await engine.head(("s",))).tail, Buggy())
    await append(engine, "s", b"three.")
    assert await content(engine, "s") == b"one.two.three."
    assert caplog.text.count("bug: a reader was not told") == 2  # and left, so as to miss nothing
    assert engine.subscribe(stream, (await engine.head(("s",))).tail, Buggy())
    await engine.close()
    assert caplog.text.count("bug: a reader was not told") == 3


def test_a_worker_that_died_does_no_more_and_can_be_stopped() -> None:
    done: list[object] = []

    def buggy() -> None:
        raise SystemExit("a bug")

    worker = Runtime().worker("w", done.append)
    jobs: list[Callable[[], None]] = [lambda: done.append(1), buggy, lambda: done.append(2)]
    for job in jobs:
        worker.do(job)
    worker.stop()
    worker.do(lambda: done.append(3))
    assert done[0] == 1
    assert [type(entry) for entry in done[1:]] == [SystemExit]
