"""Where messages end in appends that have many, every few KiB, for who asks for their records.

Where a message ends is known only to who has gone through the append from its beginning.  What was
seen on the way is remembered, so that of pages that follow one another each looks into its own
bytes, and not into all before them.  Within a bound: what is forgotten is gone through again.
Owned by the event loop.  Stores have them in common.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from durable_streams.settings import KIB

if TYPE_CHECKING:
    from collections.abc import Sequence

STEP_BYTES: Final = 8 * KIB
"""Between two marks, at least: what a page looks into beside its own bytes, at most, or a message
if that is longer."""

_KEPT_BYTES: Final = 704  # of an append beside its marks, as measured

Append = tuple[str, int, int, str]
"""Which append: the identity of its stream, segment, position, and the running checksum behind it,
so that one of other bytes is another append."""


class Mark(NamedTuple):
    """A position in a segment behind a message; so many ``messages`` of the append are before."""

    position: int
    messages: int


class Marks:
    """The marks of some appends, those of which were asked for last."""

    def __init__(self, most_bytes: int) -> None:
        """``most_bytes``: what they may take, in all."""
        self._most_bytes = most_bytes
        self._known: OrderedDict[Append, _OfOne] = OrderedDict()
        self._bytes = 0

    def before(self, append: Append, behind: int, skip: int) -> Mark:
        """Where to begin, if messages count that end behind a position and are none of the first.

        ``skip``: how many of the first are not wanted.
        """
        begin = Mark(append[2], 0)
        known = self._known.get(append)
        if known is None:
            return begin
        self._known.move_to_end(append)
        return known.before(behind, skip, begin)

    def keep(self, append: Append, begin: Mark, seen: Sequence[Mark]) -> None:
        """Remember what was seen on the way from ``begin``, where :meth:`before` has said to."""
        if not seen:
            return  # most appends are short
        if begin.messages and append not in self._known:
            return  # it was forgotten meanwhile, and those before would be missing
        known = self._known.setdefault(append, _OfOne())
        self._known.move_to_end(append)
        self._bytes -= known.size_bytes
        known.add(seen)
        known.size_bytes = _KEPT_BYTES + sum(
            each.itemsize * len(each) for each in (known.positions, known.messages)
        )
        self._bytes += known.size_bytes
        while self._bytes > self._most_bytes and self._known:
            _, oldest = self._known.popitem(last=False)
            self._bytes -= oldest.size_bytes


class _OfOne:
    """The marks of an append, in order."""

    __slots__ = ("messages", "positions", "size_bytes")

    def __init__(self) -> None:
        self.positions = array("Q")
        self.messages = array("Q")
        self.size_bytes = 0

    def before(self, behind: int, skip: int, begin: Mark) -> Mark:
        at = max(bisect_right(self.positions, behind), bisect_right(self.messages, skip)) - 1
        return begin if at < 0 else Mark(self.positions[at], self.messages[at])

    def add(self, seen: Sequence[Mark]) -> None:
        for position, messages in seen:
            if not self.positions or position >= self.positions[-1] + STEP_BYTES:
                self.positions.append(position)
                self.messages.append(messages)


def marks_among(ends: Sequence[int], last: Mark, before: int) -> list[Mark]:
    """Marks at some of the ``ends`` of messages, before which there are so many others.

    ``last``: the mark before them.
    """
    found: list[Mark] = []
    at = bisect_left(ends, last.position + STEP_BYTES)
    while at < len(ends):
        found.append(Mark(ends[at], before + at + 1))
        at = bisect_left(ends, ends[at] + STEP_BYTES, at)
    return found
