"""Writes on their way, as their callers see them: tickets of :mod:`durable_streams.store`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from durable_streams.model.errors import StreamError
from durable_streams.model.results import Appended

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from durable_streams.filestore.streams.life import Change

_T = TypeVar("_T")


class Decided(msgspec.Struct, frozen=True):
    """An append that writes nothing: ``result`` is the answer as soon as ``after`` is durable.

    ``after`` is None if nothing the answer depends on is under way; if it fails, its error is the
    answer.  (One that writes is a ticket itself: ``AppendOperation``.)
    """

    after: Change | None
    result: Appended | StreamError

    @property
    def pending(self) -> bool:
        """Whether what the answer depends on is under way."""
        return self.after is not None and self.after.pending

    def when_settled(self, callback: Callable[[], None]) -> None:
        """Call back once, when that is settled."""
        assert self.after is not None
        self.after.when_settled(callback)

    async def wait(self) -> None:
        """Return when that is settled; raise if it failed."""
        if self.after is not None:
            await self.after.wait()

    def outcome(self) -> Appended:
        """The answer; raises what it was refused with."""
        failure = self.after.error if self.after is not None else None
        if failure is None and isinstance(self.result, StreamError):
            failure = self.result
        if failure is not None:
            raise failure.again()
        assert isinstance(self.result, Appended)
        return self.result


class Errand(Generic[_T]):
    """A write of several steps, which goes on whatever its caller does."""

    __slots__ = ("_task", "outcome")

    def __init__(self, task: asyncio.Task[_T]) -> None:
        self._task = task
        self.outcome = task.result

    @property
    def pending(self) -> bool:
        """Whether it is under way."""
        return not self._task.done()

    def when_settled(self, callback: Callable[[], None]) -> None:
        """Call back once, when it has ended."""
        self._task.add_done_callback(lambda _: callback())
