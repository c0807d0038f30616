"""Whether the database's clock can be relied on to tell that streams have expired.

Not for some time after a node's start (a backup may just have been restored), nor after the
database got another primary or another clock, which may be wrong: it can be mended by then.
Meanwhile expired streams are expired for everybody, but what they held is not thrown away.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg

    Fetch = Callable[..., Awaitable[list[asyncpg.Record]]]

_JUMP_S: Final = 60.0
"""Of the database's clock against ours, which is one that may be wrong."""

SERVER: Final = """
select (pg_control_checkpoint()).timeline_id as timeline,
 extract(epoch from clock_timestamp())::float8 as at_s
"""


class Doubt:
    """A node's, from its start on; ``delay_s``: how long it lasts."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._loop = asyncio.get_running_loop()
        self._since_s = self._loop.time()
        self._timeline: int | None = None
        self._ahead_s = 0.0

    async def is_there(self, fetch: Fetch) -> bool:
        """Whether there is any now, by a look at the database."""
        (row,) = await fetch(SERVER)
        ahead_s = row["at_s"] - self._loop.time()
        if row["timeline"] != self._timeline or abs(ahead_s - self._ahead_s) > _JUMP_S:
            if self._timeline is not None:
                self._since_s = self._loop.time()
            self._timeline, self._ahead_s = row["timeline"], ahead_s
        return self._loop.time() - self._since_s < self._delay_s
