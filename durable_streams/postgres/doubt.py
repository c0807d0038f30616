"""Whether the database's clock can be relied on to tell that something is old enough to go.

Not for some time after a node first looks (a backup may just have been restored), nor after it
finds another server or another time there, which may be wrong: it can be mended by then.  Meanwhile
expired streams are expired for everybody, but what they held is not thrown away.

Servers are told apart by when they were started.  A timeline does not tell of a promotion before
the next checkpoint, which may be minutes later, and not every service tells its timeline.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from durable_streams.postgres.statements import now

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg

    from durable_streams.postgres.database import Clock

    Fetch = Callable[..., Awaitable[list[asyncpg.Record]]]

_JUMP_S: Final = 60.0
"""Of the database's clock against ours, which is one that may be wrong."""

SERVER: Final = f"""
select pg_postmaster_start_time() as server, {now("$1")} as now_ms
"""


class Doubt:
    """A node's, from its first look on; ``delay_s``: how long it lasts.

    Somebody has to look every few seconds: a change is as old as the look that finds it.
    """

    def __init__(self, clock: Clock, delay_s: float) -> None:
        self._clock = clock
        self._delay_s = delay_s
        self._loop = asyncio.get_running_loop()
        self._since_s = 0.0
        self._server: object = None
        self._ahead_s = 0.0

    async def is_there(self, fetch: Fetch) -> bool:
        """Whether there is any now, by a look at the database."""
        return await self.believed_ms(fetch) is None

    async def believed_ms(self, fetch: Fetch, for_s: float | None = None) -> int | None:
        """What time it is, if server and clock have been the same for so long; None: in doubt.

        By a look at the database.  What goes is compared with this time and not with the clock as
        it is a moment later, when it may be that of another server.  ``for_s``: ``delay_s``.
        """
        (row,) = await fetch(SERVER, self._clock.parameter)
        now_ms: int = row["now_ms"]
        ours_s = self._loop.time()
        ahead_s = now_ms / 1000 - ours_s
        if row["server"] != self._server or abs(ahead_s - self._ahead_s) > _JUMP_S:
            self._since_s, self._server, self._ahead_s = ours_s, row["server"], ahead_s
        steady_s = ours_s - self._since_s
        return now_ms if steady_s >= (self._delay_s if for_s is None else for_s) else None
