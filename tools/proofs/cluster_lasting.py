"""Streams with a TTL that is never over, as somebody uses them: each by one kind of use alone.

The TTL begins anew with each use, by the clock of whichever machine has the primary then.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from tools.proofs.clients import AGAIN, Reader
from tools.proofs.cluster_book import BYTES, Book, Following

if TYPE_CHECKING:
    from collections.abc import Callable

    import aiohttp

    from tools.proofs.clients import Persistence
    from tools.proofs.cluster_book import Faults

_EVERY_S: Final = 2.0
_FINE: Final = frozenset({200, 201, 204})


class Lasting:
    """Some of them; ``url_of`` a path: where it is asked for."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        persistent: Persistence,
        url_of: Callable[[str], str],
        prefix: str,
        faults: Faults,
    ) -> None:
        self._session = session
        self._persistent = persistent
        self._url_of = url_of
        self._faults = faults
        self._read = f"{prefix}/only-read"
        self._appended = f"{prefix}/only-appended"
        self._followed = f"{prefix}/only-followed"
        self.used = 0

    async def create(self, ttl_s: int) -> None:
        """Make them."""
        headers = {"Content-Type": BYTES, "Stream-TTL": str(ttl_s)}
        for path in (self._read, self._appended, self._followed):
            await self._ask("PUT", path, headers)

    async def use(self) -> None:
        """Use them, for ever."""
        await asyncio.gather(
            self._again_and_again("GET", self._read),
            self._again_and_again("POST", self._appended),
            self._follow(),
        )

    async def _again_and_again(self, method: str, path: str) -> None:
        while await self._ask(method, path, {"Content-Type": BYTES}) in _FINE:
            self.used += 1
            await asyncio.sleep(_EVERY_S)

    async def _follow(self) -> None:
        """Follow the one to which nobody writes; it is left only when the server ends that."""
        following = Following(Book(self._followed, BYTES, self._faults), "the only reader")
        reader = Reader(self._session, self._persistent, self._url_of(self._followed), following)
        try:
            await reader.sse()
        except AssertionError as error:  # it takes no other status
            self._vanished(self._followed, str(error))

    async def _ask(self, method: str, path: str, headers: dict[str, str]) -> int:
        """Until there is an answer; its status."""
        data = b"." if method == "POST" else None

        async def attempt() -> int:
            async with self._session.request(
                method, self._url_of(path), headers=headers, data=data
            ) as answer:
                if answer.status in AGAIN:
                    answer.raise_for_status()
                return answer.status

        status = await self._persistent.get_over(attempt)
        if status not in _FINE:
            self._vanished(path, f"{method} is answered {status}")
        return status

    def _vanished(self, path: str, answer: str) -> None:
        self._faults.add(f"{path} has vanished while it was in use: {answer}")
