"""Durable streams without HTTP: a data directory as an async context manager.

    async with durable_streams.open("./data") as streams:
        await streams.create("events", content_type="application/json")
        await streams.append("events", b'{"hello": "world"}')
        async for message in streams.tail("events"):
            ...

The same engine that the HTTP server runs on: every rule of the protocol holds, and whatever a write
returned for is on disk.  The errors are in ``durable_streams.model.errors``; :class:`Streams` says
which.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import durable_streams.arguments as arguments  # noqa: PLR0402 - not from the root, which knows us
from durable_streams.databases import is_database, open_database
from durable_streams.details import described
from durable_streams.filestore.runtime.forgotten import OpenStore
from durable_streams.filestore.store import FileStore
from durable_streams.history import told
from durable_streams.home import Home
from durable_streams.listing import listed
from durable_streams.messages import bytes_of, messages_of
from durable_streams.model.commands import Append, Create, ForkRequest, ProducerClaim
from durable_streams.model.errors import InvalidRequest, NotOpen
from durable_streams.outcomes import AppendResult, MessagesResult, ReadResult, metadata_of
from durable_streams.rules.list_pages import DEFAULT_LISTED
from durable_streams.settings import Settings
from durable_streams.tail import Tail

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime
    from types import TracebackType

    from durable_streams.details import Details
    from durable_streams.history import RecordsResult
    from durable_streams.listing import ListedStream, ListPage
    from durable_streams.model.paths import StreamPath
    from durable_streams.model.results import Chunk
    from durable_streams.outcomes import Metadata
    from durable_streams.postgres.store import PostgresStore
    from durable_streams.store import Store

Data = bytes | bytearray | memoryview
"""What is appended; at run time anything with the buffer protocol."""

BEGINNING: Final = "-1"
NOW: Final = "now"


def open_streams(
    data_dir: str | os.PathLike[str], settings: Settings | None = None
) -> AbstractAsyncContextManager[Streams]:
    """Open a data directory, made if missing; closed, with everything in its files, at the end.

    ``async with durable_streams.open(data_dir) as streams``.  Or the URL of a PostgreSQL database,
    ``postgresql://…``, that ``durable-streams store init`` has made one of streams; any number of
    programs may have it open.

    Raises ``TypeError`` or ``ValueError`` if an argument cannot be; then
    :class:`~durable_streams.model.errors.DataDirectoryError` if the directory is in use (as
    ``DataDirectoryInUse``), is not a data directory or one of another version, or cannot be read,
    written or recovered.

    The end of ``async with`` closes it whatever happens: also if its task is cancelled meanwhile,
    by a timeout, by Ctrl-C or again and again.  It returns when everything is done, and the
    cancellation goes on from there.  ``asyncio.run`` waits for it, after a second Ctrl-C as well.
    A third one, or a loop that is ended by other means, leaves the directory as after a crash: what
    was acknowledged is there, and the next opening recovers it.

    What was opened and is dropped without that end gives a ``ResourceWarning``, and is let go as in
    a crash, so that the same process can open it again.
    """
    return _Open(data_dir, settings)


class _Open:
    """The ``async with`` of one data directory."""

    def __init__(self, data_dir: str | os.PathLike[str], settings: Settings | None) -> None:
        self._data_dir = data_dir
        self._settings = settings
        self._opened: tuple[Streams, OpenStore | PostgresStore, Home] | None = None

    async def __aenter__(self) -> Streams:
        """Open it."""
        if self._opened is not None:
            raise RuntimeError("it is open already: call durable_streams.open() for each opening")
        directory = arguments.directory("data_dir", self._data_dir)
        settings = arguments.settings("settings", self._settings, Settings)
        home = Home()
        if is_database(self._data_dir):
            store = await open_database(str(self._data_dir), settings)
            self._opened = Streams(store), store, home
        else:
            engine = await FileStore.at(directory, settings)
            streams = Streams(engine)
            self._opened = streams, OpenStore(engine, streams, self), home
        return self._opened[0]

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        assert self._opened is not None
        _, store, home = self._opened
        if home.is_left_by_a_child(error):
            return
        home.check()  # elsewhere it would wait for ever
        try:
            await store.close()
        finally:
            self._opened = None


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
        messages = await messages_of(self._engine, chunk)
        found = messages.some() if messages else []
        while messages:
            await asyncio.sleep(0)
            found += messages.some()
        return MessagesResult(found, chunk.end.token, chunk.at_tail, chunk.closed)

    def tail(self, path: str, offset: str = BEGINNING) -> Tail:
        """All messages from an offset on, then new ones as they come; ends when the stream closes.

        ``async for message in streams.tail(path)``.  A timeout may be around each step
        (``asyncio.wait_for(anext(messages), 1)``): see :class:`Tail`.

        A step raises what :meth:`read` does, ``StreamNotFound`` or ``StreamGone`` also if the
        stream is deleted or expires meanwhile; and, once there is nothing more to read,
        ``Draining`` if the data directory is being closed, or ``StorageFailed``: nothing will be
        written any more.
        """
        return Tail(self, arguments.path("path", path), arguments.start("offset", offset))

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
