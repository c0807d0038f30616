"""Streams for programs without an event loop: the verbs of :class:`.Streams`, each of which blocks.

    with durable_streams.open_sync("./data") as streams:
        streams.create("events", content_type="application/json")
        streams.append_json("events", {"hello": "world"})
        for message in streams.tail("events", live=False):
            ...

Nothing is done here: one thread has the streams open in an event loop of its own
(:mod:`.loop_thread`), where every call is carried out.  Signatures, checks, errors and
documentation are those of :class:`.Streams`, from which each verb is made.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections import deque
from collections.abc import Iterator
from concurrent.futures import CancelledError
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, ParamSpec, Self, TypeVar, cast
from weakref import finalize

from durable_streams.library import Streams, open_streams
from durable_streams.loop_thread import LoopThread
from durable_streams.model.errors import NotOpen
from durable_streams.tail import Tail

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
    from concurrent.futures import Future
    from contextlib import AbstractContextManager
    from types import TracebackType

    from durable_streams.settings import Settings

_P = ParamSpec("_P")
_T = TypeVar("_T")

_AT_ONCE: Final = 256
"""How many are brought from the event loop in one step, where it is known that there are more."""


def open_sync(
    data_dir: str | os.PathLike[str], settings: Settings | None = None
) -> AbstractContextManager[SyncStreams]:
    """Open a data directory, or a database, for a program without an event loop.

    ``with durable_streams.open_sync(data_dir) as streams``.  Arguments and errors are those of
    :func:`open_streams`.  ``RuntimeError`` if an event loop runs in the calling thread, which has
    to use that one.

    The end of ``with`` closes it, also after an exception or Ctrl-C; a second Ctrl-C ends the wait
    for that.  A program that ends without closing does not hang, and what was acknowledged is
    there, as after a crash.
    """
    return _OpenSync(data_dir, settings)


class _OpenSync:
    """The ``with`` of one data directory."""

    def __init__(self, data_dir: str | os.PathLike[str], settings: Settings | None) -> None:
        self._data_dir = data_dir
        self._settings = settings
        self._opened: tuple[SyncStreams, LoopThread[Streams]] | None = None

    def __enter__(self) -> SyncStreams:
        """Open it."""
        if self._opened is not None:
            raise RuntimeError("it is open already: call durable_streams.open_sync() for each one")
        thread = LoopThread(open_streams(self._data_dir, self._settings))
        self._opened = SyncStreams(thread), thread
        return self._opened[0]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        assert self._opened is not None
        _, thread = self._opened
        if error is not None and not thread.process.is_here:
            return  # a child leaves by an exception, such as SystemExit: it goes on its way
        thread.check()
        try:
            thread.close()
        finally:
            self._opened = None


def _verb(
    verb: Callable[Concatenate[Streams, _P], Coroutine[Any, Any, _T]],
) -> Callable[Concatenate[SyncStreams, _P], _T]:
    """A method that waits for what another one returns or raises."""

    @wraps(verb)
    def call(self: SyncStreams, /, *args: _P.args, **named: _P.kwargs) -> _T:
        thread = self._thread
        return thread.call(partial(verb, thread.opened, *args, **named))

    call.__qualname__ = f"SyncStreams.{verb.__name__}"
    return call


def _iterator(
    verb: Callable[Concatenate[Streams, _P], AsyncIterator[_T]],
) -> Callable[Concatenate[SyncStreams, _P], SyncIterator[_T]]:
    """A method that gives by and by what another one does."""

    @wraps(verb)
    def call(self: SyncStreams, /, *args: _P.args, **named: _P.kwargs) -> SyncIterator[_T]:
        thread = self._thread
        return SyncIterator(self, thread, verb(thread.opened, *args, **named))

    call.__qualname__ = f"SyncStreams.{verb.__name__}"
    return call


class SyncStreams:
    """Open streams, for any number of threads; made by :func:`open_sync`.

    Each method is that of :class:`Streams`, with the same arguments, results and errors, and
    blocks; ``tail`` and ``list`` give a :class:`SyncIterator`.  Calls of several threads are under
    way together, and share syncs.

    After the end of ``with`` they raise ``NotOpen``, in a forked process ``OpenedElsewhere``, and
    ``RuntimeError`` where an event loop runs, which would stand still.  Ctrl-C ends a wait like a
    cancellation: what was on its way may be stored all the same.
    """

    def __init__(self, thread: LoopThread[Streams]) -> None:
        """``thread``: that has the streams open."""
        self._thread = thread
        # What ends with the process needs nobody to end it.
        finalize(self, _dropped, thread).atexit = False

    create = _verb(Streams.create)
    fork = _verb(Streams.fork)
    append = _verb(Streams.append)
    append_json = _verb(Streams.append_json)
    close = _verb(Streams.close)
    delete = _verb(Streams.delete)
    get_metadata = _verb(Streams.get_metadata)
    list = _iterator(Streams.list)
    list_page = _verb(Streams.list_page)
    details = _verb(Streams.details)
    records = _verb(Streams.records)
    read = _verb(Streams.read)
    read_messages = _verb(Streams.read_messages)
    read_json = _verb(Streams.read_json)
    tail = _iterator(Streams.tail)


def _dropped(thread: LoopThread[Streams]) -> None:
    """Nobody uses it any more; in any thread, and in the middle of anything."""
    if thread.is_ending or sys.is_finalizing() or not thread.process.is_here:
        return
    thread.drop()
    warnings.warn(
        "streams were opened and never closed; they are let go: open them with "
        "'with durable_streams.open_sync(...)'",
        ResourceWarning,
        stacklevel=2,
    )


class SyncIterator(Iterator[_T], Generic[_T]):
    """What ``SyncStreams.tail`` and ``list`` give: one after the other, for one thread.

    :meth:`close` ends it, also from another thread while this one waits for the next; the end of
    ``with`` does so too.  An error that passes, or Ctrl-C, does not end a ``tail``: ask again, and
    nothing is lost or repeated.
    """

    def __init__(
        self, streams: SyncStreams, thread: LoopThread[Streams], source: AsyncIterator[_T]
    ) -> None:
        """``thread``: that of ``streams``, which it holds: whoever reads on has them open."""
        self._streams = streams
        self._thread = thread
        self._source: AsyncIterator[_T] | None = source
        self._ready: deque[_T] = deque()
        self._is_over = self._is_closed = False
        self._one_reader = threading.Lock()
        self._step: Future[None] | None = None

    def __next__(self) -> _T:
        """The next one, as soon as there is one; ``StopIteration`` at the end.

        ``RuntimeError`` while another thread waits for it.
        """
        if not self._one_reader.acquire(blocking=False):
            raise RuntimeError(
                "another thread waits for the next one: call tail() or list() in each thread"
            )
        try:
            if not (self._ready or self._is_over or self._is_closed):
                self._wait()
            if self._is_closed or not self._ready:
                raise StopIteration
            return self._ready.popleft()
        finally:
            self._one_reader.release()

    def close(self) -> None:
        """End it, at once and in whichever thread: there are no more of them.

        The stream is not in use by it any more.  It waits for nothing; again is as good as once.
        """
        self._is_closed = True
        step = self._step
        if step is not None:
            step.cancel()
        self._thread.tell(self._leave)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait(self) -> None:
        """Have at least one ready, or know that it is over."""
        step = self._step = self._thread.begin(self._fill)
        try:
            if self._is_closed:  # by somebody who came before there was a step to be cancelled
                return
            step.result()
        except CancelledError:
            if not self._is_closed:  # the end of the loop, by a bug
                raise NotOpen from None
        finally:
            step.cancel()
            self._step = None
            del step  # which has the error, which has this frame

    async def _fill(self) -> None:
        """On the loop: what was taken is ready in the same turn, whatever becomes of the waiter."""
        source = self._source
        if source is None:
            return
        some = await _some_of(source)
        self._ready.extend(some)
        self._is_over = not some

    def _leave(self) -> None:
        """On the loop, behind the cancellation of a step: who drops a tail follows no more."""
        self._source = None
        self._ready.clear()


async def _some_of(source: AsyncIterator[_T]) -> Sequence[_T]:
    """The next ones, as many as are ready; none at the end."""
    if isinstance(source, Tail):
        return cast("Sequence[_T]", await source.some())
    found: list[_T] = []
    async for one in source:
        found.append(one)
        if len(found) == _AT_ONCE:
            break
    return found
