"""Expired streams go by themselves, late and slowly; in virtual time, on real files."""

import asyncio
import errno
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import pytest

from durable_streams.filestore.files import names
from durable_streams.filestore.files.disk import Disk, StrPath
from durable_streams.filestore.store import FileStore
from durable_streams.filestore.tuning import Tuning
from durable_streams.model.commands import Append, Create, ForkRequest, Lifetime
from durable_streams.model.errors import DiskFull, StreamGone, StreamNotFound
from durable_streams.model.paths import parse_path_text
from durable_streams.settings import Settings
from tools.inside import catalog
from tools.simulation.scheduler import Scheduler, SimulatedLoop

BYTES = "application/octet-stream"
SETTINGS = Settings()
SHORT = Lifetime(ttl_s=60)
HOUR_S = 3600.0

Life = Callable[[FileStore, Scheduler], Awaitable[None]]


class CountingDisk(Disk):
    """Counts the sidecars that are read, and refuses them when told to."""

    def __init__(self) -> None:
        self.sidecars_read = 0
        self.refusal: OSError | None = None
        self.full = False

    def room(self, path: StrPath) -> tuple[int, int]:
        return (0, 0) if self.full else super().room(path)

    def open_read(self, path: StrPath) -> int:
        if Path(path).name == names.SIDECAR:
            self.sidecars_read += 1
            if self.refusal is not None:
                raise self.refusal
        return super().open_read(path)


@pytest.fixture(autouse=True)
def nothing_blocks_the_loop() -> None:
    """The simulated executor does its jobs on the loop's thread, so everything does."""


@pytest.fixture
def disk() -> CountingDisk:
    return CountingDisk()


def live(
    data: Path,
    disk: Disk,
    life: Life,
    *,
    now: float = 0.0,
    settings: Settings = SETTINGS,
    tuning: Tuning = Tuning(),
) -> float:
    """One life of an engine; when it ended, in seconds."""
    scheduler = Scheduler(Random(7), now)
    loop = SimulatedLoop(scheduler)

    async def lead() -> None:
        engine = await FileStore.at(data, settings, disk, scheduler, tuning)
        await life(engine, scheduler)
        await engine.close()

    try:
        loop.run_until_complete(lead())
    finally:
        loop.close()
    return scheduler.now


def on_disk(data: Path, path: str) -> bool:
    return (data / "streams" / names.directory_of(parse_path_text(path))).exists()


async def make(engine: FileStore, path: str, lifetime: Lifetime = SHORT) -> None:
    await engine.create(Create(parse_path_text(path), BYTES, lifetime), b"some")


async def passes(seconds: float) -> None:
    await asyncio.sleep(seconds)


def test_an_expired_stream_is_gone_at_once_and_its_files_after_the_delay(
    tmp_path: Path, disk: CountingDisk
) -> None:
    async def life(engine: FileStore, _: Scheduler) -> None:
        await make(engine, "short")
        await make(engine, "long", Lifetime(ttl_s=1_000_000))
        await passes(61)
        with pytest.raises(StreamNotFound):
            await engine.head(("short",))
        await passes(HOUR_S - 120)
        assert on_disk(tmp_path, "short")
        await passes(2 * HOUR_S)
        assert not on_disk(tmp_path, "short")
        assert on_disk(tmp_path, "long")
        await engine.head(("long",))

    live(tmp_path, disk, life)


def test_an_expired_stream_whose_sidecar_is_away_goes_when_its_path_is_taken_and_stays_gone(
    tmp_path: Path, disk: CountingDisk
) -> None:
    sidecar = tmp_path / "streams" / names.directory_of(("short",)) / names.SIDECAR

    async def life(engine: FileStore, _: Scheduler) -> None:
        await make(engine, "short")
        await passes(1)
        sidecar.rename(tmp_path.parent / "away")
        await passes(60)
        await make(engine, "short", Lifetime(ttl_s=1_000_000))
        await engine.delete(("short",))
        await passes(1)
        with pytest.raises(FileNotFoundError):  # there is no place for it
            (tmp_path.parent / "away").rename(sidecar)
        with pytest.raises(StreamNotFound):
            await engine.head(("short",))

    live(tmp_path, disk, life)


def test_nothing_is_reclaimed_in_the_first_hour_of_a_restored_backup(
    tmp_path: Path, disk: CountingDisk
) -> None:
    async def before(engine: FileStore, _: Scheduler) -> None:
        await make(engine, "short")

    async def after(engine: FileStore, _: Scheduler) -> None:
        await passes(HOUR_S - 60)
        assert on_disk(tmp_path, "short")
        await passes(HOUR_S)
        assert not on_disk(tmp_path, "short")

    ended = live(tmp_path, disk, before)
    live(tmp_path, disk, after, now=ended + 30 * 24 * HOUR_S)


def test_a_jump_of_the_clock_starts_the_delay_again(
    tmp_path: Path, disk: CountingDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    jump_ms = 0

    def jumping(scheduler: Scheduler) -> int:
        return 1_800_000_000_000 + int(scheduler.now * 1000) + jump_ms

    monkeypatch.setattr(Scheduler, "now_ms", jumping)

    async def life(engine: FileStore, _: Scheduler) -> None:
        nonlocal jump_ms
        await make(engine, "short", Lifetime(ttl_s=100_000))
        await passes(HOUR_S - 100)
        jump_ms = 200_000_000
        await passes(HOUR_S - 100)
        assert on_disk(tmp_path, "short")
        await passes(HOUR_S)
        assert not on_disk(tmp_path, "short")

    live(tmp_path, disk, life)


def test_a_used_stream_stays_and_its_last_use_survives_a_kill(
    tmp_path: Path, disk: CountingDisk
) -> None:
    image = tmp_path / "image"

    async def before(engine: FileStore, _: Scheduler) -> None:
        await make(engine, "used")
        for _use in range(10):
            await passes(50)
            await engine.append(Append(("used",), BYTES), b"more")
        await passes(5)  # the use is written down within a few seconds
        shutil.copytree(tmp_path / "data", image)

    async def after(engine: FileStore, _: Scheduler) -> None:
        await engine.head(("used",))
        await passes(20)
        with pytest.raises(StreamNotFound):
            await engine.head(("used",))

    ended = live(tmp_path / "data", disk, before)
    live(image, disk, after, now=ended + 40)


def test_a_use_on_a_full_disk_is_remembered_when_the_stream_leaves_the_cache(
    tmp_path: Path, disk: CountingDisk
) -> None:
    async def life(engine: FileStore, _: Scheduler) -> None:
        await make(engine, "used")
        await make(engine, "other")
        disk.full = True
        await passes(50)
        with pytest.raises(DiskFull):
            await make(engine, "refused")
        await engine.open(("used",))
        await engine.open(("other",))
        assert len(catalog(engine)) == 1
        await passes(20)
        await engine.head(("used",))

    live(tmp_path, disk, life, settings=Settings(max_open_streams=1))


def test_an_expired_source_goes_when_its_last_fork_is_gone(
    tmp_path: Path, disk: CountingDisk
) -> None:
    async def life(engine: FileStore, _: Scheduler) -> None:
        await make(engine, "source")
        forever = Lifetime(ttl_s=10_000_000)
        await engine.create(Create(("fork",), None, forever, fork=ForkRequest(("source",))), b"")
        await passes(3 * HOUR_S)
        with pytest.raises((StreamGone, StreamNotFound)):
            await engine.head(("source",))
        await engine.delete(("fork",))
        await passes(3 * HOUR_S)
        assert not on_disk(tmp_path, "source")

    live(tmp_path, disk, life)


def test_the_walk_is_paced_and_reads_each_sidecar_once(tmp_path: Path, disk: CountingDisk) -> None:
    async def life(engine: FileStore, scheduler: Scheduler) -> None:
        for number in range(200):
            await make(engine, f"many/{number}", Lifetime(ttl_s=1_000_000))
        await passes(HOUR_S - scheduler.now - 1)
        disk.sidecars_read = 0
        await passes(1.1)
        assert 0 < disk.sidecars_read < 200
        await passes(10)
        assert disk.sidecars_read == 200

    live(tmp_path, disk, life)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO])
def test_a_walk_that_the_disk_refused_is_made_again(
    tmp_path: Path, disk: CountingDisk, number: int
) -> None:
    async def life(engine: FileStore, _: Scheduler) -> None:
        await make(engine, "short")
        disk.refusal = OSError(number, "refused")
        await passes(2 * HOUR_S)
        assert on_disk(tmp_path, "short")
        disk.refusal = None
        await passes(2 * HOUR_S)
        assert not on_disk(tmp_path, "short")

    live(tmp_path, disk, life)


def test_files_that_are_no_streams_do_not_end_the_walk(tmp_path: Path, disk: CountingDisk) -> None:
    async def life(engine: FileStore, _: Scheduler) -> None:
        await make(engine, "short")
        (tmp_path / "streams" / "README").write_text("somebody's notes")
        (tmp_path / "streams" / "%zz@").mkdir()
        (tmp_path / "streams" / "empty@").mkdir()
        (tmp_path / "streams" / "torn@").mkdir()
        (tmp_path / "streams" / "torn@" / "meta.json").write_text("{")
        await passes(2 * HOUR_S)
        assert not on_disk(tmp_path, "short")

    live(tmp_path, disk, life)
