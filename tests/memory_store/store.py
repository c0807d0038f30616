"""The verbs of the store in memory.

It is long because it has all verbs of a store.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from durable_streams.live import Deliveries
from durable_streams.measuring import COUNTS, SECONDS, StoreNumbers, Tally
from durable_streams.model.errors import (
    ContentTypeMismatch,
    Draining,
    NotOpen,
    PayloadTooLarge,
    SourceGone,
    StreamError,
    StreamExists,
    StreamGone,
    StreamNotFound,
)
from durable_streams.model.offsets import ZERO
from durable_streams.model.paths import path_text
from durable_streams.model.results import Appended, Created, StreamPage
from durable_streams.model.stream_limits import parse_limits
from durable_streams.rules import media_type
from durable_streams.rules.appends import Repeat, check_syntax
from durable_streams.rules.creates import fork_lifetime, matches
from durable_streams.rules.stream_counts import StreamCounts
from durable_streams.settings import MIB
from tests.memory_store.stream import MemoryStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from durable_streams.model.commands import Append, Create, ForkRequest, Place
    from durable_streams.model.details import StreamDetails
    from durable_streams.model.offsets import Offset, Start
    from durable_streams.model.paths import StreamPath
    from durable_streams.model.records import RecordsPage
    from durable_streams.model.results import (
        Chunk,
        NodeSeen,
        StreamInfo,
        StreamRef,
        StreamRow,
        Subscriber,
        UnusableRow,
    )

_T = TypeVar("_T")

LOOK_S: Final = 0.25
"""Between two looks at which streams have expired, for those who read them."""


def wall_ms() -> int:
    """The time of day, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Settled(Generic[_T]):
    """The ticket of a write that was done, or refused, when it was given."""

    pending = False

    def __init__(self, result: _T | StreamError) -> None:
        self._result = result

    def when_settled(self, callback: Callable[[], None]) -> None:
        """Nobody has to wait for it."""
        raise AssertionError("it is not pending")

    def outcome(self) -> _T:
        """The answer."""
        if isinstance(self._result, StreamError):
            raise self._result.again()
        return self._result


def settled(write: Callable[[], _T]) -> Settled[_T]:
    """The ticket of a write that is done now."""
    try:
        return Settled(write())
    except StreamError as error:
        return Settled(error)


class MemoryStore:
    """Streams in memory; needs an event loop, and to be closed."""

    def __init__(
        self,
        now_ms: Callable[[], int] = wall_ms,
        *,
        max_append_bytes: int = 16 * MIB,
        max_read_bytes: int = 4 * MIB,
        max_producers_bytes: int = MIB,
        max_producers: int = 0,
        max_streams: tuple[str, ...] = (),
    ) -> None:
        self.max_append_bytes = max_append_bytes
        self.remember_removed_s = math.inf
        self.closed = False
        self.bug: StreamError | None = None
        self._max_read_bytes = max_read_bytes
        self._max_producers_bytes = max_producers_bytes
        self._max_producers = max_producers
        self._counts = StreamCounts(parse_limits(max_streams), 0)
        self._now_ms = now_ms
        self._streams: dict[StreamPath, MemoryStream] = {}
        self._next_segments: dict[StreamPath, int] = {}
        self._draining = False
        self._took, self._shared = Tally(SECONDS), Tally(COUNTS)
        self._bytes = self._duplicates = 0
        self._loop = asyncio.get_running_loop()
        self._deliveries = Deliveries(self._loop)
        self._looking = self._loop.call_later(LOOK_S, self._look)

    # -- writes ----------------------------------------------------------------------------

    async def create(self, command: Create, body: bytes) -> Created:
        return self._create(command, body)

    def create_now(self, command: Create, body: bytes) -> Settled[Created] | None:
        return settled(lambda: self._create(command, body))

    def _create(self, command: Create, body: bytes) -> Created:
        self._check_write(body)
        now_ms = self._now_ms()
        existing = self._streams.get(command.path)
        if existing is not None and existing.is_expired(now_ms):
            self._end(existing)
            existing = self._streams.get(command.path)
        if existing is not None:
            if existing.is_kept_for_forks():
                raise StreamExists(
                    path_text(command.path), "it was deleted, and its forks still need it"
                )
            matches(existing.identity(), command)
            return Created(created=False, info=existing.info())
        stream = self._born(command, body, now_ms)
        self._streams[command.path] = stream
        return Created(created=True, info=stream.info())

    def _born(self, command: Create, body: bytes, now_ms: int) -> MemoryStream:
        """A new stream with what it has from the beginning."""
        content_type, lifetime = command.content_type or media_type.DEFAULT, command.lifetime
        source = None if command.fork is None else self._source(command, command.fork)
        if source is not None:
            content_type, lifetime = source.content_type, fork_lifetime(source.lifetime, lifetime)
        stream = MemoryStream(
            command,
            content_type,
            lifetime,
            now_ms,
            self._deliveries,
            segment=self._next_segments.get(command.path, 0),
            max_producers_bytes=self._max_producers_bytes,
            max_producers=self._max_producers,
        )
        data = stream.wire(body, allow_empty=True)
        cut = 0 if source is None or command.fork is None else source.cut_of(command.fork)
        self._counts.take(command.path)
        if source is not None:
            stream.begin_with(source, cut)
        stream.put(data, now_ms, closes=command.closed)
        stream.closed = command.closed
        if data or command.closed:
            stream.last_write_ms = now_ms
        return stream

    def _source(self, command: Create, request: ForkRequest) -> MemoryStream:
        try:
            source = self._find(request.source)
        except StreamGone:
            raise SourceGone(path_text(request.source)) from None
        given = command.content_type
        if given is not None and not media_type.same(given, source.content_type):
            raise ContentTypeMismatch(source.content_type, given)
        return source

    async def append(self, command: Append, body: bytes) -> Appended:
        return self._append(command, body)

    def append_now(self, command: Append, body: bytes) -> Settled[Appended] | None:
        return settled(lambda: self._append(command, body))

    def _append(self, command: Append, body: bytes) -> Appended:
        check_syntax(command, bool(body))
        self._check_write(body)
        stream, now_ms = self._find(command.path), self._now_ms()
        decision = stream.decide(command, body)
        if isinstance(decision, Repeat):
            self._duplicates += command.producer is not None
            stream.use(now_ms)
            return Appended(
                stream.offset, stream.closed, False, duplicate=True, producer=decision.producer
            )
        data = stream.wire(body, allow_empty=False)
        stream.append(command, data, now_ms)
        self._took.add(0.0)
        self._shared.add(1)
        self._bytes += len(data)
        claim = command.producer
        return Appended(
            stream.offset,
            stream.closed,
            bool(data),
            producer=(claim.epoch, claim.seq) if claim else None,
        )

    async def delete(self, path: StreamPath) -> None:
        self._check_write(b"")
        self._end(self._find(path))

    def _end(self, stream: MemoryStream) -> None:
        """The same, and its source's if that waited for it, and so on."""
        while not stream.forks:
            stream.ended = StreamNotFound(path_text(stream.path))
            del self._streams[stream.path]
            self._counts.give_back(stream.path)
            if stream.offset > ZERO:
                is_empty = not stream.offset.position
                self._next_segments[stream.path] = stream.segment + (not is_empty)
            stream.audience.end(stream.ended)
            if stream.source is None:
                return
            stream.source.forks -= 1
            if not stream.source.is_kept_for_forks():
                return
            stream = stream.source
        if stream.ended is None:
            stream.ended = StreamGone(path_text(stream.path))
            stream.audience.end(stream.ended)

    def _check_write(self, body: bytes) -> None:
        if type(body) is not bytes:
            raise TypeError(f"a body must be bytes, not {type(body).__name__}")
        if len(body) > self.max_append_bytes:
            raise PayloadTooLarge(self.max_append_bytes)
        refusal = self.refusal()
        if refusal is not None:
            raise refusal

    # -- reads -----------------------------------------------------------------------------

    async def head(self, path: StreamPath) -> StreamInfo:
        return self._find(path).info()

    async def records(self, path: StreamPath, place: Place, limit: int) -> RecordsPage:
        return self._find(path).records(place, limit)

    async def nodes(self) -> list[NodeSeen]:
        return []

    async def details(self, path: StreamPath) -> StreamDetails | UnusableRow:
        stream, now_ms = self._find(path), self._now_ms()
        forks = sorted(at for at, other in self._streams.items() if other.source is stream)
        left_s = self.left_s(stream)
        return stream.details(stream.row(now_ms), left_s, forks)

    async def list_streams(
        self,
        prefix: StreamPath,
        after: StreamPath,
        limit: int,
        *,
        may: Callable[[StreamPath], bool] | None = None,
        most: int = 0,
    ) -> StreamPage:
        if self.closed:
            raise NotOpen
        inside = [path for path in sorted(self._streams) if path[: len(prefix)] == prefix]
        behind = [path for path in inside if path > after]
        rows: list[StreamRow | UnusableRow] = []
        shown = 0
        for number, path in enumerate(behind):
            if most and number == most:
                return StreamPage(rows, behind[number - 1])
            if may is None or may(path):
                shown += 1
                stream, now_ms = self._streams[path], self._now_ms()
                if stream.ended is None and not stream.is_expired(now_ms):
                    rows.append(stream.row(now_ms))
                if shown == limit:
                    return StreamPage(rows, path)
        return StreamPage(rows, None)

    async def open(self, path: StreamPath) -> MemoryStream:
        return self._open(path)

    def open_now(self, path: StreamPath) -> MemoryStream | None:
        return self._open(path)

    def _open(self, path: StreamPath) -> MemoryStream:
        stream = self._find(path)
        stream.use(self._now_ms())
        return stream

    @contextmanager
    def following(self, stream: StreamRef) -> Iterator[None]:
        opened = _own(stream)
        opened.followers += 1
        try:
            yield
        finally:
            opened.followers -= 1
            opened.use(self._now_ms())

    def left_s(self, stream: StreamRef) -> int | None:
        now_ms = self._now_ms()
        end_ms = _own(stream).ends_at_ms(now_ms)
        return None if end_ms is None else max(0, end_ms - now_ms) // 1000

    def read_now(self, stream: StreamRef, start: Offset | Start) -> Chunk | None:
        return self._usable(stream).chunk(start, self._max_read_bytes)

    async def read(
        self,
        stream: StreamRef,
        start: Offset | Start,
        *,
        is_end: bool = False,
        max_bytes: int | None = None,
    ) -> Chunk:
        most = self._max_read_bytes if max_bytes is None else min(max_bytes, self._max_read_bytes)
        return self._usable(stream).chunk(start, most)

    async def bytes_of(self, chunk: Chunk) -> bytes:
        return b"".join([part for part in chunk.parts if isinstance(part, bytes)])

    async def pieces(self, chunk: Chunk, size: int) -> AsyncIterator[bytes]:
        chunk.release()
        chunk.parts = ()
        end = chunk.end.position
        for begin in range(end - chunk.size_bytes, end, size):
            yield self._usable(chunk.stream).bytes_in(begin, min(begin + size, end))

    async def sizes(self, chunk: Chunk) -> list[int]:
        end = chunk.end.position
        return _own(chunk.stream).sizes(end - chunk.size_bytes, end)

    # -- live reads ------------------------------------------------------------------------

    async def wait(self, stream: StreamRef, at: Offset, timeout_s: float) -> bool:
        opened = self._usable(stream)
        if opened.offset > at or opened.closed:
            return True
        if self._draining:
            return False
        return await opened.audience.wait(timeout_s) or opened.offset > at

    def subscribe(self, stream: StreamRef, at: Offset, subscriber: Subscriber) -> bool:
        opened = self._usable(stream)
        if self._draining:
            raise Draining
        if opened.offset != at or opened.closed:
            return False
        opened.audience.join(subscriber)
        return True

    def unsubscribe(self, stream: StreamRef, subscriber: Subscriber) -> None:
        _own(stream).audience.leave(subscriber)

    # -- looking up ------------------------------------------------------------------------

    def _find(self, path: StreamPath) -> MemoryStream:
        stream = self._streams.get(path)
        if stream is None:
            raise NotOpen if self.closed else StreamNotFound(path_text(path))
        return self._usable(stream)

    def _usable(self, stream: StreamRef) -> MemoryStream:
        opened = _own(stream)
        if self.closed:
            raise NotOpen
        if opened.ended is not None:
            raise opened.ended.again()
        if opened.is_expired(self._now_ms()):
            raise _expired(opened)
        return opened

    def _look(self) -> None:
        """Send the readers of what has expired away."""
        self._looking = self._loop.call_later(LOOK_S, self._look)
        for stream in [*self._streams.values()]:
            if stream.ended is None and stream.is_expired(self._now_ms()):
                stream.audience.end(_expired(stream))

    # -- health, and the end ---------------------------------------------------------------

    def refusal(self) -> StreamError | None:
        if self.closed:
            return NotOpen()
        return Draining() if self._draining else None

    @property
    def numbers(self) -> StoreNumbers:
        return StoreNumbers(
            self._took.copy(),
            self._shared.copy(),
            self._bytes,
            self._duplicates,
            open_streams=len(self._streams),
        )

    def writes_wait(self) -> bool:
        return False

    def out_of_service(self) -> list[StreamPath]:
        return []

    def drain(self) -> None:
        if not self._draining:
            self._draining = True
            for stream in self._streams.values():
                stream.audience.drain(Draining())

    async def close(self) -> None:
        self.drain()
        await self._deliveries.finished()
        self._looking.cancel()
        self.closed = True


def _own(stream: StreamRef) -> MemoryStream:
    if not isinstance(stream, MemoryStream):
        raise TypeError("not a stream of this store")
    return stream


def _expired(stream: MemoryStream) -> StreamError:
    """Why a stream cannot be used whose time is over."""
    return (StreamGone if stream.forks else StreamNotFound)(path_text(stream.path))


class NeverNow(MemoryStore):
    """The same, but whatever is asked for now is not there yet."""

    def create_now(self, command: Create, body: bytes) -> None:
        return None

    def append_now(self, command: Append, body: bytes) -> None:
        return None

    def open_now(self, path: StreamPath) -> None:
        return None

    def read_now(self, stream: StreamRef, start: Offset | Start) -> None:
        return None
