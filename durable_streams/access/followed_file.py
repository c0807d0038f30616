"""A small file that counts while the server runs, and may be edited meanwhile.

It is read every ``interval_s`` in a thread, whole, so that no clock of a file system matters.  What
two looks in a row have found counts: a file that is being written, or is missing for a moment while
an editor replaces it, is none yet.  Where it cannot be used the last good content goes on counting,
and ``problem`` says why.  All but the reading and parsing is done by the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from durable_streams.access.small_files import FileProblem, read_small

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from durable_streams.access.small_files import Edited

INTERVAL_S: Final = 0.5
"""Between two looks: what is changed counts within 2 s, though it is looked at again and parsed."""

SETTLE_S: Final = 0.1
"""Until the second look at what has changed: longer than editors take for a file of this size."""

_T = TypeVar("_T")
_R = TypeVar("_R")

logger = logging.getLogger("durable_streams")


class FollowedFile(Generic[_T]):
    """The last good content of a file, as ``value``; ``name`` is what people call it.

    It blocks while it is made: it reads the file, and raises the :class:`FileProblem` of ``parse``,
    which makes a value of the path and the bytes and is called in threads.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        parse: Callable[[Path, bytes], _T],
        *,
        max_bytes: int,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self.path = path
        self.name = name
        self.problem: str | None = None
        self._parse = parse
        self._max_bytes = max_bytes
        self._interval_s = interval_s
        self._changed: Callable[[], None] | None = None
        self._looking = asyncio.Lock()
        self._editing = asyncio.Lock()
        self._edits = 0
        content = read_small(path, max_bytes)
        self.value = parse(path, content)
        self._seen: bytes | str = content
        self._counted: bytes | str = content

    @asynccontextmanager
    async def running(self, changed: Callable[[], None]) -> AsyncIterator[None]:
        """Look at it while the block runs; ``changed`` is called when another value counts."""
        self._changed = changed
        following = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            self._changed = None
            following.cancel()
            await asyncio.wait([following])

    async def look(self) -> None:
        """Read the file once; what is found as it was the last time counts from now on.

        It waits for no edit, which may wait for other programs; what one has made is newer than
        what was found meanwhile.
        """
        async with self._looking:
            edits = self._edits
            found = await in_thread(self._read)
            if edits != self._edits:
                return
            is_settled, self._seen = found == self._seen, found
            if not is_settled or found == self._counted:
                return
            self._counted = found
            if isinstance(found, str):
                self._fail(found)
                return
            try:
                value = await in_thread(lambda: self._parse(self.path, found))
            except FileProblem as error:
                if edits == self._edits:
                    self._fail(f"{error}")
            else:
                if edits == self._edits:
                    self._take(value)

    async def look_now(self) -> str:
        """Have what is in the file count at once, for somebody who knows that it is whole.

        What became of that, in a few words.
        """
        before = self.value
        for _ in range(2):
            await self.look()
        if self.problem is not None:
            return f"as it was before: {self.problem}"
        return "as it was" if self.value is before else "changed"

    async def edit(self, change: Callable[[], Edited[_T, _R]]) -> _R:
        """Have ``change`` edit the file, in a thread and alone; what it made counts at once.

        If the caller is cancelled meanwhile the edit goes on, and is noticed like any other.
        """
        async with self._editing:
            content, value, told = await in_thread(change)
            self._edits += 1
            self._seen = self._counted = content
            self._take(value)
            return told

    async def _follow(self) -> None:
        while True:
            is_new = self._seen != self._counted
            await asyncio.sleep(min(SETTLE_S, self._interval_s) if is_new else self._interval_s)
            try:
                await self.look()
            except Exception as error:
                self._fail(f"{self.path} cannot be used because of a bug: {type(error).__name__}")
                logger.exception("bug: a look at the %s failed", self.name)

    def _read(self) -> bytes | str:
        """What is in the file, or what is wrong with it."""
        try:
            return read_small(self.path, self._max_bytes)
        except FileProblem as error:
            return f"{error}"

    def _take(self, value: _T) -> None:
        self.value = value
        if self.problem is not None:
            self.problem = None
            logger.info("the %s is good again: %s", self.name, self.path)
        if self._changed is not None:
            self._changed()

    def _fail(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            logger.error("the %s counts as it was before: %s", self.name, problem)


async def in_thread(work: Callable[[], _R]) -> _R:
    """What ``work`` makes, which may block, or take long, as a look at all tokens does."""
    return await asyncio.to_thread(work)
