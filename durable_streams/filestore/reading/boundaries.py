"""Where the appends of a stream end: in its index as far as that is written, then in memory.

What is told here is all that is durable when it is asked for, whatever of it is in the files by
then: how far a read goes must not depend on that, or the same offset had two answers that never
change.  Ends that were read once are kept, within bounds.  Owned by the event loop.
"""

from __future__ import annotations

import errno
import os
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

from durable_streams.filestore.files import names
from durable_streams.filestore.files.index_files import AppendEnds, scan_ends
from durable_streams.model.errors import StreamDamaged
from durable_streams.model.offsets import Offset
from durable_streams.model.paths import path_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from durable_streams.filestore.files.directory import DataDirectory
    from durable_streams.filestore.streams.stream import MemoryChunk, Stream

_Key = tuple[str, str, int]


class Span(NamedTuple):
    """Positions in one segment: bytes from ``begin`` up to ``end``."""

    begin: int
    end: int


class Boundaries:
    """The ends of appends in segments that are read."""

    def __init__(
        self, directory: DataDirectory, run: Callable[..., Awaitable[Any]], most_bytes: int
    ) -> None:
        """``run`` does something that may wait for the disk, off the loop.

        ``most_bytes``: the memory that the ends of segments being read may take.
        """
        self.most_bytes = most_bytes
        self._directory = directory
        self._run = run
        self._known: OrderedDict[_Key, AppendEnds] = OrderedDict()
        self._bytes = 0

    def is_known(self, stream: Stream, offset: Offset) -> bool:
        """Whether an append is known to end at an offset, without asking the disk."""
        segment, position = offset
        if not position or offset == stream.applied.offset:
            return True
        memory = stream.memory
        at = bisect_left(memory, offset, key=_start)
        if at < len(memory) and _start(memory[at]) == offset:
            return True
        known = self._known.get(_key(stream, segment))
        return known is not None and _last_within(known.ends, 0, position) == position

    async def append_at(self, stream: Stream, offset: Offset) -> Span:
        """The append that holds the byte at an offset below the tail, within its segment."""
        segment, position = offset
        ends = await self.ends(stream, segment, beyond=position)
        at = bisect_right(ends, position)
        end = ends[at] if at < len(ends) else stream.segments.size_of(segment, stream.durable)
        return Span(ends[at - 1] if at else 0, end)

    async def end_of_read(self, stream: Stream, segment: int, begin: int, most: int) -> int:
        """Where a read of at most so many bytes ends: at the last end within, or at the first."""
        size = stream.segments.size_of(segment, stream.durable)
        limit = begin + most
        if size <= limit:
            return size
        ends = await self.ends(stream, segment, beyond=limit)
        within = _last_within(ends, begin, limit)
        if within is not None:
            return within
        at = bisect_right(ends, begin)
        return ends[at] if at < len(ends) else size

    async def sizes(self, stream: Stream, segment: int, begin: int, end: int) -> list[int]:
        """How many bytes each append between two positions has there."""
        ends = await self.ends(stream, segment, beyond=end)
        sizes: list[int] = []
        for position in ends[bisect_right(ends, begin) : bisect_right(ends, end)]:
            if position > begin:  # a close without data ends where the append before it does
                sizes.append(position - begin)
                begin = position
        return sizes

    async def chain_at(self, stream: Stream, segment: int, end: int) -> bytes:
        """The running checksum behind the append that ends at a position."""
        segments, tail = stream.segments, stream.durable
        if end == segments.size_of(segment, tail):
            return segments.chain_behind(segment, tail)
        for chunk in stream.memory:
            if (chunk.segment, chunk.end) == (segment, end):
                return chunk.chain
        chain = (await self._in_index(stream, segment, end)).chain_at(end)
        if chain is None:
            raise StreamDamaged(
                path_text(stream.path), f"no append ends at {end} in segment {segment}"
            )
        return chain

    async def ends(self, stream: Stream, segment: int, *, beyond: int) -> array[int]:
        """The ends of all durable appends of a segment, up to one behind ``beyond`` at least.

        Of those behind that some may be missing.
        """
        # Before the index is read: what leaves memory meanwhile is in the index then.
        in_memory = [chunk.end for chunk in stream.memory if chunk.segment == segment]
        ends = (await self._in_index(stream, segment, beyond)).ends
        last = ends[-1] if ends else 0
        more = [end for end in in_memory if end > last]
        return ends + array("Q", more) if more else ends

    async def _in_index(self, stream: Stream, segment: int, beyond: int) -> AppendEnds:
        """The ends that the index has; of those behind ``beyond``, maybe not all."""
        key = _key(stream, segment)
        known = self._known.get(key)
        if known is None:
            known = AppendEnds()
        else:
            self._known.move_to_end(key)
        if known.complete or (known.ends and known.ends[-1] > beyond):
            return known
        _, index = names.files_of(stream.path, segment, stream.id)
        path = self._directory.streams / index
        applied = stream.applied
        is_sealed = segment < applied.segment
        if is_sealed:
            limit = await self._run(self._size_of, path)
        else:
            limit = applied.index_position if segment == applied.segment else 0
        if known.scanned < limit or is_sealed:
            known = known.copy()
            await self._run(scan_ends, self._directory.disk, path, known, limit)
            if is_sealed and not _ends_as(stream, segment, known):
                # It was replaced, and what it lacks has yet to be put back.
                problem = "the index is shorter than what was written to it"
                raise OSError(errno.ESTALE, problem, str(path))
            known.complete = is_sealed
            self._keep(key, known)
        return known

    def _size_of(self, path: Path) -> int:
        status = self._directory.disk.status(path)
        if status is None:  # somebody took it away: what it has is not nothing
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return status.size_bytes

    def _keep(self, key: _Key, ends: AppendEnds) -> None:
        old = self._known.pop(key, None)
        self._bytes += ends.size_bytes - (old.size_bytes if old else 0)
        self._known[key] = ends
        while self._bytes > self.most_bytes and len(self._known) > 1:
            _, oldest = self._known.popitem(last=False)
            self._bytes -= oldest.size_bytes

    def forget(self, stream: Stream) -> None:
        """A stream was deleted: nobody reads it any more."""
        for key in [key for key in self._known if key[1] == stream.id]:
            self._bytes -= self._known.pop(key).size_bytes


def _key(stream: Stream, segment: int) -> _Key:
    return stream.stored, stream.id, segment


def _ends_as(stream: Stream, segment: int, known: AppendEnds) -> bool:
    """Whether what an index has ends where a sealed segment does."""
    segments, tail = stream.segments, stream.durable
    return known.chain_at(segments.size_of(segment, tail)) == segments.chain_behind(segment, tail)


def _start(chunk: MemoryChunk) -> Offset:
    return Offset(chunk.segment, chunk.start)


def _last_within(ends: array[int], begin: int, limit: int) -> int | None:
    """The last end up to ``limit``, if it is behind ``begin``."""
    at = bisect_right(ends, limit)
    return ends[at - 1] if at and ends[at - 1] > begin else None
