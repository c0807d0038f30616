"""The verbs of open streams, without HTTP: :class:`Streams`, which :mod:`.library` opens.

Arguments are checked here, by name; what a verb does is the store's business.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import durable_streams.arguments as arguments  # noqa: PLR0402 - not from the root, which knows us
from durable_streams.details import described
from durable_streams.history import told
from durable_streams.home import Home
from durable_streams.listing import listed
from durable_streams.messages import bytes_of, messages_of
from durable_streams.model.commands import Append, Create, ForkRequest, ProducerClaim
from durable_streams.model.errors import ContentTypeMismatch, InvalidRequest, NotOpen
from durable_streams.outcomes import (
    AppendResult,
    JsonResult,
    MessagesResult,
    ReadResult,
    metadata_of,
)
from durable_streams.rules.list_pages import DEFAULT_LISTED
from durable_streams.rules.media_type import JSON
from durable_streams.tail import Tail

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime

    from durable_streams.details import Details
    from durable_streams.history import RecordsResult
    from durable_streams.listing import ListedStream, ListPage
    from durable_streams.messages import Message
    from durable_streams.model.paths import StreamPath
    from durable_streams.model.results import Chunk
    from durable_streams.outcomes import Metadata
    from durable_streams.store import Store

Data = bytes | bytearray | memoryview
"""What is appended; at run time anything with the buffer protocol."""

BEGINNING: Final = "-1"
NOW: Final = "now"


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

    def __init__(self, engine: Store) -> None:
        """``engine``: a store that is open, in the event loop that runs."""
        self._engine = arguments.store("engine", engine)
        self._home = Home()

    @property
    def engine(self) -> Store:
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
        need it still), ``InvalidOffset`` if it has no such offset (``OffsetGone``: another one
        had it, which was at its path before), ``InvalidRequest`` if the append there has less than
        ``sub_offset``, ``StreamExists`` as :meth:`create` does.
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
        return metadata_of(outcome.info, created=outcome.created)

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
        at, data = arguments.path("path", path), arguments.data(data)
        given = arguments.content_type(content_type)
        close = arguments.flag("close", close)
        producer = arguments.producer(producer)
        stream_seq = arguments.stream_seq(stream_seq)
        if given is None and data:
            given = (await self.engine.head(at)).content_type
        return await self._append(Append(at, given, close, producer, stream_seq), data)

    async def append_json(
        self,
        path: str,
        *values: object,
        close: bool = False,
        producer: ProducerClaim | None = None,
        stream_seq: str | None = None,
    ) -> AppendResult:
        """Append values to a stream of JSON, each as one message, together; durable on return.

        ``await streams.append_json("orders", {"id": 1}, {"id": 2})``; a list is one message, and
        ``*rows`` are as many as it has.  A value is what the module ``json`` can write, and is
        written before this waits.  All else is as in :meth:`append`.

        Raises ``TypeError`` for what has no JSON, ``InvalidJson`` for numbers and texts that have
        none (NaN), ``ContentTypeMismatch`` if the stream has none, and what :meth:`append` does.
        """
        return await self.append(
            path,
            arguments.json_messages("values", values),
            content_type=JSON,
            close=close,
            producer=producer,
            stream_seq=stream_seq,
        )

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
        return metadata_of(await self.engine.head(arguments.path("path", path)))

    def list(
        self, prefix: str = "", *, after: str = "", page_size: int = DEFAULT_LISTED
    ) -> AsyncIterator[ListedStream]:
        """All streams at and below a prefix, in the order of their paths.

        ``async for stream in streams.list("chat")``.  ``prefix`` is whole segments: ``"chat"`` has
        ``chat`` and ``chat/1``, not ``chats``; ``""`` has all.  ``after``: begin behind this path.
        They are looked up ``page_size`` at a time (up to 1000).  A stream that is there all the
        while comes once, and one that comes or goes meanwhile may.  Not a use of them.

        The first time all streams have to be found, which takes some seconds for a million.
        A step raises ``Unavailable`` if they cannot be listed now.
        """
        return self._each_listed(
            arguments.prefix("prefix", prefix),
            arguments.prefix("after", after),
            arguments.page_size("page_size", page_size),
        )

    async def _each_listed(
        self, prefix: StreamPath, after: StreamPath, limit: int
    ) -> AsyncIterator[ListedStream]:
        following: StreamPath | None = after
        while following is not None:
            page = await self.engine.list_streams(prefix, following, limit)
            for stream in listed(page).streams:
                yield stream
            following = page.next

    async def list_page(
        self, prefix: str = "", *, after: str = "", limit: int = DEFAULT_LISTED
    ) -> ListPage:
        """One page of :meth:`list`, and what the next one begins behind."""
        page = await self.engine.list_streams(
            arguments.prefix("prefix", prefix),
            arguments.prefix("after", after),
            arguments.page_size("limit", limit),
        )
        return listed(page)

    async def details(self, path: str) -> Details:
        """All that is known of a stream: what lists say, and how it is kept, written and read.

        Not a use of the stream.  Raises ``StreamNotFound``, ``StreamGone``; of one that is damaged
        or out of service the result tells why.
        """
        return described(await self.engine.details(arguments.path("path", path)))

    async def records(
        self,
        path: str,
        offset: str | None = None,
        *,
        since: datetime | str | None = None,
        last: int | None = None,
        limit: int | None = None,
    ) -> RecordsResult:
        """What was appended, and when: one record for each append, or message of a JSON stream.

        From the beginning on, or from one of: ``offset``, with what holds the byte there; ``since``
        (aware datetime or RFC 3339), the first at that time or later; ``last``, so many before the
        tail.  At most ``limit`` (100, or what ``last`` says; up to 1000).  Not a use of the stream.

        Raises ``StreamNotFound``, ``StreamGone``; ``InvalidOffset`` and ``OffsetGone`` as
        :meth:`read` does; ``InvalidRequest`` for more than one place, or numbers out of range.
        """
        place, most = arguments.records(offset, since, last, limit)
        return told(await self.engine.records(arguments.path("path", path), place, most))

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
        Raises ``StreamNotFound``, ``StreamGone``, ``InvalidOffset``; ``OffsetGone`` for one of a
        stream that was at the path before: begin anew.
        """
        chunk = await self._chunk(path, offset, live=live, timeout_s=timeout_s)
        data = await bytes_of(self._engine, chunk)
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
        found = [one async for some in self._slices(chunk) for one in some]
        return MessagesResult(found, chunk.end.token, chunk.at_tail, chunk.closed)

    async def read_json(
        self,
        path: str,
        offset: str = BEGINNING,
        *,
        live: bool = False,
        timeout_s: float = 30.0,
    ) -> JsonResult:
        """Like :meth:`read_messages`, with the values that the messages stand for.

        Raises ``ContentTypeMismatch`` if it is no stream of JSON, ``InvalidJson`` for JSON that
        Python has no value for (an integer of over 4,300 digits), and what :meth:`read` does.
        """
        chunk = await self._chunk(path, offset, live=live, timeout_s=timeout_s)
        if not chunk.stream.is_json:
            chunk.release()
            raise ContentTypeMismatch(chunk.stream.content_type, JSON)
        values = [one.json() async for some in self._slices(chunk) for one in some]
        return JsonResult(values, chunk.end.token, chunk.at_tail, chunk.closed)

    async def _slices(self, chunk: Chunk) -> AsyncIterator[Sequence[Message]]:
        """Its messages, so many in a turn of the event loop."""
        messages = await messages_of(self._engine, chunk)
        while messages:
            yield messages.some()
            await asyncio.sleep(0)

    def tail(self, path: str, offset: str = BEGINNING, *, live: bool = True) -> Tail:
        """All messages from an offset on, then new ones as they come; ends when the stream closes.

        ``async for message in streams.tail(path)``.  A timeout may be around each step
        (``asyncio.wait_for(anext(messages), 1)``): see :class:`Tail`.  ``live=False``: it waits for
        nothing and ends at the tail, wherever that is when it gets there.

        A step raises what :meth:`read` does, ``StreamNotFound`` or ``StreamGone`` also if the
        stream is deleted or expires meanwhile; and, once there is nothing more to read,
        ``Draining`` if the data directory is being closed, or ``StorageFailed``: nothing will be
        written any more.
        """
        at, start = arguments.path("path", path), arguments.start("offset", offset)
        return Tail(self, at, start, live=arguments.flag("live", live))

    async def _chunk(self, path: str, offset: str, *, live: bool, timeout_s: float) -> Chunk:
        at, start = arguments.path("path", path), arguments.start("offset", offset)
        live = arguments.flag("live", live)
        timeout_s = arguments.seconds("timeout_s", timeout_s)
        stream = await self.engine.open(at)
        chunk = await self.engine.read(stream, start)
        if live and not chunk.size_bytes and not chunk.closed:
            with self.engine.following(stream):
                await self.engine.wait(stream, chunk.end, timeout_s)
                chunk = await self.engine.read(stream, chunk.end, is_end=True)
        return chunk
