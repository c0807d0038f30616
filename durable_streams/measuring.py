"""Numbers that are kept where things happen, and what they are called when somebody looks.

A hot path adds to a plain integer, or to a :class:`Tally`; a *family* is what a set of such numbers
is called, for whoever shows them.  Names and units are as Prometheus would have them: seconds,
bytes, ``_total`` behind what only grows.
"""

from __future__ import annotations

from bisect import bisect_left
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple, Self, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX: Final = "durable_streams_"
"""What the names of all families begin with."""

SECONDS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01),
    *(0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
)
"""Bounds of what takes a disk and a network: 0.1 ms to 2.5 s."""

COUNTS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Bounds of how many share something."""


class Tally:
    """How values are spread: how many are within each bound and above the one before.

    The last of ``counts`` is of those above all bounds; ``total`` is the sum of the values.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """``bounds`` ascend."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def add_all(self, other: Tally) -> None:
        """Count all values that another tally has, which has the same bounds."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.total += other.total

    def copy(self) -> Self:
        """What it is now."""
        copy = type(self)(self.bounds)
        copy.counts, copy.total = self.counts.copy(), self.total
        return copy


class Kind(Enum):
    """What can be made of the numbers of a family."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


Values: TypeAlias = "Mapping[tuple[str, ...], float | Tally]"
"""Numbers by the values of their labels; one without labels has the key ``()``."""


class Family(NamedTuple):
    """Numbers of one name.

    ``name`` without ``PREFIX``.  Values of labels are few and known beforehand: nothing that a
    client sends is one.
    """

    kind: Kind
    name: str
    help: str
    values: Values
    labels: tuple[str, ...] = ()


def counter(name: str, help_text: str, value: float) -> Family:
    """A number that only grows, without labels; its name ends in ``_total``."""
    return Family(Kind.COUNTER, name, help_text, {(): value})


def gauge(name: str, help_text: str, value: float | None) -> Family:
    """A number that goes up and down, without labels; None while it is not known."""
    return Family(Kind.GAUGE, name, help_text, {} if value is None else {(): value})


def histogram(name: str, help_text: str, tally: Tally) -> Family:
    """A tally without labels."""
    return Family(Kind.HISTOGRAM, name, help_text, {(): tally})


class StoreNumbers(NamedTuple):
    """What a store has counted since it was opened, and how it is now; a copy, which stays so.

    ``commits``: seconds that each commit took to become durable, and ``shared`` how many writes
    each had, ``committed_bytes`` what they took in all.  ``duplicates``: appends of producers that
    were there already.  ``open_streams``: in memory.  ``waiting``: writers who wait for their turn.
    ``more``: what only this kind of store has.
    """

    commits: Tally
    shared: Tally
    committed_bytes: int = 0
    duplicates: int = 0
    open_streams: int = 0
    waiting: int = 0
    more: tuple[Family, ...] = ()
