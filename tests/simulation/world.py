"""Random writers, readers, creators and destroyers on a simulated machine that loses power."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from durable_streams.engine.engine import Engine
from durable_streams.errors import (
    Conflict,
    DataDirectoryError,
    DiskFull,
    InvalidRequest,
    StorageFailed,
    StreamDamaged,
    StreamError,
    StreamExists,
    StreamGone,
    StreamNotFound,
    Unavailable,
)
from durable_streams.protocol.commands import (
    FOREVER,
    Append,
    Create,
    ForkRequest,
    Lifetime,
    ProducerClaim,
)
from durable_streams.settings import MIB, Settings
from tests.simulation.disk import PowerCut, SimulatedDisk
from tests.simulation.oracle import Attempt, Fate, Incarnation, Oracle, contents, token
from tests.simulation.scheduler import Scheduler, SimulatedLoop

if TYPE_CHECKING:
    from tests.simulation.oracle import Place

ROOT = Path("/simulated")
_TYPES = ("application/octet-stream", "application/json")
_PATHS = ("a", "a/b", "c", "d/e/f")
_ACTORS = 4
SETTINGS = Settings(
    max_append_bytes=4096,
    segment_bytes=300,
    index_bytes=900,
    max_read_bytes=120,
    journal_file_bytes=MIB + 8192,
    journal_files=3,
    max_open_streams=2,
    max_open_files=6,
)


class World:
    """One seed: several generations of a server, each ended by a power cut."""

    def __init__(self, seed: int, *, steps: int = 150, generations: int = 4) -> None:
        self.random = Random(seed)
        self.oracle = Oracle()
        self.disk = SimulatedDisk(ROOT)
        self.disk.make_directory(ROOT / "data")
        self.disk.sync_directory(ROOT)
        self.disk.sync_directory(ROOT / "data")
        self._steps = steps
        self._generations = generations
        self._now = 0.0
        self._numbers = 0

    def run(self) -> None:
        """Live through all generations, then check once more in peace."""
        for _ in range(self._generations):
            self._generation(self._live, self._power_cut_after(self.random.randrange(2, 700)))
            if self.random.random() < 0.3:
                self._now += self.random.choice((60.0, 5000.0))
        for _ in range(2):
            self._generation(self._look, lambda _call, _path: None)

    def _power_cut_after(self, calls: int) -> object:
        end = self.disk.calls + calls
        faults = self.random.random() < 0.3

        def before(call: str, path: Path | None) -> None:
            if self.disk.calls >= end:
                raise PowerCut
            if faults and self.random.random() < 0.004:
                self._fail(call, path)

        return before

    def _fail(self, call: str, path: Path | None) -> None:
        """A call that the disk refuses."""
        is_journal = path is not None and "journal" in path.parts
        if is_journal and call == "write":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        if call.startswith("sync") and path is not None and "data" in path.parts:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    def _generation(self, live: object, before: object) -> None:
        scheduler = Scheduler(self.random, self._now)
        loop = SimulatedLoop(scheduler)
        self.disk.before = before  # type: ignore[assignment]
        try:
            loop.run_until_complete(live(scheduler))  # type: ignore[operator]
        except (PowerCut, DataDirectoryError):
            pass  # a disk that fails during recovery: it is not opened, and nothing is lost
        finally:
            self._abandon(loop)
        self.oracle.power_cut()
        self.disk = self.disk.after_power_cut(self.random)
        self._now = scheduler.now

    def _abandon(self, loop: SimulatedLoop) -> None:
        """The process is gone: its tasks never go on."""
        loop.set_exception_handler(lambda _loop, _context: None)
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            task.get_coro().close()
        loop.close()

    async def _open(self, scheduler: Scheduler) -> Engine:
        return await Engine.open(ROOT / "data", SETTINGS, self.disk, scheduler)

    async def _look(self, scheduler: Scheduler) -> None:
        engine = await self._open(scheduler)
        await self.oracle.check(engine, scheduler.now_ms())
        await engine.close()

    async def _live(self, scheduler: Scheduler) -> None:
        engine = await self._open(scheduler)
        await self.oracle.check(engine, scheduler.now_ms())
        steps = iter(range(self._steps))
        await asyncio.gather(*(self._act(engine, scheduler, steps) for _ in range(_ACTORS)))
        if self.random.random() < 0.3:
            await engine.close()

    async def _act(self, engine: Engine, scheduler: Scheduler, steps: object) -> None:
        for _ in steps:  # type: ignore[attr-defined]
            path = self.random.choice(_PATHS)
            place = self.oracle.place(path)
            action = self.random.choice(
                (self._append,) * 8
                + (self._read,) * 3
                + (self._create,) * 2
                + (self._delete, self._fork, self._pause)
            )
            try:
                await action(engine, scheduler, path, place)
            except (DiskFull, StreamDamaged, Unavailable):
                await asyncio.sleep(0.5)

    async def _pause(self, _e: Engine, _s: Scheduler, _path: str, _place: Place) -> None:
        await asyncio.sleep(self.random.choice((0.0, 0.01, 1.0, 40.0)))

    # -- appends ---------------------------------------------------------------------------

    async def _append(self, engine: Engine, scheduler: Scheduler, path: str, place: Place) -> None:
        living = place.current
        if living is None or place.changing or self._expires(living, scheduler):
            return
        self._numbers += 1
        size = self.random.choice((0, 5, 40, 200, 500))
        claim = self._claim(living)
        attempt = Attempt(self._numbers, claim, self.random.random() < 0.02)
        living.attempts[attempt.number] = attempt
        if attempt.closes and living.closed is Fate.REFUSED:
            living.closed = Fate.OPEN
        command = Append(path, living.content_type, attempt.closes, claim)
        place.busy += 1
        try:
            await self._append_once(engine, command, attempt, size)
        finally:
            place.busy -= 1
            if attempt.closes and attempt.fate is Fate.DONE:
                living.closed = Fate.DONE
            elif attempt.closes and attempt.fate is Fate.REFUSED:
                self._reopen(living)

    def _reopen(self, living: Incarnation) -> None:
        """A close was refused: unless another one is open, the stream is not closed by us."""
        others = [a for a in living.attempts.values() if a.closes and a.fate is Fate.OPEN]
        if living.closed is Fate.OPEN and not others:
            living.closed = Fate.REFUSED

    async def _append_once(
        self, engine: Engine, command: Append, attempt: Attempt, size: int
    ) -> None:
        work = asyncio.ensure_future(engine.append(command, token(attempt.number, size)))
        if self.random.random() < 0.05:
            await asyncio.sleep(0)
            work.cancel()
        try:
            outcome = await work
        except asyncio.CancelledError:
            return
        except StorageFailed:
            raise  # it may be on disk or not: stays open
        except (Conflict, StreamNotFound, StreamGone, InvalidRequest, DiskFull, Unavailable):
            attempt.fate = Fate.REFUSED
            return
        if outcome.duplicate:
            attempt.fate = Fate.REFUSED
            return
        assert attempt.fate is not Fate.REFUSED
        attempt.fate, attempt.end = Fate.DONE, outcome.tail

    def _claim(self, living: Incarnation) -> ProducerClaim | None:
        if self.random.random() < 0.5:
            return None
        name = self.random.choice(("p", "q"))
        claims = living.producers.setdefault(name, [])
        if claims and self.random.random() < 0.9:
            claim = ProducerClaim(name, claims[-1].epoch, claims[-1].seq + 1)
        else:
            claim = ProducerClaim(name, claims[-1].epoch + 1 if claims else 0, 0)
        claims.append(claim)
        return claim

    # -- reads -----------------------------------------------------------------------------

    async def _read(self, engine: Engine, scheduler: Scheduler, path: str, place: Place) -> None:
        living = place.current
        if living is None or place.changing or self._expires(living, scheduler):
            return
        place.busy += 1
        try:
            self.oracle.saw(living, await contents(engine, path))
        finally:
            place.busy -= 1

    # -- births and deaths -----------------------------------------------------------------

    def _expires(self, living: Incarnation, scheduler: Scheduler) -> bool:
        """Whether it is near its end: then what is right depends on milliseconds."""
        return living.expires_ms is not None and living.expires_ms - 5000 < scheduler.now_ms()

    async def _create(self, engine: Engine, scheduler: Scheduler, path: str, place: Place) -> None:
        if place.busy or place.changing or place.unborn or place.current is not None:
            return
        content_type = self.random.choice(_TYPES)
        lifetime = FOREVER
        if self.random.random() < 0.2:
            instant = scheduler.now_ms() + self.random.choice((20_000, 4_000_000))
            lifetime = Lifetime(None, f"t{instant}", instant)
        unborn = Incarnation("", content_type, expires_ms=lifetime.expires_at_ms)
        body = b""
        if self.random.random() < 0.5:
            self._numbers += 1
            unborn.attempts[self._numbers] = Attempt(self._numbers, None, closes=False)
            body = token(self._numbers, 20)
        place.changing, place.unborn = True, unborn
        try:
            outcome = await engine.create(Create(path, content_type, lifetime), body)
        except StreamExists:
            place.unborn = None  # deleted, and its forks still need it
        except DiskFull:
            place.unborn = None
            raise
        else:
            assert outcome.created
            unborn.id = outcome.info.id
            for attempt in unborn.attempts.values():
                attempt.fate, attempt.end = Fate.DONE, outcome.info.tail
            place.current, place.unborn = unborn, None
        finally:
            place.changing = False

    async def _fork(self, engine: Engine, scheduler: Scheduler, path: str, place: Place) -> None:
        source_path = self.random.choice(_PATHS)
        source_place = self.oracle.place(source_path)
        source = source_place.current
        if source is None or source_path == path or source_place.changing:
            return
        if place.busy or place.changing or place.unborn or place.current is not None:
            return
        if self._expires(source, scheduler):
            return
        known = [a.end for a in source.attempts.values() if a.end is not None]
        offset = self.random.choice([*known, None]) if known else None
        place.changing, source_place.busy = True, source_place.busy + 1
        place.unborn = Incarnation(
            "", source.content_type, inherited=None, expires_ms=source.expires_ms
        )
        try:
            outcome = await engine.create(
                Create(path, None, fork=ForkRequest(source_path, offset)), b""
            )
            found = await contents(engine, source_path)
            self.oracle.saw(source, found)
            cut = outcome.info.tail
            place.unborn.inherited = tuple(pair for pair in found if pair[1] <= cut)
            assert offset in (None, cut)
            place.unborn.id = outcome.info.id
            place.current, place.unborn = place.unborn, None
        except StreamExists:
            place.unborn = None
        except (StreamNotFound, StreamGone, Conflict, DiskFull):
            place.unborn = None
        finally:
            place.changing = False
            source_place.busy -= 1

    async def _delete(self, engine: Engine, _s: Scheduler, path: str, place: Place) -> None:
        living = place.current
        if living is None or place.busy or place.changing:
            return
        place.changing = True
        living.deleted = Fate.OPEN
        try:
            await engine.delete(path)
        except (StreamNotFound, StreamGone):
            assert living.expires_ms is not None, "an acknowledged stream is gone"
        except DiskFull:
            living.deleted = Fate.REFUSED
            return
        finally:
            place.changing = False
        living.deleted = Fate.DONE
        place.current = None


def run(seed: int, *, steps: int = 150, generations: int = 4) -> int:
    """One seed; the number of checks it passed."""
    world = World(seed, steps=steps, generations=generations)
    collecting = gc.isenabled()
    gc.disable()
    try:
        world.run()
    finally:
        if collecting:
            gc.enable()
    return world.oracle.checked


__all__ = ["StreamError", "World", "run"]
