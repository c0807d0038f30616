"""The number of streams that a limit goes by is that of the directories, whatever happens.

One module because all of it is one promise, against one independent walk.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.filestore.files import names
from durable_streams.filestore.store import FileStore
from durable_streams.filestore.tuning import Tuning
from durable_streams.model.commands import FOREVER, Create, ForkRequest, Lifetime
from durable_streams.model.errors import Draining, StreamError, TooManyRequests, Unavailable
from durable_streams.model.stream_limits import StreamLimit, parse_limits
from durable_streams.settings import Settings
from tests.copying import copy_live
from tests.driving import BYTES, directory, fork, put
from tests.filestore.engine.faulty import SMALL_JOURNAL
from tests.filestore.files.staged_disk import StagedDisk
from tools.inside import (
    all_in_files,
    back_in_service,
    counts_under_way,
    in_files,
    look_for_room,
    of,
    stream_numbers,
)
from tools.simulation.scheduler import Scheduler, SimulatedLoop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from durable_streams.model.paths import StreamPath

    Life = Callable[[FileStore], Awaitable[None]]

PATIENT: Final = 1e6  # seconds that files may lag behind, as tests keep them from being written
ONE_BY_ONE: Final = Tuning(counted_at_once=1)


def settings_of(*limits: str) -> Settings:
    return replace(SMALL_JOURNAL, max_streams=limits, max_lag_s=PATIENT)


def walked(data: Path, prefix: StreamPath) -> int:
    """How many directories of streams there are at and below a prefix."""
    streams = data / "streams"
    found = (names.path_of(str(path.relative_to(streams))) for path in streams.rglob("*@"))
    return sum(path is not None and path[: len(prefix)] == prefix for path in found)


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
    engine = await FileStore.at(data, settings_of("a=9"), disk)
    gates = [disk.hold("rename", "@"), disk.hold("rename", "trash/")]
    await put(engine, "a/new", b"some")
    await engine.delete(of("a/old"))
    image = copy_live(data, tmp_path / "image")
    for gate in gates:
        gate.open()
    await engine.close()

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


# -- all of it, at random --------------------------------------------------------------------

LIMITS: Final = ("=14", "a=8", "a/b=4", "c d=3")
PATHS: Final = [
    *("a", "a/b", "a/b/1", "a/b/2", "a/b/3/x", "a/b/4", "a/1", "a/2", "a/3/y", "a/4/z"),
    *("c d", "c d/1", "c d/E", "c d/%2F", "ab", "c", "e/f/g", "e/f/h", "e/i", "j"),
]


class RandomLife:
    """Creates, forks, deletions, expiries and failures, several at a time."""

    def __init__(self, random: Random, disk: StagedDisk) -> None:
        self.random = random
        self.disk = disk
        self.refused = 0

    async def round(self, engine: FileStore, steps: int) -> None:
        await asyncio.gather(*(self._go(engine, steps) for _ in range(5)))

    async def _go(self, engine: FileStore, steps: int) -> None:
        for _ in range(steps):
            try:
                await self._step(engine)
            except TooManyRequests:
                self.refused += 1
            except StreamError:
                pass
            for path in PATHS:
                self._check(engine, path)

    def _check(self, engine: FileStore, path: str) -> None:
        """None is ever above its limit."""
        for limit, number in zip(limits_at(of(path)), stream_numbers(engine, path), strict=True):
            assert number is None or 0 <= number <= limit.most

    async def _step(self, engine: FileStore) -> None:
        path, other = of(self.random.choice(PATHS)), of(self.random.choice(PATHS))
        lifetime = self.random.choice([FOREVER, FOREVER, Lifetime(ttl_s=self.random.randint(1, 9))])
        match self.random.randint(0, 11):
            case 0 | 1 | 2 | 3:
                await engine.create(Create(path, BYTES, lifetime), b"some")
            case 4 | 5 | 6:
                await engine.create(Create(path, None, lifetime, fork=ForkRequest(other)), b"")
            case 7 | 8:
                await engine.delete(path)
            case 9:
                await asyncio.sleep(self.random.choice([0.1, 1.0, 10.0]))
            case 10 | 11:
                call, where = self.random.choice(
                    [("pwrite", "journal"), ("make_directory", "tmp/"), ("rename", "@")]
                )
                self.disk.fail(call, errno.ENOSPC, where, times=1)
                with suppress(StreamError):
                    await engine.create(Create(path, BYTES, lifetime), b"some")
                self.disk.heal()
                await look_for_room(engine)

    async def comes_to_rest(self, engine: FileStore) -> None:
        """Nothing is under way, and the disk is well."""
        self.disk.heal()
        await look_for_room(engine)
        await asyncio.sleep(self.random.choice([5.0, 5.0, 200.0]))
        await all_in_files(engine)


def limits_at(path: StreamPath) -> list[StreamLimit]:
    limits = sorted(parse_limits(LIMITS), key=lambda limit: len(limit.prefix))
    return [limit for limit in limits if path[: len(limit.prefix)] == limit.prefix]


def check_numbers(engine: FileStore, data: Path) -> int:
    """Compare with the directories; how many limits were counted."""
    known = 0
    for path in PATHS:
        for limit, number in zip(limits_at(of(path)), stream_numbers(engine, path), strict=True):
            if number is not None:
                known += 1
                assert number == walked(data, limit.prefix), limit
    return known


def live(data: Path, random: Random, disk: StagedDisk, life: Life, now: float = 0.0) -> float:
    """One life of an engine in virtual time; when it ended."""
    scheduler = Scheduler(random, now)
    loop = SimulatedLoop(scheduler)
    tuning = Tuning(counted_at_once=random.choice([1, 2, 1000]))

    async def lead() -> None:
        settings = replace(settings_of(*LIMITS), reclaim_delay_s=60, reclaim_interval_s=60)
        engine = await FileStore.at(data, settings, disk, scheduler, tuning)
        await life(engine)
        await engine.close()

    try:
        loop.run_until_complete(lead())
    finally:
        loop.close()
    return scheduler.now


class TestAtRandom:
    """In virtual time, where threads take turns as the seed says."""

    @pytest.fixture(autouse=True)
    def nothing_blocks_the_loop(self) -> None:
        """The simulated executor does its jobs on the loop's thread, so everything does."""

    @pytest.mark.parametrize("seed", range(12))
    def test_the_numbers_are_those_of_the_directories(self, tmp_path: Path, seed: int) -> None:
        random, disk = Random(seed), StagedDisk()
        told = RandomLife(random, disk)
        known: list[int] = []

        async def first(engine: FileStore) -> None:
            for _ in range(3):
                await told.round(engine, 12)
                await told.comes_to_rest(engine)
                known.append(check_numbers(engine, tmp_path / "0"))
            await told.round(engine, 6)
            copy_live(tmp_path / "0", tmp_path / "crashed")

        async def again(engine: FileStore) -> None:
            await told.round(engine, 6)
            await told.comes_to_rest(engine)
            known.append(check_numbers(engine, engine.root))

        now = live(tmp_path / "0", random, disk, first)
        for name in ("crashed", "0"):
            now = live(tmp_path / name, random, StagedDisk(), again, now)
        assert min(known) > 0
        assert told.refused
