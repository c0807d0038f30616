"""Limits of how many streams there are below a prefix, and how they are counted.

The file system is the catalogue, and a start does not look through it.  So what a limit is for is
counted when the first stream is to be created there: once, off the loop, and whoever creates one
there waits for it.  From then on the number is kept by what is decided and becomes durable
(``rules.stream_counts`` says what counts); a crash loses nothing, as the next run counts anew.

While it is counted, nothing comes to a path there, as every create waits; but streams go.  The walk
is in order, and tells how far it has come: one that goes was counted if the walk has passed its
place, and must not be counted otherwise.  Beside it, the files may differ from what is durable: a
stream that has gone may still be in its place, and one that a start could not put there is none the
less (``pipeline.outages``).

What somebody else removes or puts there is noticed by the next run only; until then, a directory
that a power cut left without its stream counts as well.

Owned by the event loop.  One walk at a time: the threads are there for others as well.
"""

from __future__ import annotations

import asyncio
import logging
from itertools import islice
from typing import TYPE_CHECKING

from durable_streams.filestore.files.ordered_walk import place_of, streams_in_order
from durable_streams.filestore.format.journal import AdoptRecord, CreateRecord, DeleteRecord
from durable_streams.filestore.format.stored_path import unpack_path
from durable_streams.model.errors import Draining, StreamError, Unavailable
from durable_streams.model.paths import path_text
from durable_streams.model.stream_limits import parse_limits
from durable_streams.rules.stream_counts import StreamCounts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable_streams.filestore.core import Core
    from durable_streams.filestore.files.ordered_walk import Place
    from durable_streams.filestore.runtime.errands import Errands
    from durable_streams.filestore.verbs.listed_paths import ListedPaths
    from durable_streams.model.paths import StreamPath
    from durable_streams.rules.stream_counts import StreamCount

log = logging.getLogger("durable_streams.filestore")


class Quotas:
    """Asked before a stream is created, and told when one has ended."""

    def __init__(self, core: Core, errands: Errands, listed: ListedPaths) -> None:
        """``listed``: told of every path that a stream comes to or leaves."""
        self._core = core
        self._errands = errands
        self._listed = listed
        self._counts = StreamCounts(parse_limits(core.settings.max_streams))
        self._walks: dict[StreamCount, _Walk] = {}
        self._counting: dict[StreamCount, asyncio.Task[None]] = {}
        self._turn = asyncio.Lock()
        self._told = ""

    def is_known(self, path: StreamPath) -> bool:
        """Whether it is known how many streams there are, for every limit at a path."""
        return self._counts.is_known(path)

    async def count(self, path: StreamPath) -> None:
        """Return when it is; raises why they cannot be counted now."""
        for count in self._counts.at(path):
            while count.number is None:
                task = self._counting.get(count)
                if task is None:
                    task = self._begin(count)
                await asyncio.wait([task])
                if not task.cancelled() and (error := task.exception()) is not None:
                    raise error.again() if isinstance(error, StreamError) else error

    def take(self, path: StreamPath) -> None:
        """One more stream at a path where :meth:`is_known`; ``TooManyRequests``."""
        self._counts.take(path)
        self._listed.came(path)

    def give_back(self, path: StreamPath) -> None:
        """It came to nothing."""
        self._counts.give_back(path)
        self._listed.went(path)

    def gone(self, path: StreamPath) -> None:
        """The end of a stream is durable; its directory may still be there."""
        self._counts.give_back(path)
        self._listed.went(path)
        for count in self._counts.at(path):
            if count in self._walks:
                self._walks[count].gone(place_of(path))

    # -- counting --------------------------------------------------------------------------

    def _begin(self, count: StreamCount) -> asyncio.Task[None]:
        task = self._errands.begin(self._count(count))
        self._counting[count] = task
        task.add_done_callback(lambda _: self._counting.pop(count))
        return task

    async def _count(self, count: StreamCount) -> None:
        async with self._turn:
            walk = self._walks[count] = self._prepared(count)
            try:
                await self._go(walk, streams_in_order(self._core.directory, count.limit.prefix))
                count.number = walk.number
            except OSError as error:
                raise self._refused(count, error) from error
            finally:
                del self._walks[count]

    async def _go(self, walk: _Walk, places: Iterator[Place]) -> None:
        while True:
            if self._core.admission.draining:
                raise Draining
            found = await self._core.run(self._next, places)
            if not found:
                return
            walk.passes(found)

    def _next(self, places: Iterator[Place]) -> list[Place]:
        """The next streams, none at the end; blocks."""
        found = list(islice(places, self._core.tuning.counted_at_once))
        self._core.directory.check_place()
        return found

    def _prepared(self, count: StreamCount) -> _Walk:
        """A walk that knows where the files differ from what is durable."""
        walk, catalog = _Walk(), self._core.catalog
        for (stored, _), records in catalog.outages.kept():
            path, kinds = unpack_path(stored), {type(record) for record in records}
            if count not in self._counts.at(path):
                continue
            if DeleteRecord in kinds:
                walk.gone(place_of(path))
            elif not kinds.isdisjoint((CreateRecord, AdoptRecord)):
                walk.came(place_of(path))
        for path in catalog.gone_and_not_unlinked():
            if count in self._counts.at(path):
                walk.gone(place_of(path))
        return walk

    def _refused(self, count: StreamCount, error: OSError) -> Unavailable:
        """Nothing is created where nobody knows how many there are."""
        prefix = count.limit.prefix
        what = f"the streams below {path_text(prefix)!r}" if prefix else "the streams"
        text = f"{what} cannot be counted, which limits how many there may be: {error}"
        if text != self._told:
            self._told = text
            log.error("%s; creates are refused there", text)
        reason = error.strerror or type(error).__name__
        return Unavailable(f"{what} cannot be counted now: {reason}; see the server's log")


class _Walk:
    """A count under way.  ``number``: of those that were passed, and have not gone since."""

    def __init__(self) -> None:
        self.number = 0
        self._passed: Place = ()
        self._gone: set[Place] = set()
        self._came: set[Place] = set()

    def passes(self, found: list[Place]) -> None:
        """These come next."""
        self.number += len(found)
        if self._gone or self._came:
            self.number -= sum(place in self._gone or place in self._came for place in found)
        self._passed = found[-1]

    def gone(self, place: Place) -> None:
        """A stream has ended; nothing comes to its place before the walk does."""
        if place in self._came or place <= self._passed:
            self.number -= 1
        self._gone.add(place)

    def came(self, place: Place) -> None:
        """There is a stream, whether or not it is found; before the first is passed."""
        if place not in self._came:
            self._came.add(place)
            self.number += 1
