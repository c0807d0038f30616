"""Which streams there are, in the order of their paths: an index that is made when it is needed.

The file system is the catalogue, and has names encoded, in no order.  So whoever first asks for a
list has all of them looked through, once, off the loop and in small steps (``files.path_walk``),
and whoever asks meanwhile waits for that.  From then on every path that a stream comes to or leaves
is known here at once.  The index is in memory (``streams.path_set``), never on disk; it is thrown
away when nobody has asked for a while, and with the process.

It says where streams may be: whether one is there that is to be listed, ``listing`` asks of each.
So a path may be in it with no stream to see: a birth on its way, a stream kept for forks, an
expired one.  While it is made, what is told of a path counts more than what the walk finds there.

What somebody else puts into the data directory is known once it was used, or when the index is
made anew.

Owned by the event loop, but for the walk's own set until that is done.
"""

from __future__ import annotations

import asyncio
import logging
from itertools import islice
from typing import TYPE_CHECKING, Final

from durable_streams.filestore.files.path_walk import paths_on_disk
from durable_streams.filestore.format.journal import AdoptRecord, CreateRecord, DeleteRecord
from durable_streams.filestore.format.stored_path import unpack_path
from durable_streams.filestore.streams.path_set import PathSet
from durable_streams.model.errors import Draining, StreamError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable_streams.filestore.core import Core
    from durable_streams.filestore.runtime.errands import Errands
    from durable_streams.model.paths import StreamPath

_CHANGES_AT_ONCE: Final = 64  # taken over in one turn of the loop
_OPEN_AT_ONCE: Final = 2000  # looked at in one turn, which is less work

log = logging.getLogger("durable_streams.filestore")


class ListedPaths:
    """The index."""

    def __init__(self, core: Core, errands: Errands) -> None:
        self._core = core
        self._errands = errands
        self._paths: PathSet | None = None
        self._changes: dict[StreamPath, bool] | None = None  # while it is made
        self._making: asyncio.Task[None] | None = None
        self._asked_s = 0.0

    def came(self, path: StreamPath) -> None:
        """A stream is on its way to a path, or was found there."""
        if self._changes is not None:
            self._changes[path] = True
        elif self._paths is not None:
            self._paths.add(path)

    def went(self, path: StreamPath) -> None:
        """The stream at a path is no more."""
        if self._changes is not None:
            self._changes[path] = False
        elif self._paths is not None:
            self._paths.remove(path)

    async def paths(self) -> PathSet:
        """All paths; nothing has happened since they were right when this returns.

        Raises why they cannot be listed now.
        """
        while (found := self._paths) is None:
            if self._making is None:
                self._making = self._errands.begin(self._make())
                self._making.add_done_callback(self._made)
            making = self._making
            await asyncio.wait([making])
            error = making.exception()
            if error is not None:
                raise error.again() if isinstance(error, StreamError) else error
        self._asked_s = self._core.loop.time()
        return found

    async def run(self) -> None:
        """Throw the index away when nobody has asked for it for long; for ever."""
        while True:
            await asyncio.sleep(self._core.tuning.tick_s)
            idle_s = self._core.loop.time() - self._asked_s
            if self._paths is not None and idle_s > self._core.tuning.list_idle_s:
                self._paths = None

    # -- making it -------------------------------------------------------------------------

    def _made(self, _: object) -> None:
        self._making = None

    async def _make(self) -> None:
        core, paths = self._core, PathSet()
        changes: dict[StreamPath, bool] = {}
        self._changes = changes
        # Open streams are there, even if they have to come to the files yet.
        known, streams = self._not_in_files(), core.catalog.streams()
        try:
            for begin in range(0, len(streams), _OPEN_AT_ONCE):
                known.update(
                    (stream.path, True) for stream in streams[begin : begin + _OPEN_AT_ONCE]
                )
                await asyncio.sleep(0)
            streams.clear()
            walk = paths_on_disk(core.directory)
            while not await core.run(self._step, walk, paths):
                if core.admission.draining:
                    raise Draining
            await self._take_over(known, paths)
            await self._take_over(changes, paths)
            self._paths, self._asked_s = paths, core.loop.time()  # those who wait have asked
        except OSError as error:
            log.error("the streams cannot be listed: %s", error)
            reason = error.strerror or type(error).__name__
            raise Unavailable(
                f"the streams cannot be listed now: {reason}; see the server's log"
            ) from error
        finally:
            self._changes = None
        log.info("%d streams were found, to be listed", len(paths))

    def _step(self, walk: Iterator[StreamPath | None], paths: PathSet) -> bool:
        """Take the next paths; whether those were the last; blocks."""
        tuning = self._core.tuning
        for _ in range(0, tuning.listed_at_once, tuning.listed_unpaused):
            taken = 0
            for path in islice(walk, tuning.listed_unpaused):
                taken += 1
                if path is not None:
                    paths.add(path)
            if taken < tuning.listed_unpaused:
                self._core.directory.check_place()
                return True
            self._core.runtime.pause(tuning.list_pause_s)
        return False

    async def _take_over(self, changes: dict[StreamPath, bool], paths: PathSet) -> None:
        """Bring what happened meanwhile into the set, and what happens while that is done."""
        while changes:
            for _ in range(min(len(changes), _CHANGES_AT_ONCE)):
                path, is_there = changes.popitem()
                (paths.add if is_there else paths.remove)(path)
            if changes:
                await asyncio.sleep(0)

    def _not_in_files(self) -> dict[StreamPath, bool]:
        """Whether there is a stream, where the files may say something else."""
        catalog = self._core.catalog
        found: dict[StreamPath, bool] = {}
        for (stored, _), records in catalog.outages.kept():
            path, kinds = unpack_path(stored), {type(record) for record in records}
            if DeleteRecord in kinds:
                found.setdefault(path, False)
            elif not kinds.isdisjoint((CreateRecord, AdoptRecord)):
                found[path] = True
        return found | catalog.where_some_leave()
