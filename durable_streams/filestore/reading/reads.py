"""Reads: which bytes of which files answer an offset.

A chunk lies within one segment and is bounded.  It ends at the end of an append, chosen so that
the same offset gives the same bytes once they are no longer the tail.  Small chunks are read here,
on the loop where the page cache has them; larger ones are described as slices of open files.

Where a chunk begins depends on what the stream holds.  Text can be entered at every byte, JSON
between two messages.  Of anything else a client can only use whole appends, so an offset inside one
reads that append from its beginning, as in the reference server.
"""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING, Final, TypeVar

from durable_streams.filestore.reading.boundaries import Boundaries, Span
from durable_streams.filestore.reading.open_segments import OpenSegments
from durable_streams.filestore.streams.stream import own
from durable_streams.filestore.tuning import Tuning
from durable_streams.model.errors import InvalidOffset, OffsetGone
from durable_streams.model.offsets import ZERO, Offset, Start
from durable_streams.model.paths import path_text
from durable_streams.model.results import Chunk, FileSlice
from durable_streams.rules.json_borders import ends_message
from durable_streams.rules.media_type import Unit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Executor

    from durable_streams.descriptors import Descriptors
    from durable_streams.filestore.files.directory import DataDirectory
    from durable_streams.filestore.reading.open_segments import OpenSegment
    from durable_streams.filestore.streams.stream import Stream

_T = TypeVar("_T")
_SMALL_BYTES: Final = 64 * 1024
_FIRST_SLICE_BYTES: Final = 8 * 1024  # of what is looked into, as that may take no more


class Reader:
    """Reads chunks of streams; owned by the event loop."""

    def __init__(
        self,
        directory: DataDirectory,
        executor: Executor,
        max_read_bytes: int,
        available: Descriptors,
        tuning: Tuning = Tuning(),
    ) -> None:
        """``available``: descriptors, of which files that are kept open take some."""
        self._disk = directory.disk
        self._executor = executor
        self._max_read_bytes = max_read_bytes
        self._small_bytes = min(_SMALL_BYTES, max_read_bytes)
        self._files = OpenSegments(directory, executor, available, tuning.answers_wait_s)
        self.give_back = self._files.give_back
        self.boundaries = Boundaries(directory, self._run, tuning.ends_bytes)
        self._looking = asyncio.Lock()

    def read_now(
        self,
        stream: Stream,
        start: Offset | Start,
        *,
        is_end: bool = False,
        max_bytes: int | None = None,
    ) -> Chunk | None:
        """The chunk that begins at an offset if it is small and nothing has to be waited for.

        ``is_end``: a chunk ended there, so it is known to be a place to begin at.  ``max_bytes``:
        the most to return, if that is less than what reads do.
        """
        segments, tail = stream.segments, stream.durable
        if start is Start.NOW:
            return _empty(stream, tail.offset)
        offset = segments.begin if isinstance(start, Start) else start
        if offset < segments.begin:
            offset = not_before(stream, offset)
        segment, begin = offset
        if segment > tail.segment or (segment == tail.segment and begin >= tail.position):
            return _empty(stream, tail.offset)
        end = segments.size_of(segment, tail)
        most = self._small_bytes if max_bytes is None else min(self._small_bytes, max_bytes)
        if not begin < end <= begin + most:
            return None
        if begin and not is_end and not self._is_entry(stream, offset):
            return None
        from_memory = _from_memory(stream, segment, begin, end) if stream.memory else b""
        parts: tuple[bytes, ...] = (from_memory,)
        split = end - len(from_memory)
        if split > begin:
            file = self._files.kept(stream, segment, split)
            if file is None:
                return None
            cached = self._disk.pread_cached(file.fd, split - begin, begin)
            if cached is None:
                return None
            parts = (cached, from_memory) if from_memory else (cached,)
        chain = segments.chain_behind(segment, tail)
        return _chunk(stream, offset, Offset(segment, end), chain, size=end - begin, parts=parts)

    async def read(
        self,
        stream: Stream,
        start: Offset | Start,
        *,
        is_end: bool = False,
        max_bytes: int | None = None,
    ) -> Chunk:
        """The chunk that begins at an offset; empty at the tail and beyond it.

        ``is_end`` and ``max_bytes`` as for :meth:`read_now`; an append that has more comes whole.
        """
        chunk = self.read_now(stream, start, is_end=is_end, max_bytes=max_bytes)
        if chunk is not None:
            return chunk
        offset = stream.segments.begin if isinstance(start, Start) else start
        offset = not_before(stream, offset)
        segment, begin = await self._begin(stream, offset, is_end)
        end = await self.boundaries.end_of_read(stream, segment, begin, self._most(max_bytes))
        # One position, one offset: the beginning of a segment is the end of the one before.
        at = Offset(segment, begin)
        if segment > offset.segment:
            at = Offset(offset.segment, size_of(stream, offset.segment))
        chain = await self.boundaries.chain_at(stream, segment, end)
        chunk = _chunk(stream, at, Offset(segment, end), chain, size=end - begin)
        await self._describe(stream, chunk, segment, begin, end)
        return chunk

    def _most(self, max_bytes: int | None) -> int:
        return self._max_read_bytes if max_bytes is None else min(max_bytes, self._max_read_bytes)

    def _is_entry(self, stream: Stream, offset: Offset) -> bool:
        """Whether a read may begin at an offset, as far as that is known without the disk."""
        return stream.unit is Unit.BYTE or self.boundaries.is_known(stream, offset)

    async def _begin(self, stream: Stream, offset: Offset, is_end: bool) -> Offset:
        """Where the bytes begin that answer an offset below the tail."""
        segment, position = offset
        size = size_of(stream, segment)
        if position > size:
            if stream.unit is Unit.APPEND:  # behind the last one there, before the next
                return Offset(segment + 1, 0)
            raise InvalidOffset(f"{offset.token} is past the end of its segment")
        if position == size:
            return Offset(segment + 1, 0)
        if is_end or self._is_entry(stream, offset):
            return offset
        begin = (await self.boundaries.append_at(stream, offset)).begin
        if begin == position:
            return offset
        if stream.unit is Unit.APPEND:
            return Offset(segment, begin)
        if not await self._ends_message(stream, segment, begin, position):
            raise InvalidOffset(f"{offset.token} lies inside a message")
        return offset

    async def _ends_message(self, stream: Stream, segment: int, begin: int, position: int) -> bool:
        """Whether a message ends at a position in the append that begins at another one."""
        if await self.bytes_of(stream, segment, position - 1, position) != b",":
            return False
        return await self.look_into(stream, segment, Span(begin, position), ends_message)

    async def look_into(
        self, stream: Stream, segment: int, span: Span, look: Callable[[Iterator[bytes]], _T]
    ) -> _T:
        """What ``look`` makes of an append, or of what it begins with, in slices and in a thread.

        One at a time: it may be long, and whoever may read may have it done.
        """
        begin, end = span
        async with self._looking:
            for chunk in stream.memory:
                if (chunk.segment, chunk.start) == (segment, begin):
                    return await self._run(look, _slices_of(chunk.data, end - begin))
            file = await self._files.acquire(stream, segment, end)
            try:
                return await self._run(look, self._slices_in(file, span))
            finally:
                file.release()

    def _slices_in(self, file: OpenSegment, span: Span) -> Iterator[bytes]:
        for position, end in _slices(span):
            size = end - position
            yield _whole(file, self._disk.pread(file.fileno(), size, position), position, size)

    async def locate(self, stream: Stream, offset: Offset) -> Offset:
        """Check that an offset up to the tail is a position to fork at; where it is.

        Unlike a read, a fork is cut exactly there, also inside an append of bytes.
        """
        offset = not_before(stream, offset)
        segment, position = offset
        if offset == stream.durable.offset:
            return offset
        if position > size_of(stream, segment):
            raise InvalidOffset(f"{offset.token} is past the end of its segment")
        return await self._begin(stream, offset, is_end=not stream.is_json)

    async def _run(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Do something that may wait for the disk."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, function, *arguments)

    async def sizes(self, chunk: Chunk) -> list[int]:
        """How many bytes of a chunk each append in it has."""
        segment, end = chunk.end
        begin = end - chunk.size_bytes
        return await self.boundaries.sizes(own(chunk.stream), segment, begin, end)

    async def _describe(
        self, stream: Stream, chunk: Chunk, segment: int, begin: int, end: int
    ) -> None:
        """Fill in the parts: from the file as far as it is applied, the rest from memory."""
        from_memory = _from_memory(stream, segment, begin, end)
        split = end - len(from_memory)
        parts: list[bytes | FileSlice] = []
        if split > begin and end - begin <= _SMALL_BYTES:
            file = await self._files.acquire(stream, segment, split)
            try:
                parts.append(await self._pread(file, split - begin, begin))
            finally:
                file.release()
        elif split > begin:
            held = await self._files.hold(stream, segment, split)
            parts.append(FileSlice(held, begin, split - begin))
            chunk.hold(held)
        if from_memory:
            parts.append(from_memory)
        chunk.parts = parts

    async def _pread(self, file: OpenSegment, size: int, position: int) -> bytes:
        is_small = size <= _SMALL_BYTES
        data = self._disk.pread_cached(file.fileno(), size, position) if is_small else None
        if data is None:
            data = await self._run(self._disk.pread, file.fileno(), size, position)
        return _whole(file, data, position, size)

    async def read_slice(self, part: FileSlice) -> bytes:
        """The bytes of a slice, read off the loop."""
        data = await self._run(self._disk.pread, part.file.fileno(), part.size, part.position)
        if len(data) != part.size:
            raise OSError("a segment file became shorter")
        return data

    async def bytes_of(self, stream: Stream, segment: int, begin: int, end: int) -> bytes:
        """Durable bytes of a segment, wherever they are now."""
        from_memory = _from_memory(stream, segment, begin, end)
        split = end - len(from_memory)
        if split == begin:
            return from_memory
        file = await self._files.acquire(stream, segment, split)
        try:
            return await self._pread(file, split - begin, begin) + from_memory
        finally:
            file.release()

    def forget(self, stream: Stream) -> None:
        """A stream was deleted: let go of what is kept of it."""
        self._files.forget(stream)
        self.boundaries.forget(stream)

    def close(self) -> None:
        """Let go of all files; chunks still out keep theirs."""
        self._files.close()


def not_before(stream: Stream, offset: Offset) -> Offset:
    """An offset at or behind the beginning of a stream, which is what the zero token means.

    :class:`OffsetGone` for any other one before it.
    """
    begin = stream.segments.begin
    if offset >= begin:
        return offset
    if offset != ZERO:
        raise OffsetGone(path_text(stream.path), offset, begin)
    return begin


def size_of(stream: Stream, segment: int) -> int:
    """Durable bytes of a segment."""
    return stream.segments.size_of(segment, stream.durable)


def _whole(file: OpenSegment, data: bytes, position: int, size: int) -> bytes:
    """What was read of a segment at a position, if it is so many bytes; else ``OSError``."""
    if len(data) != size:
        problem = f"is shorter than {position + size} bytes"
        raise OSError(errno.ESTALE, problem, str(file.path))
    return data


def _slices(span: Span) -> Iterator[Span]:
    """What is looked into at a time, each piece twice as long as the one before, up to a size."""
    position, size = span.begin, _FIRST_SLICE_BYTES
    while position < span.end:
        end = min(position + size, span.end)
        yield Span(position, end)
        position, size = end, min(2 * size, _SMALL_BYTES)


def _slices_of(data: bytes, size: int) -> Iterator[bytes]:
    for begin, end in _slices(Span(0, size)):
        yield data[begin:end]


def _from_memory(stream: Stream, segment: int, begin: int, end: int) -> bytes:
    """Those bytes before ``end`` that are in memory: a run that ends there, or nothing."""
    return b"".join(
        [
            chunk.data[max(0, begin - chunk.start) : end - chunk.start]
            for chunk in stream.memory
            if chunk.segment == segment and chunk.start < end and chunk.end > begin
        ]
    )


def _chunk(
    stream: Stream,
    start: Offset,
    end: Offset,
    chain: bytes,
    *,
    size: int,
    parts: Sequence[bytes | FileSlice] = (),
) -> Chunk:
    at_tail = end == stream.durable.offset
    closed = at_tail and stream.durable.closed
    return Chunk(stream, start, end, chain, parts, size, at_tail, closed)


def _empty(stream: Stream, tail: Offset) -> Chunk:
    durable = stream.durable
    return Chunk(stream, tail, tail, durable.chain, (), 0, at_tail=True, closed=durable.closed)
