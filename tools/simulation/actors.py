"""Random writers, readers, creators and destroyers; a path may see all of them at once.

One module because every action notes what it did where the others look it up.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING, Final, TypeVar

from durable_streams.model.commands import FOREVER, Append, Create
from durable_streams.model.errors import (
    Conflict,
    ContentTypeMismatch,
    DiskFull,
    InvalidRequest,
    OffsetGone,
    SourceGone,
    StaleEpoch,
    StorageFailed,
    StreamClosed,
    StreamDamaged,
    StreamExists,
    StreamGone,
    StreamNotFound,
    StreamOutOfService,
    StreamUnusable,
    Unavailable,
)
from durable_streams.model.offsets import Offset
from durable_streams.rules.creates import fork_lifetime
from tools.simulation.choices import fork_request, some_claim, some_lifetime
from tools.simulation.contents import BINARY, JSON, body_and_wire, read
from tools.simulation.followers import Followers
from tools.simulation.history import Attempt, Fate, Incarnation
from tools.simulation.scheduler import NAMES

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from random import Random

    from durable_streams.filestore.store import FileStore
    from durable_streams.model.commands import Lifetime
    from durable_streams.model.results import Appended, Created, StreamRef
    from tools.simulation.history import Place, Visit
    from tools.simulation.oracle import Oracle
    from tools.simulation.scheduler import Scheduler
    from tools.simulation.troubles import Troubles

_T = TypeVar("_T")

_TYPES: Final = (BINARY, JSON)
_PATHS: Final = (("a",), ("a", "b"), ("c",), ("d", "e/f"), ("d", "e"))
_ACTORS: Final = 4
_NEAR_END_MS: Final = 8000  # so near to a stream's end, what is right depends on milliseconds


class Actors:
    """Those who use the server, generation after generation."""

    def __init__(self, random: Random, oracle: Oracle) -> None:
        self._random = random
        self._oracle = oracle
        self._numbers = 0
        self._followers = Followers(random, oracle)

    async def live(
        self, engine: FileStore, scheduler: Scheduler, troubles: Troubles, steps: int
    ) -> None:
        """Send so many requests, several at a time."""
        self._engine, self._troubles, self._now_ms = engine, troubles, scheduler.now_ms
        self._surely = troubles.keeps_uses
        self._followers.begin(engine, scheduler.now_ms)
        left = iter(range(steps))
        await asyncio.gather(*(self._act(left) for _ in range(_ACTORS)))
        await self._followers.end()

    async def _act(self, left: Iterator[int]) -> None:
        for _ in left:
            place = self._oracle.place(self._random.choice(_PATHS))
            action = self._random.choice(
                (self._append,) * 9
                + (self._read, self._read, self._follow)
                + (self._create,) * 2
                + (self._delete, self._fork, self._pause, self._subscribe, self._race, self._lend)
            )
            await self._do(action, place)

    async def _do(self, action: _Action, place: Place) -> None:
        try:
            await action(place)
        except (DiskFull, StreamUnusable, Unavailable, OSError) as error:
            self._troubles.check(error, place.path, self._now_ms())
            await asyncio.sleep(0.5)

    async def _pause(self, _place: Place) -> None:
        await asyncio.sleep(self._random.choice((0.0, 0.01, 1.0, 40.0)))

    async def _race(self, place: Place) -> None:
        """Several at one path at the same moment."""
        actions = (self._append, self._read, self._follow, self._create, self._delete, self._fork)
        chosen = self._random.choices(actions, k=self._random.randrange(2, 5))
        await asyncio.gather(*(self._do(action, place) for action in chosen))

    async def _subscribe(self, place: Place) -> None:
        if (living := self._living(place)) is not None:
            self._followers.follow(living)

    @contextmanager
    def _visit(self, place: Place) -> Iterator[Visit]:
        place.busy += 1
        try:
            yield self._oracle.visit(place.path, self._now_ms())
        finally:
            place.busy -= 1
            for living in place.possible():  # whoever was asked may have met it
                living.use(self._now_ms(), surely=False)

    def _living(self, place: Place) -> Incarnation | None:
        """Who may live there, the latest; nobody if one is about to go by itself."""
        soon = self._now_ms() + _NEAR_END_MS
        possible = place.possible()
        for living in possible:
            if living.lifetime != FOREVER and not living.is_expired(self._now_ms() - 1000):
                sure = living.born is Fate.DONE and not living.deleting
                if not sure or living.may_be_gone(soon):
                    return None
        living_now = [i for i in possible if not i.is_expired(self._now_ms())]
        return living_now[-1] if living_now else None

    async def _ask(self, work: Coroutine[None, None, _T], name: Incarnation | None = None) -> _T:
        """Send a request; now and then the client goes away before it is answered."""
        context = copy_context()
        if name is not None:
            context.run(NAMES.set, lambda stream_id: self._oracle.names(name, stream_id))
        task = asyncio.get_running_loop().create_task(work, context=context)
        if self._random.random() < 0.05:
            await asyncio.sleep(self._random.choice((0, 0, 0, 0.001)))
            task.cancel()
        return await task

    # -- appends ---------------------------------------------------------------------------

    def _attempt(
        self, content_type: str, size: int, *, closes: bool, parts: int
    ) -> tuple[Attempt, bytes]:
        """A new append, and its body."""
        self._numbers += 1
        body, wire = body_and_wire(content_type, self._numbers, size, parts)
        sent_ms = self._now_ms()
        attempt = Attempt(self._numbers, wire, content_type, closes=closes, sent_ms=sent_ms)
        self._oracle.attempts[self._numbers] = attempt
        return attempt, body

    async def _append(self, place: Place) -> None:
        if (living := self._living(place)) is None:
            return
        size = self._random.choice((0, 5, 40, 200, 500, 1500))
        closes = self._random.random() < 0.02
        parts = self._random.choice((1, 1, 1, 2, 3))
        attempt, body = self._attempt(living.content_type, size, closes=closes, parts=parts)
        attempt.producer = some_claim(self._random, living)
        if self._random.random() < 0.2:
            attempt.stream_seq = f"{self._numbers - self._random.choice((0, 0, 0, 9)):06d}"
        command = Append(
            place.path, living.content_type, closes, attempt.producer, attempt.stream_seq
        )
        with self._visit(place) as visit:
            place.begin_append(attempt)
            try:
                await self._append_once(command, body, attempt, visit)
            finally:
                place.appends.remove(attempt)

    async def _append_once(
        self, command: Append, body: bytes, attempt: Attempt, visit: Visit
    ) -> None:
        try:
            outcome = await self._ask(self._engine.append(command, body))
        except asyncio.CancelledError:
            return
        except StorageFailed:
            raise  # it may be on disk or not: stays open
        except (StaleEpoch, InvalidRequest, Conflict) as error:
            self._refused(attempt)
            self._check_refusal(error, attempt, visit)
            return
        except (StreamNotFound, StreamGone) as error:
            self._refused(attempt)
            visit.met_nobody(error, self._now_ms())
            return
        except (DiskFull, Unavailable, StreamUnusable):
            self._refused(attempt)
            raise
        if outcome.duplicate:
            self._check_duplicate(attempt, visit)
            return
        assert outcome.wrote_data
        self._accepted(attempt, outcome, visit)

    def _refused(self, attempt: Attempt) -> None:
        assert attempt.fate is not Fate.DONE, f"{attempt.number} was refused and is there"
        attempt.refused()

    def _accepted(self, attempt: Attempt, outcome: Appended, visit: Visit) -> None:
        assert attempt.fate is not Fate.REFUSED
        now_ms = self._now_ms()
        if attempt.fate is Fate.OPEN:
            homes = visit.homes(attempt)
            assert homes, f"{attempt.number} was acknowledged, and nobody was there"
            attempt.may_be_in(homes)
            attempt.told = outcome.tail
        assert attempt.end in (None, outcome.tail), f"read at {attempt.end}, told {outcome.tail}"
        if len(attempt.homes) == 1:
            home = attempt.homes[0]
            visit.met(home, now_ms)
            home.use(now_ms, surely=self._surely)
            attempt.done(home, outcome.tail, now_ms)

    def _check_refusal(self, error: Exception, attempt: Attempt, visit: Visit) -> None:
        """A refusal is explained by something that this stream has, or may have."""
        surely = visit.surely(self._now_ms())
        if len(surely) != 1 or attempt.homes != surely:
            return
        living = surely[0]
        if isinstance(error, StreamClosed):
            assert living.closed is not Fate.REFUSED, "closed by nobody"
        right = living.content_type == attempt.content_type
        assert not (right and isinstance(error, ContentTypeMismatch)), "it is the right type"

    def _check_duplicate(self, attempt: Attempt, visit: Visit) -> None:
        """Somebody else's append was accepted with this claim, and is durable."""
        claim, surely = attempt.producer, visit.surely(self._now_ms())
        homes, now_ms = list(attempt.homes), self._now_ms()
        self._refused(attempt)
        for home in homes:
            home.use(now_ms, surely=False)
        if len(surely) != 1 or homes != surely:
            return
        living = surely[0]
        living.use(now_ms, surely=self._surely)
        same = [
            other
            for other in living.attempts.values()
            if other.producer == claim and other.fate is not Fate.REFUSED
        ]
        assert same, f"a duplicate of nothing: {claim}"
        if len(same) == 1:
            same[0].done(living, None, now_ms)

    # -- reads -----------------------------------------------------------------------------

    async def _read(self, place: Place) -> None:
        if self._living(place) is None:
            await self._look(place)
            return
        with self._visit(place) as visit:
            await self._read_all(place, visit)

    async def _open(self, place: Place, visit: Visit) -> tuple[StreamRef, Incarnation] | None:
        """Open whatever is there for reading."""
        try:
            stream = await self._engine.open(place.path)
        except (StreamNotFound, StreamGone) as error:
            visit.met_nobody(error, self._now_ms())
            return None
        living = self._oracle.known(stream.id)
        visit.met(living, self._now_ms())
        living.use(self._now_ms(), surely=self._surely)
        return stream, living

    async def _lend(self, place: Place) -> None:
        """Somebody takes a file away from a stream that is being read."""
        if self._living(place) is not None:
            with self._visit(place) as visit:
                if (opened := await self._open(place, visit)) is not None:
                    self._troubles.intruders.take_from(opened[0])

    async def _read_all(self, place: Place, visit: Visit) -> None:
        if (opened := await self._open(place, visit)) is None:
            return
        stream, living = opened
        try:
            runs, tail = await read(self._engine, stream)
        except (StreamNotFound, StreamGone):
            self._oracle.gone(living, self._now_ms())
            return
        self._oracle.saw(living, runs, self._now_ms(), tail)

    async def _look(self, place: Place) -> None:
        """HEAD, where nobody may be: what is deleted but for its forks says so."""
        visit = self._oracle.visit(place.path, self._now_ms())
        try:
            info = await self._engine.head(place.path)
        except (StreamNotFound, StreamGone) as error:
            visit.met_nobody(error, self._now_ms())
        else:
            visit.met(self._oracle.known(info.id), self._now_ms())

    async def _follow(self, place: Place) -> None:
        """Wait at a known offset and read on from there."""
        living = self._living(place)
        ends = living.known_ends() if living else []
        if living is None or not ends or living.inherited is None:
            return
        at = self._random.choice(ends)
        with self._visit(place) as visit:
            opened = await self._open(place, visit)
            if opened is None or opened[1] is not living:
                return
            try:
                stream = opened[0]
                await self._engine.wait(stream, at, self._random.choice((0.0, 0.1, 3.0)))
                runs, tail = await read(self._engine, stream, at)
            except (StreamNotFound, StreamGone):
                self._oracle.gone(living, self._now_ms())
                return
            living.use(self._now_ms(), surely=self._surely)
            pieces = self._oracle.saw(living, runs, self._now_ms())
            assert all(piece.end > at for piece in pieces), "what lies before was read again"
            assert tail >= at, f"{place.path}: it ends at {tail}, before {at}"

    # -- births and deaths -----------------------------------------------------------------

    def _is_delicate(self, place: Place) -> bool:
        """Whether one who may live there is about to go by itself."""
        now_ms = self._now_ms()
        return any(
            i.lifetime != FOREVER and not i.is_expired(now_ms - 1000) for i in place.possible()
        )

    async def _create(self, place: Place) -> None:
        if self._is_delicate(place):
            return
        possible = place.possible()
        chance = self._random.random()
        if possible and chance < 0.8:  # as the one that is there was asked for
            command = possible[-1].command
            lifetime, content_type = command.lifetime, possible[-1].content_type
            if command.fork is not None:
                return
        else:
            lifetime, content_type = (
                some_lifetime(self._random, self._now_ms()),
                self._random.choice(_TYPES),
            )
            closed = self._random.random() < 0.08
            command = Create(place.path, content_type, lifetime, closed)
        once, clients = self._create_once, 2 if self._random.random() < 0.2 else 1
        await asyncio.gather(*(once(place, command, content_type) for _ in range(clients)))

    async def _create_once(self, place: Place, command: Create, content_type: str) -> None:
        unborn = self._unborn(command, content_type, command.lifetime)
        body = self._first(unborn, 0.5)
        with self._visit(place) as visit:
            place.expect(unborn)
            outcome = await self._ask_for(unborn, body, visit)
            if outcome is not None and outcome.created:
                first = self._oracle.first_segment(unborn)
                wire = unborn.first.wire if unborn.first else b""
                end = Offset(first, len(wire)) if wire and first is not None else None
                self._born(unborn, end, visit)
                assert outcome.info.id == unborn.id

    def _unborn(self, command: Create, content_type: str, lifetime: Lifetime) -> Incarnation:
        unborn = Incarnation(command, content_type, lifetime)
        unborn.surely_used_ms = unborn.used_ms = self._now_ms()
        unborn.closed = Fate.OPEN if command.closed else Fate.REFUSED
        return unborn

    def _first(self, unborn: Incarnation, chance: float) -> bytes:
        """The body of a PUT, if it has one: the stream's first append."""
        if self._random.random() >= chance:
            return b""
        closes = unborn.command.closed
        attempt, body = self._attempt(unborn.content_type, 20, closes=closes, parts=1)
        attempt.homes.append(unborn)
        unborn.first = unborn.attempts[attempt.number] = attempt
        return body

    async def _ask_for(self, unborn: Incarnation, body: bytes, visit: Visit) -> Created | None:
        """Send a PUT; None if there is nothing to learn from the answer, or nothing more."""
        try:
            outcome = await self._ask(self._engine.create(unborn.command, body), unborn)
        except asyncio.CancelledError:
            return None
        except StreamExists as error:
            self._not_born(unborn)
            self._check_exists(error, unborn, visit)
            return None
        except (StorageFailed, StreamOutOfService):
            raise  # a fork that was on its way to its place may come into it
        except (DiskFull, StreamDamaged, Unavailable):
            self._not_born(unborn)
            raise
        if outcome.created:
            unborn.is_known(outcome.info.content_type, outcome.info.lifetime)
        else:
            self._not_born(unborn)
            living = self._oracle.known(outcome.info.id)
            visit.met(living, self._now_ms())
            wanted, found = unborn.command, living.command
            same = wanted.content_type == found.content_type and wanted.lifetime == found.lifetime
            assert same, f"{found} is not {wanted}"
            assert (wanted.fork is None) == (found.fork is None), f"{found} is not {wanted}"
        return outcome

    def _not_born(self, unborn: Incarnation) -> None:
        assert unborn.born is not Fate.DONE, "it was refused and is there"
        unborn.born = Fate.REFUSED
        for attempt in list(unborn.attempts.values()):
            if attempt is unborn.first:
                attempt.refused()
            elif attempt.fate is Fate.OPEN:  # under way, it may meet others yet
                attempt.may_be_in([home for home in attempt.homes if home is not unborn])

    def _check_exists(self, error: StreamExists, unborn: Incarnation, visit: Visit) -> None:
        """What is there differs from what was asked for, or is gone but for its forks."""
        others = [i for i in visit.place.lives if i is not unborn and i.born is not Fate.REFUSED]
        assert others or visit.place.forked, (
            f"{unborn.command.path}: {error}, and nobody ever was there"
        )
        if len(surely := visit.surely(self._now_ms())) == 1:
            living = surely[0]
            closed = Fate.DONE if unborn.command.closed else Fate.REFUSED
            same = living.command == unborn.command and living.closed is closed
            lost = unborn.command.closed and self._oracle.losses  # its close, unsynced, by itself
            assert not same or lost, f"it has the same configuration: {error}"

    def _born(self, unborn: Incarnation, end: Offset | None, visit: Visit) -> None:
        """It was made, with its first append, which ends there if that is known."""
        first = unborn.first
        now_ms = self._now_ms()
        visit.met(unborn, now_ms)
        unborn.use(now_ms, surely=False)
        if first is not None:
            assert end is None or first.end in (None, end)
            first.done(unborn, end, now_ms)

    async def _fork(self, place: Place) -> None:
        source_place = self._oracle.place(self._random.choice(_PATHS))
        source = self._living(source_place)
        if source is None or source.inherited is None:
            return
        if source_place is place or self._is_delicate(place):
            return
        request, wanted = fork_request(self._random, source_place.path, source)
        mortal, closed = self._random.random() < 0.3, self._random.random() < 0.1
        own = some_lifetime(self._random, self._now_ms()) if mortal else FOREVER
        command = Create(place.path, None, own, closed, request)
        unborn = self._unborn(command, source.content_type, fork_lifetime(source.lifetime, own))
        unborn.inherited, unborn.wanted, unborn.vague = None, wanted, True
        body = self._first(unborn, 0.3)
        source_place.forked = True
        self._troubles.poison.fork(place.path, source_place.path)
        with self._visit(source_place) as source_visit, self._visit(place) as visit:
            place.expect(unborn)
            try:
                outcome = await self._ask_for(unborn, body, visit)
            except (StreamNotFound, SourceGone) as error:
                self._not_born(unborn)
                gone = StreamGone if isinstance(error, SourceGone) else StreamNotFound
                source_visit.met_nobody(gone(error.path), self._now_ms())
                return
            except (Conflict, InvalidRequest, OffsetGone) as error:
                self._not_born(unborn)
                surely = source_visit.surely(self._now_ms())
                assert surely != [source], f"{source_place.path}: {wanted}, and {error!r}"
                return
            if outcome is None or not outcome.created:
                return
            self._born(unborn, None, visit)
            await self._read_all(place, self._oracle.visit(place.path, self._now_ms()))

    async def _delete(self, place: Place) -> None:
        if self._living(place) is None:
            return
        with self._visit(place) as visit:
            deletion = place.begin_deletion()
            try:
                await self._ask(self._engine.delete(place.path))
            except asyncio.CancelledError:
                return
            except (StreamNotFound, StreamGone) as error:
                place.deletion_refused(deletion)
                visit.met_nobody(error, self._now_ms())
            except StorageFailed:
                raise
            except (DiskFull, StreamUnusable, Unavailable):
                place.deletion_refused(deletion)
                raise
            else:
                visit.deleted(deletion, self._now_ms())
            finally:
                place.deletions.remove(deletion)


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    _Action = Callable[[Place], Awaitable[None]]
