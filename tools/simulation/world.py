"""A simulated machine that loses power: generations of a server, and what each must find."""

from __future__ import annotations

import asyncio
import gc
import logging
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

from durable_streams.filestore.files.directory import DataDirectory
from durable_streams.filestore.files.recovery import recover
from durable_streams.filestore.store import FileStore
from durable_streams.maintenance.findings import Finding, Level
from durable_streams.maintenance.verify import verify
from durable_streams.model.errors import DataDirectoryError
from durable_streams.settings import MIB, Durability, Settings
from tools.simulation.actors import Actors
from tools.simulation.disk import PowerCut, SimulatedDisk, power_cut_at
from tools.simulation.faults import Faults
from tools.simulation.intruders import Intruders
from tools.simulation.oracle import Oracle
from tools.simulation.poison import Poison
from tools.simulation.scheduler import Scheduler, SimulatedLoop
from tools.simulation.troubles import Troubles

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from durable_streams.filestore.files.disk import StrPath

ROOT = Path("/simulated")
DATA = ROOT / "srv" / "data"
STEPS = 150  # requests in a generation
GENERATIONS = 4  # crashes of a seed
SETTINGS: Final = Settings(
    max_append_bytes=4096,
    segment_bytes=300,
    index_bytes=900,
    max_read_bytes=120,
    journal_file_bytes=MIB + 8192,
    journal_files=3,
    max_open_streams=2,
    max_open_files=6,
    reclaim_delay_s=20.0,
    reclaim_interval_s=15.0,
)
_MODES = (Durability.FSYNC,) * 4 + (Durability.INTERVAL, Durability.NONE)


class World:
    """One seed: several generations of a server, each ended by a power cut or a kill.

    ``lossy``: what is acknowledged may be lost when the power goes.
    """

    def __init__(self, seed: int, *, steps: int = STEPS, generations: int = GENERATIONS) -> None:
        self.random = Random(seed)
        self.disk = SimulatedDisk(ROOT)
        if self.random.random() < 0.5:  # else the engine makes its directory, and those above it
            self.disk.make_directory(DATA.parent)
            self.disk.make_directory(DATA)
            for directory in (ROOT, DATA.parent, DATA):
                self.disk.sync_directory(directory)
        self.oracle = Oracle(self.disk, DATA, int(SETTINGS.remember_removed_s * 1000))
        self.faults = Faults(self.random)
        self.intruders = Intruders(self.random, DATA)
        self.lossy = False
        self.opened = False
        self.settings = SETTINGS
        self._steps = steps
        self._generations = generations
        self._now = 0.0
        self._sync_failed = False
        self._actors = Actors(self.random, self.oracle)

    def run(self) -> None:
        """Live through all generations, then check once more in peace."""
        for _ in range(self._generations):
            self.settings = self._some_settings()
            self.faults = Faults(self.random)
            self.intruders = Intruders(self.random, DATA)
            self.disk.syncs_as_a_whole = self.random.random() < 0.3
            self._generation(self._live, self.random.randrange(2, 700))
            self._recover_twice()
            if self.random.random() < 0.3:
                self._now += self.random.choice((60.0, 5000.0, *[8 * 86_400.0] * 2))
        self.faults = Faults(self.random)
        self.faults.kind = ""
        self.intruders = Intruders(self.random, DATA)
        self.intruders.active = False
        for _ in range(2):
            self._generation(self._look, None)

    def _some_settings(self) -> Settings:
        durability = self.random.choice(_MODES)
        files = self.random.choice((2, 3))
        chosen = replace(SETTINGS, durability=durability, journal_files=files)
        small = self.random.choice((None, 2500, 4000, 6000))
        return chosen if small is None else with_small_journal(chosen, small)

    # -- one generation --------------------------------------------------------------------

    def _generation(self, live: Callable[[Scheduler], Awaitable[None]], calls: int | None) -> None:
        """Start, live, and stop after so many calls of the disk."""
        scheduler = Scheduler(self.random, self._now)
        loop = SimulatedLoop(scheduler)
        disk, faults, intruders = self.disk, self.faults, self.intruders
        intruders.begin(disk, scheduler.now_ms)
        end = None if calls is None else disk.calls + calls

        def before(call: str, path: StrPath) -> None:
            if end is not None and disk.calls >= end:
                raise PowerCut
            intruders.pass_by(path)
            faults.strike(call, path)

        disk.before, disk.short, disk.random = before, faults.short, self.random
        disk.free = lambda: faults.room(scheduler.now_ms())
        self.oracle.disk = disk
        self.opened = False
        try:
            loop.run_until_complete(live(scheduler))
        except PowerCut:
            pass
        except DataDirectoryError:
            assert faults.fails, "it does not open"
        finally:
            _abandon(loop)
        if self.oracle.failures:
            raise self.oracle.failures[0]
        self._now = scheduler.now
        self._crash(scheduler)

    def _crash(self, scheduler: Scheduler) -> None:
        self.oracle.crash()
        self._sync_failed = self.disk.sync_failed
        if self.random.random() < 0.25:
            self.disk = self.disk.after_kill()
        else:
            self.disk = self.disk.after_power_cut(self.random)
            if self.lossy:
                self.oracle.lose(self._kept_before_ms(scheduler))
        self.intruders.put_everything_back(self.disk)

    def _kept_before_ms(self, scheduler: Scheduler) -> int:
        """What was acknowledged before is durable, in spite of all."""
        if (
            not self.opened
            or self.settings.durability is not Durability.INTERVAL
            or self.faults.fails
            or self.intruders.active
        ):
            return 0
        return scheduler.now_ms() - int(self.settings.sync_interval_s * 1000) - 600

    async def _open(self, scheduler: Scheduler) -> FileStore:
        unsynced = self.settings.durability is not Durability.FSYNC
        self.lossy = self.lossy or unsynced
        self.faults.armed = self.random.random() < 0.5
        engine = await FileStore.at(DATA, self.settings, self.disk, scheduler)
        self.faults.armed = False
        self.lossy = unsynced
        self.opened = True
        await _all_in_service(engine)
        await self.oracle.check(engine, scheduler.now_ms)
        self._verify()
        return engine

    async def _look(self, scheduler: Scheduler) -> None:
        await self._close(await self._open(scheduler))
        self._verify()

    def _verify(self) -> None:
        """What recovery and the first look at every stream left is sound, even as it changes."""
        findings: list[Finding] = []
        verify(DATA, findings.append, disk=self.disk)
        wrong = [
            str(finding)
            for finding in findings
            if finding.level is Level.DAMAGE or "producers" in finding.text
        ]
        assert not wrong, f"verify finds {wrong}"

    async def _live(self, scheduler: Scheduler) -> None:
        engine = await self._open(scheduler)
        self.faults.armed = True
        poison = Poison(self.random)
        poison.pour_into(engine)
        troubles = Troubles(self.faults, self.intruders, poison, self.settings)
        intruding = asyncio.create_task(self.intruders.live())
        await self._actors.live(engine, scheduler, troubles, self._steps)
        intruding.cancel()
        await asyncio.gather(intruding, return_exceptions=True)
        assert engine.fault is None or troubles.may_be_final, f"nothing failed: {engine.fault}"
        if self.random.random() < 0.3:
            await self._close(engine)

    async def _close(self, engine: FileStore) -> None:
        await engine.close()
        assert not self.disk.open_files, f"left open: {self.disk.open_files}"
        self.lossy = self.lossy and engine.fault is not None

    # -- recovery --------------------------------------------------------------------------

    def _recover_twice(self) -> None:
        """Recovering again, or after recovery was itself cut short, makes no difference."""
        random = Random(self.random.random())
        if self.lossy and self._sync_failed:
            return  # what it was for is in memory, and no later sync brings it to the disk
        # Nothing may be in the balance: what was never synced may go before recovery syncs it.
        start = self.disk.after_kill() if self.lossy else self.disk.after_power_cut(random)
        once = start.after_kill()
        expected = _recovered(once)
        calls = once.calls
        again = once.after_power_cut(random)
        assert _recovered(again) == expected, "a second recovery changed something"
        cut = start.after_kill()
        for _ in range(random.randrange(1, 3)):
            cut.before = power_cut_at(cut, random.randrange(calls) + 1)
            with suppress(PowerCut):
                _recovered(cut)
            cut = cut.after_kill() if self.lossy else cut.after_power_cut(random)
        assert _recovered(cut) == expected, "recovery that was cut short made a difference"


def with_small_journal(settings: Settings, file_bytes: int) -> Settings:
    """The same with journal files so small that a few appends fill one.

    ``Settings`` refuses them, as they cannot hold the largest append; a batch that is larger than a
    file gets one of its own.
    """
    small = replace(settings)
    object.__setattr__(small, "journal_file_bytes", file_bytes)
    return small


def _recovered(disk: SimulatedDisk) -> dict[Path, bytes]:
    """Recover; the files of all streams (an empty namespace means nothing)."""
    directory = DataDirectory.open(disk, DATA)
    recover(directory, SETTINGS.max_open_files // 2)
    directory.close()
    return disk.files(DATA / "streams")


async def _all_in_service(engine: FileStore) -> None:
    """Streams that the start could not bring up to date come back, as nothing fails any more."""
    for _ in range(100):
        if not engine.out_of_service():
            return
        await asyncio.sleep(1.0)
    raise AssertionError(f"out of service for good: {engine.out_of_service()}")


def _abandon(loop: SimulatedLoop) -> None:
    """The process is gone: its tasks never go on."""
    loop.set_exception_handler(lambda _loop, _context: None)
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        task.get_coro().close()
    loop.close()


class _Bugs(logging.Handler):
    """Ends a simulation where the engine says that it met a bug of its own."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info is not None:
            raise AssertionError(record.getMessage()) from record.exc_info[1]


@contextmanager
def _quiet() -> Iterator[None]:
    """Thousands of crashes report thousands of torn tails: only bugs are heard of."""
    logger, bugs = logging.getLogger("durable_streams"), _Bugs()
    logging.disable(logging.CRITICAL - 1)
    logger.addHandler(bugs)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = True
        logger.removeHandler(bugs)
        logging.disable(logging.NOTSET)


def run(seed: int, *, steps: int = STEPS, generations: int = GENERATIONS) -> int:
    """One seed; the number of checks it passed."""
    world = World(seed, steps=steps, generations=generations)
    collecting = gc.isenabled()
    gc.disable()
    try:
        with _quiet():
            world.run()
    finally:
        if collecting:
            gc.enable()
    return world.oracle.checked
