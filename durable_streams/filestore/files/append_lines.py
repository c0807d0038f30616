"""Finding appends in the indexes of a stream, and reading what their lines state.

Lines are in the order of the stream, so a place in it is found by halving: which segment, then
where in its index.  The last appends are counted from the end.  Whatever the size of the stream,
what is read is a few pieces of 16 KiB, and the lines that are asked for; and of a segment that is
gone through from its beginning the first line, which holds its producers.

Nothing is checked but the running checksum at the end of each index, as for a read: ``verify``
checks all.  Times grow from line to line, unless the clock of the server was put back.

Blocking code; nothing here changes a file.
"""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from durable_streams.filestore.files import names
from durable_streams.filestore.format.index import LONGEST_LINE, BadLine, chain_at_end, said_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from durable_streams.filestore.files.disk import Disk
    from durable_streams.filestore.files.segments import Segments
    from durable_streams.filestore.format.index import Line, Tail

_PIECE: Final = 2 * LONGEST_LINE
"""Has a whole line, wherever it begins, unless that is inside a first line."""

_NEAR: Final = 2 * _PIECE  # bytes that are gone through line by line
_READ_BYTES: Final = 64 * 1024
_CHAIN_TEXT: Final = 64  # bytes at the end of a line that hold its chain field


class Found(NamedTuple):
    """An append: the bytes of a segment from ``begin`` up to ``line.end``."""

    segment: int
    begin: int
    line: Line


class Spot(NamedTuple):
    """The line of an append: which index it is in, where, and where the append itself begins.

    ``skip``: records of it that are before what was looked for.
    """

    segment: int
    position: int
    begin: int
    skip: int = 0


class AppendLines:
    """The lines of one stream up to an end; used in one thread."""

    def __init__(
        self, disk: Disk, directory: str, stream_id: str, segments: Segments, end: Tail
    ) -> None:
        """``end``: up to where its files have been written."""
        self._disk = disk
        self._directory = directory
        self._id = stream_id
        self._segments = segments
        self._end = end

    def holding(self, segment: int, position: int) -> Spot:
        """The append that holds the byte at a position, or else the first one behind it."""

        def is_before(line: Line) -> bool:
            return line.end <= position and line.messages > 0

        with self._index(segment) as index:
            return Spot(segment, *index.first_not(is_before))

    def since(self, time_ms: int) -> Spot:
        """The first append at a time or later; or the end."""
        low, high = self._segments.first, self._end.segment
        while low < high:
            middle = (low + high) // 2
            with self._index(middle) as index:
                is_before = index.last_time() < time_ms
            low, high = (middle + 1, high) if is_before else (low, middle)
        with self._index(low) as index:
            return Spot(low, *index.first_not(lambda line: line.time < time_ms))

    def last(self, count: int) -> Spot:
        """So many records before the end; or the beginning."""
        left = count
        for segment in range(self._end.segment, self._segments.first - 1, -1):
            with self._index(segment) as index:
                lines = index.backwards()
                for position, line in lines:
                    left -= records_in(line)
                    if left <= 0:
                        _, before = next(lines, (0, None))
                        return Spot(segment, position, before.end if before else 0, -left)
        return Spot(self._segments.first, 0, 0)

    def behind(self, spot: Spot, records: int) -> Iterator[Found]:
        """The appends from one on, until they have so many records if one of the first counts."""
        segment, position, begin, _ = spot
        have = 0
        while segment <= self._end.segment:
            with self._index(segment) as index:
                for _, line in index.forwards(position):
                    yield Found(segment, begin, line)
                    begin = line.end
                    have += records_in(line) if have else 1
                    if have >= records:
                        return
            segment, position, begin = segment + 1, 0, 0

    @contextmanager
    def _index(self, segment: int) -> Iterator[_Index]:
        """The index of a segment, open; ``OSError`` if it is not what was written."""
        end = self._end
        path = f"{self._directory}/{names.index_file(segment, self._id)}"
        if segment == end.segment and not end.index_position:
            yield _Index(self._disk, -1, 0)  # nothing was ever written
            return
        fd = self._disk.open_read(path)
        try:
            size = end.index_position
            if segment < end.segment:
                size = self._disk.file_status(fd).size_bytes
            index = _Index(self._disk, fd, size)
            if index.chain() != self._segments.chain_behind(segment, end):
                problem = "the index does not end as what was written to it"
                raise OSError(errno.ESTALE, problem, path)
            yield index
        finally:
            self._disk.close(fd)


class _Index:
    """An open index, up to a size."""

    def __init__(self, disk: Disk, fd: int, size: int) -> None:
        self._disk = disk
        self._fd = fd
        self._size = size

    def _read(self, begin: int, size: int) -> bytes:
        """So many bytes, or as many as there are."""
        size = min(size, self._size - begin)
        return self._disk.pread(self._fd, size, begin) if size > 0 else b""

    def chain(self) -> bytes | None:
        """The running checksum at its end."""
        return chain_at_end(self._read(max(0, self._size - _CHAIN_TEXT), _CHAIN_TEXT))

    def last_time(self) -> int:
        """That of its last append."""
        last = next(self.backwards(), None)
        if last is None:
            raise BadLine("a sealed index without an append")
        return last[1].time

    def first_not(self, is_before: Callable[[Line], bool]) -> tuple[int, int]:
        """Where the line of the first append is that is not before, and where its bytes begin."""
        low, high, begin = 0, self._size, 0  # ``low``: a line that is before, or the first one
        while high - low > _NEAR:
            middle = (low + high) // 2
            position, line = self._line_behind(middle)
            if position is None:
                low = middle  # the first line is as long as that
            elif line is None or not is_before(line):
                high = middle
            else:
                low = position
        for position, line in self.forwards(low):
            if not is_before(line):
                return position, begin
            begin = line.end
        return self._size, begin

    def _line_behind(self, middle: int) -> tuple[int | None, Line | None]:
        """The first line that begins behind a position; None and None inside of the first line.

        Where there is none: the end, and None.
        """
        text = self._read(middle, _PIECE)
        begin = text.find(b"\n") + 1
        end = text.find(b"\n", begin) if begin else -1
        if end < 0:
            return (None if middle + len(text) < self._size else self._size), None
        return middle + begin, _append_in(text[begin:end])

    def forwards(self, position: int) -> Iterator[tuple[int, Line]]:
        """The appends from a line on, or from within the first line."""
        rest = b""
        while position + len(rest) < self._size:
            more = self._read(position + len(rest), max(_READ_BYTES, len(rest)))
            if not more:
                raise BadLine("the index became shorter")
            rest += more
            begin = 0
            while (end := rest.find(b"\n", begin)) >= 0:
                line = said_by(rest[begin:end])
                if line is not None:
                    yield position + begin, line
                elif not self._is_in_first(position + begin):
                    raise BadLine(f"no line of an append at {position + begin}")
                begin = end + 1
            position, rest = position + begin, rest[begin:]

    def _is_in_first(self, position: int) -> bool:
        """Whether a position, which no line of an append is at, is inside of the first line."""
        return position == 0 or self._read(position - 1, 1) != b"\n"

    def backwards(self) -> Iterator[tuple[int, Line]]:
        """The appends from the last one back to the first."""
        begin, rest = self._size, b""  # ``rest``: up to the next line, from ``begin`` on
        while begin > 0 and len(rest) < _PIECE:  # else it is the first line
            size = min(begin, _READ_BYTES)
            begin -= size
            rest = self._read(begin, size) + rest
            end = len(rest)
            while (before := rest.rfind(b"\n", 0, end - 1)) >= 0:
                yield begin + before + 1, _append_in(rest[before + 1 : end - 1])
                end = before + 1
            rest = rest[:end]


def records_in(line: Line) -> int:
    """How many records an append is: a close without data is one as well."""
    return max(1, line.messages)


def _append_in(text: bytes) -> Line:
    line = said_by(text)
    if line is None:
        raise BadLine("no line of an append")
    return line
