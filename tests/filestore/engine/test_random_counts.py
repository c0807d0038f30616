"""Creates, forks, deletions, expiries, failures and crashes at random: the number is right."""

from __future__ import annotations

import asyncio
import errno
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.filestore.store import FileStore
from durable_streams.filestore.tuning import Tuning
from durable_streams.model.commands import FOREVER, Create, ForkRequest, Lifetime
from durable_streams.model.errors import StreamError, TooManyRequests
from durable_streams.model.stream_limits import StreamLimit, parse_limits
from tests.copying import copy_live
from tests.driving import BYTES
from tests.filestore.engine.counting import settings_of, walked
from tests.filestore.files.staged_disk import StagedDisk
from tools.inside import all_in_files, look_for_room, of, stream_numbers
from tools.simulation.scheduler import Scheduler, SimulatedLoop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from durable_streams.model.paths import StreamPath

    Life = Callable[[FileStore], Awaitable[None]]

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
