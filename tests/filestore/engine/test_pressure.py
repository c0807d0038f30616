"""Files that are slower than the journal: writers are slowed, in order, and nobody else is."""

from __future__ import annotations

import asyncio
import math
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.runtime.machine import MAX_JOBS
from durable_streams.filestore.tuning import Tuning
from durable_streams.model.commands import Append
from durable_streams.model.errors import Overloaded
from durable_streams.model.offsets import Offset
from durable_streams.settings import Settings
from tests.driving import BYTES, append, content, put
from tests.filestore.engine.faulty import started
from tools.inside import (
    begin_checkpoint,
    checkpoints_finished,
    executor,
    freed_up_to,
    in_files,
    unload,
    worker_of,
    writers_in_line,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from durable_streams.filestore.store import FileStore
    from tests.filestore.files.staged_disk import Gate, StagedDisk

THREADS = 8  # for what may wait for the disk
WAITING = Settings(held_up_s=math.inf)
SEGMENT = "data/streams/s@"


@pytest.fixture
async def engine(tmp_path: Path, disk: StagedDisk, tuning: Tuning) -> AsyncIterator[FileStore]:
    """A server with the stream ``s``, whose writers wait for as long as it takes."""
    engine = await started(tmp_path / "data", disk, WAITING, tuning)
    yield engine
    disk.heal()
    await engine.close()


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def held_up(engine: FileStore, disk: StagedDisk) -> Gate:
    """Until the gate is opened, the files lag behind."""
    gate = disk.hold("pwrite", SEGMENT)
    await append(engine, "s", b"two.")
    await asyncio.to_thread(gate.reached.wait)
    while not engine.writes_wait():
        await asyncio.sleep(0)
    return gate


# -- the applier ---------------------------------------------------------------------------


async def test_the_applier_has_one_share_scheduled_however_batches_come(
    tmp_path: Path, disk: StagedDisk
) -> None:
    engine = await started(tmp_path / "data", disk, replace(WAITING, max_lag_s=3600.0))
    worker, most = worker_of(engine, "apply"), 0
    gate = disk.hold("pwrite", ".seg")
    await append(engine, "s", b"x")
    for _ in range(4 * MAX_JOBS):  # each time there is nothing pending but this one
        await asyncio.to_thread(gate.reached.wait)
        held, gate = gate, disk.hold("pwrite", ".seg")
        await append(engine, "s", b"x")
        most = max(most, worker.jobs)
        disk._gates.remove(held)
        held.open()
    disk.heal()
    await in_files(engine, "s")
    assert most <= 1
    await engine.close()


@pytest.mark.parametrize("tuning", [Tuning(share_writes=1)])
async def test_a_checkpoint_has_its_turn_between_two_shares(
    engine: FileStore, disk: StagedDisk
) -> None:
    for path in "abc":
        await put(engine, path)
    first = disk.hold("open_write", "data/streams/a@")
    disk.hold("open_write", "data/streams/c@")
    for path in "abc":  # a batch each, and a share
        await append(engine, path, b"x")
    await asyncio.to_thread(first.reached.wait)
    begin_checkpoint(engine)
    first.open()
    await checkpoints_finished(engine)
    assert freed_up_to(engine)
    stream = await engine._find(("c",))
    assert stream.applied.offset < stream.durable.offset


# -- those who wait ------------------------------------------------------------------------


async def test_readers_do_not_wait_behind_writers_of_their_stream(
    engine: FileStore, disk: StagedDisk
) -> None:
    gate = await held_up(engine, disk)
    writing = [asyncio.create_task(append(engine, "s", b"three.")) for _ in range(3)]
    await turns()
    assert writers_in_line(engine) == 3
    stream = engine.open_now(("s",))
    assert stream is not None
    assert stream is await engine.open(("s",))
    assert (await engine.head(("s",))).tail.position == len(b"one.two.")
    assert await content(engine, "s") == b"one.two."
    waiting = asyncio.create_task(engine.wait(stream, Offset(0, 8), 3600))
    await turns()
    assert not waiting.done()
    assert not any(task.done() for task in writing)
    gate.open()
    assert await waiting
    await asyncio.gather(*writing)


async def test_readers_of_a_stream_that_is_not_open_do_not_wait_behind_its_writers(
    engine: FileStore, disk: StagedDisk
) -> None:
    await put(engine, "t", b"t")
    await in_files(engine, "t")
    gate = await held_up(engine, disk)
    await unload(engine, "t")
    writing = asyncio.create_task(append(engine, "t", b"more"))
    await turns()
    assert (await engine.head(("t",))).tail.position == 1
    assert not writing.done()
    gate.open()
    await writing


async def test_writers_of_a_stream_keep_their_order_whatever_each_has_to_wait_for(
    engine: FileStore, disk: StagedDisk
) -> None:
    await put(engine, "t")
    await in_files(engine, "t")
    gate = await held_up(engine, disk)
    bodies = [b"%d." % n * (30_000 if n % 3 == 0 else 1) for n in range(9)]  # large, and small
    writing = [asyncio.create_task(append(engine, "t", body)) for body in bodies[:6]]
    await turns()
    await unload(engine, "t")  # as if nobody had used it
    gate.open()
    while engine.writes_wait():
        await asyncio.sleep(0)
    writing += [asyncio.create_task(append(engine, "t", body)) for body in bodies[6:]]
    await asyncio.gather(*writing)
    await in_files(engine, "t")
    stream = await engine.open(("t",))
    with await engine.read(stream, Offset(0, 0)) as chunk:
        assert await engine.bytes_of(chunk) == b"".join(bodies)


async def test_a_small_append_does_not_pass_a_large_one_that_is_being_prepared(
    engine: FileStore,
) -> None:
    busy = threading.Event()
    for _ in range(THREADS):
        executor(engine).submit(busy.wait)
    large = asyncio.create_task(append(engine, "s", b"x" * 100_000))
    await turns()
    decided = engine.append_now(Append(("s",), BYTES), b"small.")
    small = asyncio.create_task(append(engine, "s", b"small."))
    await turns()
    busy.set()
    await asyncio.gather(large, small)
    assert decided is None
    last = await engine.read(await engine.open(("s",)), Offset(0, 4 + 100_000))
    assert last.parts == (b"small.",)
    last.release()


async def test_nobody_passes_those_who_wait(engine: FileStore, disk: StagedDisk) -> None:
    gate = await held_up(engine, disk)
    first = asyncio.create_task(append(engine, "s", b"three."))
    await turns()
    gate.open()
    while engine.writes_wait():
        await asyncio.sleep(0)
    assert not first.done()  # called, and not there yet
    assert engine.append_now(Append(("s",), BYTES), b"four.") is None
    await append(engine, "s", b"four.")
    await first
    assert await content(engine, "s") == b"one.two.three.four."


async def test_writers_are_refused_when_nothing_moves_and_told_when_to_come_back(
    tmp_path: Path, disk: StagedDisk
) -> None:
    engine = await started(tmp_path / "data", disk, Settings(held_up_s=0.05))
    gate = await held_up(engine, disk)
    ends = await asyncio.gather(
        *(append(engine, "s", b"three.") for _ in range(3)), return_exceptions=True
    )
    for end in ends:
        assert isinstance(end, Overloaded)
        assert end.retry_after_s == 5
    gate.open()
    await in_files(engine, "s")
    await append(engine, "s", b"three.")
    assert await content(engine, "s") == b"one.two.three."
    await engine.close()
