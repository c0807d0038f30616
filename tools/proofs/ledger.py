"""What writers sent and what was acknowledged, and whether a stream holds exactly that.

An append is one or more lines of text; every line carries the append's token, its place in the
append and a checksum, so that a stream read back proves by itself that its appends are whole::

    chat / 7  # 2/producer-1/41 1/3 <filler> <crc32>

The token names the stream's path, its life (a path is deleted and created again), the writer and
the writer's count.  In a stream of bytes the lines end in newlines; in a JSON stream each line is
a message, a string.
"""

from __future__ import annotations

import json
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

JSON: Final = "application/json"
BYTES: Final = "application/octet-stream"
TEXT: Final = "text/plain"
BEFORE_IT_COUNTS_S: Final = 1.0
"""A copy holds what was acknowledged this long before it began."""


class Damaged(AssertionError):
    """What was read cannot have been written like that."""


class Claim(NamedTuple):
    """The producer headers of an append."""

    producer: str
    epoch: int
    seq: int


@dataclass(slots=True, eq=False)
class Append:
    """One append: times are those of ``time.monotonic``, None until it was acknowledged.

    ``offset``: where it ends, if the first answer came through and told.
    """

    token: str
    writer: str
    claim: Claim | None = None
    sent_s: float = field(default_factory=time.monotonic)
    acknowledged_s: float | None = None
    offset: str | None = None

    def acknowledge(self, offset: str | None) -> None:
        """The server answered that it has it."""
        self.acknowledged_s, self.offset = time.monotonic(), offset


@dataclass(slots=True, eq=False)
class Life:
    """A stream from its creation to its deletion.

    ``inherited``: the tokens a fork began with.  An append that was not acknowledged may be there
    or not.
    """

    path: str
    number: int
    content_type: str
    inherited: list[str] = field(default_factory=list)
    appends: list[Append] = field(default_factory=list)
    create_sent_s: float = field(default_factory=time.monotonic)
    created_s: float | None = None
    close_sent_s: float | None = None
    closed_s: float | None = None
    delete_sent_s: float | None = None
    deleted_s: float | None = None
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def name(self) -> str:
        """The path and which of its lives this is."""
        return f"{self.path}#{self.number}"

    def begin(self, writer: str, claim: Claim | None = None) -> Append:
        """Note an append that is about to be sent."""
        append = Append(f"{self.name}/{writer}/{self.counts[writer]}", writer, claim)
        self.counts[writer] += 1
        self.appends.append(append)
        return append

    def order(self) -> list[str]:
        """All tokens in the order of the stream, what has no answer yet in that of sending."""

        def place(append: Append) -> str:
            if append.acknowledged_s is None:
                return "unanswered"  # behind every offset
            return append.offset or ""  # what came with the creation

        return self.inherited + [append.token for append in sorted(self.appends, key=place)]


def lines_of(token: str, count: int, filler: str) -> list[str]:
    """The lines of an append."""
    texts = [f"{token} {number}/{count} {filler}" for number in range(1, count + 1)]
    return [f"{text} {zlib.crc32(text.encode()):08x}" for text in texts]


def body_of(lines: Sequence[str], content_type: str) -> bytes:
    """An append's body for a stream of this type."""
    if content_type == JSON:
        return json.dumps(list(lines)).encode()
    return "".join(f"{line}\n" for line in lines).encode()


def lines_in(data: bytes, content_type: str) -> list[str]:
    """The lines that a body or a piece of a stream holds."""
    if content_type == JSON:
        lines: list[str] = json.loads(data)
        return lines
    text = data.decode()
    if text and not text.endswith("\n"):
        raise Damaged(f"half a line: {text[-200:]!r}")
    return text.splitlines()


def tokens_in(lines: Sequence[str]) -> list[str]:
    """The tokens of the appends, in order; each append is whole and intact."""
    tokens: list[str] = []
    expected = None
    for line in lines:
        text, _, checksum = line.rpartition(" ")
        if f"{zlib.crc32(text.encode()):08x}" != checksum:
            raise Damaged(f"a line fails its checksum: {line!r}")
        token, place, _ = text.split(" ", 2)
        number, count = map(int, place.split("/"))
        if expected not in {None, (token, number)} or (expected is None and number != 1):
            raise Damaged(f"{expected} should follow, but there is {line!r}")
        if number == 1:
            tokens.append(token)
        expected = (token, number + 1) if number < count else None
    if expected is not None:
        raise Damaged(f"the last append lacks {expected}")
    return tokens


def faults_of(life: Life, tokens: Sequence[str]) -> list[str]:
    """What is wrong with the whole content of a stream that nobody writes to any more."""
    count = len(life.inherited)
    if list(tokens[:count]) != life.inherited:
        return [f"{life.name}: a fork does not begin with what it was forked from"]
    own = list(tokens[count:])
    place = {token: number for number, token in enumerate(own)}
    known = {append.token for append in life.appends}
    faults = []
    if len(place) != len(own):
        faults.append(f"{life.name}: {len(own) - len(place)} appends are there twice")
    faults += [
        f"{token} is in {life.name} and was never sent" for token in own if token not in known
    ]
    faults += [
        f"{append.token} was acknowledged and is lost"
        for append in life.appends
        if append.acknowledged_s is not None and append.token not in place
    ]
    faults += _disorder(life, place)
    return faults


def _disorder(life: Life, place: dict[str, int]) -> list[str]:
    """Writers' appends that overtook each other, and offsets that say otherwise than the data."""
    faults = []
    present = [append for append in life.appends if append.token in place]
    for writer in {append.writer for append in present}:
        mine = [place[append.token] for append in present if append.writer == writer]
        if mine != sorted(mine):
            faults.append(f"{life.name}: appends of {writer} are not in the order of sending")
    told = [(append.offset, place[append.token]) for append in present if append.offset is not None]
    if len({offset for offset, _ in told}) != len(told):
        faults.append(f"{life.name}: two appends were given one offset")
    if [number for _, number in sorted(told)] != sorted(number for _, number in told):
        faults.append(f"{life.name}: offsets do not grow with the data")
    return faults


@dataclass(frozen=True, slots=True)
class Window:
    """When a copy was made, by ``time.monotonic``.

    ``layered``: it was laid over another one that is not older than ``began_s`` or not younger
    than ``ended_s``, and nothing was removed: what was deleted may be there.
    """

    began_s: float
    ended_s: float
    layered: bool = False

    def surely(self, acknowledged_s: float | None) -> bool:
        """Whether the copy must show what was acknowledged then."""
        return acknowledged_s is not None and acknowledged_s <= self.began_s - BEFORE_IT_COUNTS_S


@dataclass(frozen=True, slots=True)
class Found:
    """A stream as a copy has it."""

    tokens: list[str]
    closed: bool


def life_in_copy(lives: Sequence[Life], found: Found | None, window: Window) -> Life | None:
    """Which life of a path a copy shows; None: none, rightly.  Raises :class:`Damaged`."""
    required = [
        life
        for life in lives
        if window.surely(life.created_s)
        and (life.delete_sent_s is None or life.delete_sent_s > window.ended_s)
    ]
    if found is None:
        if required:
            raise Damaged(f"{required[-1].name} is missing")
        return None
    reasons = []
    for life in required or reversed(lives):
        fault = _misfit(life, found, window)
        if fault is None:
            return life
        reasons.append(f"{life.name}: {fault}")
    shown = f"{len(found.tokens)} appends, the last being {found.tokens[-1:]}"
    raise Damaged(f"{shown}, closed: {found.closed}, is no life of its path: {reasons[:3]}")


def _misfit(life: Life, found: Found, window: Window) -> str | None:
    """Why a copy of this life cannot look like that; None if it can."""
    order = life.order()
    if found.tokens != order[: len(found.tokens)]:
        return "not a prefix"
    if life.create_sent_s > window.ended_s:
        return "created after the copy"
    if found.closed and (life.close_sent_s is None or found.tokens != order):
        return "not closed"
    if life.delete_sent_s is not None and life.delete_sent_s <= window.ended_s:
        if window.surely(life.deleted_s) and not window.layered:
            return "deleted before the copy"
        return None
    there = set(found.tokens)
    sure = life.inherited if window.surely(life.created_s) else []
    sure = sure + [each.token for each in life.appends if window.surely(each.acknowledged_s)]
    missing = [token for token in sure if token not in there]
    if missing:
        return f"{len(missing)} appends are missing, the first {missing[0]}"
    if window.surely(life.closed_s) and not found.closed:
        return "closed before the copy"
    return None
