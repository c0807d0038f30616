"""Which streams other nodes want to be told of: they are told of no others.

A node asks for a stream when somebody begins to wait for it there, or when it lost a race for it,
and again from time to time as long as that is so.  What it asks for is forgotten some seconds
later.  Whoever may not have heard what others ask for tells of every stream.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ASKED_S: Final = 3.0
"""Between two times that a node asks for the same stream."""

KEPT_S: Final = 10.0
"""For which it is told of it."""

ALL_ASKED_S: Final = 2.0 + ASKED_S
"""In which all nodes have asked again, also one that has to find out first that it has others."""


class Interest:
    """What other nodes ask this one for, and it asks them; ``now_s``: by a clock that is steady."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._wanted = _Lately(now_s, KEPT_S)
        self._asked = _Lately(now_s, ASKED_S)
        self._now_s = now_s
        self._all_known_s = float("inf")

    def listens(self) -> None:
        """What others ask for is heard from now on."""
        self._all_known_s = self._now_s() + ALL_ASKED_S

    def is_deaf(self) -> None:
        """It is not heard any more."""
        self._all_known_s = float("inf")

    def heard(self, numbers: Iterable[int]) -> list[int]:
        """Others ask for these streams; gives those that nobody has asked for lately."""
        return [number for number in numbers if not self._wanted.again(number)]

    def wants(self, number: int) -> bool:
        """Whether others have to be told of a stream."""
        return self._now_s() < self._all_known_s or self._wanted.has(number)

    def due(self, numbers: Iterable[int]) -> list[int]:
        """Of streams that this node is to be told of, those to ask for now."""
        due = [number for number in numbers if not self._asked.has(number)]
        for number in due:
            self._asked.again(number)
        return due

    def unsaid(self) -> None:
        """What was asked for was heard by nobody."""
        self._asked.forget()


class _Lately:
    """Numbers that came in the last seconds."""

    def __init__(self, now_s: Callable[[], float], kept_s: float) -> None:
        self._now_s = now_s
        self._kept_s = kept_s
        self._came_s: dict[int, float] = {}  # those that came last are last

    def has(self, number: int) -> bool:
        return self._came_s.get(number, float("-inf")) > self._now_s() - self._kept_s

    def again(self, number: int) -> bool:
        """Whether one that comes now had come lately."""
        had = self.has(number)
        self._came_s.pop(number, None)
        self._came_s[number] = self._now_s()
        for oldest in tuple(islice(self._came_s, 2)):  # so that none is left in the end
            if not self.has(oldest):
                del self._came_s[oldest]
        return had

    def forget(self) -> None:
        self._came_s.clear()
