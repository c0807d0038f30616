"""The median, and between which samples it lies.

Nothing is supposed of how the samples are distributed, but that they do not depend on each other.
Each is below the true median or above it, like the sides of a coin.  So with the samples in order,
the true median lies between the k-th from below and the k-th from above unless fewer than k fell on
one side, which has a probability of 2 P(B(n, 1/2) < k).
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

LEVEL: Final = 0.95


@dataclass(frozen=True)
class Interval:
    """A median, and the interval that has the true one in it with the probability ``level``."""

    median: float
    low: float
    high: float
    level: float


def _level(count: int, k: int) -> float:
    """The probability that the true median is between the k-th from below and from above."""
    fewer = sum(math.comb(count, below) for below in range(k))
    return 1.0 - math.ldexp(fewer, 1 - count)


def median_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """The narrowest such interval of at least that level, or all there is if that is less.

    The levels go in steps: 98% for 10 values, and 97% for 6; fewer do not reach 95%.
    """
    ordered = sorted(values)
    count = len(ordered)
    enough = [k for k in range(1, (count + 1) // 2 + 1) if _level(count, k) >= level]
    k = max(enough, default=1)
    return Interval(statistics.median(ordered), ordered[k - 1], ordered[-k], _level(count, k))
