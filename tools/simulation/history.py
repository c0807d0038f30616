"""What is known of each stream, from the requests and answers so far; several may race at a path.

A request is a :class:`Visit`: it began at one moment and was answered at a later one, and met the
path in some state between.  Streams that one of its answers proves to be gone, or there, are so
for ever: an id never comes back.  So for every answer the possible orders of what raced are known
without listing them: a stream that was *surely there* throughout cannot have been missed, one that
was gone before the visit began cannot have been met, and everything else is allowed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from durable_streams.model.commands import FOREVER, Create, Lifetime, ProducerClaim
from durable_streams.model.errors import StreamGone
from durable_streams.model.offsets import ZERO, Offset
from durable_streams.rules.lifetime import deadline_ms
from tools.simulation.contents import JSON

if TYPE_CHECKING:
    from durable_streams.model.errors import StreamNotFound
    from durable_streams.model.paths import StreamPath

ENDS_ARE_FINAL: Final = True
"""Whether somebody who is told 404 or 410 while a DELETE is under way may rely on it."""

USE_LAG_MS: Final = 6000  # the last use of a stream is remembered to within so much


class Fate(Enum):
    """What is known of a birth, an append or a close."""

    OPEN = "open"
    DONE = "done"
    REFUSED = "refused"


class Piece(NamedTuple):
    """An append, or what a fork took of it, as it lies in a stream: ``end`` is behind it."""

    number: int
    end: Offset
    data: bytes

    @property
    def start(self) -> Offset:
        """Where its bytes begin."""
        return Offset(self.end.segment, self.end.position - len(self.data))


@dataclass(slots=True, eq=False)
class Attempt:
    """One append: ``wire`` is what it stores, ``end`` where that ends in the stream, once known.

    ``homes``: the streams it may be in, if a path changed hands meanwhile; ``told``: the end in
    its answer.  ``sent_ms``: when it was asked for.  ``since_ms``: when it was known to be done; 0
    once a recovery has made it durable.
    """

    number: int
    wire: bytes = b""
    content_type: str = ""
    producer: ProducerClaim | None = None
    closes: bool = False
    sent_ms: int = 0
    stream_seq: str | None = None
    fate: Fate = Fate.OPEN
    end: Offset | None = None
    told: Offset | None = None
    since_ms: int = 0
    homes: list[Incarnation] = field(default_factory=list)

    def done(self, home: Incarnation, end: Offset | None, now_ms: int) -> None:
        """It is in a stream, for ever."""
        if self.fate is not Fate.DONE:
            self.fate, self.since_ms = Fate.DONE, now_ms
        self.end = self.end or end
        self._live_in([home])
        if self.closes:
            home.close_is_done(now_ms)

    def refused(self) -> None:
        """It is nowhere."""
        self.fate = Fate.REFUSED
        for home in self.homes:
            home.reopen()

    def _live_in(self, homes: list[Incarnation]) -> None:
        left, self.homes = self.homes, homes
        for other in left:
            if other not in homes:
                del other.attempts[self.number]
                other.reopen()

    def may_be_in(self, homes: list[Incarnation]) -> None:
        """It is in none but these."""
        self._live_in([home for home in self.homes if home in homes])


class Wanted(NamedTuple):
    """What a fork was asked to be of, and up to where at least, or ``exactly``."""

    source: Incarnation
    point: Offset
    exactly: bool


@dataclass(slots=True, eq=False)
class Incarnation:
    """A stream from one creation to its deletion.

    ``first``: the body of its PUT.  ``inherited``: what a fork began with, None as long as nobody
    knows; ``vague``: nor of what it is a fork, and so its type and lifetime.  ``deleting``:
    requests that may have ended it; ``dead_at``: when an answer proved that it is gone, and
    ``dead_why``: which.  ``born_ms``, ``closed_ms``, ``dead_ms``: as :attr:`Attempt.since_ms`.
    ``used_ms``: its last use, and ``surely_used_ms``: one that no crash can have made it forget.
    ``first_ms`` and ``last_ms``: when it was first met, and last.  ``first_segment``: where it
    begins, None as long as nobody knows.
    """

    command: Create
    content_type: str
    lifetime: Lifetime = FOREVER
    id: str = ""
    attempts: dict[int, Attempt] = field(default_factory=dict)
    first: Attempt | None = None
    inherited: tuple[Piece, ...] | None = ()
    wanted: Wanted | None = None
    source: Incarnation | None = None
    forks: list[Incarnation] = field(default_factory=list)
    born: Fate = Fate.OPEN
    closed: Fate = Fate.REFUSED
    deleting: int = 0
    dead_at: int | None = None
    dead_why: str = ""
    vague: bool = False
    producers: dict[str, list[ProducerClaim]] = field(default_factory=dict)
    born_ms: int = 0
    closed_ms: int = 0
    dead_ms: int = 0
    used_ms: int = 0
    surely_used_ms: int = 0
    tail: Offset = ZERO
    first_ms: int = 0
    last_ms: int = 0
    first_segment: int | None = None

    def segments(self) -> set[int]:
        """Those in which it is known to have, or have had, content."""
        inherited = [piece.end for piece in self.inherited or ()]
        return {end.segment for end in (*self.known_ends(), *inherited)}

    def is_close_to(self, other: Incarnation, kept_ms: int) -> bool:
        """Whether one of the two ended so little before the other began, or they overlap."""
        return max(self.first_ms, other.first_ms) - min(self.last_ms, other.last_ms) < kept_ms

    @property
    def is_fork(self) -> bool:
        """Whether it was asked for as a fork."""
        return self.command.fork is not None

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
        if self.born is not Fate.DONE or self.deleting or self.dead_at is not None or self.vague:
            return True
        end = deadline_ms(self.lifetime, self.surely_used_ms - USE_LAG_MS)
        return end is not None and end <= now_ms

    def is_expired(self, now_ms: int) -> bool:
        """Whether its time is over, however late it was used."""
        end = deadline_ms(self.lifetime, self.used_ms)
        return end is not None and end < now_ms and not self.vague

    def is_known(self, content_type: str, lifetime: Lifetime) -> None:
        """Its configuration was told."""
        self.content_type, self.lifetime, self.vague = content_type, lifetime, False
        if self.first is not None:  # it was sent without a type: that of the source decides
            comma = b"," if content_type == JSON else b""
            self.first.wire, self.first.content_type = (
                self.first.wire.rstrip(b",") + comma,
                content_type,
            )

    def is_there(self, now_ms: int) -> None:
        """Somebody met it: it was born, durably."""
        if self.born is not Fate.DONE:
            self.born, self.born_ms = Fate.DONE, now_ms
            if self.command.closed:
                self.close_is_done(now_ms)

    def is_gone(self, now_ms: int, moment: int, why: str) -> None:
        """An answer says so."""
        if self.dead_at is None:
            self.dead_at, self.dead_ms, self.dead_why = moment, now_ms, why

    def was_told_gone(self, now_ms: int, moment: int, why: str) -> None:
        """Somebody was told so who did not delete it: what readers learn is durable."""
        if ENDS_ARE_FINAL or not self.deleting:
            self.is_gone(now_ms, moment, why)

    def close_is_done(self, now_ms: int) -> None:
        """It is closed for ever."""
        if self.closed is not Fate.DONE:
            self.closed, self.closed_ms = Fate.DONE, now_ms

    def may_close(self) -> None:
        """A close is under way."""
        if self.closed is Fate.REFUSED:
            self.closed = Fate.OPEN

    def reopen(self) -> None:
        """A close was refused: it is closed only if another one was done, or still may be."""
        others = [a for a in self.attempts.values() if a.closes and a.fate is Fate.OPEN]
        if self.closed is Fate.OPEN and not others and not self.command.closed:
            self.closed = Fate.REFUSED


@dataclass(slots=True, eq=False)
class Deletion:
    """A DELETE: ``targets`` are those it may have ended; ``answered``: when that was certain."""

    targets: list[Incarnation]
    answered: int = 0


@dataclass(slots=True, eq=False)
class Place:
    """A path: whoever may live there, or did since the last check, and the requests under way.

    ``unsettled``: acknowledged deletions of which it is not known whom they ended.
    ``past``: those who lived there before, as far as caches may have something of them.
    ``busy``: requests under way, each of which may renew what lives there.  ``forked``: whether
    anybody ever asked for a fork of it.
    """

    path: StreamPath
    lives: list[Incarnation] = field(default_factory=list)
    appends: list[Attempt] = field(default_factory=list)
    deletions: list[Deletion] = field(default_factory=list)
    unsettled: list[Deletion] = field(default_factory=list)
    past: list[Incarnation] = field(default_factory=list)
    busy: int = 0
    forked: bool = False

    def possible(self) -> list[Incarnation]:
        """Those who may be there now."""
        return [i for i in self.lives if i.born is not Fate.REFUSED and i.dead_at is None]

    def expect(self, unborn: Incarnation) -> None:
        """Somebody asks for a stream here: what is under way may meet it."""
        self.lives.append(unborn)
        for attempt in self.appends:
            self._join(attempt, unborn)
        for deletion in self.deletions:
            deletion.targets.append(unborn)
            unborn.deleting += 1

    def begin_append(self, attempt: Attempt) -> None:
        """An append is sent to whoever is there."""
        self.appends.append(attempt)
        for living in self.possible():
            self._join(attempt, living)

    def _join(self, attempt: Attempt, living: Incarnation) -> None:
        fits = living.vague or living.content_type == attempt.content_type
        if fits and attempt.fate is Fate.OPEN:
            attempt.homes.append(living)
            living.attempts[attempt.number] = attempt
            if attempt.closes:
                living.may_close()

    def begin_deletion(self) -> Deletion:
        """A DELETE is sent to whoever is there."""
        deletion = Deletion(self.possible())
        for living in deletion.targets:
            living.deleting += 1
        self.deletions.append(deletion)
        return deletion

    def deletion_refused(self, deletion: Deletion) -> None:
        """It ended nobody."""
        for living in deletion.targets:
            living.deleting -= 1
        deletion.targets.clear()

    def not_ended(self, deletion: Deletion, living: Incarnation, now_ms: int) -> None:
        """Whoever it ended, not this one."""
        deletion.targets.remove(living)
        living.deleting -= 1
        assert deletion.targets, f"{self.path}: deleted, and there again"
        self.settle_deletion(deletion, now_ms)

    def settle_deletion(self, deletion: Deletion, now_ms: int) -> None:
        """If only one is left whom it can have ended, that one is gone."""
        if len(deletion.targets) == 1:
            deletion.targets[0].is_gone(now_ms, deletion.answered, "its DELETE was acknowledged")
            if deletion in self.unsettled:
                self.unsettled.remove(deletion)
        elif deletion not in self.unsettled:
            self.unsettled.append(deletion)


class Clock:
    """Counts moments, so that it is known what came before what."""

    def __init__(self) -> None:
        self._moment = 0

    def tick(self) -> int:
        """The next moment."""
        self._moment += 1
        return self._moment


class Visit:
    """One request at a place, from when it is sent."""

    def __init__(self, clock: Clock, place: Place, now_ms: int) -> None:
        self.place = place
        self.began = clock.tick()
        self._began_ms = now_ms
        self._clock = clock
        self._known = [i for i in place.possible() if i.born is Fate.DONE]
        self._surely = [i for i in self._known if not i.may_be_gone(now_ms)]
        self._needed = [
            (source, fork)
            for source in place.lives
            for fork in source.forks
            if source.born is Fate.DONE and fork.source is source and not fork.may_be_gone(now_ms)
        ]

    def surely(self, now_ms: int) -> list[Incarnation]:
        """Those who were there from its beginning until now (no more than one, in truth)."""
        return [living for living in self._surely if not living.may_be_gone(now_ms)]

    def met_nobody(self, answer: StreamNotFound | StreamGone, now_ms: int) -> None:
        """Answered 404 or 410: whoever was there when it began is gone."""
        path = self.place.path
        surely = self.surely(now_ms)
        assert not surely, f"{path}: acknowledged, and {answer!r}"
        moment = self._clock.tick()
        if isinstance(answer, StreamGone):
            assert self.place.forked, f"{path}: 410 without a fork"
        else:
            for _, fork in self._needed:
                assert fork.may_be_gone(now_ms), f"{path}: 404, and the fork {fork.id} needs it"
        for living in self._known:
            living.was_told_gone(now_ms, moment, f"somebody was told {answer!r}")

    def met(self, living: Incarnation, now_ms: int) -> None:
        """It was answered by this stream, at some moment since it began."""
        place = self.place
        assert living in place.lives, f"{place.path}: a stream that nobody created, or of elsewhere"
        assert living.born is not Fate.REFUSED, f"{place.path}: its creation was refused"
        dead_at = living.dead_at
        back = f"{place.path}: gone ({living.dead_why}), and there again"
        assert dead_at is None or dead_at >= self.began, back
        late = living.is_expired(self._began_ms) and place.busy <= 1
        assert not late or living.born is not Fate.DONE, f"{place.path}: expired, and there"
        living.is_there(now_ms)
        living.first_ms, living.last_ms = living.first_ms or now_ms, now_ms
        moment = self._clock.tick()
        for other in self._known:
            if other is not living:
                assert other.may_be_gone(now_ms), f"{place.path}: replaced by another stream"
                other.is_gone(now_ms, moment, "another was in its place")
        for deletion in list(place.unsettled):
            if living in deletion.targets and deletion.answered < self.began:
                place.not_ended(deletion, living, now_ms)

    def homes(self, attempt: Attempt) -> list[Incarnation]:
        """The streams that an append that was acknowledged just now can be in."""
        return [
            home
            for home in attempt.homes
            if home.born is not Fate.REFUSED
            and (home.dead_at is None or home.dead_at >= self.began)
        ]

    def deleted(self, deletion: Deletion, now_ms: int) -> None:
        """The DELETE was acknowledged: it ended one of those who were there meanwhile."""
        deletion.answered = self._clock.tick()
        for living in list(deletion.targets):
            gone_before = living.dead_at is not None and living.dead_at < self.began
            if gone_before or living.born is Fate.REFUSED:
                deletion.targets.remove(living)
                living.deleting -= 1
        assert deletion.targets, f"{self.place.path}: deleted, and nobody was there"
        self.place.settle_deletion(deletion, now_ms)
