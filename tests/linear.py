"""Whether matching a pattern takes time in proportion to the text, decided from the pattern alone.

Python's ``re`` goes back when it fails.  That costs nothing where each character leaves one way to
go on: where the sets of characters that may come next at one place do not overlap (Glushkov's
condition).  Then a match at one place looks at each character a bounded number of times.  A search
tries every place, so its loops are entered only behind a character that they cannot take: else each
place in a long run begins the same loop once more.

Outside of loops and searches, repetitions of one character up to ``FEW`` times and alternatives
without loops are a constant, however they overlap.  What this does not understand it refuses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from re import _compiler, _constants, _parser  # type: ignore[attr-defined]
from typing import Any, Final

FEW: Final = 256
_CHARACTERS: Final = [chr(number) for number in range(0x250)]
_MANY: Final = _constants.MAXREPEAT
_REPEATS: Final = {_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT}
_ONE: Final = {_constants.LITERAL, _constants.NOT_LITERAL, _constants.IN, _constants.ANY}
_EMPTY: Final = {_constants.AT, _constants.ASSERT, _constants.ASSERT_NOT}


class NotLinear(Exception):
    """Why a pattern may take more than linear time."""


@dataclass(eq=False)
class _Place:
    """A character of the pattern: which ones it takes, and whether it is a constant's worth."""

    takes: frozenset[str]
    is_few: bool = False


@dataclass
class _Part:
    """A part of a pattern: where it may begin and end, and whether it may be empty."""

    first: list[_Place] = field(default_factory=list)
    last: list[_Place] = field(default_factory=list)
    nullable: bool = True


class _Graph:
    def __init__(self, pattern: re.Pattern[Any]) -> None:
        self.flags = pattern.flags
        self.is_bytes = isinstance(pattern.pattern, bytes)
        self.follow: dict[_Place, list[_Place]] = {}
        self.loops: list[tuple[_Part, set[_Place]]] = []
        text = pattern.pattern if isinstance(pattern.pattern, str) else None
        text = pattern.pattern.decode("latin-1") if text is None else text
        self.state = _parser.State()
        self.tree = _parser.parse(text, self.flags & ~re.DEBUG)
        self.whole = self.sequence(self.tree)

    def sequence(self, nodes: Any) -> _Part:
        whole = _Part()
        for node in nodes:
            whole = self.join(whole, self.part(node))
        return whole

    def join(self, before: _Part, after: _Part) -> _Part:
        for place in before.last:
            self.follow[place] += after.first
        return _Part(
            before.first + (after.first if before.nullable else []),
            after.last + (before.last if after.nullable else []),
            before.nullable and after.nullable,
        )

    def part(self, node: tuple[Any, Any]) -> _Part:
        operation, argument = node
        if operation in _ONE:
            place = _Place(self.characters(node))
            self.follow[place] = []
            return _Part([place], [place], False)
        if operation in _EMPTY:
            return _Part()
        if operation is _constants.SUBPATTERN:
            return self.sequence(argument[-1])
        if operation is _constants.ATOMIC_GROUP:
            return self.sequence(argument)
        if operation is _constants.BRANCH:
            whole = _Part(nullable=False)
            known, loops = set(self.follow), len(self.loops)
            for branch in argument[1]:
                part = self.sequence(branch)
                whole.first += part.first
                whole.last += part.last
                whole.nullable = whole.nullable or part.nullable
            if len(self.loops) == loops:
                for place in set(self.follow) - known:
                    place.is_few = True
            return whole
        if operation in _REPEATS:
            return self.repeat(*argument)
        raise NotLinear(f"{operation} is not understood")

    def repeat(self, least: int, most: int, nodes: Any) -> _Part:
        known = set(self.follow)
        part = self.sequence(nodes)
        if most is _MANY or most > FEW:
            for place in part.last:
                self.follow[place] += part.first
            self.loops.append((part, set(self.follow) - known))
            if part.nullable:
                raise NotLinear("a loop of what may be empty")
        elif most > 1:
            if len(nodes) != 1 or nodes[0][0] not in _ONE:
                raise NotLinear("a bounded repetition of more than one character")
            part.first[0].is_few = True
        return _Part(part.first, part.last, part.nullable or least == 0)

    def characters(self, node: tuple[Any, Any]) -> frozenset[str]:
        one = _parser.SubPattern(self.state, [node])
        self.state.flags = self.flags
        matcher = _compiler.compile(one, self.flags & ~re.DEBUG)
        if not self.is_bytes:
            return frozenset(filter(matcher.fullmatch, _CHARACTERS))
        return frozenset(c for c in _CHARACTERS[:256] if matcher.fullmatch(c))


def check(pattern: re.Pattern[Any], *, is_searched: bool) -> None:
    """Raise :class:`NotLinear` unless matching, or searching, is linear in the text."""
    graph = _Graph(pattern)
    looping = set().union(*(inside for _, inside in graph.loops))
    constant = set() if is_searched else {place for place in graph.follow if place.is_few} - looping
    for ways in (graph.whole.first, *graph.follow.values()):
        for number, one in enumerate(ways):
            for other in ways[number + 1 :]:
                both = one.takes & other.takes
                if both and not {one, other} & constant:
                    raise NotLinear(f"{min(both)!r} may be taken in two ways")
    if not is_searched:
        return
    for part, inside in graph.loops:
        taken = frozenset().union(*(place.takes for place in inside))
        if any(place in graph.whole.first for place in part.first):
            raise NotLinear("a search may begin with a loop")
        for place, ways in graph.follow.items():
            enters = place not in inside and any(way in part.first for way in ways)
            if enters and place.takes & taken:
                raise NotLinear("a search may enter a loop anywhere in what the loop takes")
