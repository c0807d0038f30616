"""The state of one open stream, and how an append changes it.

Three ends of a stream move forward, in this order:

``decided``   what has been accepted; decisions build on it although it may still fail
``durable``   what the journal holds; readers never see beyond it
``applied``   what is in the stream's own files; the bytes between are in ``memory``

Owned by the event loop; nothing here awaits, so every decision and its reservation are one step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from durable_streams.filestore.files.stream_rows import End, row_of
from durable_streams.filestore.format import index as index_format
from durable_streams.filestore.format.index import Tail
from durable_streams.filestore.format.journal import AppendRecord
from durable_streams.filestore.format.stored_path import pack_path
from durable_streams.filestore.streams.life import LIVE, TRANSITIONS, Life
from durable_streams.live import NOBODY, Audience
from durable_streams.model.commands import FOREVER
from durable_streams.model.results import StreamInfo
from durable_streams.rules import media_type
from durable_streams.rules.lifetime import deadline_ms
from durable_streams.rules.producer_table import ProducerTable
from durable_streams.rules.producers import ProducerState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from durable_streams.filestore.files.segments import Segments
    from durable_streams.filestore.files.stream_files import LoadedStream
    from durable_streams.filestore.format.sidecar import Sidecar
    from durable_streams.filestore.streams.life import Change, Event
    from durable_streams.live import Deliveries
    from durable_streams.model.commands import Append, ProducerClaim
    from durable_streams.model.paths import StreamPath
    from durable_streams.model.results import StreamRef, StreamRow
    from durable_streams.settings import Settings


STREAM_BYTES: Final = 1280
"""Memory of an open stream without producers, in the cache and all: measured, rounded up."""

_PRODUCER_SHARE: Final = 4  # what producers take in memory, as a multiple of their text: measured
_SIZE_BYTES: Final = 48
_SEGMENT_BYTES: Final = 72  # of a path, which is an object of its own
_SEGMENTS_COUNTED: Final = 4  # those that STREAM_BYTES counts
_FORK_BYTES: Final = 256

_NO_PRODUCERS: Final = ProducerTable({})
"""Of every stream that never had one, and never written to: most streams are idle and small."""


class Payload(msgspec.Struct, frozen=True, gc=False):
    """The wire bytes of an append, with what its index line says of them."""

    data: bytes
    messages: int
    crc: int


NO_DATA = Payload(b"", 0, 0)


class MemoryChunk(msgspec.Struct, frozen=True, gc=False):
    """An append that is durable and not yet in the files."""

    segment: int
    start: int
    data: bytes
    chain: bytes

    @property
    def end(self) -> int:
        """Position in the segment behind its last byte."""
        return self.start + len(self.data)


class Before(msgspec.Struct, frozen=True, gc=False):
    """The decided state before an append, to go back to if it fails."""

    tail: Tail
    producer_id: str | None
    producer: ProducerState | None
    forgot: tuple[tuple[str, ProducerState], ...]
    segments: Segments
    last_append_ms: int


class Stream:
    """One open stream."""

    __slots__ = (
        "__weakref__",
        "applied",
        "audience",
        "building",
        "change",
        "content_type",
        "counted_bytes",
        "decided",
        "durable",
        "followers",
        "forked",
        "forks_made",
        "id",
        "is_json",
        "is_mortal",
        "last_append_ms",
        "last_operation",
        "last_use_ms",
        "memory",
        "on_use",
        "path",
        "producers",
        "segments",
        "sidecar",
        "state",
        "stored",
        "unit",
        "use_written_ms",
    )

    def __init__(self, path: StreamPath, loaded: LoadedStream, now_ms: int) -> None:
        sidecar = loaded.sidecar
        self.path = path
        stored = pack_path(path)  # as records hold it: made once
        self.stored = sidecar.path if sidecar.path == stored else stored  # one text, not two
        self.id = sidecar.id
        self.sidecar: Sidecar = sidecar
        self.content_type = sidecar.content_type
        self.is_json = media_type.is_json(sidecar.content_type)
        self.unit = media_type.unit(sidecar.content_type)
        self.is_mortal = sidecar.lifetime() != FOREVER
        self.decided = self.durable = self.applied = loaded.tail
        self.segments = loaded.segments
        self.producers = ProducerTable(loaded.producers) if loaded.producers else _NO_PRODUCERS
        self.counted_bytes = 0
        self.memory: Sequence[MemoryChunk] = ()
        self.audience = NOBODY
        self.followers = 0
        self.last_append_ms = loaded.last_append_ms  # as decided; 0: there was none
        self.last_use_ms = min(max(sidecar.last_use_ms, loaded.last_append_ms), now_ms)
        self.use_written_ms = self.last_use_ms
        self.on_use: Callable[[Stream], None] | None = None  # told of the next use, once
        self.state = Life.KEPT_FOR_FORKS if sidecar.soft_deleted else LIVE
        self.change: Change | None = None  # that moves it on, while it is on its way
        self.last_operation: Change | None = None  # the last of all that are on their way
        self.building = 0  # forks of it that are on their way
        self.forks_made = 0  # since it was opened, or tried
        self.forked = loaded.forked  # whether it had forks when that was last looked at

    @property
    def cost_bytes(self) -> int:
        """About what it takes in memory, beside what is on its way to its files."""
        more = (
            _SEGMENT_BYTES * max(0, len(self.path) - _SEGMENTS_COUNTED)
            + _PRODUCER_SHARE * self.producers.size_bytes
            + _SIZE_BYTES * len(self.segments.sizes)
            + _FORK_BYTES * len(self.sidecar.forks)
        )
        return STREAM_BYTES + more if more else STREAM_BYTES  # one number for all idle streams

    def begins(self, state: Life, change: Change) -> None:
        """Its life takes a turn by what was decided, and is on its way."""
        self.state, self.change = state, change

    def moves(self, event: Event) -> None:
        """What was on its way has become something, or what it led to has been done."""
        self.state, self.change = TRANSITIONS[self.state][event], None

    def use(self, now_ms: int) -> None:
        """Somebody uses the stream: a sliding TTL begins anew."""
        if now_ms > self.last_use_ms:
            self.last_use_ms = now_ms
            if self.on_use is not None:
                tell, self.on_use = self.on_use, None
                tell(self)

    def ends_at_ms(self, now_ms: int) -> int | None:
        """When the stream ends if nobody uses it any more; None: never.

        A TTL counts from the end of the last who follows it (protocol §5.1).
        """
        lifetime = self.sidecar.lifetime()
        if lifetime is FOREVER:
            return None
        return deadline_ms(lifetime, now_ms if self.followers else self.last_use_ms)

    def is_expired(self, now_ms: int) -> bool:
        """Whether the stream has ended by itself."""
        if self.followers and self.sidecar.ttl_s is not None:
            return False
        end_ms = self.ends_at_ms(now_ms)
        return end_ms is not None and now_ms >= end_ms

    def followed(self, deliveries: Deliveries) -> Audience:
        """The stream's own audience, for somebody to join."""
        if self.audience is NOBODY:
            self.audience = Audience(deliveries)
        return self.audience

    def info(self) -> StreamInfo:
        """The stream's metadata as readers may see it."""
        return StreamInfo(
            self.path,
            self.id,
            self.content_type,
            self.durable.offset,
            self.durable.closed,
            self.sidecar.lifetime(),
            self.sidecar.created_ms,
        )

    def row(self, now_ms: int) -> StreamRow:
        """What lists say of it: durable, but for the time of an append on its way."""
        tail, segments = self.durable, self.segments
        sealed = segments.sizes[: tail.segment - segments.first]
        size_bytes = sum(sealed) + tail.position
        end = End(tail.offset, tail.closed, size_bytes, self.last_append_ms)
        return row_of(self.path, self.sidecar, end, self.ends_at_ms(now_ms))

    def reserve(
        self,
        command: Append,
        payload: Payload,
        now_ms: int,
        settings: Settings,
        forgot: tuple[str, ...] = (),
    ) -> tuple[AppendRecord, Before]:
        """Take the next place for an append that the rules allow, in the room of ``forgot``."""
        tail, claim = self.decided, command.producer
        if claim is None:
            before = Before(tail, None, None, (), self.segments, self.last_append_ms)
        else:
            before = self._before(claim, forgot)
        segment, position, index_position = tail.segment, tail.position, tail.index_position
        chain, opening, segments, previous = tail.chain, b"", self.segments, None
        if payload.data and index_position and self._is_full(len(payload.data), settings):
            previous = (position, index_position)
            segments = segments.sealed(position, chain)
            segment, position, index_position = segment + 1, 0, 0
        if not index_position:
            opening, chain = index_format.pack_opening(
                chain, segment, previous, self.producers.states, tail.stream_seq
            )
        end = position + len(payload.data)
        line, chain = index_format.pack_line(
            chain,
            end,
            messages=payload.messages,
            crc=payload.crc,
            time_ms=now_ms,
            forgot=forgot,
            producer=claim,
            stream_seq=command.stream_seq,
            closed=command.close,
        )
        line = opening + line
        record = AppendRecord(
            self.stored, self.id, segment, position, index_position, tail.chain, line, payload.data
        )
        self.segments = segments
        self.last_append_ms = now_ms
        self.decided = Tail(
            segment,
            end,
            index_position + len(line),
            chain,
            command.close,
            claim if command.close else None,
            tail.stream_seq if command.stream_seq is None else command.stream_seq,
        )
        if claim is not None:
            state = ProducerState(claim.epoch, claim.seq, now_ms)
            if before.producer is None:
                self._make_room(forgot)
            if before.producer is None or now_ms < self.producers.younger_ms:
                self.producers.put(claim.id, state)
            else:  # what that comes to, as it is asked for with every append
                self.producers.states[claim.id] = state
        return record, before

    def _before(self, claim: ProducerClaim, forgot: tuple[str, ...]) -> Before:
        """What is now, for an append of a producer, in the room of ``forgot``."""
        states = self.producers.states
        known = tuple([(name, states[name]) for name in forgot]) if forgot else ()
        known_as = states.get(claim.id)
        return Before(self.decided, claim.id, known_as, known, self.segments, self.last_append_ms)

    def _make_room(self, forgot: tuple[str, ...]) -> None:
        """A producer is new; others may have to be forgotten for it."""
        if self.producers is _NO_PRODUCERS:
            self.producers = ProducerTable({})
        for name in forgot:
            self.producers.remove(name)

    def _is_full(self, size: int, settings: Settings) -> bool:
        """Whether so many bytes more go to another segment.

        An index may be as large as two openings and what the settings say, so that the lines in it
        are more than the opening of the next: the table of many producers is not written for
        nothing.
        """
        tail = self.decided
        return tail.position > 0 and (
            tail.position + size > settings.segment_bytes
            or tail.index_position > settings.index_bytes + 2 * self.producers.size_bytes
        )

    def take_back(self, before: Before) -> None:
        """Undo the latest reservation."""
        self.decided = before.tail
        self.segments = before.segments
        self.last_append_ms = before.last_append_ms
        if before.producer_id is not None:
            if before.producer is None:
                self.producers.remove(before.producer_id)
            else:
                self.producers.put(before.producer_id, before.producer)
            for name, state in before.forgot:
                self.producers.put(name, state)

    def remember(self, chunk: MemoryChunk) -> None:
        """An append is durable, and not yet in the files."""
        if isinstance(self.memory, list):
            self.memory.append(chunk)
        else:
            self.memory = [chunk]

    def forget_applied(self, applied: Tail) -> None:
        """The files have everything up to ``applied``: memory need not."""
        self.applied = applied
        segment, position = applied.segment, applied.position
        known = 0
        for chunk in self.memory:
            if chunk.segment > segment or (chunk.segment == segment and chunk.start >= position):
                break
            known += 1
        if known:
            self.memory = self.memory[known:] or ()


def own(stream: StreamRef) -> Stream:
    """The store's own stream behind a reference that it gave out."""
    if not isinstance(stream, Stream):
        raise TypeError("not a stream of this store")
    return stream
