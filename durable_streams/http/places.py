"""How many connections a server has: that it serves, that are on their way, that it refuses.

A place is taken when a connection is accepted.  With TLS that is before its handshake, so that
whoever never ends one has no more places than others.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from durable_streams.descriptors import MAX_REFUSED, spare_for

if TYPE_CHECKING:
    from aiohttp import web


class Places:
    """Counts connections.

    ``limit``: how many are served at a time.  ``served``: those that are, until they have ended,
    with their transports.
    ``arriving``: how many have a place while their handshake is under way.  ``refused``: how many
    are told that there is no place, or would be.
    """

    def __init__(self, limit: int) -> None:
        self.served: dict[web.RequestHandler, asyncio.Transport] = {}
        self.arriving = 0
        self.refused = 0
        self._empty: asyncio.Future[None] | None = None
        self.use(limit)

    def use(self, limit: int) -> None:
        """Serve so many from now on."""
        self.limit = limit
        self._max_refused = spare_for(limit, MAX_REFUSED)

    @property
    def taken(self) -> int:
        """How many are taken."""
        return len(self.served) + self.arriving

    @property
    def are_taken(self) -> bool:
        """Whether one more is to be refused."""
        return self.taken >= self.limit

    @property
    def are_overrun(self) -> bool:
        """Whether one more that is refused is not even told so."""
        return self.refused >= self._max_refused

    def leave(self, connection: web.RequestHandler) -> None:
        """A connection has ended."""
        self.served.pop(connection, None)
        if self._empty is not None and not self.served and not self._empty.done():
            self._empty.set_result(None)

    async def end(self, patience_s: float) -> None:
        """Wait so long for the ends of connections that are being closed, then cut off the rest."""
        if self.served:
            self._empty = asyncio.get_running_loop().create_future()
            with suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    await self._empty
        for transport in tuple(self.served.values()):
            transport.abort()
