"""What must be true after any crash, told by somebody who watched every request and answer.

Every append carries a token of its own.  From the answers the oracle knows of each token whether
it has to be there (acknowledged, or seen by a reader), must not be (refused), or may be.
After each recovery :meth:`Oracle.check` reads everything back, compares, and settles what was open:
from then on it is either there for ever or never.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from durable_streams.errors import StreamClosed, StreamGone, StreamNotFound
from durable_streams.protocol.commands import Append, ProducerClaim
from durable_streams.protocol.offsets import Offset, Start

if TYPE_CHECKING:
    from durable_streams.engine.engine import Engine

_TOKEN = re.compile(rb'"(\d+):x*"')


class Fate(Enum):
    """What is known of an append, a close or a deletion."""

    OPEN = "open"
    DONE = "done"
    REFUSED = "refused"


@dataclass(slots=True)
class Attempt:
    """One append: ``end`` is where it ends in the stream, once known."""

    number: int
    producer: ProducerClaim | None
    closes: bool
    fate: Fate = Fate.OPEN
    end: Offset | None = None


@dataclass(slots=True)
class Incarnation:
    """A stream from one creation to its deletion."""

    id: str
    content_type: str
    attempts: dict[int, Attempt] = field(default_factory=dict)
    inherited: tuple[tuple[int, Offset], ...] | None = ()
    closed: Fate = Fate.REFUSED
    deleted: Fate = Fate.REFUSED
    expires_ms: int | None = None
    producers: dict[str, list[ProducerClaim]] = field(default_factory=dict)


@dataclass(slots=True)
class Place:
    """A path: who lives there, and what nobody heard the answer of."""

    current: Incarnation | None = None
    unborn: Incarnation | None = None
    busy: int = 0
    changing: bool = False


def token(number: int, size: int) -> bytes:
    """The bytes of one append, valid as JSON too."""
    return b'"%d:%s"' % (number, b"x" * size)


def parse(content_type: str, data: bytes) -> list[tuple[int, int]]:
    """Numbers of the tokens in wire bytes, and where each ends; nothing else is there."""
    found: list[tuple[int, int]] = []
    position = 0
    while position < len(data):
        match = _TOKEN.match(data, position)
        assert match, f"torn or foreign bytes at {position}: {data[position : position + 40]!r}"
        position = match.end()
        if content_type == "application/json":
            assert data[position : position + 1] == b",", "a message without its comma"
            position += 1
        found.append((int(match[1]), position))
    return found


async def contents(engine: Engine, path: str) -> list[tuple[int, Offset]]:
    """All tokens of a stream in order, with the offset each ends at."""
    stream = await engine.open_stream(path)
    found: list[tuple[int, Offset]] = []
    at: Offset | Start = Start.BEGINNING
    while True:
        chunk = await engine.read(stream, at)
        try:
            data = b"".join(
                [
                    part if isinstance(part, bytes) else await engine.read_slice(part)
                    for part in chunk.parts
                ]
            )
        finally:
            chunk.release()
        begin = chunk.end.position - chunk.size_bytes
        found += [
            (number, Offset(chunk.end.segment, begin + end))
            for number, end in parse(stream.content_type, data)
        ]
        at = chunk.end
        if chunk.at_tail:
            return found


class Oracle:
    """The watcher."""

    def __init__(self) -> None:
        self.places: dict[str, Place] = {}
        self.checked = 0

    def place(self, path: str) -> Place:
        """The place at a path."""
        return self.places.setdefault(path, Place())

    def saw(self, incarnation: Incarnation, found: list[tuple[int, Offset]]) -> None:
        """A reader got these: they can never go away again."""
        if incarnation.inherited is None:  # a fork whose creation nobody heard of: all it has
            incarnation.inherited = tuple(found)
        for number, end in found[len(incarnation.inherited) :]:
            attempt = incarnation.attempts[number]
            assert attempt.fate is not Fate.REFUSED, f"{number} was refused and is there"
            assert attempt.end in (None, end), f"{number} ends at {end}, was told {attempt.end}"
            attempt.fate, attempt.end = Fate.DONE, end
            if attempt.closes:
                incarnation.closed = Fate.DONE

    def power_cut(self) -> None:
        """Requests under way will get no answer."""
        for place in self.places.values():
            place.busy, place.changing = 0, False

    async def check(self, engine: Engine, now_ms: int) -> None:
        """Compare everything; settle what was open."""
        for path in sorted(self.places):
            await self._check_place(engine, path, self.places[path], now_ms)
        self.checked += 1

    async def _check_place(self, engine: Engine, path: str, place: Place, now_ms: int) -> None:
        try:
            info = await engine.head(path)
        except (StreamNotFound, StreamGone) as error:
            self._check_absence(path, place, error, now_ms)
            return
        if place.unborn is not None and (place.current is None or info.id != place.current.id):
            old = place.current
            assert old is None or self._may_be_gone(old, now_ms), f"{path}: replaced"
            place.unborn.id = info.id
            place.current = place.unborn
        place.unborn = None
        living = place.current
        assert living is not None, f"{path}: a stream that nobody created, or that was deleted"
        assert living.id == info.id, f"{path}: another stream than the acknowledged one"
        assert living.deleted is not Fate.DONE, f"{path}: deleted, and back"
        living.deleted = Fate.REFUSED
        await self._check_content(engine, path, living)
        self._settle_close(path, living, closed=info.closed)
        await self._check_producers(engine, path, living)

    def _check_absence(
        self, path: str, place: Place, error: StreamNotFound | StreamGone, now_ms: int
    ) -> None:
        living = place.current
        if living is not None:
            assert self._may_be_gone(living, now_ms), f"{path}: acknowledged, and {error}"
            if living.deleted is not Fate.REFUSED:
                living.deleted = Fate.DONE
        place.current = place.unborn = None

    def _may_be_gone(self, living: Incarnation, now_ms: int) -> bool:
        expired = living.expires_ms is not None and living.expires_ms <= now_ms
        return expired or living.deleted is not Fate.REFUSED

    async def _check_content(self, engine: Engine, path: str, living: Incarnation) -> None:
        found = await contents(engine, path)
        numbers = [number for number, _ in found]
        assert len(set(numbers)) == len(numbers), f"{path}: stored twice: {numbers}"
        self.saw(living, found)
        assert living.inherited is not None
        assert tuple(found[: len(living.inherited)]) == living.inherited, f"{path}: inherited"
        present = set(numbers)
        for attempt in living.attempts.values():
            if attempt.number in present:
                continue
            assert attempt.fate is not Fate.DONE, f"{path}: lost {attempt.number}"
            attempt.fate = Fate.REFUSED

    def _settle_close(self, path: str, living: Incarnation, *, closed: bool) -> None:
        if living.closed is Fate.DONE:
            assert closed, f"{path}: closed, and open again"
        elif living.closed is Fate.REFUSED:
            assert not closed, f"{path}: closed by nobody"
        living.closed = Fate.DONE if closed else Fate.REFUSED

    async def _check_producers(self, engine: Engine, path: str, living: Incarnation) -> None:
        """A retry of what is there is a duplicate, and stores nothing."""
        for claims in living.producers.values():
            done = {
                attempt.producer: attempt
                for attempt in living.attempts.values()
                if attempt.producer in claims and attempt.fate is Fate.DONE
            }
            if not done:
                continue
            claim = max(
                (claim for claim in claims if claim in done), key=lambda c: (c.epoch, c.seq)
            )
            last = done[claim]
            command = Append(path, living.content_type, producer=claim, close=last.closes)
            before = (await engine.head(path)).tail
            try:
                again = await engine.append(command, token(last.number, 3))
            except StreamClosed:
                assert living.closed is Fate.DONE
                assert not last.closes, f"{path}: the closing request is not recognised"
            else:
                assert again.duplicate, f"{path}: a retry of {claim} was accepted"
                assert again.tail == before
