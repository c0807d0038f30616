"""One stream's files that the system refuses: it is out of service alone, and comes back whole."""

from __future__ import annotations

import asyncio
import errno
import os
from contextlib import asynccontextmanager
from traceback import walk_tb
from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.files.identity import FilesLost
from durable_streams.filestore.files.recovery import apply_again
from durable_streams.filestore.format.journal import AppendRecord, SidecarRecord
from durable_streams.filestore.pipeline.operations import size_of
from durable_streams.filestore.store import FileStore
from durable_streams.model.commands import Create, Lifetime
from durable_streams.model.errors import (
    DataDirectoryError,
    StorageFailed,
    StreamError,
    StreamNotFound,
    StreamOutOfService,
)
from tests.copying import copy_live
from tests.driving import BYTES, append, content, directory, fork, put
from tests.filestore.engine.faulty import SMALL_JOURNAL, started
from tests.filestore.files.staged_disk import StagedDisk
from tools.inside import (
    all_in_files,
    back_in_service,
    begin_trying_again,
    checkpoint,
    data_directory,
    in_files,
    on_their_way,
    out_of_service,
    outages,
    tries_finished,
    try_again,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine
    from pathlib import Path

REFUSALS = pytest.mark.parametrize(
    "number",
    [errno.EACCES, errno.EROFS, errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ELOOP, errno.EXDEV],
    ids=errno.errorcode.get,
)


@asynccontextmanager
async def killed(tmp_path: Path) -> AsyncIterator[Path]:
    """A data directory whose journal has more than the files of ``s``, and a sound ``t``."""
    disk = StagedDisk()
    engine = await started(tmp_path / "data", disk)
    await put(engine, "t", b"sound.")
    await in_files(engine, "t")
    gate = disk.hold("pwrite", "data/streams/s@")
    for body in (b"two.", b"three."):
        await append(engine, "s", body)
    image = copy_live(tmp_path / "data", tmp_path / "image")
    gate.open()
    yield image
    disk.heal()
    await engine.close()


@REFUSALS
@pytest.mark.parametrize("call", ["open_write", "pwrite"])
async def test_a_stream_that_a_start_cannot_write_is_out_of_service_alone(
    tmp_path: Path, number: int, call: str
) -> None:
    async with killed(tmp_path) as image:
        disk = StagedDisk()
        disk.fail(call, number, "image/streams/s@")
        for start in range(2):  # the records stay, whatever number of starts comes between
            engine = await FileStore.at(image, SMALL_JOURNAL, disk)
            with pytest.raises(StreamOutOfService, match=os.strerror(number)):
                await content(engine, "s")
            assert await content(engine, "t") == b"sound." + b"more." * start
            await append(engine, "t", b"more.")
            await put(engine, f"new-{start}", b"new")
            await engine.close()
        engine = await FileStore.at(image, SMALL_JOURNAL, disk)
        disk.heal()
        await back_in_service(engine, "s")
        assert await content(engine, "s") == b"one.two.three."
        await append(engine, "s", b"four.")
        await engine.close()
        engine = await FileStore.at(image, SMALL_JOURNAL)
        assert await content(engine, "s") == b"one.two.three.four."
        assert await content(engine, "t") == b"sound.more.more."
        await engine.close()


async def test_a_restart_brings_everything_when_the_cause_is_gone(tmp_path: Path) -> None:
    async with killed(tmp_path) as image:
        disk = StagedDisk()
        disk.fail("open_write", errno.EACCES, "image/streams/s@")
        engine = await FileStore.at(image, SMALL_JOURNAL, disk)
        copy = copy_live(image, tmp_path / "killed-again")
        await engine.close()
        for directory_ in (image, copy):
            engine = await FileStore.at(directory_, SMALL_JOURNAL)
            assert await content(engine, "s") == b"one.two.three."
            await engine.close()


async def test_a_disk_that_fails_altogether_still_ends_the_start(tmp_path: Path) -> None:
    async with killed(tmp_path) as image:
        disk = StagedDisk()
        disk.fail("sync_file_system", errno.EIO)
        disk.fail("sync", errno.EIO)
        with pytest.raises(DataDirectoryError):
            await FileStore.at(image, SMALL_JOURNAL, disk)


@REFUSALS
async def test_an_error_that_passes_costs_nothing_but_time(tmp_path: Path, number: int) -> None:
    disk = StagedDisk()
    engine = await started(tmp_path / "data", disk)
    disk.fail("pwrite", number, "data/streams/s@", times=3)
    await append(engine, "s", b"two.")
    await append(engine, "s", b"three.")
    if number not in (errno.ENOSPC, errno.EDQUOT):  # these are waited out
        await out_of_service(engine, "s")
        with pytest.raises(StreamOutOfService):
            await append(engine, "s", b"refused")
    await back_in_service(engine, "s")
    await append(engine, "s", b"four.")
    await in_files(engine, "s")
    assert await content(engine, "s") == b"one.two.three.four."
    await engine.close()
    engine = await FileStore.at(tmp_path / "data", SMALL_JOURNAL)
    assert await content(engine, "s") == b"one.two.three.four."
    await engine.close()


@asynccontextmanager
async def tried_again_with_more_on_its_way(
    engine: FileStore,
    disk: StagedDisk,
    refused: Coroutine[None, None, None],
    call: str,
    more: Coroutine[None, None, None],
) -> AsyncIterator[None]:
    """What is kept of ``s`` is tried again when more of it is not durable, and applied before."""
    files = disk.hold(call, "data/streams/s@")
    disk.fail(call, errno.EIO, "data/streams/s@", times=1)
    await refused
    await asyncio.to_thread(files.reached.wait)
    journal = disk.hold("pwrite", "data/journal")
    other = asyncio.create_task(put(engine, "t"))
    await asyncio.to_thread(journal.reached.wait)
    continuing = asyncio.create_task(more)
    while len(on_their_way(engine)) < 2:
        await asyncio.sleep(0)
    files.open()
    while not outages(engine).keeps:
        await asyncio.sleep(0)
    share, continued = disk.hold("rename", "data/streams/t@"), disk.hold("pwrite", "data/journal")
    journal.open()
    await other
    for gate in (share, continued):
        await asyncio.to_thread(gate.reached.wait)
    begin_trying_again(engine)
    continued.open()
    await continuing
    share.open()
    await tries_finished(engine)
    yield
    await engine.close()


async def test_what_became_durable_while_a_stream_was_tried_again_is_not_lost(
    tmp_path: Path,
) -> None:
    disk = StagedDisk()
    engine = await started(tmp_path / "data", disk)
    two, three = append(engine, "s", b"two."), append(engine, "s", b"three.")
    async with tried_again_with_more_on_its_way(engine, disk, two, "pwrite", three):
        await back_in_service(engine, "s")
        await append(engine, "s", b"four.")
        await in_files(engine, "s")
        assert await content(engine, "s") == b"one.two.three.four."
    engine = await FileStore.at(tmp_path / "data", SMALL_JOURNAL)
    assert await content(engine, "s") == b"one.two.three.four."
    await engine.close()


async def test_what_was_deleted_while_it_was_tried_again_is_not_made_again(
    tmp_path: Path,
) -> None:
    disk = StagedDisk()
    engine = await FileStore.at(tmp_path / "data", SMALL_JOURNAL, disk)
    birth, deletion = put(engine, "s", b"one."), engine.delete(("s",))
    async with tried_again_with_more_on_its_way(engine, disk, birth, "rename", deletion):
        assert not directory(tmp_path / "data", "s").exists()
    engine = await FileStore.at(tmp_path / "data", SMALL_JOURNAL)
    with pytest.raises(StreamNotFound):
        await content(engine, "s")
    await engine.close()


async def test_uses_of_a_stream_out_of_service_do_not_add_up(tmp_path: Path) -> None:
    """Somebody may follow it for days: its TTL stands still, with one sidecar after the other."""
    disk = StagedDisk()
    engine = await FileStore.at(tmp_path / "data", SMALL_JOURNAL, disk)
    await engine.create(Create(("s",), BYTES, lifetime=Lifetime(ttl_s=60)), b"one.")
    await in_files(engine, "s")
    stream, known = await engine._find(("s",)), outages(engine)
    disk.fail("pwrite", errno.EIO, "data/streams/s@")
    await append(engine, "s", b"two.")
    await out_of_service(engine, "s")
    for _ in range(5):
        stream.last_use_ms += 1
        engine._uses.write(stream)
        operation = stream.last_operation
        assert operation is not None
        await operation.wait()
    await all_in_files(engine)
    ((_, kept),) = known.kept()
    assert [type(record) for record in kept] == [AppendRecord, SidecarRecord]
    assert known.kept_bytes == sum(map(size_of, kept))
    disk.heal()
    await back_in_service(engine, "s")
    assert not known.kept_bytes
    await engine.close()
    engine = await FileStore.at(tmp_path / "data", SMALL_JOURNAL)
    assert (await engine._find(("s",))).sidecar.last_use_ms >= stream.last_use_ms
    assert await content(engine, "s") == b"one.two."
    await engine.close()


async def test_a_deletion_that_the_files_refused_is_done_when_they_do_not(tmp_path: Path) -> None:
    disk = StagedDisk()
    engine = await started(tmp_path / "data", disk)
    disk.fail("rename", errno.EACCES, "data/trash/")
    await engine.delete(("s",))
    await out_of_service(engine, "s")
    disk.heal()
    await back_in_service(engine, "s")
    with pytest.raises(StreamNotFound):
        await content(engine, "s")
    await put(engine, "s", b"again")
    await in_files(engine, "s")
    assert await content(engine, "s") == b"again"
    await engine.close()


async def test_a_fork_that_could_not_be_put_in_place_waits_in_tmp(tmp_path: Path) -> None:
    disk = StagedDisk()
    engine = await started(tmp_path / "data", disk)
    gate = disk.hold("rename", "data/streams/f@")
    forking = asyncio.ensure_future(fork(engine, "f", "s"))
    await asyncio.to_thread(gate.reached.wait)
    image = copy_live(tmp_path / "data", tmp_path / "image")
    gate.open()
    await forking
    await engine.close()
    refusing = StagedDisk()
    refusing.fail("rename", errno.EACCES, "image/streams/f@")
    engine = await FileStore.at(image, SMALL_JOURNAL, refusing)
    with pytest.raises(StreamOutOfService):
        await content(engine, "f")
    refusing.heal()
    await back_in_service(engine, "f")
    assert await content(engine, "f") == b"one."
    await engine.close()


class NothingNewDisk(StagedDisk):
    """Refuses what the files of ``s`` do not have yet."""

    def pwrite(self, fd: int, data: bytes, position: int) -> None:
        if data in {b"two.", b"three."} and "streams/s@" in str(self._paths[fd]):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(self._paths[fd]))
        super().pwrite(fd, data, position)


async def test_what_does_not_continue_the_files_is_not_taken_for_applied(tmp_path: Path) -> None:
    async with killed(tmp_path) as image:
        engine = await FileStore.at(image, SMALL_JOURNAL, NothingNewDisk())
        for file in directory(image, "s").glob("*.idx"):
            file.write_bytes(b"")
        ((_, records),) = outages(engine).kept()
        with pytest.raises(FilesLost):
            await asyncio.to_thread(apply_again, data_directory(engine), records)
        await try_again(engine)
        assert outages(engine).keeps
        await engine.close()


async def test_an_error_that_is_kept_keeps_nothing_of_those_whom_it_was_told(
    tmp_path: Path,
) -> None:
    """Neither of one stream nor of all: it is raised for each of them, bodies in hand."""
    disk = StagedDisk()
    engine = await started(tmp_path / "data", disk)
    disk.fail("pwrite", errno.EIO, "data/streams/s@")
    await append(engine, "s", b"two.")
    await out_of_service(engine, "s")

    async def refusal() -> StreamError:
        with pytest.raises(StreamError) as caught:
            await append(engine, "s", b"three.")
        return caught.value

    def frames(error: StreamError) -> int:
        return len(list(walk_tb(error.__traceback__)))

    first = await refusal()
    known = frames(first)
    assert await refusal() is first
    assert frames(first) == known
    disk.fail("sync", errno.EIO, "data/journal")
    with pytest.raises(StorageFailed):
        await put(engine, "t")
    final = await refusal()
    known = frames(final)
    assert await refusal() is final
    assert frames(final) == known
    disk.heal()
    await engine.close()


async def test_what_a_stream_s_files_had_before_it_failed_is_synced_though_it_is_tried_again(
    tmp_path: Path,
) -> None:
    disk = StagedDisk()
    engine = await started(tmp_path / "data", disk)
    await append(engine, "s", b"two.")
    await in_files(engine, "s")
    disk.fail("pwrite", errno.EIO, "data/streams/s@")
    await append(engine, "s", b"three.")
    await out_of_service(engine, "s")
    while not outages(engine).keeps:
        await asyncio.sleep(0)
    await try_again(engine)
    synced = disk.calls["sync_file_system"]
    await checkpoint(engine)
    assert disk.calls["sync_file_system"] == synced + 1
    disk.heal()
    await back_in_service(engine, "s")
    assert await content(engine, "s") == b"one.two.three."
    await engine.close()
