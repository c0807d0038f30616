"""Reading segments: what a reader holds open, and what becomes of it."""

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

import durable_streams
from durable_streams import Streams
from durable_streams.filestore.files import names
from durable_streams.filestore.files.disk import StrPath
from durable_streams.filestore.runtime.machine import Pool
from durable_streams.filestore.store import FileStore
from durable_streams.model.commands import Append, Create, ForkRequest
from durable_streams.model.errors import Overloaded, StorageFailed, StreamUnreadable
from durable_streams.model.offsets import Offset, Start
from durable_streams.model.paths import parse_path_text
from durable_streams.model.results import Chunk
from durable_streams.settings import Settings
from tests.filestore.files.staged_disk import StagedDisk
from tools import inside
from tools.inside import begin_checkpoint, in_files, pipeline, reader, worker_of

BYTES = "application/octet-stream"


class ColdDisk(StagedDisk):
    """Nothing is in the page cache."""

    def pread_cached(self, fd: int, size: int, position: int) -> None:
        return None


@pytest.fixture
def disk() -> ColdDisk:
    return ColdDisk()


@pytest.fixture
async def engine(tmp_path: Path, disk: ColdDisk) -> AsyncIterator[FileStore]:
    """A stream of two segments, all of it in files; at the end no file may be open."""
    engine = await FileStore.at(tmp_path / "data", Settings(segment_bytes=8), disk)
    await engine.create(Create(("s",), BYTES), b"one.two.")
    await engine.append(Append(("s",), BYTES), b"three.")
    await in_files(engine, "s")
    yield engine
    disk.heal()
    await engine.close()
    assert disk.open_files == []


async def read(engine: FileStore) -> bytes:
    chunk = await engine.read(await engine.open(("s",)), Start.BEGINNING)
    try:
        return b"".join(part for part in chunk.parts if isinstance(part, bytes))
    finally:
        chunk.release()


async def test_a_read_that_the_disk_refuses_leaves_nothing_open(
    engine: FileStore, disk: ColdDisk
) -> None:
    disk.fail("pread", errno.EIO, ".seg", times=1)
    with pytest.raises(StreamUnreadable, match="Input/output"):
        await read(engine)
    assert await read(engine) == b"one.two."


async def test_a_reader_that_leaves_while_a_file_is_opened_leaves_nothing_open(
    engine: FileStore, disk: ColdDisk
) -> None:
    gate = disk.hold("open_read", ".seg")
    reading = asyncio.ensure_future(read(engine))
    await asyncio.to_thread(gate.reached.wait)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    gate.open()


async def large_chunk(engine: FileStore, path: str) -> Chunk:
    return await engine.read(await engine.open(parse_path_text(path)), Start.BEGINNING)


async def large_streams(engine: FileStore, number: int) -> None:
    for path in range(number):
        await engine.create(Create((f"large{path}",), BYTES), b"x" * 70_000)
        await in_files(engine, f"large{path}")


async def test_chunks_wait_while_too_many_have_their_files_open(engine: FileStore) -> None:
    await large_streams(engine, 3)
    room = reader(engine)._files._room = asyncio.Semaphore(1)
    first = await large_chunk(engine, "large0")
    waiting = asyncio.ensure_future(large_chunk(engine, "large1"))
    leaving = asyncio.ensure_future(large_chunk(engine, "large2"))
    while len(room._waiters or ()) < 2:
        await asyncio.sleep(0)
    leaving.cancel()
    assert await read(engine) == b"one.two."  # small ones need not
    assert not waiting.done()
    first.release()
    second = await waiting
    reader(engine)._files.answers_wait_s = 0.01
    with pytest.raises(Overloaded, match="too many answers"):
        await large_chunk(engine, "large2")
    second.release()
    (await large_chunk(engine, "large2")).release()


async def test_where_there_are_no_more_descriptors_those_kept_open_are_given_back(
    engine: FileStore, disk: ColdDisk, caplog: pytest.LogCaptureFixture
) -> None:
    files = reader(engine)._files
    assert await read(engine) == b"one.two."
    most = files._max_files
    assert files._files
    assert await asyncio.to_thread(disk.give_back)
    assert not files._files
    assert not files.give_back()
    assert files._max_files == most // 2  # they asked at the same time
    assert "no more descriptors" in caplog.text
    caplog.clear()
    assert await read(engine) == b"one.two."


class FewDescriptors(ColdDisk):
    """While ``is_full`` there is one only when another was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.is_full = False
        self.free = 0

    def _open(self, path: StrPath, flags: int) -> int:
        def opened() -> int:
            if self.is_full and self.free <= 0:
                raise OSError(errno.EMFILE, "Too many open files")
            fd = super(FewDescriptors, self)._open(path, flags)
            self.free -= 1
            return fd

        return self._with_a_descriptor(opened)

    def close(self, fd: int) -> None:
        super().close(fd)
        self.free += 1


async def test_a_reader_gets_the_descriptor_of_a_file_that_is_kept_open_for_writing(
    tmp_path: Path,
) -> None:
    disk = FewDescriptors()
    engine = await FileStore.at(tmp_path / "data", Settings(), disk)
    await engine.create(Create(("s",), BYTES), b"one.")
    await engine.append(Append(("s",), BYTES), b"two.")
    await in_files(engine, "s")
    assert disk.open_files  # one of the writer's, none of a reader's
    disk.is_full, disk.free = True, 0
    assert await read(engine) == b"one.two."
    disk.is_full = False
    await engine.close()


async def test_a_reader_waits_for_descriptors_that_a_checkpoint_has_to_sync_first(
    tmp_path: Path,
) -> None:
    disk = FewDescriptors()
    engine = await FileStore.at(tmp_path / "data", Settings(), disk)
    await engine.create(Create(("s",), BYTES), b"one.")
    await engine.append(Append(("s",), BYTES), b"two.")
    await in_files(engine, "s")
    gates = [disk.hold("sync", ".seg"), disk.hold("sync_file_system")]
    begin_checkpoint(engine)
    while not any(gate.reached.is_set() for gate in gates):
        await asyncio.sleep(0)
    disk.is_full, disk.free = True, 0
    reading = asyncio.ensure_future(read(engine))
    asked = pipeline(engine)._applier._giving_back._asked
    while not asked:
        await asyncio.sleep(0)
    had_its_turn = threading.Event()
    worker_of(engine, "apply").do(had_its_turn.set)
    await asyncio.to_thread(had_its_turn.wait)
    assert asked  # and had nothing to give back
    for gate in gates:
        gate.open()
    assert await reading == b"one.two."
    disk.is_full = False
    disk.heal()
    await engine.close()


async def test_where_nothing_is_kept_open_whoever_finds_no_descriptor_is_told(
    tmp_path: Path,
) -> None:
    disk = FewDescriptors()
    engine = await FileStore.at(tmp_path / "data", Settings(), disk)
    disk.is_full, disk.free = True, 0
    assert not await asyncio.to_thread(disk.give_back)
    disk.is_full = False
    await engine.close()
    assert not await asyncio.to_thread(disk.give_back)  # nobody is there to be asked


OPENED = ("open_read", ".seg")
LOOKED_UP = ("open_read", ".idx")
READ = ("pread", ".seg")


@pytest.mark.parametrize("running", [True, False])  # in a thread, or waiting for one
@pytest.mark.parametrize(
    ("verb", "step"),
    [
        *((verb, step) for verb in ("read", "live", "read_messages", "tail")
          for step in (OPENED, LOOKED_UP, READ)),
        ("fork", OPENED),
        ("fork", LOOKED_UP),
    ],
)  # fmt: skip
async def test_whoever_leaves_a_reading_at_any_step_leaves_no_file_open(
    tmp_path: Path, disk: ColdDisk, verb: str, step: tuple[str, str], running: bool
) -> None:
    async with durable_streams.open(tmp_path / "data") as made:
        await made.create("s", data=b"x" * 80_000)
        await made.append("s", b"y" * 80_000)
    # Messages are looked up when they have been read, and pieces of a stream before.
    most = 1_000_000 if verb in {"read_messages", "tail"} else 100_000
    engine = await FileStore.at(tmp_path / "data", Settings(max_read_bytes=most), disk)
    executor = inside.executor(engine)._executor
    assert isinstance(executor, Pool)
    streams = Streams(engine)
    begin: dict[str, Callable[[], Awaitable[object]]] = {
        "read": lambda: streams.read("s"),
        "read_messages": lambda: streams.read_messages("s"),
        "tail": lambda: anext(streams.tail("s")),
        "live": lambda: streams.read("s", live=True),
        "fork": lambda: streams.fork("fork", "s", offset=Offset(0, 80_000).token),
    }
    await streams.get_metadata("s")
    gate = disk.hold(*step)
    if not running:
        for _ in range(executor.threads):
            executor.submit(gate.opened.wait)
    task = asyncio.ensure_future(begin[verb]())
    while not (gate.reached.is_set() if running else executor.jobs):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    disk.heal()
    await engine.close()
    assert disk.open_files == []


async def test_a_file_that_is_replaced_by_a_copy_is_read_anew(
    tmp_path: Path, disk: ColdDisk
) -> None:
    """Torn bytes at the end of a file with another name: the first write goes to a copy."""
    data = tmp_path / "data"
    engine = await FileStore.at(data, Settings(), disk)
    await engine.create(Create(("s",), BYTES), b"one.")
    await engine.close()
    segment = next((data / "streams" / names.directory_of(("s",))).glob("*.seg"))
    segment.write_bytes(b"one." + b"torn torn torn")
    os.link(segment, tmp_path / "backup")
    engine = await FileStore.at(data, Settings(), disk)
    assert await read(engine) == b"one."
    await engine.append(Append(("s",), BYTES), b"two.")
    await in_files(engine, "s")
    assert await read(engine) == b"one.two."
    assert (tmp_path / "backup").read_bytes() == b"one.torn torn torn"
    await engine.close()
    assert disk.open_files == []


async def test_a_sync_that_fails_in_building_a_fork_is_final_for_all_writes(
    tmp_path: Path, disk: ColdDisk
) -> None:
    engine = await FileStore.at(tmp_path / "data", Settings(segment_bytes=8), disk)
    await engine.create(Create(("s",), BYTES), b"one.two.")
    await engine.append(Append(("s",), BYTES), b"three.")
    await in_files(engine, "s")
    disk.fail("sync", errno.EIO, ".seg", times=1)
    with pytest.raises(StorageFailed):
        await engine.create(Create(("fork",), None, fork=ForkRequest(("s",))), b"")
    with pytest.raises(StorageFailed):
        await engine.append(Append(("s",), BYTES), b"four.")
    assert await read(engine) == b"one.two."
    assert engine.fault is not None
    await engine.close()
