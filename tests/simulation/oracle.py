"""What must be true after any crash, told by somebody who watched every request and answer.

Every append carries a token of its own.  From the answers the oracle knows of each token whether
it has to be there (acknowledged, or seen by a reader), must not be (refused), or may be.
After each recovery :meth:`Oracle.check` reads everything back, compares, and settles what was open:
from then on it is either there for ever or never.

Where acknowledgements do not wait for the disk, a power cut opens again what was settled since the
last recovery (:meth:`Oracle.lose`): each stream may then have ended at any earlier append.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from durable_streams.errors import (
    ProducerGap,
    SequenceConflict,
    StaleEpoch,
    StreamClosed,
    StreamGone,
    StreamNotFound,
)
from durable_streams.protocol.commands import FOREVER, Append, Lifetime, ProducerClaim
from durable_streams.protocol.lifetime import deadline_ms
from durable_streams.protocol.offsets import ZERO, Offset
from tests.simulation.contents import contents, token

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_streams.engine.engine import Engine

USE_LAG_MS: Final = 6000  # the last use of a stream is remembered to within so much


class Fate(Enum):
    """What is known of an append, a close or a deletion."""

    OPEN = "open"
    DONE = "done"
    REFUSED = "refused"


@dataclass(slots=True)
class Attempt:
    """One append: ``end`` is where it ends in the stream, once known.

    ``since_ms``: when it was known to be done; 0 once a recovery has made it durable.
    """

    number: int
    producer: ProducerClaim | None = None
    closes: bool = False
    stream_seq: str | None = None
    fate: Fate = Fate.OPEN
    end: Offset | None = None
    since_ms: int = 0

    def done(self, end: Offset, now_ms: int) -> None:
        """It is in the stream, for ever."""
        if self.fate is not Fate.DONE:
            self.fate, self.end, self.since_ms = Fate.DONE, end, now_ms


@dataclass(slots=True)
class Incarnation:
    """A stream from one creation to its deletion.

    ``inherited``: what a fork began with, None as long as nobody knows.  ``born_ms``,
    ``closed_ms``, ``deleted_ms``: as :attr:`Attempt.since_ms`.  ``used_ms``: its last use, and
    ``surely_used_ms``: one that no crash can have made it forget.
    """

    id: str
    content_type: str
    attempts: dict[int, Attempt] = field(default_factory=dict)
    inherited: tuple[tuple[int, Offset], ...] | None = ()
    closed: Fate = Fate.REFUSED
    deleted: Fate = Fate.REFUSED
    unborn: bool = False
    is_fork: bool = False
    lifetime: Lifetime = FOREVER
    producers: dict[str, list[ProducerClaim]] = field(default_factory=dict)
    born_ms: int = 0
    closed_ms: int = 0
    deleted_ms: int = 0
    used_ms: int = 0
    surely_used_ms: int = 0
    tail: Offset = ZERO

    def known_ends(self) -> list[Offset]:
        """Where its appends are known to end."""
        return [a.end for a in self.attempts.values() if a.fate is Fate.DONE and a.end is not None]

    def use(self, now_ms: int, *, surely: bool) -> None:
        """It was used; ``surely``: and that cannot be forgotten for long."""
        self.used_ms = max(self.used_ms, now_ms)
        if surely:
            self.surely_used_ms = self.used_ms

    def may_be_gone(self, now_ms: int) -> bool:
        """Whether nobody may wonder if it is not there."""
        if self.unborn or self.deleted is not Fate.REFUSED:
            return True
        end = deadline_ms(self.lifetime, self.surely_used_ms - USE_LAG_MS)
        return end is not None and end <= now_ms

    def must_be_gone(self, now_ms: int) -> bool:
        """Whether it cannot be there any more."""
        end = deadline_ms(self.lifetime, self.used_ms)
        return self.deleted is Fate.DONE or (end is not None and end < now_ms)

    def close_is_done(self, now_ms: int) -> None:
        """It is closed for ever."""
        if self.closed is not Fate.DONE:
            self.closed, self.closed_ms = Fate.DONE, now_ms

    def reopen(self) -> None:
        """A close was refused: it is closed only if another one was done, or still may be."""
        others = [a for a in self.attempts.values() if a.closes and a.fate is Fate.OPEN]
        if self.closed is Fate.OPEN and not others:
            self.closed = Fate.REFUSED


@dataclass(slots=True)
class Place:
    """A path: who lives there, who did since the last check, and what nobody heard the answer of.

    ``busy``: requests that need the stream to stay.  ``changing``: one that makes or ends it.
    """

    current: Incarnation | None = None
    unborn: Incarnation | None = None
    former: list[Incarnation] = field(default_factory=list)
    busy: int = 0
    changing: bool = False


class Oracle:
    """The watcher."""

    def __init__(self) -> None:
        self.places: dict[str, Place] = {}
        self.checked = 0

    def place(self, path: str) -> Place:
        """The place at a path."""
        return self.places.setdefault(path, Place())

    def saw(self, incarnation: Incarnation, found: list[tuple[int, Offset]], now_ms: int) -> None:
        """A reader got these from the beginning: they can never go away again."""
        for before, after in pairwise(found):
            assert before[1] < after[1], f"offsets go back: {before}, {after}"
        if incarnation.inherited is None:  # a fork whose beginning nobody saw: what is not its own
            own = incarnation.attempts
            incarnation.inherited = tuple(pair for pair in found if pair[0] not in own)
        known = len(incarnation.inherited)
        assert tuple(found[:known]) == incarnation.inherited, "not what it inherited"
        previous: Attempt | None = None
        for number, end in found[known:]:
            attempt = incarnation.attempts[number]
            assert attempt.fate is not Fate.REFUSED, f"{number} was refused and is there"
            assert attempt.end in (None, end), f"{number} ends at {end}, was told {attempt.end}"
            assert previous is None or not previous.closes, f"{number} follows the end"
            attempt.done(end, now_ms)
            if attempt.closes:
                incarnation.close_is_done(now_ms)
            previous = attempt
        if found:
            incarnation.tail = max(incarnation.tail, found[-1][1])

    def crash(self) -> None:
        """Requests under way will get no answer."""
        for place in self.places.values():
            place.busy, place.changing = 0, False

    def lose(self, kept_before_ms: int) -> None:
        """The power went, and acknowledgements since did not wait for the disk."""

        def lost(since_ms: int) -> bool:
            return since_ms > 0 and since_ms >= kept_before_ms

        for place in self.places.values():
            for living in (place.current, *place.former):
                if living is None:
                    continue
                for attempt in living.attempts.values():
                    if attempt.fate is Fate.DONE and lost(attempt.since_ms):
                        attempt.fate = Fate.OPEN
                if living.closed is Fate.DONE and lost(living.closed_ms):
                    living.closed = Fate.OPEN
                if living.deleted is Fate.DONE and lost(living.deleted_ms):
                    living.deleted = Fate.OPEN
                living.unborn = living.unborn or lost(living.born_ms)
                living.tail = ZERO

    # -- after a recovery ------------------------------------------------------------------

    async def check(self, engine: Engine, now_ms: Callable[[], int]) -> None:
        """Compare everything; settle what was open."""
        for path in sorted(self.places):
            try:
                await self._check_place(engine, path, self.places[path], now_ms)
            except AssertionError as error:
                raise AssertionError(f"{path}: {error}") from error
        self.checked += 1

    async def _check_place(
        self, engine: Engine, path: str, place: Place, now_ms: Callable[[], int]
    ) -> None:
        candidates = [known for known in (place.current, *place.former) if known is not None]
        try:
            info = await engine.head(path)
        except (StreamNotFound, StreamGone) as error:
            for known in candidates:
                assert known.may_be_gone(now_ms()), f"acknowledged, and {error}"
            place.current, place.unborn, place.former = None, None, []
            return
        living = next((known for known in candidates if known.id == info.id), place.unborn)
        assert living is not None, "a stream that nobody created"
        for known in candidates:
            assert known is living or known.may_be_gone(now_ms()), "replaced by another stream"
        assert not living.must_be_gone(now_ms()), "deleted or expired, and back"
        assert info.tail >= living.tail, f"it ends at {info.tail}, and did at {living.tail}"
        living.id, living.deleted, living.unborn, living.born_ms = info.id, Fate.REFUSED, False, 0
        place.current, place.unborn, place.former = living, None, []
        await self._check_content(engine, path, living, now_ms)
        self._settle_close(living, closed=info.closed)
        await self._check_producers(engine, path, living, now_ms)
        await self._check_stream_seq(engine, path, living)

    async def _check_content(
        self, engine: Engine, path: str, living: Incarnation, now_ms: Callable[[], int]
    ) -> None:
        found = await contents(engine, path)
        living.use(now_ms(), surely=False)
        numbers = [number for number, _ in found]
        assert len(set(numbers)) == len(numbers), f"stored twice: {numbers}"
        end = found[-1][1] if found else ZERO
        for attempt in living.attempts.values():
            if attempt.number in numbers:
                continue
            assert attempt.fate is not Fate.DONE, f"lost {attempt.number}"
            assert attempt.fate is Fate.REFUSED or attempt.end is None or attempt.end > end, (
                f"lost {attempt.number} and kept what came after"
            )
            attempt.fate = Fate.REFUSED
        self.saw(living, found, now_ms())
        for attempt in living.attempts.values():
            attempt.since_ms = 0

    def _settle_close(self, living: Incarnation, *, closed: bool) -> None:
        if living.closed is Fate.DONE:
            assert closed, "closed, and open again"
        elif living.closed is Fate.REFUSED:
            assert not closed, "closed by nobody"
        living.closed = Fate.DONE if closed else Fate.REFUSED
        living.closed_ms = 0

    async def _check_producers(
        self, engine: Engine, path: str, living: Incarnation, now_ms: Callable[[], int]
    ) -> None:
        """A retry is a duplicate, a gap is one, an old epoch is fenced off; nothing is stored."""
        for name, claims in living.producers.items():
            done = [
                attempt
                for attempt in living.attempts.values()
                if attempt.producer in claims and attempt.fate is Fate.DONE
            ]
            if not done:
                continue
            last = max(done, key=lambda a: (a.producer.epoch, a.producer.seq))  # type: ignore[union-attr]
            claim = last.producer
            assert claim is not None
            before = (await engine.head(path)).tail
            await self._check_retry(engine, path, living, last)
            body = token(last.number, 3)
            gap = ProducerClaim(name, claim.epoch, claim.seq + 2)
            for wrong, answer in (
                (gap, ProducerGap),
                (ProducerClaim(name, claim.epoch - 1, 0), StaleEpoch),
            ):
                if wrong.epoch < 0 or living.closed is Fate.DONE:
                    continue
                try:
                    await engine.append(Append(path, living.content_type, producer=wrong), body)
                except answer:
                    continue
                raise AssertionError(f"{wrong} was accepted after {claim}")
            assert (await engine.head(path)).tail == before
            living.use(now_ms(), surely=False)

    async def _check_retry(
        self, engine: Engine, path: str, living: Incarnation, last: Attempt
    ) -> None:
        command = Append(path, living.content_type, producer=last.producer, close=last.closes)
        try:
            again = await engine.append(command, token(last.number, 3))
        except StreamClosed:
            assert living.closed is Fate.DONE
            assert not last.closes, "the closing request is not recognised"
        else:
            assert again.duplicate, f"a retry of {last.producer} was accepted"

    async def _check_stream_seq(self, engine: Engine, path: str, living: Incarnation) -> None:
        """What a writer claimed to have written last cannot be written again."""
        done = [a.stream_seq for a in living.attempts.values() if a.fate is Fate.DONE]
        last = max((seq for seq in done if seq is not None), default=None)
        if last is None or living.closed is Fate.DONE:
            return
        command = Append(path, living.content_type, stream_seq=last)
        try:
            await engine.append(command, token(0, 0))
        except SequenceConflict as error:
            assert error.last == last, f"the last Stream-Seq was {last}, not {error.last}"
        else:
            raise AssertionError(f"Stream-Seq {last} was accepted twice")
