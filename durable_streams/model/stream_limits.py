"""How many streams there may be at and below a prefix, as a setting says it: ``chat=1000``.

The prefix is a path in the text form of :mod:`.paths`, and whole segments of it count: ``chat``
is for the streams ``chat`` and ``chat/room``, and not for ``chatter``.  Without one, ``=1000``, it
is for all streams.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from durable_streams.model.errors import InvalidRequest
from durable_streams.model.paths import parse_path_text, path_text

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST_DIGITS: Final = 18


class StreamLimit(NamedTuple):
    """At most ``most`` streams whose paths begin with the segments of ``prefix``; () is all."""

    prefix: tuple[str, ...]
    most: int

    @property
    def refusal(self) -> str:
        """What to tell who wants one more."""
        below = f" at and below {path_text(self.prefix)!r}" if self.prefix else ""
        return (
            f"there may be {self.most} streams{below}, and there are: delete some that nobody "
            "needs, or use another path"
        )


def parse_limits(texts: Iterable[str]) -> tuple[StreamLimit, ...]:
    """The limits that are said so; ``ValueError`` tells what is wrong with one."""
    limits = tuple(map(_parse, texts))
    prefixes = [limit.prefix for limit in limits]
    for prefix in prefixes:
        if prefixes.count(prefix) > 1:
            raise ValueError(f"there are two limits for {path_text(prefix)!r}: give one")
    return limits


def _parse(text: str) -> StreamLimit:
    prefix, sign, number = text.rpartition("=")
    if not sign:
        raise ValueError(
            f"{text!r} is no PREFIX=N: give chat=1000, say, or =1000 for all streams together"
        )
    if not (number.isascii() and number.isdecimal() and len(number) <= _MOST_DIGITS):
        raise ValueError(f"{text!r}: {number!r} is no number: give a whole one, in digits only")
    if not int(number):
        raise ValueError(f"{text!r} allows no stream: give a number from 1 on")
    try:
        return StreamLimit(parse_path_text(prefix) if prefix else (), int(number))
    except InvalidRequest as error:
        raise ValueError(f"{text!r} is for no path: {error}") from None
