"""Following a stream, message by message: what :meth:`Streams.tail` gives.

An object, not a generator: a generator that is cancelled has ended, and a timeout around one step
is a cancellation.  Here every step may be cancelled wherever it waits, any number of times, and the
next one goes on where it was: what a step has read is noted only when nothing is left to wait for,
and a message leaves in the same turn of the event loop in which it is taken.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol
from weakref import finalize

from durable_streams.messages import Message, messages_of
from durable_streams.model.errors import Draining, StorageFailed
from durable_streams.model.paths import path_text

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from durable_streams.messages import Messages
    from durable_streams.model.offsets import Offset, Start
    from durable_streams.model.paths import StreamPath
    from durable_streams.model.results import StreamRef
    from durable_streams.store import Store

_TAIL_WAIT_S: Final = 30.0  # then a tail looks whether it has to end for another reason


class Opened(Protocol):
    """What has a store open, and says so each time that it is asked: :class:`Streams`."""

    @property
    def engine(self) -> Store:
        """The store; raises if it is not open any more, or not here."""


class Tail(AsyncIterator[Message]):
    """The messages of a stream, those to come as well; see :meth:`Streams.tail`.

    ``async for message in tail``, or ``await anext(tail)``, around which a timeout may be: after
    it, or after an error that passes, ask again, and nothing is lost or repeated.  It is over only
    when the stream is closed and all of it was given (with ``live=False``: all that was there), or
    after :meth:`aclose`.

    It is for one reader: ``RuntimeError`` if it is asked while somebody else waits for it.  While
    it is there the stream is in use, so that no TTL ends it.  Who leaves early drops it, or calls
    :meth:`aclose` (``contextlib.aclosing``), which does not depend on the garbage collector.
    """

    def __init__(
        self, streams: Opened, path: StreamPath, start: Offset | Start, *, live: bool = True
    ) -> None:
        """It holds ``streams``: whoever follows a stream has the data directory open.

        ``live``: it waits at the tail, and does not end there.
        """
        self._streams = streams
        self._path = path
        self._start = start
        self._is_live = live
        self._stream: StreamRef | None = None
        self._leave: finalize[[], Tail] | None = None
        self._end: Offset | None = None  # of what was read, once anything was
        self._messages: Messages | None = None  # what of it has yet to be made
        self._ready: deque[Message] = deque()
        self._at_tail = self._was_empty = self._is_last = False
        self._is_waiting = self._is_over = False

    async def __anext__(self) -> Message:
        """The next message, as soon as there is one; ``StopAsyncIteration`` at the end.

        Raises what :meth:`Streams.tail` says.
        """
        self._check_alone()
        if not self._ready:
            await self._fill()
        if not self._ready:
            raise StopAsyncIteration
        return self._ready.popleft()

    async def some(self) -> list[Message]:
        """All messages that are ready, at least one as soon as there is one; none at the end.

        For those to whom each step costs something.  Raises what a step does.
        """
        self._check_alone()
        if not self._ready:
            await self._fill()
        ready, self._ready = list(self._ready), deque()
        return ready

    async def _fill(self) -> None:
        """Have at least one message ready, or know that it is over."""
        self._is_waiting = True
        try:
            while not self._ready and not self._is_over:
                await self._read_some(self._streams.engine)
        finally:
            self._is_waiting = False

    async def aclose(self) -> None:
        """End it: there are no more messages, and the stream is not in use by it any more.

        ``RuntimeError`` while somebody waits for it: cancel that first.
        """
        self._check_alone()
        self._finish()
        await asyncio.sleep(0)  # and it has left

    def _check_alone(self) -> None:
        if self._is_waiting:
            raise RuntimeError(
                "somebody else waits for the next message of this tail of "
                f"{path_text(self._path)!r}: "
                "call tail() once for each reader"
            )

    def _finish(self) -> None:
        self._is_over = True
        self._messages = None
        self._ready.clear()
        if self._leave is not None:
            self._leave()

    async def _read_some(self, engine: Store) -> None:
        """Have more messages ready, perhaps none, or know that it is over."""
        if self._messages:
            await asyncio.sleep(0)  # many are made in slices, between which the loop goes on
        elif self._is_last:
            self._finish()
            return
        else:
            await self._read(engine)
        if self._messages:
            self._ready.extend(self._messages.some())

    async def _read(self, engine: Store) -> None:
        """Read on from where it is, at the tail as soon as there is anything."""
        stream = self._stream
        if stream is None:
            stream = self._stream = await engine.open(self._path)
            self._leave = _leaving(self, engine.following(stream))
        if self._end is None:
            chunk = await engine.read(stream, self._start)
        else:
            if self._was_empty:
                _check_that_more_may_come(engine)
            if self._at_tail:
                await engine.wait(stream, self._end, _TAIL_WAIT_S)
            chunk = await engine.read(stream, self._end, is_end=True)
        messages = await messages_of(engine, chunk)
        self._messages, self._end = messages, chunk.end
        self._at_tail = chunk.at_tail
        self._is_last = chunk.closed or (chunk.at_tail and not self._is_live)
        self._was_empty = not chunk.size_bytes


def _check_that_more_may_come(engine: Store) -> None:
    refusal = engine.refusal()
    if isinstance(refusal, (Draining, StorageFailed)):
        raise refusal.again()


def _leaving(tail: Tail, following: AbstractContextManager[None]) -> finalize[[], Tail]:
    """Be in a context; what it gives leaves it, once, at the latest when ``tail`` is dropped."""
    loop = asyncio.get_running_loop()

    def leave() -> None:
        # Dropped things end in any thread, and in the middle of anything.
        with suppress(RuntimeError):  # the loop has ended, and so has everything in it
            loop.call_soon_threadsafe(following.__exit__, None, None, None)

    following.__enter__()
    leaving = finalize(tail, leave)
    leaving.atexit = False
    return leaving
