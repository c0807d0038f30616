"""The pipeline: a write goes from its decision to the files in order, and who waits hears of it."""

from __future__ import annotations

import asyncio
import errno
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.pipeline.pipeline import QUEUE_BYTES
from durable_streams.filestore.store import FileStore
from durable_streams.model.errors import (
    DiskFull,
    Draining,
    StorageFailed,
    StreamOutOfService,
    Unavailable,
)
from durable_streams.model.offsets import Offset
from durable_streams.settings import KIB
from tests.driving import append, content, directory, put
from tests.filestore.engine.by_hand import QUIET, HandRuntime, Noted, done, stream, turns
from tests.filestore.engine.faulty import SMALL_JOURNAL
from tools.inside import full_journal_files, in_files, pipeline

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from durable_streams.filestore.pipeline.pipeline import Pipeline
    from durable_streams.model.errors import StreamError
    from tests.filestore.files.staged_disk import StagedDisk

SETTINGS = replace(SMALL_JOURNAL, max_lag_s=3600.0, held_up_s=math.inf)


class Driven:
    """A store with the stream ``s`` in files, whose threads a test does by hand."""

    def __init__(self, engine: FileStore, runtime: HandRuntime, data: Path) -> None:
        self.engine = engine
        self.runtime = runtime
        self.data = data

    @classmethod
    async def at(
        cls, data: Path, disk: StagedDisk, max_lag_s: float = SETTINGS.max_lag_s
    ) -> Driven:
        runtime = HandRuntime()
        settings = replace(SETTINGS, max_lag_s=max_lag_s)
        engine = await FileStore.at(data, settings, disk, runtime, QUIET)
        await done(put(engine, "s", b"one."), runtime)
        await runtime.do_all()
        return cls(engine, runtime, data)

    @property
    def pipeline(self) -> Pipeline:
        return pipeline(self.engine)

    def in_files(self) -> bytes:
        return b"".join(path.read_bytes() for path in directory(self.data, "s").glob("*.seg"))

    def begin(self, body: bytes = b"two.") -> asyncio.Task[None]:
        return asyncio.create_task(append(self.engine, "s", body))

    async def durable(self, body: bytes = b"two.") -> None:
        """Append, to the journal."""
        await done(append(self.engine, "s", body), self.runtime, "commit")

    async def fill_the_journal(self) -> Noted:
        """A write that waits for room in it."""
        waiting = Noted("", stream("none"), [])
        while waiting.pending and not self.pipeline.committer.stalled:
            await self.durable(bytes(60 * KIB))
            if full_journal_files(self.engine):
                size_bytes = SETTINGS.journal_file_bytes
                waiting = Noted("", stream("none"), [], size_bytes=size_bytes)
                self.pipeline.submit(waiting)
                await turns()
        return waiting

    async def close(self) -> None:
        await self.runtime.do_all()
        await self.engine.close()


@pytest.fixture
async def driven(data: Path, disk: StagedDisk) -> AsyncIterator[Driven]:
    driven = await Driven.at(data, disk)
    yield driven
    disk.heal()
    await driven.close()


# -- the way of a write --------------------------------------------------------------------


async def test_a_write_is_acknowledged_when_the_journal_has_it_and_is_in_files_later(
    driven: Driven,
) -> None:
    writing = driven.begin()
    await turns()
    assert not writing.done()
    assert driven.runtime.hand("apply").jobs == 0
    await driven.runtime.do("commit")
    assert writing.done()
    assert driven.in_files() == b"one."
    await driven.runtime.do("apply")
    assert driven.in_files() == b"one.two."
    await writing


async def test_nobody_reads_a_write_before_it_is_durable(driven: Driven) -> None:
    writing = driven.begin()
    await turns()
    assert await content(driven.engine, "s") == b"one."
    await driven.runtime.do("commit")
    assert await content(driven.engine, "s") == b"one.two."
    await writing


async def test_live_readers_are_told_of_a_write_when_it_is_durable(driven: Driven) -> None:
    opened = await driven.engine.open(("s",))
    waiting = asyncio.create_task(driven.engine.wait(opened, Offset(0, 4), 3600))
    await turns()
    writing = driven.begin()
    await turns()
    assert not waiting.done()
    await driven.runtime.do("commit")
    assert await waiting
    await writing


async def test_of_each_write_what_is_durable_is_known_before_its_caller_hears(
    driven: Driven,
) -> None:
    notes: list[tuple[str, str]] = []
    for name in "ab":
        driven.pipeline.submit(Noted(name, stream("none"), notes))
    await turns()
    await driven.runtime.do("commit")
    assert notes == [("durable", "a"), ("told", "a"), ("durable", "b"), ("told", "b")]


async def test_the_lag_is_what_is_durable_and_not_in_files(driven: Driven) -> None:
    assert not driven.pipeline.lag
    await driven.durable()
    assert driven.pipeline.lag
    await driven.runtime.do("apply")
    assert not driven.pipeline.lag
    assert driven.pipeline.lag.bytes == 0


# -- how it goes ---------------------------------------------------------------------------


async def test_writers_are_held_up_while_the_files_lag_for_too_long(
    data: Path, disk: StagedDisk
) -> None:
    driven = await Driven.at(data, disk, max_lag_s=0.0)
    assert not driven.pipeline.is_held_up()
    await driven.durable()
    assert driven.pipeline.is_held_up()
    waiting = driven.begin(b"three.")
    await turns()
    assert driven.runtime.hand("commit").jobs == 0
    await driven.runtime.do("apply", "commit")
    assert waiting.done()
    await driven.close()


async def test_writers_are_held_up_while_too_much_is_on_its_way_to_the_journal(
    driven: Driven,
) -> None:
    size_bytes = 512 * KIB
    for _ in range(QUEUE_BYTES // size_bytes):
        driven.pipeline.submit(Noted("", stream("none"), [], size_bytes=size_bytes))
    assert not driven.pipeline.is_held_up()
    driven.pipeline.submit(Noted("", stream("none"), []))
    assert driven.pipeline.is_held_up()
    await driven.runtime.do_all()
    assert not driven.pipeline.is_held_up()


async def test_writers_are_held_up_while_the_journal_is_full(driven: Driven) -> None:
    await driven.fill_the_journal()
    assert driven.pipeline.is_held_up()
    driven.pipeline.committer.refuse(Draining())
    assert not driven.pipeline.is_held_up()


async def test_every_write_to_the_files_counts_as_movement(driven: Driven) -> None:
    await driven.durable()
    before = driven.pipeline.last_moved()
    assert driven.pipeline.last_moved() == before
    driven.pipeline._applier.writes += 1
    assert driven.pipeline.last_moved() > before


async def test_a_full_disk_takes_sidecars_and_nothing_else_that_is_refused_does(
    driven: Driven,
) -> None:
    assert driven.pipeline.takes_sidecars()
    driven.pipeline.admission.set_full(DiskFull("the disk is full"))
    assert driven.pipeline.takes_sidecars()
    driven.pipeline.admission.set_full(Unavailable("it is away"))
    assert not driven.pipeline.takes_sidecars()
    driven.pipeline.admission.set_full(None)
    driven.pipeline.health.set_fault(StorageFailed("a sync failed"))
    assert not driven.pipeline.takes_sidecars()


async def test_a_full_disk_takes_no_sidecars_while_writers_are_held_up(
    data: Path, disk: StagedDisk
) -> None:
    driven = await Driven.at(data, disk, max_lag_s=0.0)
    await driven.durable()
    driven.pipeline.admission.set_full(DiskFull("the disk is full"))
    assert not driven.pipeline.takes_sidecars()
    await driven.close()


# -- those who wait for the files ----------------------------------------------------------


async def test_who_waits_for_the_files_hears_when_they_have_it(driven: Driven) -> None:
    await driven.durable()
    waiting = asyncio.create_task(in_files(driven.engine, "s"))
    await turns()
    assert not waiting.done()
    await driven.runtime.do("apply")
    await waiting


async def test_who_waits_for_the_files_of_a_stream_that_cannot_be_written_hears_that(
    driven: Driven, disk: StagedDisk
) -> None:
    await driven.durable()
    waiting = asyncio.create_task(in_files(driven.engine, "s"))
    await turns()
    disk.fail("pwrite", errno.EIO, ".seg")
    await driven.runtime.do("apply")
    with pytest.raises(StreamOutOfService):
        await waiting


async def test_who_waits_for_the_files_when_their_thread_ends_hears_that(driven: Driven) -> None:
    await driven.durable()
    waiting = asyncio.create_task(in_files(driven.engine, "s"))
    await turns()
    driven.pipeline._supervisor.met("apply", KeyError("a bug"))
    with pytest.raises(StorageFailed):
        await waiting


# -- what goes wrong -----------------------------------------------------------------------


async def test_what_follows_one_write_wrongly_keeps_no_other_from_being_in_files(
    driven: Driven, caplog: pytest.LogCaptureFixture
) -> None:
    class Wrong(Noted):
        def applied(self) -> None:
            raise KeyError("a bug")

    driven.pipeline.submit(Wrong("", stream("none"), []))
    writing = driven.begin()
    await turns()
    await driven.runtime.do("commit", "apply")
    await writing
    assert not driven.pipeline.lag
    await in_files(driven.engine, "s")
    assert driven.engine.bug is not None
    assert "bug: what follows a write" in caplog.text


async def test_with_a_sync_of_the_journal_that_failed_nothing_is_written_any_more(
    driven: Driven, disk: StagedDisk
) -> None:
    disk.fail("sync", errno.EIO, "data/journal", times=1)
    writing, later = driven.begin(), driven.begin(b"three.")
    await turns()
    await driven.runtime.do("commit")
    for failed in (writing, later, driven.begin(b"four.")):
        with pytest.raises(StorageFailed):
            await failed
    assert await content(driven.engine, "s") == b"one."


async def test_when_the_journals_thread_ends_what_it_was_given_fails(driven: Driven) -> None:
    writing = driven.begin()
    await turns()
    assert driven.pipeline.committer.writing
    driven.pipeline._supervisor.met("commit", KeyError("a bug"))
    with pytest.raises(StorageFailed):
        await writing


async def test_when_the_files_thread_ends_what_waits_for_them_fails_latest_first(
    driven: Driven,
) -> None:
    class Waits(Noted):
        """Settled when it is in files."""

        def settle(self, error: StreamError | None) -> None:
            if error is not None:
                super().settle(error)

    notes: list[tuple[str, str]] = []
    for name in "ab":
        driven.pipeline.submit(Waits(name, stream("none"), notes))
    await turns()
    await driven.runtime.do("commit")
    driven.pipeline._supervisor.met("apply", KeyError("a bug"))
    assert [note for note in notes if note[0] != "durable"] == [
        ("undone", "b"),
        ("told", "b"),
        ("undone", "a"),
        ("told", "a"),
    ]


async def test_a_checkpoint_whose_thread_ends_holds_up_no_end(driven: Driven) -> None:
    driven.pipeline.freeing.checkpoint()
    finishing = asyncio.create_task(driven.pipeline.checkpoints_finished())
    await turns()
    assert not finishing.done()
    driven.pipeline._supervisor.met("checkpoint", KeyError("a bug"))
    await finishing


# -- the end -------------------------------------------------------------------------------


async def test_it_is_settled_when_all_that_was_accepted_is_durable(driven: Driven) -> None:
    writing = driven.begin()
    await turns()
    settled = asyncio.create_task(driven.pipeline.settled())
    await turns()
    assert not settled.done()
    await driven.runtime.do("commit")
    await settled
    await writing


async def test_an_end_refuses_what_a_full_journal_has_no_room_for(driven: Driven) -> None:
    waiting = await driven.fill_the_journal()
    await driven.pipeline.settled()
    assert isinstance(waiting.error, Draining)


async def test_threads_end_in_the_order_of_the_way_whatever_the_one_before(
    driven: Driven, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []

    def ends(name: str) -> None:
        ended.append(name)
        if name == "commit":
            raise KeyError("a bug")

    whole = driven.pipeline
    with monkeypatch.context() as patch:
        patch.setattr(whole.committer, "stop", lambda: ends("commit"))
        patch.setattr(whole.freeing.checkpointer, "stop", lambda: ends("checkpoint"))
        patch.setattr(whole._applier, "stop", lambda: ends("apply"))
        with pytest.raises(KeyError):
            whole.stop_threads()
    assert ended == ["commit", "checkpoint", "apply"]


async def test_files_are_let_go_of_once_whoever_does_it(driven: Driven, disk: StagedDisk) -> None:
    await driven.durable()
    await driven.runtime.do("apply")
    assert [path for path in disk.open_files if path.suffix in {".seg", ".journal"}]
    for _ in range(2):
        driven.pipeline.close_files()
    assert not [path for path in disk.open_files if path.suffix in {".seg", ".journal"}]
