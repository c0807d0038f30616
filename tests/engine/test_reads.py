"""Reading segments: what a reader holds open, and what becomes of it."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from durable_streams.engine.engine import Engine
from durable_streams.errors import StorageFailed, StreamUnreadable
from durable_streams.protocol.commands import Append, Create, ForkRequest
from durable_streams.protocol.offsets import Start
from durable_streams.settings import Settings
from durable_streams.storage import names
from tests.storage.staged_disk import StagedDisk

BYTES = "application/octet-stream"


class ColdDisk(StagedDisk):
    """Nothing is in the page cache."""

    def pread_cached(self, fd: int, size: int, position: int) -> None:
        return None


@pytest.fixture
def disk() -> ColdDisk:
    return ColdDisk()


@pytest.fixture
async def engine(tmp_path: Path, disk: ColdDisk) -> AsyncIterator[Engine]:
    """A stream of two segments, all of it in files; at the end no file may be open."""
    engine = await Engine.open(tmp_path / "data", Settings(segment_bytes=8), disk)
    await engine.create(Create("s", BYTES), b"one.two.")
    await engine.append(Append("s", BYTES), b"three.")
    await in_files(engine)
    yield engine
    disk.heal()
    await engine.close()
    assert disk.open_files == []


async def in_files(engine: Engine) -> None:
    stream = await engine._find("s")
    await engine._core.applied_to(stream, stream.durable.offset)


async def read(engine: Engine) -> bytes:
    chunk = await engine.read(await engine.open_stream("s"), Start.BEGINNING)
    try:
        return b"".join(part for part in chunk.parts if isinstance(part, bytes))
    finally:
        chunk.release()


async def test_a_read_that_the_disk_refuses_leaves_nothing_open(
    engine: Engine, disk: ColdDisk
) -> None:
    disk.fail("pread", errno.EIO, ".seg", times=1)
    with pytest.raises(StreamUnreadable, match="Input/output"):
        await read(engine)
    assert await read(engine) == b"one.two."


async def test_a_reader_that_leaves_while_a_file_is_opened_leaves_nothing_open(
    engine: Engine, disk: ColdDisk
) -> None:
    gate = disk.hold("open_read", ".seg")
    reading = asyncio.ensure_future(read(engine))
    await asyncio.to_thread(gate.reached.wait)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    gate.open()


async def test_a_file_that_is_replaced_by_a_copy_is_read_anew(
    tmp_path: Path, disk: ColdDisk
) -> None:
    """Torn bytes at the end of a file with another name: the first write goes to a copy."""
    data = tmp_path / "data"
    engine = await Engine.open(data, Settings(), disk)
    await engine.create(Create("s", BYTES), b"one.")
    await engine.close()
    segment = next((data / "streams" / names.directory_of("s")).glob("*.seg"))
    segment.write_bytes(b"one." + b"torn torn torn")
    os.link(segment, tmp_path / "backup")
    engine = await Engine.open(data, Settings(), disk)
    assert await read(engine) == b"one."
    await engine.append(Append("s", BYTES), b"two.")
    await in_files(engine)
    assert await read(engine) == b"one.two."
    assert (tmp_path / "backup").read_bytes() == b"one.torn torn torn"
    await engine.close()
    assert disk.open_files == []


async def test_a_sync_that_fails_in_building_a_fork_is_final_for_all_writes(
    tmp_path: Path, disk: ColdDisk
) -> None:
    engine = await Engine.open(tmp_path / "data", Settings(segment_bytes=8), disk)
    await engine.create(Create("s", BYTES), b"one.two.")
    await engine.append(Append("s", BYTES), b"three.")
    await in_files(engine)
    disk.fail("sync", errno.EIO, ".seg", times=1)
    with pytest.raises(StorageFailed):
        await engine.create(Create("fork", None, fork=ForkRequest("s")), b"")
    with pytest.raises(StorageFailed):
        await engine.append(Append("s", BYTES), b"four.")
    assert await read(engine) == b"one.two."
    assert engine.fault is not None
    await engine.close()
