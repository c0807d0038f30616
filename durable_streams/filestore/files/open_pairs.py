"""The open files of streams that are written to: a bounded number of pairs, segment and index.

A pair is *dirty* when it was written to since the last checkpoint took it, and *held* while a
checkpoint syncs it: then it stays open whatever happens, as ``dirty`` explains.  A dirty pair that
has to make room is closed all the same, and ``overflowed`` says that syncing the pairs is not
enough any more.

A pair is *homeless* when no file at a name has what it holds and none can be made: it stays open,
but is not written to.

One thread uses it.  Every step takes constant time, however many pairs there are, except that a
deletion, and another try of a stream out of service, look at all of them.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from durable_streams.filestore.format.stored_path import stored_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from durable_streams.filestore.files.disk import Disk, Identity

HOMELESS_SHARE: Final = 4
"""One part in so many of the open pairs may be homeless; others still have room to be written."""

log = logging.getLogger("durable_streams.filestore.files")

Key = tuple[str, str, int]
"""Path of a stream, as it is stored, its id, and the number of a segment."""


class OpenFile(NamedTuple):
    """An open file, the name it was opened by, and which file that was then."""

    path: str
    fd: int
    identity: Identity


@dataclass(slots=True, eq=False)
class Pair:
    """The open files of one segment.

    ``syncs``: checkpoints that still need them open.  ``kept``: why a file of so many bytes, which
    are in ``aside/`` now, was lost.
    """

    key: Key
    segment: OpenFile
    index: OpenFile
    dirty: bool = False
    syncs: int = 0
    kept: dict[tuple[OpenFile, int], str] = field(default_factory=dict)


class OpenPairs:
    """The pairs that are open, least recently used out first."""

    def __init__(self, disk: Disk, max_pairs: int) -> None:
        self.homeless: list[Pair] = []
        self._disk = disk
        self._max_pairs = max_pairs
        self._free: OrderedDict[Key, Pair] = OrderedDict()
        self._held: dict[Key, Pair] = {}
        self._doomed = 0
        self.overflowed = False

    def get(self, key: Key) -> Pair | None:
        """The pair if it is open."""
        pair = self._free.get(key)
        if pair is None:
            return self._held.get(key)
        self._free.move_to_end(key)
        return pair

    def add(self, pair: Pair) -> None:
        """Keep a pair that was just opened, see :meth:`in_the_way`."""
        self._free[pair.key] = pair

    def in_the_way(self) -> Pair | None:
        """Which is to be closed next, so that one more is within the bound; None if it is."""
        others = len(self._held) + self._doomed + len(self.homeless)
        is_full = len(self._free) + others >= self._max_pairs
        return next(iter(self._free.values()), None) if is_full else None

    @property
    def are_taken(self) -> bool:
        """Whether a checkpoint has some."""
        return bool(self._held) or self._doomed > 0

    def give_back(self) -> list[Pair]:
        """There are no more descriptors: which to close; and keep fewer from now on.

        Unless less than half of the bound was open: then it is not to blame, and who asks again
        and again, as nobody has any, would make it nothing.
        """
        if 2 * len(self._free) >= self._max_pairs:
            self._max_pairs = max(1, self._max_pairs // 2)
        return list(self._free.values())

    def drop(self, pair: Pair) -> None:
        """Close a pair that must not be written to any more; what was written may matter."""
        self._free.pop(pair.key, None)
        self._held.pop(pair.key, None)
        self._let_go(pair)

    def keep_homeless(self, pair: Pair) -> None:
        """Keep open what nobody else has; the oldest of these is given up if they are too many."""
        self._free.pop(pair.key, None)
        self._held.pop(pair.key, None)
        self.homeless.append(pair)
        self.overflowed, pair.dirty = self.overflowed or pair.dirty, False
        if len(self.homeless) > self._max_pairs // HOMELESS_SHARE:
            oldest = self.homeless[0]
            log.error(
                "stream %s: what was written to its files is given up", stored_text(oldest.key[0])
            )
            self.let_homeless_go(oldest)

    def let_homeless_go(self, pair: Pair) -> None:
        """What a pair holds is somewhere else by now, or does not matter."""
        self.homeless.remove(pair)
        self._let_go(pair)

    def drop_deleted(self, path: str, stream_id: str) -> None:
        """Close all pairs at a path; what was written to ``stream_id`` does not matter now.

        Wherever its directory is.
        """
        for pair in [pair for pair in self._all() if pair.key[0] == path]:
            pair.dirty = pair.dirty and pair.key[1] != stream_id
            self.drop(pair)
        for pair in [pair for pair in self.homeless if pair.key[:2] == (path, stream_id)]:
            self.let_homeless_go(pair)

    def of(self, path: str, stream_id: str) -> list[Pair]:
        """The pairs of a stream."""
        return [pair for pair in self._all() if pair.key[:2] == (path, stream_id)]

    def _all(self) -> Iterator[Pair]:
        yield from self._free.values()
        yield from self._held.values()

    def _let_go(self, pair: Pair) -> None:
        """Close a pair, now or when its checkpoints are done."""
        if pair.dirty:
            self.overflowed = True
        if pair.syncs:
            self._doomed += 1
        else:
            self._close(pair)

    def _close(self, pair: Pair) -> None:
        self._disk.close(pair.segment.fd)
        self._disk.close(pair.index.fd)

    def dirty(self) -> list[Pair]:
        """The pairs that were written to since the last checkpoint took them."""
        return [pair for pair in self._all() if pair.dirty]

    def take_dirty(self) -> tuple[list[Pair], bool]:
        """The pairs to be synced, held until :meth:`synced`; whether others were written to."""
        taken = self.dirty()
        for pair in taken:
            pair.dirty = False
            pair.syncs += 1
            self._held[pair.key] = pair
            self._free.pop(pair.key, None)
        overflowed, self.overflowed = self.overflowed, False
        return taken, overflowed

    def synced(self, pairs: Iterable[Pair]) -> None:
        """Pairs were synced, or will never be: they need not be held any more."""
        for pair in pairs:
            pair.syncs -= 1
            if pair.syncs:
                continue
            if self._held.get(pair.key) is pair:
                self._free[pair.key] = self._held.pop(pair.key)
            elif pair not in self.homeless:
                self._doomed -= 1
                self._close(pair)

    def close(self) -> None:
        """Close all pairs; whatever is dirty stays so."""
        for pair in self.homeless:
            log.error(
                "stream %s: what was written to its files could be put nowhere until the end: the "
                "next start has only what the journal still has of it",
                stored_text(pair.key[0]),
            )
        for pair in (*self._all(), *self.homeless):
            self._close(pair)
        self._free.clear()
        self._held.clear()
