"""The bytes of streams: runs, found by offset, checked to follow one another without a gap."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import msgspec

from durable_streams.model.errors import (
    InvalidOffset,
    InvalidRequest,
    OffsetGone,
    StreamDamaged,
)
from durable_streams.model.offsets import ZERO, Offset, Start
from durable_streams.model.paths import path_text
from durable_streams.postgres.decisions import chained
from durable_streams.postgres.rows import FIRST_CHAIN, Layer
from durable_streams.rules import media_type
from durable_streams.rules.json_borders import ends_message, positions
from durable_streams.rules.media_type import Unit
from durable_streams.settings import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    import asyncpg

    from durable_streams.model.commands import ForkRequest
    from durable_streams.model.paths import StreamPath
    from durable_streams.postgres.rows import Row

    Fetch = Callable[..., Awaitable[list[asyncpg.Record]]]

RUNS: Final = """
select start, ends, before, chain, data from ds.runs
 where stream = $1 and segment = $2 and start < $4
   and start >= coalesce((select start from ds.runs
     where stream = $1 and segment = $2 and start <= $3 order by start desc limit 1), $3)
 order by start
"""
"""The runs from the one on that has position $3, up to position $4."""

_RUN_BYTES: Final = 512
"""What a run takes in memory beside its data and the ends of its appends."""

_END_BYTES: Final = 40
"""What each of those takes: a number, and a place in a list."""

_ENDS: Final = RUNS.replace(", before, chain, data", "")

_BYTES: Final = """
select substring(data from (greatest($3 - start, 0) + 1)::int
   for (least($4, ends[cardinality(ends)]) - greatest(start, $3))::int) as data from ds.runs
 where stream = $1 and segment = $2 and start < $4
   and start >= coalesce((select start from ds.runs
     where stream = $1 and segment = $2 and start <= $3 order by start desc limit 1), $3)
 order by start
"""
"""The bytes of positions from $3 up to $4, in pieces."""


SIZES: Final = """
select (select ends[cardinality(ends)] from ds.runs r
  where r.stream = a.stream and r.segment = a.segment order by start desc limit 1) as size
 from unnest($1::bigint[], $2::bigint[]) with ordinality as a(stream, segment, number)
 order by number
"""
"""Up to where segments of streams have bytes; null: none."""

_BLOCK_BYTES: Final = 64 * KIB
"""Of a large append, that are read at a time for a reader that takes less."""

CACHE_BYTES: Final = 32 * MIB
"""Of runs that are kept in memory, as many readers read the same ones."""


class RunCache:
    """What was read of runs, which nobody changes: asked for again in the same way, it is the same.

    A question for runs is one for bytes below a tail, so later runs are no answer to it.
    """

    def __init__(self, fetch: Fetch) -> None:
        self.fetch = fetch
        self._found: OrderedDict[tuple[object, ...], list[asyncpg.Record]] = OrderedDict()
        self._size_bytes = 0

    async def runs(self, *question: int) -> list[asyncpg.Record]:
        """Runs, as ``RUNS`` asks for them."""
        found = self._found.get(question)
        if found is not None:
            self._found.move_to_end(question)
            return found
        found = await self.fetch(RUNS, *question)
        if found and question not in self._found:
            self._found[question] = found
            self._size_bytes += _size_of(found)
            while self._size_bytes > CACHE_BYTES:
                self._size_bytes -= _size_of(self._found.popitem(last=False)[1])
        return found


def _size_of(records: list[asyncpg.Record]) -> int:
    return sum(
        [len(record["data"]) + len(record["ends"]) * _END_BYTES + _RUN_BYTES for record in records]
    )


class Piece(msgspec.Struct):
    """Appends of one segment of a stream that follow one another, maybe cut at the end.

    ``start``, and ``ends`` of each append; ``chains``: (up to where, checksum) that runs say.
    """

    segment: int
    start: int
    before: bytes
    ends: list[int]
    data: bytes
    chains: dict[int, bytes]

    def cut(self, end: int) -> None:
        """Have nothing behind a position."""
        del self.ends[bisect_right(self.ends, end) :]
        if not self.ends or self.ends[-1] < end:
            self.ends.append(end)
        self.chains = {at: chain for at, chain in self.chains.items() if at <= end}
        self.data = self.data[: end - self.start]

    def between(self, begin: int, end: int) -> bytes:
        """The bytes of positions."""
        return self.data[begin - self.start : end - self.start]

    def append_at(self, position: int) -> tuple[int, int]:
        """Where the append begins and ends that has the byte at a position."""
        at = bisect_right(self.ends, position)
        return (self.ends[at - 1] if at else self.start), self.ends[at]

    def chain_at(self, end: int) -> bytes:
        """The running checksum at the end of an append."""
        known = max([at for at in self.chains if at <= end], default=self.start)
        chain = self.chains.get(known, self.before)
        first, last = bisect_right(self.ends, known), bisect_right(self.ends, end)
        for stop in self.ends[first:last]:
            chain = chained(chain, self.between(known, stop))
            known = stop
        return chain


class Found(msgspec.Struct):
    """What a read gives: bytes from ``start`` to ``end``, and the checksum there."""

    start: Offset
    end: Offset
    chain: bytes
    data: bytes


class Reading:
    """Reads of one stream as its row says it is."""

    def __init__(self, path: StreamPath, row: Row, runs: RunCache) -> None:
        self._path = path
        self._row = row
        self._runs = runs.runs
        self.fetch = runs.fetch
        own = Layer(row.id, 0, row.tail.segment, row.tail.position)
        self._layers = (*row.layers, own)

    def placed(self, start: Offset | Start) -> Offset:
        """An offset of this stream, which the zero token is of each; the tail at most."""
        row = self._row
        if start is Start.NOW:
            return row.tail
        if start is Start.BEGINNING or start == ZERO:
            return min(row.begin, row.tail)
        assert isinstance(start, Offset)
        if start < row.begin:
            raise OffsetGone(path_text(self._path), start, row.begin)
        return start

    async def from_(self, start: Offset | Start, most_bytes: int, *, is_end: bool) -> Found:
        """What is there from an offset on, up to the end of an append."""
        row = self._row
        offset = self.placed(start)
        piece = None if offset >= row.tail else await self._piece(offset, most_bytes)
        if piece is None:
            return Found(row.tail, row.tail, row.chain, b"")
        begin = max(offset.position, piece.start) if offset.segment == piece.segment else 0
        if not is_end and begin > piece.start:
            begin = self._entry(piece, begin)
        at = bisect_right(piece.ends, begin)
        end = piece.ends[max(at, bisect_right(piece.ends, begin + most_bytes) - 1)]
        return Found(
            Offset(piece.segment, begin),
            Offset(piece.segment, end),
            piece.chain_at(end),
            piece.between(begin, end),
        )

    def _entry(self, piece: Piece, position: int) -> int:
        """Where a read begins that was asked for a position."""
        begin, _ = piece.append_at(position)
        unit = media_type.unit(self._row.content_type)
        if unit is Unit.APPEND:
            return begin
        if unit is Unit.MESSAGE:
            _check_between_messages(piece, begin, position)
        return position

    def parts(self) -> list[tuple[Layer, Offset, Offset]]:
        """What the stream is made of: whose runs, from where, and up to where."""
        parts: list[tuple[Layer, Offset, Offset]] = []
        start = self._row.begin
        for layer in self._layers:
            parts.append((layer, start, layer.end))
            start = layer.end
        return parts

    # -- pieces ----------------------------------------------------------------------------

    def _spans(self, segment: int, begin: int, end: int) -> list[tuple[Layer, int, int | None]]:
        """Which layers have positions of a segment, from where, and where they are cut if so."""
        spans: list[tuple[Layer, int, int | None]] = []
        start = ZERO
        for layer in self._layers:
            first = start.position if start.segment == segment else 0
            cut = layer.end.position if layer.end.segment == segment else None
            if start.segment <= segment <= layer.end.segment and max(first, begin) < (
                end if cut is None else min(cut, end)
            ):
                spans.append((layer, max(first, begin), cut))
            start = layer.end
        return spans

    async def _piece(self, offset: Offset, most_bytes: int) -> Piece | None:
        """Runs from the one on that has an offset, or the first one behind it; None: no more."""
        at = offset
        while at < self._row.tail:
            end = at.position + max(1, most_bytes)
            piece: Piece | None = None
            for layer, begin, cut in self._spans(at.segment, at.position, end):
                most = end if cut is None else min(end, cut)
                records = await self._runs(layer.stream, at.segment - layer.shift, begin, most)
                piece = self._joined(at.segment, piece, records, cut)
                if cut is not None and (piece is None or piece.ends[-1] < most):
                    raise self.gap(Offset(at.segment, begin))
            if piece is not None and piece.ends[-1] > at.position:
                if piece.start > at.position:
                    raise self.gap(at)
                return piece
            at = Offset(at.segment + 1, 0)
        return None

    def _joined(
        self, segment: int, piece: Piece | None, records: Sequence[asyncpg.Record], cut: int | None
    ) -> Piece | None:
        """A piece and runs behind it; ``StreamDamaged`` if one does not follow the one before."""
        if not records:
            return piece
        if piece is None:
            first = records[0]
            piece = Piece(segment, first["start"], first["before"], [], b"", {})
            at, chain = piece.start, piece.before
        else:
            at, chain = piece.ends[-1], piece.chain_at(piece.ends[-1])
        for record in records:
            if record["start"] != at or record["before"] != chain:
                raise self.gap(Offset(segment, at))
            piece.ends += record["ends"]
            at, chain = piece.ends[-1], record["chain"]
            piece.chains[at] = chain
        piece.data = b"".join([piece.data, *[record["data"] for record in records]])
        if cut is not None and piece.ends[-1] > cut:
            piece.cut(cut)
        return piece

    def gap(self, at: Offset) -> StreamDamaged:
        """What is missing from an offset on; this must not be."""
        return StreamDamaged(path_text(self._path), f"the database has no bytes for {at.token}")

    # -- of what was read ------------------------------------------------------------------

    async def sizes(self, segment: int, begin: int, end: int) -> list[int]:
        """How many bytes each append has between two positions that a read gave."""
        sizes: list[int] = []
        at = begin
        for layer, first, cut in self._spans(segment, begin, end):
            most = end if cut is None else min(cut, end)
            records = await self.fetch(_ENDS, layer.stream, segment - layer.shift, first, most)
            for stop in [stop for record in records for stop in record["ends"]]:
                if stop > at and at < most:
                    sizes.append(min(stop, most) - at)
                    at = min(stop, most)
        if at != end:
            raise self.gap(Offset(segment, at))
        return sizes

    async def segment_sizes(self, first: int, end: int) -> list[int]:
        """The sizes of whole segments, from one up to another one."""
        sizes = [0] * (end - first)
        asked: list[tuple[int, int, int]] = []
        start = first
        for layer in self._layers:
            for segment in range(max(start, first), min(layer.end_segment, end - 1) + 1):
                if segment == layer.end_segment:
                    sizes[segment - first] = max(sizes[segment - first], layer.end_position)
                else:
                    asked.append((segment, layer.stream, segment - layer.shift))
            start = layer.end_segment
        if asked:
            segments, streams, numbers = zip(*asked, strict=True)
            found = await self.fetch(SIZES, streams, numbers)
            for segment, record in zip(segments, found, strict=True):
                sizes[segment - first] = max(sizes[segment - first], record["size"] or 0)
        return sizes

    async def size_up_to(self, cut: Offset) -> int:
        """How many bytes the stream has up to an offset."""
        if cut == self._row.tail:
            return self._row.size_bytes
        return sum(await self.segment_sizes(self._row.first_segment, cut.segment)) + cut.position

    async def pieces(self, segment: int, begin: int, end: int, size: int) -> AsyncIterator[bytes]:
        """The bytes between two positions that a read gave, so many at a time."""
        block = max(_BLOCK_BYTES // size, 1) * size
        for start in range(begin, end, block):
            data = await self.bytes_in(segment, start, min(start + block, end))
            for at in range(0, len(data), size):
                yield data[at : at + size]

    async def bytes_in(self, segment: int, begin: int, end: int) -> bytes:
        """The bytes between two positions of a segment."""
        found: list[bytes] = []
        for layer, first, cut in self._spans(segment, begin, end):
            most = end if cut is None else min(cut, end)
            records = await self.fetch(_BYTES, layer.stream, segment - layer.shift, first, most)
            found += [record["data"] for record in records]
        data = b"".join(found)
        if len(data) != end - begin:
            raise self.gap(Offset(segment, begin))
        return data

    # -- forks -----------------------------------------------------------------------------

    async def cut(self, request: ForkRequest) -> tuple[Offset, bytes]:
        """Up to where a fork has its content, and the running checksum there."""
        row = self._row
        offset = row.tail if request.offset is None else self.placed(request.offset)
        if offset > row.tail:
            raise InvalidOffset(f"the fork offset {offset.token} is beyond the source's tail")
        if offset == row.tail:
            if request.sub_offset:
                raise _past_the_append()
            return offset, row.chain
        piece = await self._piece(offset, 1)
        if piece is None:
            raise self.gap(offset)
        position = max(offset.position, piece.start) if offset.segment == piece.segment else 0
        begin, end = piece.append_at(position)
        ends: Sequence[int] = range(position + 1, end + 1)  # each byte can be the last
        if media_type.is_json(row.content_type):
            _check_between_messages(piece, begin, position)
            ends = [position + at for at in positions([piece.between(position, end)])]
        if request.sub_offset > len(ends):
            raise _past_the_append()
        if request.sub_offset:
            position = ends[request.sub_offset - 1]
        if position == 0 and piece.segment == row.first_segment:
            return Offset(piece.segment, 0), FIRST_CHAIN
        begin = piece.append_at(position - 1)[0] if position > piece.start else position
        chain = piece.chain_at(begin)
        if begin < position:
            chain = chained(chain, piece.between(begin, position))
        return Offset(piece.segment, position), chain

    def layers_up_to(self, cut: Offset, shift: int) -> tuple[Layer, ...]:
        """The layers of a fork of it, whose segments' numbers are so much higher."""
        layers: list[Layer] = []
        for layer in self._layers:
            end = min(layer.end, cut)
            if not layers or end > layers[-1].end:
                layers.append(Layer(layer.stream, layer.shift, end.segment, end.position))
        return tuple(
            [
                Layer(each.stream, each.shift + shift, each.end_segment + shift, each.end_position)
                for each in layers
            ]
        )


def _past_the_append() -> InvalidRequest:
    return InvalidRequest("the fork sub-offset is past the end of the append")


def _check_between_messages(piece: Piece, begin: int, position: int) -> None:
    if not ends_message([piece.between(begin, position)]):
        token = Offset(piece.segment, position).token
        raise InvalidOffset(f"{token} lies inside a message")
