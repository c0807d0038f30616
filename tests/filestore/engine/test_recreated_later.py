"""How long a removed path is remembered; in virtual time, on real files."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.store import FileStore
from durable_streams.model.commands import Create, Lifetime
from durable_streams.model.offsets import ZERO, Offset
from durable_streams.settings import Settings
from tools.simulation.scheduler import Scheduler, SimulatedLoop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

SETTINGS: Final = Settings()
LONG_S: Final = SETTINGS.remember_removed_s


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def nothing_blocks_the_loop() -> None:
    """The simulated executor does its jobs on the loop's thread, so everything does."""


async def create(
    engine: FileStore, path: str, body: bytes = b"", *, ttl_s: int | None = None
) -> Offset:
    """Create a stream; where it ends."""
    command = Create((path,), "text/plain", Lifetime(ttl_s))
    return (await engine.create(command, body)).info.tail


async def make_and_remove(engine: FileStore, path: str) -> None:
    await create(engine, path, b"old")
    await engine.delete((path,))


def live(
    data: Path, life: Callable[[FileStore, Scheduler], Awaitable[None]], now: float = 0.0
) -> float:
    """One life of an engine, in virtual time; when it ended."""
    scheduler = Scheduler(Random(7), now)
    loop = SimulatedLoop(scheduler)

    async def lead() -> None:
        engine = await FileStore.at(data, SETTINGS, Disk(), scheduler)
        await life(engine, scheduler)
        await engine.close()

    try:
        loop.run_until_complete(lead())
    finally:
        loop.close()
    return scheduler.now


def test_a_path_is_free_again_when_no_cache_can_have_anything_of_it(data: Path) -> None:
    async def life(engine: FileStore, _scheduler: Scheduler) -> None:
        for path in ("s", "t"):
            await make_and_remove(engine, path)
        await asyncio.sleep(LONG_S - 1)
        assert await create(engine, "s") == Offset(1, 0)
        await asyncio.sleep(60)
        assert await create(engine, "t") == ZERO

    live(data, life)


@pytest.mark.parametrize("jump_s", [-5_000_000.0, 5_000_000.0])
def test_a_clock_that_is_set_changes_nothing(data: Path, jump_s: float) -> None:
    class Jumping(Scheduler):
        jumped_s = 0.0

        def now_ms(self) -> int:
            return super().now_ms() + int(1000 * self.jumped_s)

    scheduler = Jumping(Random(7))
    loop = SimulatedLoop(scheduler)

    async def lead() -> None:
        engine = await FileStore.at(data, SETTINGS, Disk(), scheduler)
        await make_and_remove(engine, "s")
        scheduler.jumped_s = jump_s
        await asyncio.sleep(LONG_S / 2)
        assert await create(engine, "s") == Offset(1, 0)
        await engine.close()

    try:
        loop.run_until_complete(lead())
    finally:
        loop.close()


def test_after_a_start_it_is_remembered_for_all_of_the_time(data: Path) -> None:
    """How long the server was away is told by a clock that somebody may have set."""

    async def first(engine: FileStore, _scheduler: Scheduler) -> None:
        await make_and_remove(engine, "s")

    async def second(engine: FileStore, _scheduler: Scheduler) -> None:
        await asyncio.sleep(LONG_S - 1)
        assert await create(engine, "s") == Offset(1, 0)

    now = live(data, first)
    live(data, second, now + LONG_S - 1)


def test_one_that_expired_and_is_replaced_counts_as_removed(data: Path) -> None:
    async def life(engine: FileStore, scheduler: Scheduler) -> None:
        await create(engine, "s", b"old", ttl_s=60)
        scheduler.now += 61
        assert await create(engine, "s") == Offset(1, 0)

    live(data, life)
