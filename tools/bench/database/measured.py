"""What was measured, as tables for the documentation, and whether it is what it should be."""

from __future__ import annotations

import statistics
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from tools.bench.report import figure, list_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


class Way(Enum):
    """How something was done; the value is the head of its column."""

    BARE = "the statement alone"
    STORE = "the store"
    NODE = "one node, HTTP"
    NODES = "two nodes, HTTP"
    FILES = "files, the store"
    FILES_NODE = "files, HTTP"


class What(Enum):
    """What was measured: what it is called, and its unit."""

    APPENDS_64 = ("appends to 64 streams, 64 writers", "/s")
    APPENDS_10K = ("appends to 10,000 streams, 64 writers", "/s")
    PRODUCERS = ("appends to 64 streams, 64 producers", "/s")
    ALONE = ("an append, one writer, median", "ms")
    HOT = ("appends to one stream through two nodes, 64 writers", "/s")
    HOT_P99 = ("of these appends, 99 of 100 within", "ms")
    BY_TURNS = ("appends to 64 streams, each through both nodes by turns", "/s")
    CATCH_UP = ("catching up on rows of 8 KiB, 8 readers", "MiB/s")
    SMALL_READS = ("reads of a small stream, 64 readers", "/s")
    OTHER_P50 = ("append to reader on another node, 1,000/s, median", "ms")
    OTHER_P99 = ("the same, 99 of 100 within", "ms")
    UNTOLD = ("the same where no notification arrives, at most", "ms")


_TIMES: Final = frozenset(what for what in What if what.value[1].endswith("ms"))


class Target(NamedTuple):
    """What should be: a figure, or its share of another one, is at least or at most so much."""

    what: What
    way: Way
    bound: float
    is_most: bool = False
    of: Way | None = None


TARGETS: Final = (
    Target(What.APPENDS_64, Way.STORE, 0.7, of=Way.BARE),
    Target(What.APPENDS_10K, Way.STORE, 0.7, of=Way.BARE),
    Target(What.PRODUCERS, Way.STORE, 0.7, of=Way.BARE),
    Target(What.ALONE, Way.STORE, 0.7, of=Way.BARE),
    Target(What.APPENDS_64, Way.NODES, 0.5, of=Way.STORE),
    Target(What.APPENDS_10K, Way.NODES, 0.5, of=Way.STORE),
    Target(What.PRODUCERS, Way.NODES, 0.5, of=Way.STORE),
    Target(What.HOT, Way.STORE, 8000),
    Target(What.HOT_P99, Way.STORE, 50, is_most=True),
    Target(What.CATCH_UP, Way.STORE, 150),
    Target(What.SMALL_READS, Way.STORE, 5000),
    Target(What.OTHER_P50, Way.STORE, 5, is_most=True),
    Target(What.OTHER_P99, Way.STORE, 30, is_most=True),
    Target(What.UNTOLD, Way.STORE, 1500, is_most=True),
)


class Figures:
    """All samples; what is shown is their median."""

    def __init__(self) -> None:
        self._samples: dict[tuple[What, Way], list[float]] = {}

    def add(self, what: What, way: Way, value: float) -> None:
        """One more sample."""
        self._samples.setdefault((what, way), []).append(value)

    def of(self, what: What, way: Way) -> float | None:
        """The median; None if it was not measured."""
        samples = self._samples.get((what, way))
        return statistics.median(samples) if samples else None

    def spread(self, what: What, way: Way) -> tuple[float, float]:
        """Between which two values all samples lie."""
        samples = self._samples[what, way]
        return min(samples), max(samples)

    def judged(self, target: Target) -> float | None:
        """What there is of a target; of times a share is how much shorter those of others are."""
        value = self.of(target.what, target.way)
        if target.of is None or not value:
            return value
        other = self.of(target.what, target.of)
        if not other:
            return None
        return other / value if target.what in _TIMES else value / other

    def missed(self) -> list[str]:
        """Targets that are not met, a line each."""
        return [
            f"{target.what.value[0]}, {target.way.value}: {found:.2f}, should be "
            f"{'at most' if target.is_most else 'at least'} {target.bound:g}"
            for target in TARGETS
            if (found := self.judged(target)) is not None
            and (found > target.bound if target.is_most else found < target.bound)
        ]

    # -- tables ----------------------------------------------------------------------------

    def rst(self, machine: list[str]) -> str:
        """The page that the documentation includes."""
        lines = [f"- {line}" for line in machine]
        lines += ["", *_table(("", *[way.value for way in Way]), self._rows()), ""]
        lines += _table(("of this", "should be", "is"), self._judgements())
        return "\n".join([*lines, ""])

    def _rows(self) -> Iterator[tuple[str, ...]]:
        for what in What:
            title, unit = what.value
            cells = [self.of(what, way) for way in Way]
            if any(cell is not None for cell in cells):
                yield (title, *["" if cell is None else f"{figure(cell)} {unit}" for cell in cells])

    def _judgements(self) -> Iterator[tuple[str, str, str]]:
        for target in TARGETS:
            found = self.judged(target)
            if found is None:
                continue
            title, unit = target.what.value
            word = "at most" if target.is_most else "at least"
            if target.of is None:
                yield title, f"{word} {target.bound:,.0f} {unit}", f"{figure(found)} {unit}"
                continue
            share = f"{word} {target.bound:.0%} of {target.of.value}"
            yield f"{title}: {target.way.value}", share, f"{found:.0%}"


def _table(columns: tuple[str, ...], rows: Iterable[Sequence[str]]) -> list[str]:
    return list_table(columns, rows, has_names=False)
