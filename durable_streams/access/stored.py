"""What is kept in a database for all nodes, as one of them knows it: looked at twice a second.

Where it cannot be read, what was last good goes on counting, and ``problem`` says why.  A node that
was cut off from the database looks before it serves anything again.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

from durable_streams.access.followed_file import INTERVAL_S, in_thread
from durable_streams.access.small_files import FileProblem
from durable_streams.model.errors import StreamError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    Fetch = Callable[..., Awaitable[Sequence[Any]]]

_Row = TypeVar("_Row")
_T = TypeVar("_T")

Read: TypeAlias = "Callable[[object], Awaitable[tuple[object, list[_Row]] | None]]"
"""What :meth:`Shared.read` is."""

logger = logging.getLogger("durable_streams")


class Shared(Protocol[_Row]):
    """What a store on a database has of a table."""

    async def read(self, known: object) -> tuple[object, list[_Row]] | None:
        """All rows, with what to call their state; None if that is the one ``known``."""

    def look_first(self, look: Callable[[Read[_Row]], Awaitable[None]]) -> None:
        """Have that done, by its own ``read``, before a node that was cut off shows anything."""

    async def change(
        self, work: Callable[[Fetch], Awaitable[None]], done: Callable[[None], None]
    ) -> None:
        """Do what changes them, and ``done`` at once when that is durable."""


class Stored(Generic[_Row, _T]):
    """``value``: what counts now, which is known from :meth:`begin` on; ``name`` says of what."""

    def __init__(
        self,
        name: str,
        nothing: _T,
        meaning: Callable[[Sequence[_Row]], _T],
        *,
        interval_s: float = INTERVAL_S,
    ) -> None:
        """``meaning``: what rows are; raises a :class:`FileProblem`, and is called in threads."""
        self.name = name
        self.value = nothing
        self.problem: str | None = None
        self._meaning = meaning
        self._interval_s = interval_s
        self._rows: Shared[_Row] | None = None
        self._state: object = None
        self._changes = 0
        self._changed: Callable[[], None] = lambda: None

    async def begin(self, rows: Shared[_Row]) -> None:
        """Read them for the first time; raises why that cannot be."""
        self._rows = rows
        await self._look(rows.read)
        rows.look_first(self._look_first)

    @asynccontextmanager
    async def running(self, changed: Callable[[], None]) -> AsyncIterator[None]:
        """Look at them while the block runs; ``changed`` is called when others count."""
        self._changed = changed
        following = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            self._changed = lambda: None
            following.cancel()
            await asyncio.wait([following])

    async def change(
        self, work: Callable[[Fetch], Awaitable[None]], done: Callable[[], None]
    ) -> None:
        """Change the table, and have what is in it count; what is refused changes nothing."""
        assert self._rows is not None
        refused: list[FileProblem] = []

        async def tried(fetch: Fetch) -> None:
            refused.clear()
            try:
                await work(fetch)
            except FileProblem as error:
                refused.append(error)

        await self._rows.change(tried, lambda _: None if refused else done())
        if refused:
            raise refused[0]
        self._changes += 1
        with suppress(StreamError, FileProblem):  # it is durable: what follows looks again
            await self._look(self._rows.read)

    async def _follow(self) -> None:
        assert self._rows is not None
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self._look(self._rows.read)
            except (StreamError, FileProblem) as error:
                self._fail(f"{error}")
            except Exception as error:
                self._fail(f"they cannot be used because of a bug: {type(error).__name__}")
                logger.exception("bug: a look at the %s in the database failed", self.name)

    async def _look_first(self, read: Read[_Row]) -> None:
        self._changes += 1  # a look that is under way may be at what was there before
        with suppress(FileProblem):  # the next look says so
            await self._look(read)

    async def _look(self, read: Read[_Row]) -> None:
        changes = self._changes
        found = await read(self._state)
        if found is not None:
            state, rows = found
            value = await in_thread(lambda: self._meaning(rows))
            if changes != self._changes:
                return  # what was changed here meanwhile is looked at by whoever did it
            self._state, self.value = state, value
            self._changed()
        if self.problem is not None:
            self.problem = None
            logger.info("the %s in the database are read again", self.name)

    def _fail(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            logger.error("the %s in the database count as they were before: %s", self.name, problem)
