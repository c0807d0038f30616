"""What a run yields, appended in batches: each item once and in order.

While one batch is being stored the next one gathers, so a slow store makes larger batches.  A batch
has its number for good (``ProducerClaim``) and is repeated until it is answered: the store takes
each number once.  One is under way at a time, so that nothing is ever stored behind a gap.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from durable_streams.model.commands import ProducerClaim
from durable_streams.runs.store import until_it_works

if TYPE_CHECKING:
    from durable_streams.runs.formats import Format
    from durable_streams.runs.store import AnyStreams

LINGER_S: Final = 0.02
"""What a batch waits for more: nobody sees it, and of a token a millisecond it makes 20 one."""

_WAITING_BYTES: Final = 1024 * 1024
"""What may wait to be stored before a source has to wait as well."""

_BATCH_BYTES: Final = 256 * 1024


class Writer:
    """Appends to the stream of one run."""

    def __init__(
        self, streams: AnyStreams, path: str, form: Format, *, linger_s: float = LINGER_S
    ) -> None:
        self._streams = streams
        self._path = path
        self._format = form
        self._linger_s = linger_s
        self._items: list[bytes] = []
        self._waiting_bytes = 0
        self._seq = 0
        self._is_over = False
        self._filled = asyncio.Event()
        self._hurry = asyncio.Event()
        self._taken = asyncio.Event()

    async def put(self, items: list[bytes]) -> None:
        """Have items stored soon; waits while too much is waiting.  Too late, they are dropped."""
        for item in items:
            while self._waiting_bytes >= _WAITING_BYTES and not self._is_over:
                self._taken.clear()
                await self._taken.wait()
            if self._hurry.is_set():
                await asyncio.sleep(0)  # and the run's end goes on
                return
            self._items.append(item)
            self._waiting_bytes += len(item)
            self._filled.set()

    def finish(self) -> None:
        """Nothing is taken any more: :meth:`run` ends when all that was is stored."""
        self._hurry.set()
        self._filled.set()

    def last_claim(self) -> ProducerClaim:
        """The number of what comes behind all of it."""
        return ProducerClaim("run", 0, self._seq)

    async def run(self) -> None:
        """Store what is put, until :meth:`finish`; raises what does not pass."""
        try:
            while self._items or not self._hurry.is_set():
                await self._filled.wait()
                await self._linger()
                if self._items:
                    await self._store(self._take())
        finally:
            self._is_over = True  # who waits for room shall not wait for ever
            self._taken.set()

    async def _linger(self) -> None:
        if self._waiting_bytes < _BATCH_BYTES and not self._hurry.is_set():
            try:
                async with asyncio.timeout(self._linger_s):
                    await self._hurry.wait()
            except TimeoutError:
                pass

    def _take(self) -> bytes:
        size_bytes = count = 0
        for item in self._items:
            if count and size_bytes + len(item) > _BATCH_BYTES:
                break
            size_bytes += len(item)
            count += 1
        batch, self._items = self._items[:count], self._items[count:]
        self._waiting_bytes -= size_bytes
        if not self._items and not self._hurry.is_set():
            self._filled.clear()
        self._taken.set()
        return self._format.joined(batch)

    async def _store(self, batch: bytes) -> None:
        claim = self.last_claim()
        await until_it_works(
            lambda: self._streams.append(
                self._path, batch, content_type=self._format.content_type, producer=claim
            )
        )
        self._seq += 1
