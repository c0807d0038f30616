"""Random writers, readers, creators and destroyers, who tell the oracle what they were told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from durable_streams.errors import (
    Conflict,
    DiskFull,
    InvalidRequest,
    Overloaded,
    StaleEpoch,
    StorageFailed,
    StreamDamaged,
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
from tests.simulation.contents import contents, token
from tests.simulation.oracle import Attempt, Fate, Incarnation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from durable_streams.engine.engine import Engine
    from tests.simulation.faults import Faults
    from tests.simulation.oracle import Oracle, Place
    from tests.simulation.scheduler import Scheduler

_TYPES: Final = ("application/octet-stream", "application/json")
_PATHS: Final = ("a", "a/b", "c", "d/e/f", "d/e")
_ACTORS: Final = 4
_NEAR_END_MS: Final = 8000  # so near to a stream's end, what is right depends on milliseconds


class Actors:
    """Those who use the server, generation after generation."""

    def __init__(self, random: Random, oracle: Oracle) -> None:
        self._random = random
        self._oracle = oracle
        self._numbers = 0

    async def live(self, engine: Engine, scheduler: Scheduler, faults: Faults, steps: int) -> None:
        """Send so many requests, several at a time."""
        self._engine, self._faults, self._now_ms = engine, faults, scheduler.now_ms
        self._surely = not faults.kind and engine.settings.durability.value == "fsync"
        left = iter(range(steps))
        await asyncio.gather(*(self._act(left) for _ in range(_ACTORS)))

    async def _act(self, left: Iterator[int]) -> None:
        for _ in left:
            path = self._random.choice(_PATHS)
            place = self._oracle.place(path)
            action = self._random.choice(
                (self._append,) * 9
                + (self._read, self._read, self._follow)
                + (self._create,) * 2
                + (self._delete, self._fork, self._pause)
            )
            try:
                await action(path, place)
            except Overloaded:
                await asyncio.sleep(0.5)
            except (DiskFull, StreamDamaged, Unavailable, OSError) as error:
                assert self._faults.kind, f"nothing failed, and {error!r}"
                await asyncio.sleep(0.5)

    async def _pause(self, _path: str, _place: Place) -> None:
        await asyncio.sleep(self._random.choice((0.0, 0.01, 1.0, 40.0)))

    def _usable(self, place: Place) -> Incarnation | None:
        """Who lives there, unless it is about to go."""
        living = place.current
        if living is None or place.changing or living.may_be_gone(self._now_ms() + _NEAR_END_MS):
            return None
        return living

    # -- appends ---------------------------------------------------------------------------

    async def _append(self, path: str, place: Place) -> None:
        living = self._usable(place)
        if living is None:
            return
        self._numbers += 1
        size = self._random.choice((0, 5, 40, 200, 500, 1500))
        attempt = Attempt(self._numbers, self._claim(living), self._random.random() < 0.02)
        if self._random.random() < 0.2:
            attempt.stream_seq = f"{self._numbers - self._random.choice((0, 0, 0, 9)):06d}"
        living.attempts[attempt.number] = attempt
        if attempt.closes and living.closed is Fate.REFUSED:
            living.closed = Fate.OPEN
        command = Append(
            path, living.content_type, attempt.closes, attempt.producer, attempt.stream_seq
        )
        place.busy += 1
        try:
            await self._append_once(command, attempt, living, size)
        finally:
            place.busy -= 1
            if attempt.closes and attempt.fate is Fate.DONE:
                living.close_is_done(self._now_ms())
            elif attempt.closes and attempt.fate is Fate.REFUSED:
                living.reopen()

    async def _append_once(
        self, command: Append, attempt: Attempt, living: Incarnation, size: int
    ) -> None:
        work = asyncio.ensure_future(self._engine.append(command, token(attempt.number, size)))
        if self._random.random() < 0.05:
            await asyncio.sleep(self._random.choice((0, 0, 0.001)))
            work.cancel()
        try:
            outcome = await work
        except asyncio.CancelledError:
            return
        except StorageFailed:
            raise  # it may be on disk or not: stays open
        except (StaleEpoch, InvalidRequest, Conflict):
            attempt.fate = Fate.REFUSED
            return
        except (StreamNotFound, StreamGone):
            attempt.fate = Fate.REFUSED
            assert living.may_be_gone(self._now_ms()), f"{command.path}: acknowledged, and gone"
            return
        except (DiskFull, Unavailable, StreamDamaged):
            attempt.fate = Fate.REFUSED
            raise
        living.use(self._now_ms(), surely=self._surely)
        if outcome.duplicate:
            attempt.fate = Fate.REFUSED
            return
        assert attempt.fate is not Fate.REFUSED
        attempt.done(outcome.tail, self._now_ms())

    def _claim(self, living: Incarnation) -> ProducerClaim | None:
        chance = self._random.random()
        if chance < 0.5:
            return None
        name = self._random.choice(("p", "q"))
        claims = living.producers.setdefault(name, [])
        if claims and chance < 0.55:
            return self._random.choice(claims)
        if claims and chance < 0.95:
            claim = ProducerClaim(name, claims[-1].epoch, claims[-1].seq + 1)
        else:
            claim = ProducerClaim(name, claims[-1].epoch + 1 if claims else 0, 0)
        claims.append(claim)
        return claim

    # -- reads -----------------------------------------------------------------------------

    async def _read(self, path: str, place: Place) -> None:
        living = self._usable(place)
        if living is None:
            return
        place.busy += 1
        try:
            found = await contents(self._engine, path)
        except (StreamNotFound, StreamGone):
            assert living.may_be_gone(self._now_ms()), f"{path}: acknowledged, and gone"
            return
        finally:
            place.busy -= 1
        living.use(self._now_ms(), surely=self._surely)
        self._oracle.saw(living, found, self._now_ms())

    async def _follow(self, path: str, place: Place) -> None:
        """Wait at a known offset and read on from there."""
        living = self._usable(place)
        ends = living.known_ends() if living else []
        if living is None or not ends:
            return
        at = self._random.choice(ends)
        place.busy += 1
        try:
            stream = await self._engine.open_stream(path)
            await self._engine.wait(stream, at, self._random.choice((0.0, 0.1, 3.0)))
            found = await contents(self._engine, path, at)
        except (StreamNotFound, StreamGone):
            assert living.may_be_gone(self._now_ms()), f"{path}: acknowledged, and gone"
            return
        finally:
            place.busy -= 1
        living.use(self._now_ms(), surely=self._surely)
        for number, end in found:
            attempt = living.attempts[number]
            assert attempt.fate is not Fate.REFUSED, f"{number} was refused and was read"
            assert attempt.end in (None, end), f"{number} ends at {end}, was told {attempt.end}"
            attempt.done(end, self._now_ms())
            if attempt.closes:
                living.close_is_done(self._now_ms())
        missing = {a.number for a in living.attempts.values() if a.end and at < a.end}
        assert found == [] or missing >= {number for number, _ in found}

    # -- births and deaths -----------------------------------------------------------------

    def _is_free(self, place: Place) -> bool:
        """Whether somebody may try to be born there."""
        living = place.current
        idle = not place.busy and not place.changing
        if living is not None and idle and living.must_be_gone(self._now_ms() - 1000):
            place.former.append(living)
            place.current = None
        return not (place.busy or place.changing or place.unborn or place.current)

    def _lifetime(self) -> Lifetime:
        chance = self._random.random()
        if chance < 0.15:
            instant = self._now_ms() + self._random.choice((20_000, 4_000_000))
            return Lifetime(None, f"t{instant}", instant)
        return Lifetime(self._random.choice((30, 3000))) if chance < 0.3 else FOREVER

    async def _create(self, path: str, place: Place) -> None:
        if not self._is_free(place):
            await self._create_again(path, place)
            return
        closed = self._random.random() < 0.03
        unborn = Incarnation("", self._random.choice(_TYPES), lifetime=self._lifetime())
        unborn.surely_used_ms = unborn.used_ms = self._now_ms()
        unborn.closed = Fate.OPEN if closed else Fate.REFUSED
        body = b""
        if self._random.random() < 0.5:
            self._numbers += 1
            unborn.attempts[self._numbers] = Attempt(self._numbers, closes=closed)
            body = token(self._numbers, 20)
        command = Create(path, unborn.content_type, unborn.lifetime, closed)
        place.changing, place.unborn = True, unborn
        try:
            outcome = await self._engine.create(command, body)
        except StreamExists:
            place.unborn = None  # deleted, and its forks still need it
        except StorageFailed:
            raise
        except (DiskFull, StreamDamaged, Unavailable):
            place.unborn = None
            raise
        else:
            assert outcome.created
            self._born(place, unborn, outcome.info.id)
            for attempt in unborn.attempts.values():
                attempt.done(outcome.info.tail, self._now_ms())
            if closed:
                unborn.close_is_done(self._now_ms())
        finally:
            place.changing = False

    def _born(self, place: Place, unborn: Incarnation, stream_id: str) -> None:
        unborn.id, unborn.born_ms = stream_id, self._now_ms()
        unborn.use(self._now_ms(), surely=False)
        place.current, place.unborn = unborn, None

    async def _create_again(self, path: str, place: Place) -> None:
        """What is there already is found, or refused, and not made anew."""
        living = self._usable(place)
        if living is None or living.lifetime != FOREVER or living.is_fork:
            return
        place.busy += 1
        try:
            outcome = await self._engine.create(Create(path, living.content_type), b"")
        except StreamExists as error:
            assert living.closed is not Fate.REFUSED, f"it has the same configuration: {error}"
        else:
            assert not outcome.created, "made anew"
            assert outcome.info.id == living.id
        finally:
            place.busy -= 1

    async def _fork(self, path: str, place: Place) -> None:
        source_path = self._random.choice(_PATHS)
        source_place = self._oracle.place(source_path)
        source = self._usable(source_place)
        if source is None or source_path == path or not self._is_free(place):
            return
        known = source.known_ends()
        offset = self._random.choice([*known, None]) if known else None
        unborn = Incarnation(
            "", source.content_type, inherited=None, is_fork=True, lifetime=source.lifetime
        )
        unborn.surely_used_ms = unborn.used_ms = self._now_ms()
        place.changing, place.unborn = True, unborn
        source_place.busy += 1
        try:
            command = Create(path, None, fork=ForkRequest(source_path, offset))
            outcome = await self._engine.create(command, b"")
            cut = outcome.info.tail
            self._born(place, unborn, outcome.info.id)
            found = await contents(self._engine, source_path)
            source.use(self._now_ms(), surely=self._surely)
            self._oracle.saw(source, found, self._now_ms())
            unborn.inherited = tuple(pair for pair in found if pair[1] <= cut)
            assert offset in (None, cut)
        except StorageFailed:
            raise
        except (StreamNotFound, StreamGone, Conflict):
            place.unborn = None
        except (DiskFull, StreamDamaged, Unavailable):
            place.unborn = None
            raise
        finally:
            place.changing = False
            source_place.busy -= 1

    async def _delete(self, path: str, place: Place) -> None:
        living = place.current
        if living is None or place.busy or place.changing:
            return
        place.changing = True
        before, living.deleted = living.deleted, Fate.OPEN
        try:
            await self._engine.delete(path)
        except (StreamNotFound, StreamGone):
            living.deleted = before
            assert living.may_be_gone(self._now_ms()), f"{path}: acknowledged, and gone"
        except StorageFailed:
            raise
        except (DiskFull, StreamDamaged, Unavailable):
            living.deleted = before
            raise
        else:
            living.deleted, living.deleted_ms = Fate.DONE, self._now_ms()
        finally:
            place.changing = False
        place.former.append(living)
        place.current = None
