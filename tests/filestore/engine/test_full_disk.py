"""A full disk, or a quota that nothing tells of: writes are refused, deletions make room."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.files import names
from durable_streams.filestore.files.directory import RESERVE_BYTES
from durable_streams.filestore.runtime.machine import Runtime
from durable_streams.filestore.store import FileStore
from durable_streams.model.commands import Create, Lifetime
from durable_streams.model.errors import DiskFull, StreamNotFound
from durable_streams.settings import KIB, MIB, Durability, Settings
from tests.driving import BYTES, append, content, put
from tests.filestore.files.staged_disk import StagedDisk
from tools.inside import in_files, look_for_room

if TYPE_CHECKING:
    from durable_streams.filestore.files.disk import StrPath

SETTINGS = Settings(max_append_bytes=64 * KIB, journal_file_bytes=2 * MIB, journal_files=2)
FULL = pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT], ids=errno.errorcode.get)


class SmallDisk(StagedDisk):
    """Of a size, with so much free."""

    def __init__(self, size: int, free: int) -> None:
        super().__init__()
        self.size, self.free = size, free

    def room(self, path: StrPath) -> tuple[int, int]:
        return self.free, 1 << 30

    def volume_bytes(self, path: StrPath) -> int:
        return self.size


async def test_deletions_are_taken_below_the_reserve(tmp_path: Path) -> None:
    disk = SmallDisk(10**10, 10**9)
    engine = await FileStore.at(tmp_path / "data", SETTINGS, disk)
    await put(engine, "s", b"x")
    disk.free = 40 * MIB
    await look_for_room(engine)
    with pytest.raises(DiskFull):
        await append(engine, "s", b"y")
    with pytest.raises(DiskFull):
        await put(engine, "t", b"y")
    assert await content(engine, "s") == b"x"
    await engine.delete(("s",))
    with pytest.raises(StreamNotFound):
        await content(engine, "s")
    await engine.close()


@pytest.mark.parametrize(("size", "free", "full"), [
    (60 * MIB, 5 * MIB, False), (60 * MIB, 3 * MIB, True), (10**10, 65 * MIB, False),
    (10**10, 63 * MIB, True),
])  # fmt: skip
async def test_the_reserve_is_a_share_of_a_small_volume(
    tmp_path: Path, size: int, free: int, full: bool
) -> None:
    engine = await FileStore.at(tmp_path / "data", SETTINGS, SmallDisk(size, free))
    await look_for_room(engine)
    assert isinstance(engine.refusal(), DiskFull) is full
    await engine.close()


async def test_the_reserve_is_a_setting(tmp_path: Path) -> None:
    disk = SmallDisk(10**10, 2 * MIB)
    settings = Settings(reserve_bytes=MIB)
    engine = await FileStore.at(tmp_path / "data", settings, disk)
    await look_for_room(engine)
    await put(engine, "s", b"x")
    disk.free = MIB // 2
    await look_for_room(engine)
    with pytest.raises(DiskFull):
        await put(engine, "t", b"x")
    await engine.close()


@FULL
async def test_a_write_that_was_refused_fills_the_disk_until_one_can_be_made(
    tmp_path: Path, number: int
) -> None:
    disk = SmallDisk(10**10, 10**9)
    engine = await FileStore.at(tmp_path / "data", SETTINGS, disk)
    await put(engine, "s", b"x")
    disk.fail("pwrite", number)
    for _ in range(100):  # up to the end of what was zeroed ahead
        try:
            await append(engine, "s", bytes(60 * KIB))
        except DiskFull:
            break
    assert isinstance(engine.refusal(), DiskFull)
    await look_for_room(engine)
    assert isinstance(engine.refusal(), DiskFull)  # though there seems to be room
    disk.heal()
    await look_for_room(engine)
    await append(engine, "s", b"y")
    await engine.close()


@FULL
async def test_a_stream_that_filled_the_disk_can_be_deleted(tmp_path: Path, number: int) -> None:
    """Its own writes wait for room, and the deletion behind them makes it."""
    disk = SmallDisk(10**10, 10**9)
    engine = await FileStore.at(tmp_path / "data", SETTINGS, disk)
    for path in ("large", "other"):
        await put(engine, path, b"x")
        await in_files(engine, path)
    disk.fail("pwrite", number, "data/streams/")
    await append(engine, "large", b"waits")
    while not isinstance(engine.refusal(), DiskFull):
        await asyncio.sleep(0)
    await engine.delete(("large",))
    while list((tmp_path / "data" / "streams").glob("large*")):
        await asyncio.sleep(0)
    disk.heal()
    await look_for_room(engine)
    await append(engine, "other", b"y")
    await in_files(engine, "other")
    await engine.close()
    engine = await FileStore.at(tmp_path / "data", SETTINGS)
    assert await content(engine, "other") == b"xy"
    with pytest.raises(StreamNotFound):
        await content(engine, "large")
    await engine.close()


class AheadRuntime(Runtime):
    """Whose clock jumps when a test says so."""

    ahead_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms


@FULL
async def test_a_deletion_whose_files_are_kept_does_not_make_room(
    tmp_path: Path, number: int
) -> None:
    """As when a stream is replaced that expired by a clock that cannot be relied on."""
    disk, runtime = SmallDisk(10**10, 10**9), AheadRuntime()
    engine = await FileStore.at(tmp_path / "data", SETTINGS, disk, runtime)
    await engine.create(Create(("s",), BYTES, lifetime=Lifetime(ttl_s=60)), b"precious")
    await put(engine, "other", b"x")
    await in_files(engine, "other")
    full = disk.hold("pwrite", "data/streams/other@")
    disk.fail("pwrite", number, "data/streams/other@")
    await append(engine, "other", b"waits")
    await asyncio.to_thread(full.reached.wait)
    runtime.ahead_ms = 120_000
    await put(engine, "s", b"new")
    tries = disk.calls["pwrite"]
    full.open()
    while disk.calls["pwrite"] < tries + 2:
        await asyncio.sleep(0)
    disk.heal()
    await in_files(engine, "s")
    assert await content(engine, "s") == b"new"
    await engine.close()
    (kept,) = (tmp_path / "data" / "aside").iterdir()
    assert b"precious" in [file.read_bytes() for file in kept.iterdir()]


@pytest.mark.parametrize("durability", [Durability.INTERVAL, Durability.NONE])
async def test_files_that_make_room_are_removed_when_their_stream_cannot_come_back(
    tmp_path: Path, durability: Durability
) -> None:
    disk = SmallDisk(10**10, 10**9)
    engine = await FileStore.at(tmp_path / "data", replace(SETTINGS, durability=durability), disk)
    for path in ("large", "other"):
        await put(engine, path, b"x")
        await in_files(engine, path)
    full = disk.hold("pwrite", "data/streams/other@")
    disk.fail("pwrite", errno.ENOSPC, "data/streams/other@")
    await append(engine, "other", b"waits")
    await asyncio.to_thread(full.reached.wait)
    await engine.delete(("large",))
    syncing = disk.hold("sync_directory", "data/trash")
    full.open()
    try:
        assert await asyncio.to_thread(syncing.reached.wait, 5)
        (deleted,) = (tmp_path / "data" / "trash").iterdir()
        assert b"x" in [file.read_bytes() for file in deleted.iterdir()]
    finally:
        disk.heal()
        await engine.close()
    assert not list((tmp_path / "data" / "trash").iterdir())


class LayeredDisk(SmallDisk):
    """Where the directory of a stream is of a layer that can only be read: its files move alone."""

    def rename(self, source: StrPath, target: StrPath) -> None:
        if "data/streams/" in str(source) and Path(source).is_dir():
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(source))
        super().rename(source, target)


@pytest.mark.parametrize("full", [False, True], ids=["roomy", "full"])
@pytest.mark.parametrize("kind", [SmallDisk, LayeredDisk])
async def test_files_that_are_to_be_kept_are_moved_where_their_directory_cannot_be(
    tmp_path: Path, kind: type[SmallDisk], full: bool
) -> None:
    """Moved one by one, and all of them: on a full disk as soon as it has room."""
    disk, runtime = kind(10**10, 10**9), AheadRuntime()
    engine = await FileStore.at(tmp_path / "data", SETTINGS, disk, runtime)
    await engine.create(Create(("s",), BYTES, lifetime=Lifetime(ttl_s=60)), b"precious")
    await in_files(engine, "s")
    runtime.ahead_ms = 120_000
    if full:
        disk.fail("rename", errno.ENOSPC, "data/trash/", times=2)
    await put(engine, "s", b"new")
    await in_files(engine, "s")
    assert await content(engine, "s") == b"new"
    await engine.close()
    (kept,) = (tmp_path / "data" / "aside").iterdir()
    files = {file.name: file.read_bytes() for file in kept.iterdir()}
    assert names.SIDECAR in files
    assert b"precious" in files.values()
    assert len(files) == 3


class ReserveDisk(SmallDisk):
    """Has room again when the reserve is given up."""

    def unlink(self, path: StrPath) -> None:
        super().unlink(path)
        if str(path).endswith("RESERVE"):
            self.heal()


@FULL
async def test_a_deletion_takes_the_reserve_if_the_journal_has_no_room(
    tmp_path: Path, number: int
) -> None:
    disk = ReserveDisk(10**10, 10**9)
    engine = await FileStore.at(tmp_path / "data", SETTINGS, disk)
    await put(engine, "s", b"x")
    await put(engine, "t", b"x")
    await look_for_room(engine)
    reserve = tmp_path / "data" / "RESERVE"
    assert reserve.stat().st_size == RESERVE_BYTES
    disk.fail("pwrite", number, "data/journal")
    with pytest.raises(DiskFull):
        await append(engine, "t", b"y")
    assert reserve.exists()
    await engine.delete(("s",))
    assert not reserve.exists()
    await look_for_room(engine)
    await append(engine, "t", b"y")
    await look_for_room(engine)
    assert reserve.exists()
    await engine.close()


@FULL
async def test_a_start_takes_the_reserve_if_there_is_no_room(tmp_path: Path, number: int) -> None:
    disk = ReserveDisk(10**10, 10**9)
    engine = await FileStore.at(tmp_path / "data", SETTINGS, disk)
    await put(engine, "s", b"x")
    await look_for_room(engine)
    await engine.close()
    disk.fail("pwrite", number)
    engine = await FileStore.at(tmp_path / "data", SETTINGS, disk)
    assert await content(engine, "s") == b"x"
    await engine.close()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EXDEV])
async def test_what_cannot_be_moved_to_the_trash_is_removed_in_its_place(
    tmp_path: Path, number: int
) -> None:
    """At a quota there may be no room for a name; a layer of an image cannot be moved."""
    disk = SmallDisk(10**10, 10**9)
    engine = await FileStore.at(tmp_path / "data", SETTINGS, disk)
    await put(engine, "s", b"x")
    await in_files(engine, "s")
    disk.fail("rename", number, "data/trash")
    await engine.delete(("s",))
    while list((tmp_path / "data" / "streams").iterdir()):
        await asyncio.sleep(0)
    await put(engine, "s", b"again")
    await in_files(engine, "s")
    assert await content(engine, "s") == b"again"
    await engine.close()
