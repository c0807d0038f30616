"""Many forks of one source, and long chains of them: each costs the same, and all go in the end."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.files import names
from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.files.stream_files import load_sidecar
from durable_streams.filestore.runtime.machine import Runtime
from durable_streams.filestore.store import FileStore
from durable_streams.filestore.tuning import Tuning
from durable_streams.filestore.verbs.endings import STEPS_AT_ONCE
from durable_streams.model.commands import Create, ForkRequest, Lifetime
from durable_streams.model.errors import StreamExists, StreamGone, StreamNotFound, StreamUnusable
from durable_streams.model.paths import parse_path_text
from durable_streams.settings import Settings
from tests.copying import copy_live
from tests.filestore.files.staged_disk import StagedDisk
from tools.inside import look_for_room, threads_had_a_turn, unload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from durable_streams.filestore.files.disk import StrPath

BYTES = "application/octet-stream"


class Hasty(Runtime):
    """Waits for nothing: more would come in a moment, but here it does not."""

    def pause(self, seconds: float) -> None:
        pass


class WeighingDisk(StagedDisk):
    """Counts the bytes that are written; syncs nothing, as no power is cut here."""

    def __init__(self) -> None:
        super().__init__()
        self.written = 0

    def pwrite_some(self, fd: int, data: bytes | memoryview, position: int) -> int:
        if self._paths[fd].name not in {"RESERVE", "room"}:
            self.written += len(data)
        return super().pwrite_some(fd, data, position)

    def sync(self, fd: int) -> None:
        pass

    def sync_directory(self, path: StrPath) -> None:
        pass

    def sync_file_system(self, fd: int) -> None:
        pass

    def unlink(self, path: StrPath) -> None:
        self._stage("unlink", path)
        super().unlink(path)

    def remove_directory(self, path: StrPath) -> None:
        self._stage("remove_directory", path)
        super().remove_directory(path)


@pytest.fixture
def disk() -> WeighingDisk:
    return WeighingDisk()


@pytest.fixture
async def engine(data: Path, disk: StagedDisk, tuning: Tuning) -> AsyncIterator[FileStore]:
    """Whatever is held goes on at its end."""
    engine = await FileStore.at(data, Settings(), disk, Hasty(), tuning)
    await engine.create(Create(("source",), BYTES), b"shared.")
    yield engine
    disk.heal()
    await engine.close()


async def fork(engine: FileStore, path: str, source: str = "source") -> None:
    request = ForkRequest(parse_path_text(source))
    await engine.create(Create(parse_path_text(path), None, fork=request), b"")


async def chain(engine: FileStore, length: int) -> list[str]:
    """Forks of forks, all but the last deleted; their paths from the source on."""
    paths = ["source"]
    for number in range(length):
        paths.append(f"fork-{number:05}")
        await fork(engine, paths[-1], paths[-2])
    for path in paths[:-1]:
        await engine.delete(parse_path_text(path))
    return paths


async def is_gone_for_good(engine: FileStore, path: str) -> bool:
    """Whether nothing is there; False if it was deleted softly."""
    try:
        await engine.head(parse_path_text(path))
    except StreamNotFound:
        return True
    except StreamGone:
        return False
    raise AssertionError("it is there")


def home(data: Path, path: str) -> Path:
    return data / "streams" / names.directory_of(parse_path_text(path))


def marks(data: Path, path: str = "source") -> list[Path]:
    return list(home(data, path).glob("*.forks/*"))


async def emptied(directory: Path, but_for: str = "") -> None:
    while set(await asyncio.to_thread(os.listdir, directory)) - {but_for}:
        pass


# -- many of one source --------------------------------------------------------------------


async def test_a_fork_writes_the_same_however_many_there_are(
    engine: FileStore, disk: WeighingDisk
) -> None:
    written: list[int] = []
    for number in range(60):
        before = disk.written
        await fork(engine, f"fork-{number:05}")
        written.append(disk.written - before)
    assert max(written[2:]) - min(written[2:]) <= 8  # digits of positions in the journal


async def test_the_source_goes_with_its_last_fork_whichever_that_is(
    engine: FileStore, data: Path
) -> None:
    paths = [f"fork-{number:05}" for number in range(40)]
    for path in paths:
        await fork(engine, path)
    await engine.delete(("source",))
    for path in paths[1::2] + paths[-2:0:-2] + paths[:1]:
        assert not await is_gone_for_good(engine, "source")
        await engine.delete(parse_path_text(path))
    assert await is_gone_for_good(engine, "source")
    await emptied(data / "streams")
    await emptied(data / "trash")


async def test_a_fork_that_is_gone_leaves_no_mark(engine: FileStore, data: Path) -> None:
    await fork(engine, "fork")
    assert len(marks(data)) == 1
    await engine.delete(("fork",))
    while marks(data):
        await asyncio.sleep(0)
    await engine.delete(("source",))
    assert await is_gone_for_good(engine, "source")


async def test_a_source_deleted_while_its_only_fork_is_put_in_place_is_kept_for_it(
    engine: FileStore, data: Path, disk: StagedDisk
) -> None:
    gate = disk.hold("rename", names.directory_of(("fork",)))
    forking = asyncio.ensure_future(fork(engine, "fork"))
    await asyncio.to_thread(gate.reached.wait)
    await engine.delete(("source",))
    gate.open()
    await forking
    assert not await is_gone_for_good(engine, "source")
    await engine.delete(("fork",))
    assert await is_gone_for_good(engine, "source")


async def test_a_source_is_not_kept_for_what_was_taken_away_by_hand(
    engine: FileStore, data: Path
) -> None:
    await fork(engine, "fork")
    await unload(engine, "fork")
    shutil.rmtree(home(data, "fork"))
    await engine.delete(("source",))
    assert await is_gone_for_good(engine, "source")


@pytest.mark.parametrize("content", [b"", b"\0" * 20, b"01234567 fork\n"])
async def test_a_mark_that_is_torn_keeps_nothing(
    engine: FileStore, data: Path, content: bytes
) -> None:
    await fork(engine, "fork")
    [mark] = marks(data)
    mark.write_bytes(content)
    await engine.delete(("source",))
    assert await is_gone_for_good(engine, "source")
    assert (await engine.head(("fork",))).tail.position == len(b"shared.")


async def test_a_mark_of_a_fork_of_another_stream_keeps_nothing(
    engine: FileStore, data: Path
) -> None:
    await fork(engine, "fork")
    await engine.create(Create(("other",), BYTES), b"")
    await fork(engine, "other-fork", "other")
    [mark], [strange] = marks(data), marks(data, "other")
    shutil.copy(mark, strange.parent)
    await engine.delete(("other-fork",))
    await engine.delete(("other",))
    assert await is_gone_for_good(engine, "other")


async def test_forks_that_cannot_be_looked_at_stop_the_deletion_of_their_source_by_name(
    engine: FileStore, disk: StagedDisk
) -> None:
    await fork(engine, "fork")
    disk.fail("some_names", errno.EIO, ".forks", times=1)
    with pytest.raises(StreamUnusable, match=r"source.*its forks cannot be looked at.*\.forks"):
        await engine.delete(("source",))
    await engine.delete(("fork",))
    await engine.delete(("source",))
    assert await is_gone_for_good(engine, "source")


async def test_an_expired_source_is_missing_not_gone_once_its_forks_are(
    engine: FileStore, data: Path
) -> None:
    lifetime = Lifetime(ttl_s=3600)
    await engine.create(Create(("mortal",), BYTES, lifetime=lifetime), b"")
    await fork(engine, "fork", "mortal")
    stream = await engine._find(("mortal",))
    stream.last_use_ms = 0
    with pytest.raises(StreamGone):
        await engine.head(("mortal",))
    await engine.delete(("fork",))
    with pytest.raises(StreamNotFound):
        await engine.head(("mortal",))


# -- chains --------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_chain_of_a_thousand_goes_with_its_end(engine: FileStore, data: Path) -> None:
    paths = await chain(engine, 1000)
    await engine.delete(parse_path_text(paths[-1]))
    await emptied(data / "streams")
    await emptied(data / "trash")
    assert await is_gone_for_good(engine, "source")


async def test_a_deletion_takes_so_many_sources_along_before_it_is_answered(
    engine: FileStore, disk: StagedDisk
) -> None:
    paths = await chain(engine, STEPS_AT_ONCE)
    disk.hold("rename", "data/trash/")  # nothing goes on behind the answer
    await engine.delete(parse_path_text(paths[-1]))
    assert await is_gone_for_good(engine, "source")


async def test_the_next_one_follows_in_the_background(
    engine: FileStore, data: Path, disk: StagedDisk
) -> None:
    paths = await chain(engine, STEPS_AT_ONCE + 1)
    gate = disk.hold("rename", "data/trash/")
    await engine.delete(parse_path_text(paths[-1]))
    assert not await is_gone_for_good(engine, "source")
    assert await is_gone_for_good(engine, paths[1])
    gate.open()
    await emptied(data / "streams")
    assert await is_gone_for_good(engine, "source")


async def test_a_chain_that_a_crash_cut_short_goes_on_at_the_next_start(
    engine: FileStore, data: Path, disk: StagedDisk, tmp_path: Path
) -> None:
    paths = await chain(engine, STEPS_AT_ONCE + 3)
    disk.hold("rename", "data/trash/")
    await engine.delete(parse_path_text(paths[-1]))
    image = copy_live(data, tmp_path / "image")
    restarted = await FileStore.at(image, Settings())
    await emptied(image / "streams")
    assert await is_gone_for_good(restarted, "source")
    await emptied(image / "trash")
    await restarted.close()


async def test_a_chain_that_a_stop_cut_short_goes_on_at_the_next_start(
    data: Path, disk: StagedDisk
) -> None:
    engine = await FileStore.at(data, Settings(), disk, Hasty())
    await engine.create(Create(("source",), BYTES), b"shared.")
    paths = await chain(engine, STEPS_AT_ONCE + 3)
    gate = disk.hold("rename", "data/trash/")
    await engine.delete(parse_path_text(paths[-1]))
    engine.drain()
    gate.open()
    await engine.close()
    assert home(data, "source").is_dir()
    engine = await FileStore.at(data, Settings())
    await emptied(data / "streams")
    await emptied(data / "trash")
    await engine.close()


async def test_what_a_chain_was_to_free_is_free_when_a_deletion_is_answered(
    engine: FileStore,
) -> None:
    for _ in range(5):
        paths = await chain(engine, 3)
        with pytest.raises(StreamExists):
            await engine.create(Create(("source",), BYTES), b"")
        await engine.delete(parse_path_text(paths[-1]))
        for path in paths:
            await engine.create(Create(parse_path_text(path), BYTES), b"")
            await engine.delete(parse_path_text(path))
        await engine.create(Create(("source",), BYTES), b"")


# -- the trash -----------------------------------------------------------------------------


@pytest.mark.parametrize("tuning", [Tuning(most_in_trash=3)])
@pytest.mark.parametrize("beyond", [0, 1, 5])
async def test_more_deleted_streams_than_are_remembered_are_removed_all_the_same(
    engine: FileStore, data: Path, disk: StagedDisk, beyond: int
) -> None:
    paths = [f"s/{number}" for number in range(1 + 3 + beyond)]
    for path in paths:
        await engine.create(Create(parse_path_text(path), BYTES), b"")
    gate = disk.hold("open_read", "data/trash/")
    await engine.delete(parse_path_text(paths[0]))
    await asyncio.to_thread(gate.reached.wait)  # that one alone is being removed
    for path in paths[1:]:
        await engine.delete(parse_path_text(path))
    while len(list((data / "trash").iterdir())) < len(paths):
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting = engine._endings._trash
    while len(waiting) < 3:
        await asyncio.sleep(0)
    assert len(waiting) == 3
    gate.open()
    await emptied(data / "trash")


async def test_what_is_in_the_trash_waits_while_the_data_directory_cannot_be_reached(
    engine: FileStore, data: Path, disk: StagedDisk, tmp_path: Path
) -> None:
    paths = await chain(engine, 2)
    disk.hold("open_read", "data/trash/")
    await engine.delete(parse_path_text(paths[-1]))
    await emptied(data / "streams")
    image = copy_live(data, tmp_path / "image")
    disk.heal()
    restarting = StagedDisk()
    gate = restarting.hold("open_read", "image/trash/")
    restarted = await FileStore.at(image, Settings(), restarting)
    await asyncio.to_thread(gate.reached.wait)
    restarting.fail("room", errno.EIO)
    await look_for_room(restarted)
    gate.open()
    for _ in range(10):
        await threads_had_a_turn(restarted)
    restarting.heal()
    await look_for_room(restarted)
    await asyncio.wait_for(emptied(image / "trash"), 30)
    await restarted.close()


@pytest.mark.parametrize("tuning", [Tuning(most_in_trash=2)])
async def test_what_cannot_be_removed_is_tried_once_and_stops_nothing(
    engine: FileStore, data: Path, disk: StagedDisk, caplog: pytest.LogCaptureFixture
) -> None:
    await engine.create(Create(("stuck",), BYTES), b"")
    stuck = (await engine.open(("stuck",))).info().id  # type: ignore[attr-defined]
    disk.fail("remove_directory", errno.EACCES, stuck)
    await engine.delete(("stuck",))
    for number in range(6):
        await engine.create(Create(("s", f"{number}"), BYTES), b"")
        await engine.delete(("s", f"{number}"))
    await emptied(data / "trash", stuck)
    assert caplog.text.count("cannot remove what is left of a deleted stream") == 1


async def test_a_mark_that_cannot_be_removed_does_not_keep_the_fork_s_files(
    engine: FileStore, data: Path, disk: StagedDisk, caplog: pytest.LogCaptureFixture
) -> None:
    await fork(engine, "fork")
    disk.fail("unlink", errno.EACCES, ".forks/", times=1)
    await engine.delete(("fork",))
    while "keeps the mark of a fork" not in caplog.text:
        await asyncio.sleep(0)
    await emptied(data / "trash")
    await engine.delete(("source",))
    assert await is_gone_for_good(engine, "source")


# -- older directories ---------------------------------------------------------------------


async def test_the_map_of_forks_that_0_1_wrote_is_carried_over(data: Path) -> None:
    golden = Path(__file__).parent.parent / "files" / "golden" / "format-1"
    shutil.copytree(golden, data)
    engine = await FileStore.at(data, Settings())
    await fork(engine, "second", "bytes")
    await engine.delete(("bytes",))
    assert not await is_gone_for_good(engine, "bytes")
    assert len(marks(data, "bytes")) == 2
    while True:
        sidecar = load_sidecar(Disk(), home(data, "bytes"))
        if sidecar is not None and sidecar.soft_deleted:
            break
        await asyncio.sleep(0)
    assert sidecar.forks == {}
    await engine.delete(("fork",))
    assert not await is_gone_for_good(engine, "bytes")
    await engine.delete(("second",))
    assert await is_gone_for_good(engine, "bytes")
    await engine.close()


async def test_the_map_that_0_1_wrote_is_carried_over_by_one_at_a_time(
    data: Path, disk: WeighingDisk
) -> None:
    golden = Path(__file__).parent.parent / "files" / "golden" / "format-1"
    shutil.copytree(golden, data)
    engine = await FileStore.at(data, Settings(), disk)
    stream = await engine._find(("bytes",))
    gate = disk.hold("make_directory", ".forks")
    looks = [asyncio.ensure_future(engine._endings._is_needed(stream)) for _ in range(3)]
    await asyncio.to_thread(gate.reached.wait)
    for _ in range(10):  # as far as the others get
        await threads_had_a_turn(engine)
    gate.open()
    assert await asyncio.gather(*looks) == [True, True, True]
    assert not stream.sidecar.forks
    await engine.close()
