"""What a store of streams promises: the border between stores and all who use them.

The library, the HTTP server and the command line know a :class:`Store` and nothing behind it.  Each
implementation passes ``tests/store_contract``, which says the promises as tests.

Time.  Everything runs on one event loop.  What is named ``*_now`` never waits: it does what the
method without ``_now`` does, or returns None, which says nothing but "not now".  A caller that is
cancelled leaves the store as it was or as it asked for, never between; a write that was on its way
may still be stored.

Order.  While a store drains, new writes and subscriptions raise ``Draining``; reads go on.  After
its end everything raises ``NotOpen``.

Durability.  An outcome that is returned, or raised, stays true whatever crashes: what a write says
it stored is stored, and what was refused because of another write is refused for one that is
stored.  Readers see durable bytes only.

Offsets.  Those of a stream grow, and none is ever of other bytes of it.  A stream made where
another one was removed begins above all that had, for as long as ``remember_removed_s`` says:
whoever comes with an offset of the one before is told so (``OffsetGone``) and where to begin anew.
``ZERO`` is the beginning of every stream, as ``Start.BEGINNING`` is.  A fork has its source's
offsets, unless it is made at such a path (or more were removed than a store remembers).

Failure.  Methods raise :class:`~durable_streams.model.errors.StreamError`, whose subclasses say
what happened, and ``OSError`` if the system refuses to open or read a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractContextManager

    from durable_streams.measuring import StoreNumbers
    from durable_streams.model.commands import Append, Create, Place
    from durable_streams.model.details import StreamDetails
    from durable_streams.model.errors import StreamError
    from durable_streams.model.offsets import Offset, Start
    from durable_streams.model.paths import StreamPath
    from durable_streams.model.records import RecordsPage
    from durable_streams.model.results import (
        Appended,
        Chunk,
        Created,
        NodeSeen,
        StreamInfo,
        StreamPage,
        StreamRef,
        Subscriber,
        UnusableRow,
    )

T_co = TypeVar("T_co", covariant=True)


class Ticket(Protocol[T_co]):
    """A write on its way, whose answer is there when it is settled."""

    @property
    def pending(self) -> bool:
        """Whether the answer is not known yet."""

    def when_settled(self, callback: Callable[[], None]) -> None:
        """Call back once, on the event loop, when a pending write is settled."""

    def outcome(self) -> T_co:
        """The answer of a settled write; raises what it failed with."""


@runtime_checkable
class Store(Protocol):
    """Streams at paths; used on the event loop that it was opened in.

    ``max_append_bytes``: of a body; a larger one raises ``PayloadTooLarge``.
    """

    @property
    def max_append_bytes(self) -> int:
        """The largest body of an append or create."""

    @property
    def remember_removed_s(self) -> float:
        """How long after the end of a stream another one at its path shares no offset with it.

        Where that one had no content the beginning may be the same.  So long, at most, may caches
        keep pieces of streams.
        """

    # -- writes ----------------------------------------------------------------------------

    def create_now(self, command: Create, body: bytes) -> Ticket[Created] | None:
        """Begin :meth:`create`; it goes on whatever its caller does.

        What it is refused with is raised here, or by the ticket.
        """

    async def create(self, command: Create, body: bytes) -> Created:
        """Make a stream, fresh or as a fork, or find that the same one is there; durable.

        ``TooManyRequests`` if there are as many streams as there may be at one of the prefixes of
        its path; what counts there is the same in every store.
        ``OffsetGone`` for a fork at an offset of a stream that was the source's before.
        """

    def append_now(self, command: Append, body: bytes) -> Ticket[Appended] | None:
        """Begin :meth:`append`; as :meth:`create_now`."""

    async def append(self, command: Append, body: bytes) -> Appended:
        """Append, close, or both in one step; durable when this returns.

        ``TooManyProducers`` for a new one where there is no room and nobody was idle for so long
        that it may be forgotten, ``TooManyRequests`` where there are as many as there may be; what
        may be forgotten, and when, is the same in every store.
        """

    async def delete(self, path: StreamPath) -> None:
        """End a stream: for good, or only for its forks as long as they need it; durable."""

    # -- reads -----------------------------------------------------------------------------

    async def head(self, path: StreamPath) -> StreamInfo:
        """What is known of a stream; no use of it."""

    async def list_streams(
        self,
        prefix: StreamPath,
        after: StreamPath,
        limit: int,
        *,
        may: Callable[[StreamPath], bool] | None = None,
        most: int = 0,
    ) -> StreamPage:
        """Streams at and below a prefix whose paths come behind ``after``; no use of them.

        ``()`` is the prefix of all, and comes before all.  In the order of paths, which
        ``model/paths`` says.  A stream is listed from when its birth is durable until its end is,
        or its time is over, and not while it is kept for forks.  What was acknowledged before the
        call counts; going on behind ``next`` until that is None shows each stream that is there all
        the while once.

        At most ``limit`` streams are looked at, so there may be fewer rows, or none, and yet more
        streams behind ``next``.  ``may``: called with paths in order, which are left out if it says
        no, before anything is read of their streams; at most ``most`` times, if that is not 0.  A
        ``next`` may then be the path of a stream that was left out.

        One that is there, and is out of service or damaged, is an ``UnusableRow`` among the others.
        ``Unavailable`` if nothing can be listed now.
        """

    def open_now(self, path: StreamPath) -> StreamRef | None:
        """:meth:`open`, now."""

    async def open(self, path: StreamPath) -> StreamRef:
        """The stream at a path, for reading; a use, which renews a TTL."""

    def following(self, stream: StreamRef) -> AbstractContextManager[None]:
        """A context that a live reader is in: no TTL ends the stream meanwhile, an instant does."""

    def left_s(self, stream: StreamRef) -> int | None:
        """Seconds, rounded down, until the stream ends if nobody uses it; None: it does not."""

    def read_now(self, stream: StreamRef, start: Offset | Start) -> Chunk | None:
        """:meth:`read`, now, in the turn of the event loop in which the stream was opened."""

    async def read(
        self,
        stream: StreamRef,
        start: Offset | Start,
        *,
        is_end: bool = False,
        max_bytes: int | None = None,
    ) -> Chunk:
        """A bounded chunk from an offset on, empty at the tail; to be used in a ``with`` block.

        ``OffsetGone`` for an offset of a stream that was at the path before, and is removed.
        ``is_end``: ``start`` is where a chunk or a publication ended, which needs no looking up.
        ``max_bytes``: at most so much, but an append that has more comes whole.
        """

    async def bytes_of(self, chunk: Chunk) -> bytes:
        """All bytes of a chunk."""

    def pieces(self, chunk: Chunk, size: int) -> AsyncIterator[bytes]:
        """The bytes of a chunk, ``size`` at a time, each read when it is asked for.

        What the chunk holds is given up: a reader that takes its time keeps nothing in memory.
        """

    async def sizes(self, chunk: Chunk) -> list[int]:
        """How many bytes of a chunk each append in it has, in order."""

    async def records(self, path: StreamPath, place: Place, limit: int) -> RecordsPage:
        """Up to ``limit`` records from a place on, one for each append or JSON message.

        No use of the stream.  All that is durable when this is called is among its records.  A
        page may have fewer than there are; it has one at least, unless there is none.  From an
        offset on: with what holds the byte there, so that none is met twice by whoever goes on
        from the ``next`` of a page; a close without data is at the tail.  ``Since`` goes by the
        times of the records, which grow, unless the clock of the server was put back meanwhile.
        What a fork has from its source has the times it had there, and may lack its producers.
        ``OffsetGone`` as for reads; ``Overloaded`` if the disk has yet to take for long what was
        acknowledged; ``InvalidOffset`` for an offset that is none of the stream's,
        where that shows.
        """

    async def details(self, path: StreamPath) -> StreamDetails | UnusableRow:
        """All that is known of a stream, durable; no use of it.

        ``UnusableRow`` of one that is there, and is out of service or damaged.
        """

    # -- live reads ------------------------------------------------------------------------

    async def wait(self, stream: StreamRef, at: Offset, timeout_s: float) -> bool:
        """Wait until there is data past ``at`` or the stream is closed.

        False after the timeout, or when the store drains; raises if the stream ends.
        """

    def subscribe(self, stream: StreamRef, at: Offset, subscriber: Subscriber) -> bool:
        """Hand all publications from ``at`` on to a subscriber; False if that is not the tail."""

    def unsubscribe(self, stream: StreamRef, subscriber: Subscriber) -> None:
        """Stop that; no error if it had stopped."""

    # -- health ----------------------------------------------------------------------------

    @property
    def bug(self) -> StreamError | None:
        """Why a part of the store has ended, if one did: only a restart helps."""

    def refusal(self) -> StreamError | None:
        """Why no write is taken now; None if writes are."""

    async def nodes(self) -> list[NodeSeen]:
        """All servers of these streams, the oldest first; none if only one can be."""

    @property
    def numbers(self) -> StoreNumbers:
        """What was counted since the store was opened, as it is now."""

    def writes_wait(self) -> bool:
        """Whether a write that comes now has to wait for its turn."""

    def out_of_service(self) -> list[StreamPath]:
        """Paths of streams that cannot be used now, while the others can."""

    # -- the end ---------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` is done."""

    def drain(self) -> None:
        """Refuse new writes, end waits and subscriptions; what was accepted goes on."""

    async def close(self) -> None:
        """Drain, finish what was accepted, and let go of everything."""
