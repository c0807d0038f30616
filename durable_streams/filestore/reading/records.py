"""What was appended, as records: from the lines of the indexes, and the messages between them.

A line tells of a whole append.  Where that has several JSON messages, they are found in its bytes,
which are looked into for as long as a page needs, from the last mark before it (``marks``); a page
that would take more of them ends early.
All of it is read from files, in other threads: whoever asks waits until those have what is durable.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any, NamedTuple

from durable_streams.filestore.files.append_lines import AppendLines
from durable_streams.filestore.format.index import BadLine
from durable_streams.filestore.reading.boundaries import Span
from durable_streams.filestore.reading.reads import not_before
from durable_streams.model.commands import Last, Since
from durable_streams.model.errors import InvalidOffset, StreamDamaged
from durable_streams.model.offsets import Offset, Start
from durable_streams.model.paths import path_text
from durable_streams.model.records import Record, RecordsPage
from durable_streams.rules.json_borders import Borders
from durable_streams.rules.json_marks import Mark, Marks, marks_among

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from durable_streams.filestore.files.append_lines import Found
    from durable_streams.filestore.files.directory import DataDirectory
    from durable_streams.filestore.files.segments import Segments
    from durable_streams.filestore.format.index import Tail
    from durable_streams.filestore.reading.reads import Reader
    from durable_streams.filestore.streams.stream import Stream
    from durable_streams.filestore.tuning import Tuning
    from durable_streams.model.commands import Place


class RecordReader:
    """Reads pages of records; owned by the event loop."""

    def __init__(
        self,
        directory: DataDirectory,
        reader: Reader,
        run: Callable[..., Awaitable[Any]],
        tuning: Tuning,
    ) -> None:
        """``run`` does something that may wait for the disk, off the loop."""
        self._directory = directory
        self._reader = reader
        self._run = run
        self._most_bytes = tuning.looked_into_bytes
        self._marks = Marks(tuning.marks_bytes)

    async def page(self, stream: Stream, place: Place, limit: int) -> RecordsPage:
        """Up to ``limit`` records from a place on, of a stream whose files have all of it.

        :class:`InvalidOffset` and :class:`OffsetGone` as for reads.
        """
        end = stream.applied
        behind = None if isinstance(place, Since | Last) else _offset(stream, place, end)
        directory = self._directory.stream_directory(stream.path)
        lines = AppendLines(self._directory.disk, directory, stream.id, stream.segments, end)
        try:
            skip, appends = await self._run(_find, lines, behind or place, limit)
        except BadLine as error:
            raise StreamDamaged(path_text(stream.path), str(error)) from error
        found: list[tuple[Found, list[Span]]] = []
        left, looked_into = limit, 0
        for append in appends:
            span = Span(append.begin, append.line.end)
            spans = [span]
            if stream.is_json and append.line.messages > 1:
                position = behind.position if behind and not found else 0
                which = (stream.id, append.segment, span.begin, append.line.chain)
                mark = self._marks.before(which, position, skip)
                size = span.end - mark.position
                if not left or (looked_into and looked_into + size > self._most_bytes):
                    break
                looked_into += size
                wanted = _Messages(mark, position, skip, left)
                rest = Span(mark.position, span.end)
                look = self._reader.look_into(stream, append.segment, rest, wanted.look)
                spans, seen = await look
                self._marks.keep(which, mark, seen)
            elif not left:
                break
            found.append((append, spans))
            left -= len(spans)
            skip = 0
        records = _Records(stream.segments, end, stream.is_json)
        page: RecordsPage = await self._run(records.page, found)
        return page


def _offset(stream: Stream, place: Offset | Start, end: Tail) -> Offset:
    """An offset in the segment that has what is at a place, up to the end."""
    begin = stream.segments.begin
    if isinstance(place, Start):
        return begin if place is Start.BEGINNING else end.offset
    place = not_before(stream, place)
    if place >= end.offset:
        return end.offset
    size = stream.segments.size_of(place.segment, end)
    if place.position > size:
        raise InvalidOffset(f"{place.token} is past the end of its segment")
    return Offset(place.segment + 1, 0) if place.position == size else place


def _find(lines: AppendLines, place: Offset | Since | Last, limit: int) -> tuple[int, list[Found]]:
    """The appends that a page is of, and how many records of the first one are before it."""
    match place:
        case Since(time_ms):
            spot = lines.since(time_ms)
        case Last(count):
            spot = lines.last(count)
        case _:
            spot = lines.holding(*place)
    return spot.skip, list(lines.behind(spot, limit))


class _Messages(NamedTuple):
    """Which messages of an append are wanted.

    Those that end behind a position, but ``skip`` of all, and up to ``most``; ``mark``: where to
    begin to look.
    """

    mark: Mark
    behind: int
    skip: int
    most: int

    def look(self, pieces: Iterator[bytes]) -> tuple[list[Span], list[Mark]]:
        """Where they are, in the bytes of the append from the mark on, and marks on the way."""
        borders = Borders()
        spans: list[Span] = []
        seen: list[Mark] = []
        at = begin = self.mark.position
        before = self.mark.messages
        for piece in pieces:
            ends = [at + end for end in borders.feed(piece)]
            seen += marks_among(ends, seen[-1] if seen else self.mark, before)
            first = max(min(max(0, self.skip - before), len(ends)), bisect_right(ends, self.behind))
            before += len(ends)
            if first:
                begin = ends[first - 1]
            for end in ends[first : first + self.most - len(spans)]:
                spans.append(Span(begin, end))
                begin = end
            if len(spans) == self.most:
                break
            at += len(piece)
        return spans, seen


class _Records(NamedTuple):
    """Makes the records of a stream that ends somewhere; very many would hold up the loop."""

    segments: Segments
    end: Tail
    is_json: bool

    def page(self, found: list[tuple[Found, list[Span]]]) -> RecordsPage:
        """Those of some appends; without any, the page is at the tail."""
        records = [self._record(append, span) for append, spans in found for span in spans]
        end = self.end
        following = records[-1].end if records else end.offset
        at_tail = following == end.offset and (not records or records[-1].closed or not end.closed)
        return RecordsPage(records, following, at_tail, at_tail and end.closed)

    def _record(self, append: Found, span: Span) -> Record:
        segment, _, line = append
        start = Offset(segment, span.begin)
        if not span.begin and start > self.segments.begin:  # one position, one offset
            start = Offset(segment - 1, self.segments.size_of(segment - 1, self.end))
        size = span.end - span.begin
        return Record(
            start,
            Offset(segment, span.end),
            line.time,
            size - 1 if size and self.is_json else size,
            line.claim(),
            line.closed and span.end == line.end,
        )
