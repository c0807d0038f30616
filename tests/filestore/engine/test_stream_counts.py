"""The number of streams that a limit goes by is that of the directories, whatever happens.

One module because all of it is one promise, against one independent walk.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.filestore.store import FileStore
from durable_streams.filestore.tuning import Tuning
from durable_streams.model.commands import Create
from durable_streams.model.errors import Draining, StreamError, TooManyRequests, Unavailable
from durable_streams.settings import Settings
from tests.copying import copy_live
from tests.driving import BYTES, directory, fork, put
from tests.filestore.engine.counting import settings_of, walked
from tests.filestore.files.staged_disk import StagedDisk
from tools.inside import (
    all_in_files,
    back_in_service,
    counts_under_way,
    in_files,
    look_for_room,
    of,
    stream_numbers,
    threads_had_a_turn,
)

if TYPE_CHECKING:
    from pathlib import Path

ONE_BY_ONE: Final = Tuning(counted_at_once=1)


async def is_refused(engine: FileStore, path: str) -> bool:
    """Whether there is no room for one more; else there is one less."""
    try:
        await put(engine, path)
    except TooManyRequests:
        return True
    return False


async def left_behind(data: Path, *paths: str) -> None:
    """Streams of an earlier run."""
    engine = await FileStore.at(data, Settings())
    for path in paths:
        await put(engine, path, b"some")
    await engine.close()


# -- when they are counted -----------------------------------------------------------------


async def test_nothing_is_counted_before_the_first_create_below_the_prefix(
    data: Path, disk: StagedDisk
) -> None:
    await left_behind(data, "a/1", "a/2", "b/1")
    engine = await FileStore.at(data, settings_of("a=9", "b=9"), disk)
    await put(engine, "c")
    assert disk.calls["names_behind"] == 0
    await put(engine, "b/2")
    assert stream_numbers(engine, "a") == [None]
    assert stream_numbers(engine, "b") == [2]
    await put(engine, "a")
    assert stream_numbers(engine, "a") == [3]
    looks = disk.calls["names_behind"]
    await put(engine, "a/3")
    await put(engine, "b/3")
    assert disk.calls["names_behind"] == looks
    await engine.close()


async def test_without_limits_nothing_ever_is(data: Path, disk: StagedDisk) -> None:
    engine = await FileStore.at(data, Settings(), disk)
    await put(engine, "a")
    assert disk.calls["names_behind"] == 0
    await engine.close()


async def test_those_who_come_meanwhile_share_one_count_and_what_is_there_is_found(
    data: Path, disk: StagedDisk
) -> None:
    await left_behind(data, "a/1", "a/2")
    engine = await FileStore.at(data, settings_of("a=5"), disk)
    gate = disk.hold("names_behind", "streams/a")
    coming = [asyncio.create_task(is_refused(engine, f"a/new-{number}")) for number in range(9)]
    while not gate.reached.is_set():
        await asyncio.sleep(0)
    assert not (await engine.create(Create(of("a/1"), BYTES), b"some")).created
    await put(engine, "b")
    assert engine.create_now(Create(of("a/now"), BYTES), b"") is None
    assert counts_under_way(engine) == 1
    gate.open()
    assert sorted(await asyncio.gather(*coming)) == [False] * 3 + [True] * 6
    assert disk.calls["names_behind"] == 1
    await all_in_files(engine)
    assert walked(data, ("a",)) == 5
    await engine.close()


async def test_one_limit_is_counted_at_a_time(data: Path, disk: StagedDisk) -> None:
    """The threads are there for others as well."""
    await left_behind(data, "a/1", "b/1")
    engine = await FileStore.at(data, settings_of("a=5", "b=5"), disk)
    gate = disk.hold("names_behind", "streams/a")
    coming = [asyncio.create_task(put(engine, path)) for path in ("a/2", "b/2")]
    while not gate.reached.is_set() or counts_under_way(engine) < 2:
        await asyncio.sleep(0)
    await threads_had_a_turn(engine, 20)
    assert disk.calls["names_behind"] == 0
    gate.open()
    await asyncio.gather(*coming)
    assert (stream_numbers(engine, "a"), stream_numbers(engine, "b")) == ([2], [2])
    await engine.close()


async def test_what_cannot_be_counted_is_refused_until_it_can(
    data: Path, disk: StagedDisk, caplog: pytest.LogCaptureFixture
) -> None:
    await left_behind(data, "a/b/1", "a/c/1")
    engine = await FileStore.at(data, settings_of("a=3"), disk)
    disk.fail("names_behind", errno.EIO, "a/c")
    for _ in range(3):
        with pytest.raises(Unavailable, match=r"below 'a' cannot be counted now: Input/output"):
            await put(engine, "a/new")
    assert len([record for record in caplog.records if "a/c" in record.getMessage()]) == 1
    await put(engine, "b")
    disk.heal()
    assert not await is_refused(engine, "a/new")
    assert await is_refused(engine, "a/another")
    await engine.close()


async def test_nothing_is_counted_while_the_directory_is_away(data: Path, disk: StagedDisk) -> None:
    """It would seem empty."""
    await left_behind(data, "a/1")
    engine = await FileStore.at(data, settings_of("a=1"), disk)
    gate = disk.hold("names_behind")
    coming = asyncio.create_task(is_refused(engine, "a/2"))
    while not gate.reached.is_set():
        await asyncio.sleep(0)
    shutil.move(data, data.with_name("away"))
    gate.open()
    with pytest.raises(Unavailable):
        await coming
    shutil.move(data.with_name("away"), data)
    disk.heal()
    assert await is_refused(engine, "a/2")
    await engine.close()


async def test_a_count_does_not_hold_up_the_end(data: Path, disk: StagedDisk) -> None:
    await left_behind(data, *(f"a/{number}/x" for number in range(20)))
    engine = await FileStore.at(data, settings_of("a=50"), disk, tuning=ONE_BY_ONE)
    gate = disk.hold("names_behind", "a/10")
    coming = asyncio.create_task(put(engine, "a/new"))
    while not gate.reached.is_set():
        await asyncio.sleep(0)
    closing = asyncio.create_task(engine.close())
    await asyncio.sleep(0)
    gate.open()
    with pytest.raises(Draining):
        await coming
    await closing
    assert disk.calls["names_behind"] < 10


async def test_who_leaves_meanwhile_creates_nothing_and_the_count_goes_on(
    data: Path, disk: StagedDisk
) -> None:
    await left_behind(data, "a/1")
    engine = await FileStore.at(data, settings_of("a=2"), disk)
    gate = disk.hold("names_behind")
    coming = asyncio.create_task(put(engine, "a/left"))
    while not gate.reached.is_set():
        await asyncio.sleep(0)
    coming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await coming
    gate.open()
    await put(engine, "a/stays")
    assert await is_refused(engine, "a/left")
    assert disk.calls["names_behind"] == 1
    await engine.close()


# -- what goes while they are counted --------------------------------------------------------


async def test_what_is_deleted_before_behind_and_at_the_place_of_the_walk_does_not_count(
    data: Path, disk: StagedDisk
) -> None:
    paths = [f"a/{name}/{number}" for name in "bcd" for number in range(4)]
    await left_behind(data, "a", *paths)
    engine = await FileStore.at(data, settings_of("a=9"), disk, tuning=ONE_BY_ONE)
    gate = disk.hold("names_behind", "a/c")
    coming = asyncio.create_task(put(engine, "a/new"))
    while not gate.reached.is_set():
        await asyncio.sleep(0)
    for path in ("a/b/1", "a/b/3", "a/c/0", "a/c/2", "a/d/3", "a"):
        await engine.delete(of(path))
    await all_in_files(engine)
    gate.open()
    await coming
    await all_in_files(engine)
    assert stream_numbers(engine, "a") == [8] == [walked(data, ("a",))]
    await engine.close()


async def test_what_is_gone_and_still_in_its_place_does_not_count(
    data: Path, disk: StagedDisk
) -> None:
    await left_behind(data, "a/1", "a/2")
    engine = await FileStore.at(data, settings_of("a=2"), disk)
    gate = disk.hold("rename", "trash/")
    await engine.delete(of("a/1"))
    assert directory(data, "a/1").exists()
    await put(engine, "a/3")
    assert await is_refused(engine, "a/4")
    gate.open()
    await all_in_files(engine)
    assert stream_numbers(engine, "a") == [2] == [walked(data, ("a",))]
    await engine.close()


async def test_a_deletion_that_is_not_durable_yet_makes_no_room(
    data: Path, disk: StagedDisk
) -> None:
    await left_behind(data, "a/1")
    engine = await FileStore.at(data, settings_of("a=1"), disk)
    assert await is_refused(engine, "a/2")
    gate = disk.hold("sync", "journal")
    going = asyncio.create_task(engine.delete(of("a/1")))
    while not gate.reached.is_set():
        await asyncio.sleep(0)
    assert await is_refused(engine, "a/2")
    gate.open()
    await going
    assert not await is_refused(engine, "a/2")
    await engine.close()


# -- what a start could not do ---------------------------------------------------------------


async def test_streams_that_a_start_could_not_put_in_place_or_remove_count_as_they_will_be(
    data: Path, disk: StagedDisk, tmp_path: Path
) -> None:
    await left_behind(data, "a/old", "a/stays", "a/stays/too")
    image = await crashed(data, disk, tmp_path)
    disk = StagedDisk()
    disk.fail("rename", errno.EACCES, "new@")
    disk.fail("open_read", errno.EACCES, "old@")
    engine = await FileStore.at(image, settings_of("a=4"), disk)
    assert set(engine.out_of_service()) == {of("a/new"), of("a/old")}
    assert walked(image, ("a",)) == 3
    await put(engine, "a/fourth")
    assert stream_numbers(engine, "a") == [4]
    assert await is_refused(engine, "a/fifth")
    disk.heal()
    await back_in_service(engine, "a/new")
    await back_in_service(engine, "a/old")
    assert stream_numbers(engine, "a") == [4] == [walked(image, ("a",))]
    await engine.delete(of("a/new"))
    assert stream_numbers(engine, "a") == [3]
    await engine.close()


@pytest.mark.parametrize("and_goes", [False, True], ids=["stays", "is deleted"])
async def test_one_that_comes_to_its_place_while_they_are_counted_counts_once(
    data: Path, disk: StagedDisk, tmp_path: Path, *, and_goes: bool
) -> None:
    await left_behind(data, "a/old", "a/stays", "a/stays/too")
    image = await crashed(data, disk, tmp_path)
    disk = StagedDisk()
    disk.fail("rename", errno.EACCES, "new@", times=1)
    engine = await FileStore.at(image, settings_of("a=9"), disk, tuning=Tuning(tick_s=3600))
    assert engine.out_of_service() == [of("a/new")]
    gate = disk.hold("names_behind")
    coming = asyncio.create_task(put(engine, "a/fourth"))
    while not gate.reached.is_set():
        await asyncio.sleep(0)
    await back_in_service(engine, "a/new")
    unlinking = disk.hold("rename", "trash/")
    if and_goes:
        await engine.delete(of("a/new"))
    gate.open()
    await coming
    unlinking.open()
    await all_in_files(engine)
    assert stream_numbers(engine, "a") == [3 if and_goes else 4] == [walked(image, ("a",))]
    await engine.close()


async def crashed(data: Path, disk: StagedDisk, tmp_path: Path) -> Path:
    """What a crash left before ``a/new`` came to its place and ``a/old`` went from there."""
    engine = await FileStore.at(data, settings_of("a=9"), disk)
    gates = [disk.hold("rename", "@"), disk.hold("rename", "trash/")]
    await put(engine, "a/new", b"some")
    await engine.delete(of("a/old"))
    image = copy_live(data, tmp_path / "image")
    for gate in gates:
        gate.open()
    await engine.close()
    return image


# -- failures --------------------------------------------------------------------------------


async def test_what_the_journal_refused_takes_no_room(data: Path, disk: StagedDisk) -> None:
    engine = await FileStore.at(data, settings_of("a=2"), disk)
    await put(engine, "a/1", b"some")
    disk.fail("pwrite", errno.ENOSPC, "journal", times=3)
    for number in range(3):
        with pytest.raises(StreamError):
            await put(engine, f"a/new-{number}")
        with pytest.raises(StreamError):
            await fork(engine, f"a/fork-{number}", "a/1")
        await look_for_room(engine)
    disk.heal()
    await look_for_room(engine)
    assert stream_numbers(engine, "a") == [1]
    await put(engine, "a/2")
    assert await is_refused(engine, "a/3")
    await engine.close()


@pytest.mark.parametrize("call", ["make_directory", "open_write"])
async def test_a_fork_that_could_not_be_built_takes_no_room(
    data: Path, disk: StagedDisk, call: str
) -> None:
    engine = await FileStore.at(data, settings_of("a=2"), disk)
    await put(engine, "a/1", b"some")
    await in_files(engine, "a/1")
    for _ in range(3):
        disk.fail(call, errno.ENOSPC, "tmp/")
        with pytest.raises(StreamError):
            await fork(engine, "a/fork", "a/1")
        disk.heal()
        await look_for_room(engine)
    assert stream_numbers(engine, "a") == [1]
    await fork(engine, "a/fork", "a/1")
    assert await is_refused(engine, "a/3")
    await engine.close()
