"""Paths that were removed a moment ago: a stream made at one begins above its old segments.

Caches may give away pieces of a stream for some time after its end, by path and offset.  A stream
that is made at the path meanwhile must not have the same offsets, or a reader would get the
beginning from the cache and go on in the other stream, without a sign of it.  Above the old
segments, an old offset lies before the beginning, and the reader is told so (``OffsetGone``).

What is removed is told by the journal's records of deletions, and by a file before those are
forgotten (``files.removed_file``).  It is remembered for a time that counts from the removal, or
from the start: by the loop's clock, as no jump of the other one may make it shorter.

If there is no room for more, the oldest is forgotten, and for as long as that would have been
remembered *all* streams begin above its segments (``floor``).  So nothing is forgotten too early,
however much is removed.

Owned by the event loop.
"""

from __future__ import annotations

import logging
import sys
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from durable_streams.filestore.files.disk import FailedSync
from durable_streams.filestore.files.removed_file import save_removed
from durable_streams.filestore.format.removed import Removed
from durable_streams.settings import MIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_streams.filestore.files.directory import DataDirectory
    from durable_streams.filestore.streams.stream import Stream

MOST_BYTES: Final = 8 * MIB
"""What all paths take in memory: some 20,000 of usual length, which are 47 removals a second."""

_ENTRY_BYTES: Final = 320  # of a path beside its text: measured

log = logging.getLogger("durable_streams.filestore")


class _Place(NamedTuple):
    """Which segment a stream made somewhere begins at, and until when that is so."""

    first: int
    until_s: float


_NOWHERE: Final = _Place(0, 0.0)


class RemovedPaths:
    """The paths that were removed, and above which segments to begin there."""

    def __init__(
        self,
        found: Removed,
        keep_s: float,
        clock: Callable[[], float],
        most_bytes: int = MOST_BYTES,
    ) -> None:
        """``found``: what earlier runs left; ``clock``: seconds, which never go back."""
        self._keep_s = keep_s
        self._clock = clock
        self._most_bytes = most_bytes
        self._places: OrderedDict[str, _Place] = OrderedDict()  # the oldest first
        self._bytes = 0
        # At the first checkpoint, as there may have been no room for it at the start.
        self._changes, self._saved = int(bool(found.paths or found.floor)), 0
        until_s = clock() + keep_s
        self._floor = _Place(found.floor, until_s)
        for path, first in found.paths.items():
            self._put(path, _Place(first, until_s))

    def remember(self, stream: Stream) -> int:
        """A stream is about to be removed: the segment that the next one there begins at.

        If it had no content that is where it began itself: what clients were told of offsets is the
        beginning there as well.
        """
        is_empty = stream.decided.offset == stream.segments.begin
        first = stream.decided.segment if is_empty else stream.decided.segment + 1
        if not first:
            return 0
        self._forget_old()
        known = self._places.get(stream.stored, _NOWHERE)
        self._put(stream.stored, _Place(max(first, known.first), self._clock() + self._keep_s))
        self._changes += 1
        return first

    def first_segment(self, path: str) -> int:
        """The segment that a stream made at a path, as it is stored, now begins at."""
        if not self._places and not self._floor.first:
            return 0
        self._forget_old()
        return max(self._floor.first, self._places.get(path, _NOWHERE).first)

    def _put(self, path: str, place: _Place) -> None:
        if path in self._places:
            self._pop(path)
        self._places[path] = place
        self._bytes += _size_of(path)
        while self._bytes > self._most_bytes:
            oldest, floor = self._pop(next(iter(self._places))), self._floor
            first = max(floor.first, oldest.first)
            self._floor = _Place(first, max(floor.until_s, oldest.until_s))

    def _pop(self, path: str) -> _Place:
        self._bytes -= _size_of(path)
        return self._places.pop(path)

    def _forget_old(self) -> None:
        now_s = self._clock()
        if self._floor.until_s <= now_s:
            self._floor = _NOWHERE
        while self._places:
            path = next(iter(self._places))
            if self._places[path].until_s > now_s:
                break
            self._pop(path)

    # -- the file --------------------------------------------------------------------------

    def unsaved(self) -> tuple[int, Removed] | None:
        """What is to be in the file before the journal forgets deletions; None if it is.

        With a number for :meth:`saved`.
        """
        if self._saved == self._changes:
            return None
        self._forget_old()
        paths = {path: place.first for path, place in self._places.items()}
        return self._changes, Removed(self._floor.first, paths)

    def saved(self, number: int) -> None:
        """The file has what there was when it got a number."""
        self._saved = max(self._saved, number)

    def save_last(self, directory: DataDirectory) -> bool:
        """Have all of it in the file when nothing is removed any more; blocks.

        False if there is no room for it, or the like: the journal has it, and must not be freed.
        """
        unsaved = self.unsaved()
        if unsaved is not None:
            try:
                save_removed(directory, unsaved[1])
            except FailedSync:
                raise
            except OSError as error:
                log.error("the journal is not freed: %s", error)
                return False
        return True


def _size_of(path: str) -> int:
    return _ENTRY_BYTES + sys.getsizeof(path)
