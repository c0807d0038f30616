"""Opening and closing, cancelled at every point where they wait: nothing stays half open."""

from __future__ import annotations

import asyncio
import pkgutil
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import pytest

import durable_streams
from durable_streams import NotOpen, Settings, Streams
from durable_streams.filestore.pipeline.commit import Committer
from durable_streams.filestore.store import FileStore
from durable_streams.model.errors import StreamError
from tests.filestore.files.staged_disk import StagedDisk
from tools.cancelling import Cut, When, all_gone, cut_off, our_threads, tasks
from tools.descriptors import open_now
from tools.engines import file_store
from tools.inside import begin_checkpoint

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

Opening = Any  # what durable_streams.open gives


def files_open() -> list[str]:
    """Those that have a name; the others are event loops'."""
    return sorted(name for name in open_now() if name.startswith("/"))


async def written(data_dir: Path) -> tuple[Opening, Streams, list[asyncio.Task[Any]]]:
    """An open directory with something to finish: writers, a reader, a checkpoint."""
    opening = durable_streams.open(data_dir)
    streams = await opening.__aenter__()
    await streams.create("s", content_type="text/plain", ttl_s=1000)
    await streams.append("s", b"acknowledged;")
    begin_checkpoint(file_store(streams))
    waits: list[Coroutine[Any, Any, Any]] = [
        *(streams.append("s", b"under way;") for _ in range(3)),
        streams.fork("f", "s"),
        streams.read("s", "now", live=True),
        anext(streams.tail("s", "now")),
    ]
    users = [asyncio.create_task(wait) for wait in waits]
    await asyncio.sleep(0)
    return opening, streams, users


async def nothing_is_left(
    data_dir: Path, files: list[str], before: set[asyncio.Task[Any]], streams: Streams
) -> None:
    """The directory can be opened at once, and has what was acknowledged."""
    with pytest.raises(NotOpen):
        await streams.read("s")
    async with durable_streams.open(data_dir) as again:
        assert (await again.read("s")).data.startswith(b"acknowledged;")
        await again.delete("s")
    assert files_open() == files
    await all_gone(before)
    while our_threads():  # those of an executor end by themselves
        await asyncio.sleep(0)


@pytest.mark.parametrize("when", When)
async def test_closing_is_carried_through_whatever_cancels_it(
    tmp_path: Path, when: When, caplog: pytest.LogCaptureFixture
) -> None:
    files, before = files_open(), tasks()
    for at in range(1, 20):
        data_dir = tmp_path / f"{at}"
        opening, streams, users = await written(data_dir)
        cut_at, _ = await cut_off(opening.__aexit__(None, None, None), at, when)
        assert streams._engine.closed
        await asyncio.gather(*users, return_exceptions=True)
        await nothing_is_left(data_dir, files, before, streams)
        if not cut_at:
            assert at > 1
            break
    assert caplog.text == ""


async def test_the_cancellation_that_came_is_the_one_that_goes_on(tmp_path: Path) -> None:
    """Scopes know their own by its message."""
    opening, streams, users = await written(tmp_path)
    closing = asyncio.create_task(opening.__aexit__(None, None, None))
    await asyncio.sleep(0)
    closing.cancel("by this very scope")
    with pytest.raises(asyncio.CancelledError, match="by this very scope"):
        await closing
    assert streams._engine.closed
    await asyncio.gather(*users, return_exceptions=True)


async def test_a_timeout_around_everything_is_one(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001), durable_streams.open(tmp_path) as streams:
            await asyncio.Event().wait()
    async with durable_streams.open(tmp_path) as streams:
        await streams.create("s")


class Everything:
    """Cancels all tasks of a loop at so many suspensions of any of them, from one on."""

    def __init__(self, loop: asyncio.AbstractEventLoop, at: int, how_often: int) -> None:
        self.suspensions = 0
        self._loop, self._at, self._how_often = loop, at, how_often
        loop.set_task_factory(self._task)

    def _task(self, loop: asyncio.AbstractEventLoop, work: Any, **named: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(OneOfAll(work, self).run(), loop=loop, **named)
        task.add_done_callback(lambda _: work.close())  # which may not have begun
        return task

    def suspended(self) -> None:
        self.suspensions += 1
        if self._at <= self.suspensions < self._at + self._how_often:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()

    def is_left_alone(self) -> None:
        self._loop.set_task_factory(None)


class OneOfAll(Cut[Any]):
    def __init__(self, work: Any, everything: Everything) -> None:
        super().__init__(work, 1, When.AGAIN)
        self._everything = everything

    def _cancel(self, waited: object) -> None:
        self._everything.suspended()


@pytest.mark.parametrize("how_often", [1, 3])
def test_closing_goes_on_when_all_tasks_are_cancelled(tmp_path: Path, how_often: int) -> None:
    """As ``asyncio.run`` does; at every suspension of any task."""
    files, at, has_ended = files_open(), 0, False
    while not has_ended:
        at += 1
        data_dir = tmp_path / f"{at}"
        with asyncio.Runner() as runner:
            opening, streams, users = runner.run(written(data_dir))
            everything = Everything(runner.get_loop(), at, how_often)
            with suppress(asyncio.CancelledError):
                runner.run(opening.__aexit__(None, None, None))
            everything.is_left_alone()
            has_ended = everything.suspensions < at
            assert streams._engine.closed
            runner.run(nothing_is_left(data_dir, files, set(), streams))
            for user in users:
                with suppress(asyncio.CancelledError, StreamError):
                    user.result()
    assert at > 5
    assert not our_threads()


def test_an_interrupt_in_the_middle_of_closing_is_not_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A second Ctrl-C is raised wherever the program is, and ends the task that it is in."""
    settled, interrupts = Committer.settled, iter([True])

    async def interrupted(committer: Committer) -> None:
        if next(interrupts, False):
            raise KeyboardInterrupt
        await settled(committer)

    monkeypatch.setattr(Committer, "settled", interrupted)
    with asyncio.Runner() as runner:
        opening, streams, users = runner.run(written(tmp_path))
        with pytest.raises(KeyboardInterrupt):
            runner.run(opening.__aexit__(None, None, None))
    assert streams._engine.closed
    for user in users:
        with suppress(asyncio.CancelledError, StreamError):
            user.result()
    assert caplog.text == ""
    asyncio.run(nothing_is_left(tmp_path, files_open_elsewhere(tmp_path), set(), streams))


def files_open_elsewhere(data_dir: Path) -> list[str]:
    return [name for name in files_open() if not name.startswith(str(data_dir))]


@pytest.mark.parametrize(
    "place",
    [
        "filestore.store.FileStore.drain",
        "live.Deliveries.finished",
        "filestore.verbs.endings.Endings.finished",
        "filestore.pipeline.commit.Committer.settled",
        "filestore.pipeline.checkpoints.Checkpointer.finished",
        "filestore.pipeline.checkpoints.Checkpointer.stop",
        "filestore.pipeline.apply.Applier.unsynced",
        "filestore.files.writer.StreamWriter.close",
        "filestore.files.journal.Journal.close",
        "filestore.reading.reads.Reader.close",
    ],
)
async def test_a_step_that_fails_keeps_no_other_from_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    original, is_closing = pkgutil.resolve_name(f"durable_streams.{place}"), False

    def buggy(*arguments: object) -> object:
        if is_closing:
            raise KeyError("a bug")
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(f"durable_streams.{place}", buggy)
        opening, streams, users = await written(tmp_path)
        is_closing = True
        await opening.__aexit__(None, None, None)
    assert streams._engine.closed
    assert "bug: " in caplog.text
    async with durable_streams.open(tmp_path) as again:  # the lock has gone
        assert (await again.read("s")).data.startswith(b"acknowledged;")
    await asyncio.gather(*users, return_exceptions=True)
    while our_threads():
        await asyncio.sleep(0)


async def test_who_closes_while_somebody_else_does_waits_for_the_end(tmp_path: Path) -> None:
    engine = await FileStore.at(tmp_path, Settings())
    first, second = (asyncio.create_task(engine.close()) for _ in range(2))
    first.cancel()
    await second
    assert engine.closed
    with pytest.raises(asyncio.CancelledError):
        await first
    await engine.close()


@pytest.mark.parametrize("when", When)
async def test_an_opening_that_is_cancelled_anywhere_holds_nothing(
    tmp_path: Path, when: When
) -> None:
    files, before = files_open(), tasks()
    async with durable_streams.open(tmp_path) as streams:
        await streams.create("s", data=b"acknowledged;")
    for at in range(1, 20):
        opening = durable_streams.open(tmp_path)
        cut_at, _ = await cut_off(opening.__aenter__(), at, when)
        if not cut_at:
            await opening.__aexit__(None, None, None)
        async with durable_streams.open(tmp_path) as streams:  # at once
            assert (await streams.read("s")).data == b"acknowledged;"
        await all_gone(before)
        assert files_open() == files
        if not cut_at:
            assert at > 1
            break


@pytest.mark.parametrize("where", ["FORMAT.json", "journal"])  # before and behind its signature
async def test_an_opening_waits_for_one_that_was_cancelled(tmp_path: Path, where: str) -> None:
    disk = StagedDisk()
    gate = disk.hold("pwrite", where)
    cancelled = asyncio.create_task(FileStore.at(tmp_path, Settings(), disk))
    await asyncio.to_thread(gate.reached.wait)
    cancelled.cancel()
    with suppress(asyncio.CancelledError):
        await cancelled
    next_one = asyncio.create_task(FileStore.at(tmp_path, Settings()))
    for _ in range(50):
        await asyncio.sleep(0)
    assert not next_one.done()
    gate.open()
    await (await next_one).close()


PROGRAM: Final = """
import asyncio, sys, durable_streams

async def main():
    async with durable_streams.open(sys.argv[1]) as streams:
        await streams.create("s")
        print("up", flush=True)
        async def write():
            while True:
                await streams.append("s", b"x" * 1000)
        await asyncio.gather(*(write() for _ in range(8)))

try:
    asyncio.run(main())
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("times", [1, 2])
def test_control_c_ends_a_program_without_a_word(tmp_path: Path, times: int) -> None:
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-W", "default", "-c", PROGRAM, str(tmp_path / "data")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == "up\n"
            for _ in range(times):
                program.send_signal(signal.SIGINT)
            _, told = program.communicate()
        assert program.returncode == 130
        assert "Traceback" not in told
        assert "destroyed" not in told


async def use(data_dir: Path) -> None:
    async with durable_streams.open(data_dir) as streams:
        await streams.create("s")
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(append_for_ever(streams))


async def append_for_ever(streams: Streams) -> None:
    while True:
        await streams.append("s", b"x")


async def forget(data_dir: Path) -> Streams:
    streams = await durable_streams.open(data_dir).__aenter__()
    await streams.create("s")
    return streams


def test_a_loop_that_ends_with_its_tasks_has_nothing_to_tell(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        using = asyncio.create_task(use(tmp_path / "a"))
        while not (tmp_path / "a" / "streams" / "s@").exists():
            await asyncio.sleep(0)
        assert not using.done()

    asyncio.run(main())
    streams = asyncio.run(forget(tmp_path / "b"))
    with pytest.warns(ResourceWarning, match="never closed"):
        del streams
    assert [r.getMessage() for r in caplog.records if r.levelname != "INFO"] == []
    asyncio.run(use_once(tmp_path / "b"))


async def use_once(data_dir: Path) -> None:
    async with durable_streams.open(data_dir) as streams:
        await streams.append("s", b"x")
