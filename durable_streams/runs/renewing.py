"""The TTL of what is under way: nobody else uses its claim meanwhile, and then it would be gone.

Without a claim a run's name is free, and its end has no place.  Of what is held it is the claim
alone that is renewed: its stream may expire when it is not used.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

    from durable_streams.runs.records import Records

_log = logging.getLogger(__name__)

_RENEWALS: Final = 3
"""In each TTL."""


async def renew(
    records: Records, ttl_s: int, carried: Collection[str], held: Collection[str]
) -> None:
    """Renew for ever; ``carried`` and ``held``: the names of runs, as they are then."""
    places = records.places
    while True:
        await asyncio.sleep(ttl_s / _RENEWALS)
        paths = [places.control(name) for name in (*carried, *held)]
        for path in [*paths, *(places.answer(name) for name in carried)]:
            try:
                await records.touch(path)
            except Exception as error:  # noqa: BLE001 - the next one is due all the same
                _log.warning("runs: the TTL of %s cannot be renewed now: %r", path, error)
