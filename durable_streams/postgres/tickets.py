"""Appends on their way, as their callers see them, and lines of them."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from durable_streams.model.errors import StreamError
from durable_streams.settings import KIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_streams.model.commands import Append
    from durable_streams.model.paths import StreamPath
    from durable_streams.model.results import Appended


class Writing:
    """An append that waits for its commit.

    ``parsed``: what is stored of a large JSON body, or why it is none.
    """

    __slots__ = ("_answer", "_callbacks", "body", "command", "parsed")

    def __init__(
        self, command: Append, body: bytes, parsed: bytes | StreamError | None = None
    ) -> None:
        self.command = command
        self.body = body
        self.parsed = parsed
        self._answer: Appended | StreamError | None = None
        self._callbacks: list[Callable[[], None]] = []

    @property
    def pending(self) -> bool:
        """Whether the answer is not known yet."""
        return self._answer is None

    def when_settled(self, callback: Callable[[], None]) -> None:
        """Call back once, when it is."""
        self._callbacks.append(callback)

    def settle(self, answer: Appended | StreamError) -> None:
        """The answer, which holds whatever crashes."""
        if self._answer is not None:
            return
        self._answer = answer
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    async def wait(self) -> None:
        """Return when the answer is known; whoever is cancelled meanwhile disturbs nobody."""
        if self._answer is None:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.when_settled(lambda: None if done.done() else done.set_result(None))
            await done

    def outcome(self) -> Appended:
        """The answer; raises what it was refused with."""
        assert self._answer is not None
        if isinstance(self._answer, StreamError):
            raise self._answer.again()
        return self._answer


MOST_RUN_BYTES: Final = 256 * KIB
"""Of a run, beyond which no other append is taken: what a read has to fetch at least."""


class Line:
    """Appends to one path, in the order in which they came; ``taken``: those being written."""

    __slots__ = ("is_busy", "path", "taken", "waiting")

    def __init__(self, path: StreamPath) -> None:
        self.path = path
        self.waiting: deque[Writing] = deque()
        self.taken: list[Writing] = []
        self.is_busy = False

    def take(self) -> int:
        """Take as many as make a run; their bytes."""
        size = 0
        while self.waiting and (not self.taken or size < MOST_RUN_BYTES):
            writing = self.waiting.popleft()
            self.taken.append(writing)
            size += len(writing.body)
        return size

    def settle(self, answer: StreamError) -> None:
        """Give those that were taken the same answer."""
        for writing in self.taken:
            writing.settle(answer)


def halves(lines: list[Line]) -> tuple[list[Line], list[Line]]:
    """The appends of lines, parted in the middle, as lines of their own in the same order."""
    left = sum([len(line.taken) for line in lines]) // 2
    first: list[Line] = []
    second: list[Line] = []
    for line in lines:
        for half, taken in ((first, line.taken[:left]), (second, line.taken[left:])):
            if taken:
                part = Line(line.path)
                part.taken = taken
                half.append(part)
        left = max(0, left - len(line.taken))
    return first, second
