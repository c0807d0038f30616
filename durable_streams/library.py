"""Durable streams without HTTP: a data directory as an async context manager.

    async with durable_streams.open("./data") as streams:
        await streams.create("events", content_type="application/json")
        await streams.append("events", b'{"hello": "world"}')
        async for message in streams.tail("events"):
            ...

The same engine that the HTTP server runs on: every rule of the protocol holds, and whatever a write
returned for is on disk.  Errors are those of :mod:`durable_streams.errors`; :class:`Streams` says
which.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import accumulate, islice, pairwise
from typing import TYPE_CHECKING, Final

import msgspec

from durable_streams import arguments
from durable_streams.engine.engine import Engine
from durable_streams.errors import Draining, InvalidRequest, NotOpen, StorageFailed
from durable_streams.home import Home
from durable_streams.protocol.commands import Append, Create, ForkRequest, ProducerClaim
from durable_streams.protocol.json_borders import Borders
from durable_streams.protocol.offsets import Offset
from durable_streams.settings import KIB, Settings

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Iterator
    from datetime import datetime

    from durable_streams.results import Chunk, FileSlice

Data = bytes | bytearray | memoryview
"""What is appended; at run time anything with the buffer protocol."""

BEGINNING: Final = "-1"
NOW: Final = "now"

_SLICE_BYTES: Final = 16 * KIB
_SLICE_MESSAGES: Final = 1024
"""Of what is made into messages in one turn of the event loop: at most a few milliseconds."""

_TAIL_WAIT_S: Final = 30.0  # then a tail looks whether it has to end for another reason


@dataclass(frozen=True, slots=True)
class Metadata:
    """What :meth:`Streams.get_metadata` and :meth:`Streams.create` tell of a stream.

    ``next_offset``: the tail.  ``ttl_s`` in seconds; ``expires_at`` as RFC 3339 text;
    ``created_ms`` in milliseconds since 1970.  ``created``: whether this call created the stream.
    """

    path: str
    content_type: str
    next_offset: str
    closed: bool
    ttl_s: int | None
    expires_at: str | None
    created_ms: int
    created: bool = False


@dataclass(frozen=True, slots=True)
class AppendResult:
    """``next_offset``: the tail after it.  ``duplicate``: a producer's retry, not stored again."""

    next_offset: str
    closed: bool
    duplicate: bool


@dataclass(frozen=True, slots=True)
class ReadResult:
    """A piece of a stream.

    ``data`` is what GET would send: a JSON array for JSON streams.  Read on from ``next_offset``;
    ``has_more``: there was more to read right away.  ``closed``: this was the end for good.
    """

    data: bytes
    next_offset: str
    up_to_date: bool
    closed: bool

    @property
    def has_more(self) -> bool:
        """Whether the tail was not reached."""
        return not self.up_to_date


class Message(msgspec.Struct, frozen=True, gc=False):
    """One message: an element of a JSON stream, one append of any other.

    ``offset``: where to read on after it, also between messages that were appended together.
    """

    # No garbage collector looks at it: it would hold up the loop for each of half a million.
    data: bytes
    offset: str


@dataclass(frozen=True, slots=True)
class MessagesResult:
    """Like :class:`ReadResult`, taken apart into messages."""

    messages: list[Message]
    next_offset: str
    up_to_date: bool
    closed: bool


@asynccontextmanager
async def open_streams(
    data_dir: str | os.PathLike[str], settings: Settings | None = None
) -> AsyncIterator[Streams]:
    """Open a data directory, made if missing; closed, with everything in its files, at the end.

    Raises :class:`~durable_streams.errors.DataDirectoryError` if the directory is in use (as
    ``DataDirectoryInUse``), is not a data directory or one of another version, or cannot be read,
    written or recovered; ``TypeError`` or ``ValueError`` if an argument cannot be.
    """
    directory = arguments.directory("data_dir", data_dir)
    settings = arguments.settings("settings", settings, Settings)
    home = Home()
    engine = await Engine.open(directory, settings)
    try:
        yield Streams(engine)
    finally:
        if not home.is_left_by_a_child():
            home.check()  # elsewhere it would wait for ever
            await engine.close()


class Streams:
    """The streams of an open data directory.

    They belong to the event loop in which they were opened.

    Beside what each method names, every method raises, before anything happens, ``TypeError`` if an
    argument is of another type and ``InvalidRequest`` if it is malformed; ``NotOpen`` after the
    data directory was closed, and ``OpenedElsewhere`` in another event loop, thread or process.
    Then ``StreamUnusable`` if the stream's files are damaged or could not be written
    (``StreamDamaged``, ``StreamOutOfService``), ``Unavailable`` if the data directory cannot be
    reached, and ``OSError`` if the system refuses to open or read a file.

    A method that writes (``create``, ``fork``, ``append``, ``close``, ``delete``) also raises
    ``DiskFull``, and ``Unavailable`` as one of these: ``Overloaded`` if it was held up and nothing
    moved for ``Settings.held_up_s`` (``retry_after_s``: when to come back), ``Draining`` if the
    data directory is being closed, ``WriteFailed`` if the system refused this write,
    ``StorageFailed`` if a sync failed or a part of the engine ended by a bug.  What is cancelled,
    by a timeout around it for one, may be stored all the same: repeat it as a producer, or read,
    to find out.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = arguments.instance("engine", engine, Engine)
        self._home = Home()

    @property
    def engine(self) -> Engine:
        """The engine, for all that uses it here: open, and in its own event loop."""
        if self._engine.closed:
            raise NotOpen
        self._home.check()
        return self._engine

    async def create(
        self,
        path: str,
        *,
        content_type: str | None = None,
        data: Data = b"",
        ttl_s: int | None = None,
        expires_at: datetime | str | None = None,
        closed: bool = False,
    ) -> Metadata:
        """Create a stream, or find that the same one exists (``created`` is False then).

        ``content_type`` defaults to ``application/octet-stream``.  ``ttl_s``: idle seconds after
        which the stream expires; ``expires_at``: an instant (aware datetime or RFC 3339) instead.
        Raises ``StreamExists`` if there is one with another configuration, or one that was deleted
        and that forks still need; ``InvalidJson`` and ``PayloadTooLarge`` for ``data``.
        """
        command = Create(
            arguments.path("path", path),
            arguments.content_type(content_type),
            arguments.lifetime(ttl_s, expires_at),
            arguments.flag("closed", closed),
        )
        return await self._create(command, arguments.data(data))

    async def fork(
        self,
        path: str,
        source: str,
        *,
        offset: str | None = None,
        sub_offset: int = 0,
        ttl_s: int | None = None,
        expires_at: datetime | str | None = None,
    ) -> Metadata:
        """Create a stream that begins with another's content up to ``offset`` (its tail if None).

        ``sub_offset``: messages (JSON) or bytes to take beyond it, within one append.  Raises
        ``StreamNotFound`` if there is no source, ``SourceGone`` if it was deleted (and other forks
        need it still), ``InvalidOffset`` if it has no such offset, ``InvalidRequest`` if the append
        there has less than ``sub_offset``, ``StreamExists`` as :meth:`create` does.
        """
        request = ForkRequest(
            arguments.path("source", source),
            arguments.point("offset", offset),
            arguments.count("sub_offset", sub_offset),
        )
        if request.sub_offset and request.offset is None:
            raise InvalidRequest("sub_offset counts from an offset: give that as well")
        lifetime = arguments.lifetime(ttl_s, expires_at)
        command = Create(arguments.path("path", path), lifetime=lifetime, fork=request)
        return await self._create(command, b"")

    async def _create(self, command: Create, data: bytes) -> Metadata:
        outcome = await self.engine.create(command, data)
        info = outcome.info
        return Metadata(
            info.path,
            info.content_type,
            info.tail.token,
            info.closed,
            info.lifetime.ttl_s,
            info.lifetime.expires_at,
            info.created_ms,
            outcome.created,
        )

    async def append(
        self,
        path: str,
        data: Data,
        *,
        content_type: str | None = None,
        close: bool = False,
        producer: ProducerClaim | None = None,
        stream_seq: str | None = None,
    ) -> AppendResult:
        """Append bytes (for JSON streams: a value, or an array of values); durable on return.

        ``data`` may be anything with the buffer protocol; it is copied before this waits.

        ``content_type``, if given, must be the stream's.  ``close``: these are the last bytes, in
        one step.  ``producer``: makes retries safe; who starts again needs a higher epoch or a new
        id.  ``stream_seq``: must grow from append to append.

        Raises ``StreamNotFound``; ``StreamGone``; ``StreamClosed``; ``ContentTypeMismatch``; for a
        producer ``StaleEpoch``, ``ProducerGap``, ``EpochWithoutStart`` and ``TooManyProducers``;
        ``SequenceConflict`` for ``stream_seq``; ``InvalidJson``, ``PayloadTooLarge``, and
        ``InvalidRequest`` if there is neither data nor ``close``.
        """
        path, data = arguments.path("path", path), arguments.data(data)
        given = arguments.content_type(content_type)
        close = arguments.flag("close", close)
        producer = arguments.producer(producer)
        stream_seq = arguments.stream_seq(stream_seq)
        if given is None and data:
            given = (await self.engine.head(path)).content_type
        return await self._append(Append(path, given, close, producer, stream_seq), data)

    async def close(self, path: str, data: Data = b"") -> AppendResult:
        """Close a stream, perhaps with last bytes; closing again changes nothing.

        Raises ``StreamNotFound``, ``StreamGone``; with last bytes also ``StreamClosed`` if it was
        closed, ``InvalidJson`` and ``PayloadTooLarge``.
        """
        data = arguments.data(data)
        if data:
            return await self.append(path, data, close=True)
        return await self._append(Append(arguments.path("path", path), close=True), b"")

    async def _append(self, command: Append, data: bytes) -> AppendResult:
        outcome = await self.engine.append(command, data)
        return AppendResult(outcome.tail.token, outcome.closed, outcome.duplicate)

    async def delete(self, path: str) -> None:
        """Delete a stream and its data, for good on return.

        While forks need the data it is kept for them: until the last of them is deleted, every
        other use of the path raises ``StreamGone``, and :meth:`create` raises ``StreamExists``.

        Raises ``StreamNotFound``; ``StreamGone`` if that is so already.
        """
        await self.engine.delete(arguments.path("path", path))

    async def get_metadata(self, path: str) -> Metadata:
        """The stream's metadata; does not count as a use.

        Raises ``StreamNotFound``, ``StreamGone``.
        """
        info = await self.engine.head(arguments.path("path", path))
        return Metadata(
            info.path,
            info.content_type,
            info.tail.token,
            info.closed,
            info.lifetime.ttl_s,
            info.lifetime.expires_at,
            info.created_ms,
        )

    async def read(
        self,
        path: str,
        offset: str = BEGINNING,
        *,
        live: bool = False,
        timeout_s: float = 30.0,
    ) -> ReadResult:
        """Read a piece from an offset (``"-1"``: the beginning, ``"now"``: the tail).

        ``live``: at the tail of an open stream, wait up to ``timeout_s`` seconds for bytes
        (``math.inf``: until there are any, or the stream ends).
        Raises ``StreamNotFound``, ``StreamGone``, ``InvalidOffset``.
        """
        chunk = await self._chunk(path, offset, live=live, timeout_s=timeout_s)
        data = await self._bytes(chunk)
        if chunk.stream.is_json:
            data = b"[" + data[:-1] + b"]"
        return ReadResult(data, chunk.end.token, chunk.at_tail, chunk.closed)

    async def read_messages(
        self,
        path: str,
        offset: str = BEGINNING,
        *,
        live: bool = False,
        timeout_s: float = 30.0,
    ) -> MessagesResult:
        """Like :meth:`read`, but one entry a message, byte for byte as it was appended.

        Many are made in slices, between which the event loop goes on; all of a piece are in memory
        (:meth:`tail` has a few at a time).  Raises what :meth:`read` does.
        """
        chunk = await self._chunk(path, offset, live=live, timeout_s=timeout_s)
        return await self._messages(chunk)

    async def _messages(self, chunk: Chunk) -> MessagesResult:
        messages: list[Message] = []
        async for some in self._slices(chunk):
            messages += some
        return MessagesResult(messages, chunk.end.token, chunk.at_tail, chunk.closed)

    async def _slices(self, chunk: Chunk) -> AsyncIterator[list[Message]]:
        """The messages of a chunk, so many at a time, between which the loop goes on."""
        data = await self._bytes(chunk)
        segment, position = chunk.end.segment, chunk.end.position - chunk.size_bytes
        if chunk.stream.is_json:
            slices, comma = _json_slices(data), 1
        else:
            slices, comma = _append_slices(await self.engine.append_sizes(chunk)), 0
        begin = 0
        for number, ends in enumerate(slices):
            if number:
                await asyncio.sleep(0)
            yield [
                Message(data[start : end - comma], Offset(segment, position + end).token)
                for start, end in pairwise([begin, *ends])
            ]
            begin = ends[-1] if ends else begin

    async def tail(self, path: str, offset: str = BEGINNING) -> AsyncIterator[Message]:
        """All messages from an offset on, then new ones as they come; ends when the stream closes.

        Raises what :meth:`read` does, ``StreamNotFound`` or ``StreamGone`` also if the stream is
        deleted or expires meanwhile; and, once there is nothing more to read, ``Draining`` if the
        data directory is being closed, or ``StorageFailed``: nothing will be written any more.
        """
        path, start = arguments.path("path", path), arguments.start("offset", offset)
        stream = await self.engine.open_stream(path)
        with self.engine.following(stream):
            chunk = await self.engine.read(stream, start)
            while True:
                async for messages in self._slices(chunk):
                    for message in messages:
                        yield message
                if chunk.closed:
                    return
                refusal = self.engine.write_refusal()
                if not chunk.size_bytes and isinstance(refusal, (Draining, StorageFailed)):
                    raise refusal.again()
                if chunk.at_tail:
                    await self.engine.wait(stream, chunk.end, _TAIL_WAIT_S)
                chunk = await self.engine.read_on(stream, chunk.end)

    async def _chunk(self, path: str, offset: str, *, live: bool, timeout_s: float) -> Chunk:
        path, start = arguments.path("path", path), arguments.start("offset", offset)
        live = arguments.flag("live", live)
        timeout_s = arguments.seconds("timeout_s", timeout_s)
        stream = await self.engine.open_stream(path)
        chunk = await self.engine.read(stream, start)
        if live and not chunk.size_bytes and not chunk.closed:
            with self.engine.following(stream):
                await self.engine.wait(stream, chunk.end, timeout_s)
                chunk = await self.engine.read_on(stream, chunk.end)
        return chunk

    async def _bytes(self, chunk: Chunk) -> bytes:
        try:
            return b"".join([await self._part(part) for part in chunk.parts])
        finally:
            chunk.release()

    async def _part(self, part: bytes | FileSlice) -> bytes:
        if isinstance(part, bytes):
            return part
        return await self.engine.read_slice(part)


def _json_slices(data: bytes) -> Iterator[list[int]]:
    """Where the messages in wire bytes end, each behind its comma."""
    borders = Borders()
    for begin in range(0, len(data), _SLICE_BYTES):
        piece = data[begin : begin + _SLICE_BYTES]
        yield [begin + end for end in borders.feed(piece)]


def _append_slices(sizes: list[int]) -> Iterator[list[int]]:
    """Where appends end, given how long each one is."""
    ends = accumulate(sizes)
    while some := list(islice(ends, _SLICE_MESSAGES)):
        yield some
