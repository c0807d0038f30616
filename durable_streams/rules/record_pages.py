"""Which records are asked for: where they begin, and how many there may be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durable_streams.model.commands import Last, Since
from durable_streams.model.errors import InvalidRequest
from durable_streams.model.offsets import Start

if TYPE_CHECKING:
    from durable_streams.model.commands import Place
    from durable_streams.model.offsets import Offset

DEFAULT_RECORDS: Final = 100
"""In one page, if nobody says how many."""

MAX_RECORDS: Final = 1000
"""In one page: some 200 KB of JSON."""


def parse_page(
    offset: Offset | Start | None, since_ms: int | None, last: int | None, limit: int | None
) -> tuple[Place, int]:
    """Where a page begins, and how many records it has at most.

    The beginning, if nothing says where, and as many as ``last`` says, if nothing says how many.
    :class:`InvalidRequest` if more than one says where, or a number is too low or too high.
    """
    given = {"offset": offset, "since": since_ms, "last": last}
    places = [name for name, value in given.items() if value is not None]
    if len(places) > 1:
        raise InvalidRequest(f"give one of offset, since and last, not {' and '.join(places)}")
    for name, number in (("last", last), ("limit", limit)):
        if number is not None and not 1 <= number <= MAX_RECORDS:
            raise InvalidRequest(f"{name} must be from 1 to {MAX_RECORDS}, not {number}")
    if last is not None:
        return Last(last), limit or last
    place = Start.BEGINNING if offset is None else offset
    return (place if since_ms is None else Since(since_ms)), limit or DEFAULT_RECORDS
