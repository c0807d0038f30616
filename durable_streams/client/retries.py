"""When to ask again what failed, and when to give up: no clock and no randomness of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_streams.client.steps import Answer

LONGEST_TOLD_S: Final = 300
"""A server that says to come back later than this is asked then all the same."""

ATTEMPTS_AT_500: Final = 4
"""How often a verb asks what the server fails at: it is a bug or a damaged file more often than
something that passes."""

PASSING: Final = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses after which the same request may well be answered."""

NOTHING_DONE: Final = frozenset({429})
"""Statuses that say for certain that a write was not begun."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How a client repeats what failed for a reason that passes.

    The pauses begin at ``first_s`` and grow ``factor`` times each, up to ``longest_s``; each is cut
    at random to between half and all of it, so that many clients of a server that is back do not
    come at once.  Where the server says when to come back (``Retry-After``), that counts.

    ``give_up_s``: so long after its beginning a verb, or a batch of a producer, gives up, and
    raises what happened last; ``repeats``: or after it was repeated so often (0: it is asked once),
    None: as often as there is time.  A :meth:`tail` does so only before its first answer, and after
    that when the server has been away for ``follow_s``: never, by default.

    ``unsure``: repeat an append without a producer also if nobody knows whether it was stored
    (a lost connection, a 500 or 503), so that it may be stored twice.
    """

    first_s: float = 0.1
    longest_s: float = 5.0
    give_up_s: float = 60.0
    follow_s: float = math.inf
    unsure: bool = False
    repeats: int | None = None
    factor: float = 2.0

    def __post_init__(self) -> None:
        """``ValueError`` for what cannot be."""
        if not 0 < self.first_s <= self.longest_s:
            raise ValueError("first_s must be above 0, and at most longest_s")
        if not (self.give_up_s >= 0 and self.follow_s >= 0):
            raise ValueError("give_up_s and follow_s must be seconds from 0 on")
        if self.repeats is not None and self.repeats < 0:
            raise ValueError("repeats must be a number from 0 on, or None")
        if not 1 <= self.factor < math.inf:
            raise ValueError("factor must be a number from 1 on")


class Backoff:
    """The pauses of one row of failures, and whether they have lasted too long."""

    __slots__ = (
        "_begin_s",
        "_failures",
        "_limit_s",
        "_next_s",
        "_now",
        "_policy",
        "_random",
        "_repeats",
    )

    def __init__(
        self, policy: Retries, now: Callable[[], float], random: Callable[[], float]
    ) -> None:
        """``now``: seconds of any clock that goes on; ``random``: from 0 up to 1."""
        self._policy = policy
        self._now = now
        self._random = random
        self._limit_s = policy.give_up_s
        self._repeats = policy.repeats
        self.reset()

    @property
    def failures(self) -> int:
        """How many there were in a row."""
        return self._failures

    def reset(self) -> None:
        """Something went well, or begins."""
        self._begin_s = self._now()
        self._next_s = self._policy.first_s
        self._failures = 0

    def patient(self) -> None:
        """From now on the limit is that of somebody who follows."""
        self._limit_s = self._policy.follow_s
        self._repeats = None

    def pause_s(self, answer: Answer | None = None) -> float | None:
        """How long to wait after a failure; None: not any more."""
        self._failures += 1
        told_s = retry_after_s(answer)
        if told_s is None:
            pause_s = self._next_s * (1 + self._random()) / 2
            self._next_s = min(self._next_s * self._policy.factor, self._policy.longest_s)
        else:
            pause_s = min(told_s, LONGEST_TOLD_S) + self._random() * self._policy.first_s
        is_late = self._now() + pause_s - self._begin_s > self._limit_s
        is_last = self._repeats is not None and self._failures > self._repeats
        return None if is_late or is_last else pause_s


def retry_after_s(answer: Answer | None) -> int | None:
    """When a server says to come back, in seconds; None if it does not, or by a date."""
    text = "" if answer is None else answer.header("retry-after")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None
