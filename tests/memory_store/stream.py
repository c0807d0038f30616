"""One stream in memory: its bytes, where its appends end, and how it ends itself."""

from __future__ import annotations

import secrets
from bisect import bisect_left, bisect_right
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from durable_streams.live import Audience, Deliveries
from durable_streams.model.commands import Last, Since
from durable_streams.model.details import MOST_DETAILS, StreamDetails
from durable_streams.model.errors import InvalidOffset, InvalidRequest, OffsetGone, StreamGone
from durable_streams.model.offsets import ZERO, Offset, Start
from durable_streams.model.paths import path_text
from durable_streams.model.records import Record, RecordsPage
from durable_streams.model.results import Chunk, ForkedFrom, Publication, StreamInfo, StreamRow
from durable_streams.rules import json_mode, media_type
from durable_streams.rules.appends import Repeat, Write, WriterState, decide_append
from durable_streams.rules.creates import Identity
from durable_streams.rules.json_borders import ends_message, positions
from durable_streams.rules.last_producers import last_producers
from durable_streams.rules.lifetime import deadline_ms
from durable_streams.rules.media_type import Unit
from durable_streams.rules.producer_table import ProducerTable
from durable_streams.rules.producers import ProducerState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from durable_streams.model.commands import (
        Append,
        Create,
        ForkRequest,
        Lifetime,
        Place,
        ProducerClaim,
    )
    from durable_streams.model.errors import StreamError
    from durable_streams.model.paths import StreamPath

_CHAIN_BYTES: Final = 16


class MemoryStream:
    """``forks``: how many of it live.  ``ended``: why nobody can use it any more.

    It has one segment, whose number is above that of the stream that was at its path before.
    """

    def __init__(
        self,
        command: Create,
        content_type: str,
        lifetime: Lifetime,
        now_ms: int,
        deliveries: Deliveries,
        *,
        segment: int,
        max_producers_bytes: int,
        max_producers: int,
    ) -> None:
        """``lifetime``: of its own, or its source's."""
        self.path = command.path
        self.segment = segment
        self.id = secrets.token_hex(12)
        self.content_type = content_type
        self.is_json = media_type.is_json(content_type)
        self.audience = Audience(deliveries)
        self.followers = 0
        self.source: MemoryStream | None = None
        self.forks = 0
        self.ended: StreamError | None = None
        self._asked_for = command
        self._lifetime = lifetime
        self._created_ms = self._last_use_ms = now_ms
        self.last_write_ms: int | None = None
        self._fork: ForkedFrom | None = None
        self._data = bytearray()
        self._ends: list[int] = []
        self._chains: list[bytes] = []
        self._log: list[tuple[int, int, int, ProducerClaim | None, bool]] = []
        self.closed = False
        self._closed_by: ProducerClaim | None = None
        self._stream_seq: str | None = None
        self._producers = ProducerTable({})
        self._max_producers_bytes = max_producers_bytes
        self._max_producers = max_producers

    @property
    def offset(self) -> Offset:
        """The tail."""
        return Offset(self.segment, len(self._data))

    def info(self) -> StreamInfo:
        """What is known of it."""
        return StreamInfo(
            self.path,
            self.id,
            self.content_type,
            self.offset,
            self.closed,
            self._lifetime,
            self._created_ms,
        )

    def row(self, now_ms: int) -> StreamRow:
        """What lists say of it."""
        return StreamRow(
            self.path,
            self.id,
            self.content_type,
            self.offset,
            len(self._data),
            self._created_ms,
            self.last_write_ms,
            self.closed,
            self._lifetime,
            self.ends_at_ms(now_ms),
            self._fork,
        )

    def identity(self) -> Identity:
        """What a create of the same stream is compared with."""
        asked = self._asked_for
        return Identity(self.content_type, asked.lifetime, self.closed, asked.fork)

    @property
    def lifetime(self) -> Lifetime:
        """When it ends by itself."""
        return self._lifetime

    # -- time ------------------------------------------------------------------------------

    def use(self, now_ms: int) -> None:
        """Somebody uses it: a TTL begins anew."""
        self._last_use_ms = max(self._last_use_ms, now_ms)

    def ends_at_ms(self, now_ms: int) -> int | None:
        """When it ends if nobody uses it; None: never.  Meanwhile those who follow it do."""
        return deadline_ms(self._lifetime, now_ms if self.followers else self._last_use_ms)

    def is_expired(self, now_ms: int) -> bool:
        """Whether it has ended by itself."""
        if self.followers and self._lifetime.ttl_s is not None:
            return False
        end_ms = self.ends_at_ms(now_ms)
        return end_ms is not None and now_ms >= end_ms

    def is_kept_for_forks(self) -> bool:
        """Whether it was deleted, and forks need it."""
        return isinstance(self.ended, StreamGone)

    # -- writes ----------------------------------------------------------------------------

    def wire(self, body: bytes, *, allow_empty: bool) -> bytes:
        """A body as it is stored; ``InvalidJson``."""
        if not body or not self.is_json:
            return body
        return json_mode.to_wire(body, allow_empty=allow_empty)[0]

    def decide(self, command: Append, body: bytes) -> Write | Repeat:
        """Whether an append is to be made; raises if it must not."""
        state = WriterState(self.content_type, self, self.closed, self._closed_by, self._stream_seq)
        claim = command.producer
        known = self._producers.states.get(claim.id) if claim else None
        return decide_append(state, known, command, bool(body))

    def append(self, command: Append, data: bytes, now_ms: int) -> None:
        """Make an append that was decided, and tell those who read; ``TooManyProducers``."""
        if command.producer is not None:
            self._know(command.producer, now_ms)
        start = self.offset
        self.put(data, now_ms, command.producer, closes=command.close)
        if command.stream_seq is not None:
            self._stream_seq = command.stream_seq
        if command.close:
            self.closed, self._closed_by = True, command.producer
        self.last_write_ms = now_ms
        self.use(now_ms)
        self.audience.wake()
        self.audience.publish(Publication(start, self.offset, data, self.closed))

    def _know(self, claim: ProducerClaim, now_ms: int) -> None:
        """Remember a producer, and forget others where there is no room for one more."""
        known = self._producers
        if claim.id not in known.states:
            forgotten = known.room_for(
                claim.id, now_ms, self._max_producers_bytes, self._max_producers
            )
            for name in forgotten:
                known.remove(name)
        known.put(claim.id, ProducerState(claim.epoch, claim.seq, now_ms))

    def put(
        self,
        data: bytes,
        time_ms: int,
        producer: ProducerClaim | None = None,
        *,
        closes: bool = False,
    ) -> None:
        """Bytes that were appended at once, or a close, or both."""
        begin = len(self._data)
        if data or closes:
            self._log.append((begin, begin + len(data), time_ms, producer, closes))
        if data:
            before = self._chain_at(len(self._data))
            self._data += data
            self._ends.append(len(self._data))
            self._chains.append(blake2b(before + data, digest_size=_CHAIN_BYTES).digest())

    def begin_with(self, source: MemoryStream, cut: int) -> None:
        """Be a fork, with what the source has up to a position."""
        self.source = source
        self.segment = max(self.segment, source.segment)
        source.forks += 1
        for begin, end, time_ms, *_ in source._log:
            self.put(bytes(source._data[begin : min(end, cut)]), time_ms)
        self._fork = ForkedFrom(source.path, self.offset)

    # -- reads -----------------------------------------------------------------------------

    def chunk(self, start: Offset | Start, max_bytes: int) -> Chunk:
        """What is there from an offset on, up to the end of an append."""
        tail = self.offset
        offset = self._placed(ZERO if start is Start.BEGINNING else start)
        if isinstance(offset, Start) or offset >= tail:
            return self._chunk(tail.position, tail.position)
        begin = self._entry(offset.position)
        return self._chunk(begin, self._end_of_read(begin, max_bytes))

    def _chunk(self, begin: int, end: int) -> Chunk:
        tail = self.offset
        return Chunk(
            self,
            Offset(self.segment, begin),
            Offset(self.segment, end),
            self._chain_at(end),
            (self.bytes_in(begin, end),) if end > begin else (),
            end - begin,
            end == tail.position,
            self.closed and end == tail.position,
        )

    def _placed(self, start: Offset | Start) -> Offset | Start:
        """An offset of this stream, which the zero token is of each."""
        begin = Offset(self.segment, 0)
        if isinstance(start, Start) or start >= begin:
            return start
        if start != ZERO:
            raise OffsetGone(path_text(self.path), start, begin)
        return begin

    def bytes_in(self, begin: int, end: int) -> bytes:
        """Those between two positions."""
        return bytes(self._data[begin:end])

    def sizes(self, begin: int, end: int) -> list[int]:
        """How many bytes each append has between two positions."""
        ends = self._ends[bisect_right(self._ends, begin) : bisect_right(self._ends, end)]
        return [stop - start for start, stop in zip([begin, *ends], ends, strict=False)]

    def _chain_at(self, end: int) -> bytes:
        return self._chains[bisect_left(self._ends, end)] if end else bytes(_CHAIN_BYTES)

    def _append_at(self, position: int) -> tuple[int, int]:
        """Where the append begins and ends that has the byte at a position."""
        at = bisect_right(self._ends, position)
        return (self._ends[at - 1] if at else 0), self._ends[at]

    def _entry(self, position: int) -> int:
        """Where a read begins that was asked for a position below the tail."""
        unit = media_type.unit(self.content_type)
        begin, _ = self._append_at(position)
        if unit is Unit.APPEND:
            return begin
        if unit is Unit.MESSAGE:
            self._check_between_messages(begin, position)
        return position

    def _check_between_messages(self, begin: int, position: int) -> None:
        if not ends_message([self.bytes_in(begin, position)]):
            raise InvalidOffset(f"{Offset(self.segment, position).token} lies inside a message")

    def _end_of_read(self, begin: int, most: int) -> int:
        """The last end of an append within so many bytes, or else the first one behind."""
        at = bisect_right(self._ends, begin)
        return self._ends[max(at, bisect_right(self._ends, begin + most) - 1)]

    def details(self, row: StreamRow, left_s: int | None, forks: list[StreamPath]) -> StreamDetails:
        """All that is known of it."""
        states = self._producers.states
        return StreamDetails(
            row,
            Offset(self.segment, 0),
            left_s,
            1,
            (len(self._data),),
            len(states),
            last_producers(states.items()),
            forks[:MOST_DETAILS],
            len(forks) > MOST_DETAILS,
            self.followers,
            len(self.audience.waiters),
            len(self.audience.subscribers),
        )

    # -- records ---------------------------------------------------------------------------

    def records(self, place: Place, limit: int) -> RecordsPage:
        """Some of what was appended."""
        all_of_them = [record for entry in self._log for record in self._records_of(*entry)]
        match place:
            case Since(time_ms):
                found = [record for record in all_of_them if record.time_ms >= time_ms]
            case Last(count):
                found = all_of_them[-count:]
            case _:
                offset = self._placed(ZERO if place is Start.BEGINNING else place)
                if isinstance(offset, Start):
                    offset = self.offset
                found = [
                    record
                    for record in all_of_them
                    if record.end > offset or record.start >= min(offset, self.offset)
                ]
        page = found[:limit]
        at_tail = len(page) == len(found)
        following = page[-1].end if page else self.offset
        return RecordsPage(page, following, at_tail, at_tail and self.closed)

    def _records_of(
        self, begin: int, end: int, time_ms: int, producer: ProducerClaim | None, closes: bool
    ) -> Iterator[Record]:
        """Those of one append: its messages, or itself."""
        ends = [end]
        if self.is_json and end > begin:
            ends = [begin + at for at in positions([self.bytes_in(begin, end)])]
        for stop in ends:
            size = stop - begin
            yield Record(
                Offset(self.segment, begin),
                Offset(self.segment, stop),
                time_ms,
                size - 1 if size and self.is_json else size,
                producer,
                closes and stop == end,
            )
            begin = stop

    # -- forks -----------------------------------------------------------------------------

    def cut_of(self, request: ForkRequest) -> int:
        """The position up to which a fork has its content."""
        offset = self.offset if request.offset is None else self._placed(request.offset)
        assert isinstance(offset, Offset)
        if offset > self.offset:
            raise InvalidOffset(f"the fork offset {offset.token} is beyond the source's tail")
        position = begin = end = offset.position
        if offset < self.offset:
            begin, end = self._append_at(position)
        ends: Sequence[int] = range(position + 1, end + 1)  # each byte can be the last
        if self.is_json:
            self._check_between_messages(begin, position)
            ends = [position + at for at in positions([self.bytes_in(position, end)])]
        if request.sub_offset > len(ends):
            raise InvalidRequest("the fork sub-offset is past the end of the append")
        return ends[request.sub_offset - 1] if request.sub_offset else position
