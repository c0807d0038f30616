"""Data directories that nobody can close any more: this process lets go of them.

A program may drop what it has opened without closing it, end its event loop, or be cancelled while
it opens.  Until something lets go of the lock, the program itself could not open the directory
again.  A dropped one is let go when it is collected as garbage.  One that is not, but that nobody
can close (its loop has ended, or what closes it was dropped, as by a notebook's cell that is run
again), gives way to the next opening of the same directory in the same process.

It ends as in a crash: what was acknowledged is on disk, and the next opening recovers it.  Where
the loop still runs it is closed properly, if somebody may use it yet.  Each gives a
``ResourceWarning``.  In a forked child nothing is let go: the directory is the parent's.
"""

from __future__ import annotations

import asyncio
import gc
import os
import warnings
from concurrent.futures import Future, wait
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Final, Protocol
from weakref import finalize, ref

from durable_streams.filestore.tuning import Tuning
from durable_streams.own_process import OwnProcess

if TYPE_CHECKING:
    from pathlib import Path

_open: Final[set[OpenStore]] = set()
_leaving: Final[set[Future[None]]] = set()
os.register_at_fork(after_in_child=_leaving.clear)  # which are threads of the parent


def leaving() -> Future[None]:
    """For something that ends by itself: to be resolved when it has let go of its directory."""
    left: Future[None] = Future()
    _leaving.add(left)
    left.add_done_callback(_leaving.discard)
    return left


def let_go(root: Path, tuning: Tuning = Tuning()) -> None:
    """Let go of a directory that nobody can close, and wait for what is being let go.  Blocks."""
    if _open:
        gc.collect()  # what was dropped may be part of a cycle, such as an exception's traceback
    here = [store for store in list(_open) if store.is_forgotten() and store.is_at(root)]
    for store in here:
        store.end()
    _, late = wait(list(_leaving), tuning.let_go_s)
    _leaving.difference_update(late)  # whose loop has stopped, it may be: nobody waits once more
    for store in here:
        store.warn()


class Closable(Protocol):
    """What has a data directory open, at ``root``: a :class:`.FileStore`."""

    root: Path

    @property
    def closed(self) -> bool:
        """Whether it was closed, or let go."""

    @property
    def closing(self) -> bool:
        """Whether :meth:`close` is under way, or done."""

    async def close(self) -> None:
        """Close it properly, on its loop."""

    def abandon(self) -> None:
        """Let go of it as a crash would; blocks, in any thread."""

    def cancel_tasks(self) -> None:
        """End what still runs on the loop, after that."""


class OpenStore:
    """A store that a program has open, through ``user``; ``owner`` is what closes it."""

    def __init__(self, store: Closable, user: object, owner: object) -> None:
        self.store = store
        self._loop = asyncio.get_running_loop()
        self._process = OwnProcess()
        self._owner = ref(owner)
        self._finalizer = finalize(user, self._dropped)
        self._finalizer.atexit = False  # what ends with the process needs no thread to end it
        for closed in [other for other in list(_open) if other.store.closed]:
            _open.discard(closed)
        _open.add(self)

    async def close(self) -> None:
        """Close it; see :meth:`.FileStore.close`."""
        try:
            await self.store.close()
        finally:
            if self.store.closed:
                self._finalizer.detach()
                _open.discard(self)

    def is_at(self, root: Path) -> bool:
        """Whether it is the one in a directory."""
        try:
            return root.samefile(self.store.root)
        except OSError:
            return False

    def is_forgotten(self) -> bool:
        """Whether nobody can close it."""
        if not self._process.is_here or self.store.closed:
            return False
        return self._loop.is_closed() or (self._owner() is None and not self.store.closing)

    def end(self) -> None:
        """Have it let go: properly if its loop can do that."""
        left = leaving()
        try:
            if not self._loop.is_running():
                raise RuntimeError("nobody would be there to do it")
            closing = asyncio.run_coroutine_threadsafe(self.close(), self._loop)
            closing.add_done_callback(lambda _: left.set_result(None))
        except RuntimeError:
            self._abandon(left)

    def warn(self) -> None:
        """Tell whoever wrote the program."""
        warnings.warn(
            f"the data directory {self.store.root} was opened and never closed; it was let go: "
            "open it with 'async with durable_streams.open(...)'",
            ResourceWarning,
            stacklevel=2,
        )

    def _dropped(self) -> None:
        """Nobody uses it any more; in any thread, and in the middle of anything."""
        if not self._process.is_here or self.store.closed:
            return
        if self.store.closing and not self._loop.is_closed():
            return
        left = leaving()
        # Not here: it waits for threads, one of which this may be.
        thread = Thread(target=self._abandon, args=(left,), name="durable-streams-forgotten")
        thread.daemon = True
        try:
            thread.start()
        except RuntimeError:  # there are no more, or the process is ending: then it ends with that
            left.set_result(None)
            return
        self.warn()

    def _abandon(self, left: Future[None]) -> None:
        """Blocks."""
        try:
            with suppress(RuntimeError):  # the loop has ended, and its tasks with it
                self._loop.call_soon_threadsafe(self.store.cancel_tasks)
            self.store.abandon()
            _open.discard(self)
        finally:
            left.set_result(None)
