"""Disks that fail in the middle of something: nothing acknowledged is lost, others go on."""

import asyncio
import errno
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from durable_streams.filestore.files.journal import Journal
from durable_streams.filestore.pipeline.pipeline import Pipeline
from durable_streams.filestore.store import FileStore
from durable_streams.filestore.streams.stream import Stream
from durable_streams.filestore.tuning import Tuning
from durable_streams.model.commands import Create, ForkRequest, Lifetime
from durable_streams.model.errors import (
    DiskFull,
    Overloaded,
    StorageFailed,
    StreamExists,
    StreamNotFound,
    StreamOutOfService,
    WriteFailed,
)
from durable_streams.model.offsets import Offset
from durable_streams.settings import KIB, MIB
from tests.copying import copy_live
from tests.driving import BYTES, append, content, directory, fork, put
from tests.filestore.engine.faulty import IMPATIENT, SMALL_JOURNAL, started
from tests.filestore.files.staged_disk import StagedDisk
from tools.inside import (
    begin_checkpoint,
    checkpoint,
    checkpoints_finished,
    full_journal_files,
    in_files,
    look_for_room,
    out_of_service,
)


@pytest.fixture
async def engine(data: Path, disk: StagedDisk) -> AsyncIterator[FileStore]:
    """The same; whatever a test held goes on at its end."""
    engine = await started(data, disk)
    yield engine
    disk.heal()
    await engine.close()


async def after_a_kill(engine: FileStore, data: Path) -> FileStore:
    """What the next server finds if this one has a checkpoint and is killed."""
    await checkpoint(engine)
    with suppress(Overloaded):
        await put(engine, "fence")  # its batch tells of the checkpoint
    return await FileStore.at(copy_live(data, data.with_name("image")), SMALL_JOURNAL)


# -- streams out of service ----------------------------------------------------------------


@pytest.mark.parametrize("sub_offset", [0, 2])
async def test_no_fork_is_made_of_a_stream_whose_files_miss_something(
    engine: FileStore, disk: StagedDisk, monkeypatch: pytest.MonkeyPatch, sub_offset: int
) -> None:
    async def late(_: Pipeline, stream: Stream, offset: Offset) -> None:
        await out_of_service(engine, "s")
        while stream.applied.offset < offset:
            await asyncio.sleep(0)

    monkeypatch.setattr(Pipeline, "files_have", late)
    gate = disk.hold("pwrite", "data/streams/s@")
    await append(engine, "s", b"two.")
    request = ForkRequest(("s",), Offset(0, 4), sub_offset) if sub_offset else ForkRequest(("s",))
    forking = asyncio.create_task(engine.create(Create(("f",), None, fork=request), b""))
    await asyncio.to_thread(gate.reached.wait)
    disk.fail("pwrite", errno.EIO, "data/streams/s@", times=1)
    gate.open()
    with pytest.raises(StreamOutOfService):
        await forking
    with pytest.raises(StreamNotFound):
        await engine.head(("f",))


async def test_a_stream_that_replaces_a_vanished_one_is_kept(
    engine: FileStore, data: Path, disk: StagedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It waits for whatever others have to write on the machine, and a kill needs no sync.
    monkeypatch.setattr(
        "durable_streams.filestore.files.system_calls.sync_file_system", lambda _fd: None
    )
    gate = disk.hold("pwrite", "data/streams/other@")
    await put(engine, "other")
    await append(engine, "other", b"the applier is busy")
    await asyncio.to_thread(gate.reached.wait)
    shutil.rmtree(directory(data, "s"))
    await append(engine, "s", b"lost with the rest")
    await engine.delete(("s",))
    await put(engine, "s", b"new.")
    await append(engine, "s", b"kept.")
    gate.open()
    await in_files(engine, "s")
    assert await content(engine, "s") == b"new.kept."
    survivor = await after_a_kill(engine, data)
    assert await content(survivor, "s") == b"new.kept."
    await survivor.close()


async def test_a_deletion_that_failed_in_the_files_is_done_by_the_next_start(
    data: Path, disk: StagedDisk
) -> None:
    engine = await started(data, disk)
    disk.fail("rename", errno.EIO, "data/trash/")
    await engine.delete(("s",))
    await out_of_service(engine, "s")
    with pytest.raises(StreamOutOfService):
        await put(engine, "s", b"new")
    await fill_the_journal(engine)
    await engine.close()
    engine = await FileStore.at(data, SMALL_JOURNAL)
    with pytest.raises(StreamNotFound):
        await engine.head(("s",))
    await engine.close()


async def test_a_start_does_not_wait_until_what_it_recovered_is_durable(
    engine: FileStore, data: Path
) -> None:
    image, again = data.with_name("image"), data.with_name("again")
    copy_live(data, image)
    disk = StagedDisk()
    syncing = disk.hold("sync_file_system")
    survivor = await FileStore.at(image, SMALL_JOURNAL, disk)
    await asyncio.to_thread(syncing.reached.wait)
    assert await content(survivor, "s") == b"one."
    await append(survivor, "s", b"two.")
    shutil.rmtree(directory(copy_live(image, again), "s"))  # a power cut before it is
    restored = await FileStore.at(again, SMALL_JOURNAL)
    assert await content(restored, "s") == b"one.two."
    await restored.close()
    syncing.open()
    await checkpoints_finished(survivor)
    assert full_journal_files(survivor) == 0
    await survivor.close()


@pytest.mark.parametrize("place", ["StreamWriter.append", "sync_dirty", "Journal.write"])
async def test_a_bug_in_a_thread_ends_writing_and_nothing_else(
    data: Path, disk: StagedDisk, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    engine = await started(data, disk)

    def buggy(*_: object) -> None:
        raise KeyError("a bug")

    modules = {
        "Journal.write": "filestore.files.journal",
        "sync_dirty": "filestore.pipeline.checkpoints",
    }
    with monkeypatch.context() as patch:
        patch.setattr(
            f"durable_streams.{modules.get(place, 'filestore.files.writer')}.{place}", buggy
        )
        with suppress(StorageFailed):  # where it was on its way to the journal
            await append(engine, "s", b"two.")
        forking = asyncio.create_task(fork(engine, "f", "s"))  # waits for the files
        begin_checkpoint(engine)
        while engine.fault is None:
            await asyncio.sleep(0)
        with suppress(StorageFailed):
            await forking
        with pytest.raises(StorageFailed):
            await append(engine, "s", b"refused")
        expected = b"one." if place == "Journal.write" else b"one.two."
        assert await content(engine, "s") == expected
        await engine.close()
    survivor = await FileStore.at(data, SMALL_JOURNAL)
    assert await content(survivor, "s") == expected
    await survivor.close()


async def test_nothing_is_made_where_a_deletion_has_just_failed(
    engine: FileStore, disk: StagedDisk
) -> None:
    await put(engine, "other")
    busy = disk.hold("pwrite", ".seg")
    await append(engine, "other", b"the applier is busy, ")
    await asyncio.to_thread(busy.reached.wait)
    await engine.delete(("s",))
    await append(engine, "other", b"and has more to do in the same go")
    disk.fail("rename", errno.EIO, "data/trash/")
    unfinished = disk.hold("pwrite", ".seg")
    busy.open()
    await asyncio.to_thread(unfinished.reached.wait)
    await out_of_service(engine, "s")
    with pytest.raises(StreamOutOfService):
        await put(engine, "s", b"it would be acknowledged, and then damaged")


async def fill_the_journal(engine: FileStore) -> None:
    """Write several times what the journal holds, to another stream."""
    await put(engine, "filler")
    for _ in range(15):
        await asyncio.gather(*(append(engine, "filler", bytes(60 * KIB)) for _ in range(10)))


async def test_a_file_that_cannot_be_written_does_not_stop_other_streams(
    engine: FileStore, data: Path, disk: StagedDisk
) -> None:
    disk.fail("pwrite", errno.EIO, "data/streams/s@", times=1)
    await append(engine, "s", b"acknowledged.")
    await out_of_service(engine, "s")
    for use in (content(engine, "s"), append(engine, "s", b"refused")):
        with pytest.raises(StreamOutOfService):
            await use
    await fill_the_journal(engine)
    survivor = await after_a_kill(engine, data)
    assert await content(survivor, "s") == b"one.acknowledged."
    await survivor.close()


async def test_what_a_file_is_missing_survives_a_proper_end_as_well(
    data: Path, disk: StagedDisk
) -> None:
    engine = await started(data, disk)
    disk.fail("pwrite", errno.EIO, "data/streams/s@", times=1)
    await append(engine, "s", b"acknowledged.")
    await out_of_service(engine, "s")
    await engine.close()
    engine = await FileStore.at(data, SMALL_JOURNAL)
    assert await content(engine, "s") == b"one.acknowledged."
    await engine.close()


async def test_what_is_kept_goes_to_the_journal_behind_nothing_that_continues_it(
    engine: FileStore, data: Path, disk: StagedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = disk.hold("pwrite", "data/streams/s@")
    disk.fail("pwrite", errno.EIO, "data/streams/s@", times=1)
    await append(engine, "s", b"two.")
    await asyncio.to_thread(files.reached.wait)
    journal = disk.hold("pwrite", "data/journal")
    continuing = asyncio.ensure_future(append(engine, "s", b"three."))
    await asyncio.to_thread(journal.reached.wait)
    files.open()
    await out_of_service(engine, "s")
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "full_files", lambda _self: 1)
        await checkpoint(engine)
    journal.open()
    await continuing
    await put(engine, "fence")
    survivor = await FileStore.at(copy_live(data, data.with_name("image")), SMALL_JOURNAL)
    assert await content(survivor, "s") == b"one.two.three."
    await survivor.close()


async def test_more_than_the_journal_can_keep_stops_writing_rather_than_be_lost(
    data: Path, disk: StagedDisk
) -> None:
    engine = await started(data, disk, IMPATIENT)
    gate = disk.hold("pwrite", "data/streams/s@")
    disk.fail("pwrite", errno.EIO, "data/streams/s@")
    await append(engine, "s", b"first.")
    await asyncio.to_thread(gate.reached.wait)
    for _ in range(10):  # more than a quarter of a journal file
        await append(engine, "s", bytes(60 * KIB))
    gate.open()
    await out_of_service(engine, "s")
    with pytest.raises(Overloaded):
        await fill_the_journal(engine)
    survivor = await after_a_kill(engine, data)
    assert (await survivor.head(("s",))).tail.position == len(b"one.first.") + 10 * 60 * KIB
    await survivor.close()
    disk.heal()
    await engine.close()


async def test_a_journal_that_fills_up_while_the_server_goes_down_does_not_hold_it_up(
    data: Path, disk: StagedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await started(data, disk, IMPATIENT)
    journal = disk.hold("pwrite", "data/journal")
    written = asyncio.ensure_future(append(engine, "s", b"two."))
    await asyncio.to_thread(journal.reached.wait)
    refused = asyncio.ensure_future(append(engine, "s", b"three."))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(engine.close())
    for _ in range(20):  # until it waits for what was accepted
        await asyncio.sleep(0)
    monkeypatch.setattr(Journal, "has_room", lambda *_: False)
    journal.open()
    await closing
    await written
    with pytest.raises(Overloaded):
        await refused


async def test_what_still_has_to_reach_its_files_counts_against_the_room_on_the_disk(
    data: Path, disk: StagedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "room", lambda _: (64 * MIB + 100 * KIB, 1 << 20))
    engine = await started(data, disk, tuning=Tuning(tick_s=0.001))
    gate = disk.hold("pwrite", "data/streams/s@")
    for _ in range(2):
        assert engine.refusal() is None
        await append(engine, "s", bytes(60 * KIB))
    while engine.refusal() is None:
        await asyncio.sleep(0)
    assert isinstance(engine.refusal(), DiskFull)
    gate.open()
    while engine.refusal() is not None:
        await asyncio.sleep(0)
    await engine.close()


# -- directories beside the streams --------------------------------------------------------


@pytest.mark.parametrize("name", ["tmp", "trash"])
async def test_a_directory_beside_the_streams_that_was_removed_is_made_again(
    engine: FileStore, data: Path, name: str
) -> None:
    shutil.rmtree(data / name)
    await put(engine, "new", b"kept")
    await append(engine, "s", b"two.")
    await engine.create(Create(("mortal",), BYTES, Lifetime(ttl_s=3000)), b"three")
    await engine.delete(("new",))
    await put(engine, "new", b"again")
    await in_files(engine, "new")
    survivor = await after_a_kill(engine, data)
    assert await content(survivor, "s") == b"one.two."
    assert await content(survivor, "mortal") == b"three"
    assert await content(survivor, "new") == b"again"
    await survivor.close()


async def test_torn_bytes_are_kept_though_the_directory_for_them_was_removed(
    data: Path, disk: StagedDisk
) -> None:
    await (await started(data, disk)).close()
    (segment,) = directory(data, "s").glob("*.seg*")
    with segment.open("ab") as file:
        file.write(b"torn")
    engine = await FileStore.at(data, SMALL_JOURNAL, disk)
    shutil.rmtree(data / "aside")
    await append(engine, "s", b"two.")
    await in_files(engine, "s")
    assert await content(engine, "s") == b"one.two."
    await engine.close()
    (torn,) = (data / "aside").iterdir()
    assert torn.read_bytes() == b"torn"


async def test_what_cannot_be_listed_of_deleted_streams_is_told_and_stops_nothing(
    data: Path, disk: StagedDisk, caplog: pytest.LogCaptureFixture
) -> None:
    await (await started(data, disk)).close()
    disk.fail("some_names", errno.EACCES, "data/trash")
    engine = await started(data, disk)
    await engine.delete(("s",))
    await engine.close()
    assert "cannot remove what is left of deleted streams: [Errno 13]" in caplog.text


async def test_a_fork_whose_directory_was_removed_before_it_was_in_place_is_not_acknowledged(
    engine: FileStore, data: Path, disk: StagedDisk
) -> None:
    gate = disk.hold("rename", "data/streams/fork@")
    forking = asyncio.ensure_future(fork(engine, "fork", "s"))
    await asyncio.to_thread(gate.reached.wait)
    shutil.rmtree(data / "tmp")
    gate.open()
    with pytest.raises(StreamOutOfService):
        await forking


# -- forks ---------------------------------------------------------------------------------


async def test_a_fork_gives_way_to_a_stream_whose_deletion_failed_meanwhile(
    engine: FileStore, data: Path, disk: StagedDisk
) -> None:
    await put(engine, "p", b"precious")
    await in_files(engine, "p")
    journal = disk.hold("pwrite", "data/journal")
    deleting = asyncio.ensure_future(engine.delete(("p",)))
    await asyncio.to_thread(journal.reached.wait)
    forking = asyncio.ensure_future(fork(engine, "p", "s"))
    for _ in range(20):
        await asyncio.sleep(0)
    disk.fail("pwrite", errno.ENOSPC, "data/journal", times=1)
    journal.open()
    with pytest.raises(DiskFull):
        await deleting
    with pytest.raises(StreamExists):
        await forking
    assert await content(engine, "p") == b"precious"
    assert list((data / "tmp").iterdir()) == []


async def test_a_source_deleted_while_a_fork_was_built_that_failed_is_gone(
    engine: FileStore, data: Path, disk: StagedDisk
) -> None:
    building = disk.hold("make_directory", "data/tmp/")
    forking = asyncio.ensure_future(fork(engine, "fork", "s"))
    await asyncio.to_thread(building.reached.wait)
    await engine.delete(("s",))
    disk.fail("make_directory", errno.EIO, "data/tmp/", times=1)
    building.open()
    with pytest.raises(WriteFailed):
        await forking
    with pytest.raises(StreamNotFound):
        await engine.head(("s",))
    await put(engine, "s", b"new")


async def test_a_fork_that_the_journal_refused_leaves_nothing_behind(
    engine: FileStore, data: Path, disk: StagedDisk
) -> None:
    disk.fail("pwrite", errno.ENOSPC, "data/journal", times=1)
    with pytest.raises(DiskFull):
        await fork(engine, "fork", "s")
    assert list((data / "tmp").iterdir()) == []
    await look_for_room(engine)  # a write is tried before more are taken
    await fork(engine, "fork", "s")
    assert await content(engine, "fork") == b"one."


# -- checkpoints ---------------------------------------------------------------------------


async def test_a_failed_checkpoint_leaves_nothing_open(data: Path, disk: StagedDisk) -> None:
    engine = await started(data, disk)
    await put(engine, "new", b"first")
    await in_files(engine, "new")
    disk.fail("sync", errno.EIO, "data/streams/", times=1)
    disk.fail("sync", errno.EIO, "data/tmp/", times=1)
    begin_checkpoint(engine)
    while engine.fault is None:
        await asyncio.sleep(0)
    await engine.close()
    assert disk.open_files == []
