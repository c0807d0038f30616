"""What goes along when all streams of a store are copied into another: the seam below the verbs.

The interface of a store makes streams anew: at this time, without the producers that others were,
at offsets of its own.  A copy has all of that as it was, so each store has a way in and out beside
its verbs: a ``Source``, which is read while nobody writes to it, and a ``Target``, which nobody
serves before :meth:`Target.finish`.  A target can be broken off at any moment: what
:meth:`Target.find` tells of is there whole, and whatever else was begun is begun again, goes on, or
is removed by :meth:`Target.settle`.  The source may be served until it goes on: what changed there
is dropped, and copied anew.

Nothing here does I/O.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from durable_streams.model.offsets import Offset

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from durable_streams.model.commands import ForkRequest, Lifetime, ProducerClaim
    from durable_streams.model.paths import StreamPath
    from durable_streams.rules.producers import ProducerState


AGAIN: Final = "run it again: it goes on where it was"
"""What most of these end with."""


class TransferError(Exception):
    """A copy cannot go on; the text is one line for the user, and says what to do."""


class Occupied(TransferError):
    """The target has something that is not of this copy."""


class Done(TransferError):
    """The target is a whole copy already, from when the same was asked for before.

    ``name``: the target's.  ``state``: of its source then, as :meth:`Target.finish` was told.
    """

    def __init__(self, name: str, state: str) -> None:
        super().__init__(f"{name} was copied before, and found the same")
        self.name = name
        self.state = state


class InUse(TransferError):
    """Somebody serves the source or the target."""


class NotReached(TransferError):
    """A database does not answer, or not any more."""


class NotUsable(TransferError):
    """A database is there, and has no tables that this program can work with."""


class NotHeld(TransferError):
    """The target cannot hold what some streams have."""


class Damaged(TransferError):
    """A store has a stream whose bytes, or what is said of them, are not what they were.

    ``text``: without the ``advice`` for whoever has such a store, if there is any.
    """

    def __init__(self, text: str, advice: str = "") -> None:
        super().__init__(f"{text}: {advice}" if advice else text)
        self.text = text


class Appended(msgspec.Struct, frozen=True, gc=False):
    """One append, or the close of a stream, which need not bring ``data``.

    ``begin``, ``end``: positions in the segment.  ``time_ms``: since 1970.
    """

    segment: int
    begin: int
    end: int
    time_ms: int
    claim: ProducerClaim | None
    closes: bool
    data: bytes


class Moved(msgspec.Struct, frozen=True):
    """All that is known of a stream beside what was appended.

    ``key``: what its store calls this incarnation.  ``requested``: the lifetime that the create
    asked for.  ``fork``: likewise; ``source``: the key of what it is a fork of, None if that is
    not there any more; ``point``: up to where it has that content, as its own offset, which is its
    beginning if the source has lost that.  ``deadline_ms``: when it ends, if nobody uses it.
    ``soft_deleted``: there for its forks alone.
    ``chain``: the running checksum at its tail, which each store computes in its own way.
    """

    key: str
    path: StreamPath
    content_type: str
    lifetime: Lifetime
    requested: Lifetime
    fork: ForkRequest | None
    source: str | None
    point: Offset
    created_ms: int
    deadline_ms: int | None
    soft_deleted: bool
    first_segment: int
    tail: Offset
    chain: bytes
    closed: bool
    closed_by: ProducerClaim | None
    stream_seq: str | None
    producers: Mapping[str, ProducerState]

    @property
    def begin(self) -> Offset:
        """Where it begins."""
        return Offset(self.first_segment, 0)


class Removed(msgspec.Struct, frozen=True):
    """Where streams were removed lately, at which others have to begin above their segments.

    ``paths``: from which segment on.  ``floor``: likewise at all other paths, as there were many.
    """

    floor: int
    paths: Mapping[StreamPath, int]


class Streams(Protocol):
    """All streams of a store, as they are read by a copy."""

    def all(self) -> AsyncIterator[Sequence[Moved]]:
        """Every stream, some at a time, in any order; :class:`Damaged`."""

    async def at(self, path: StreamPath) -> Moved | None:
        """The stream at a path; :class:`Damaged`."""

    def appends(self, stream: Moved, behind: Offset) -> AsyncIterator[Sequence[Appended]]:
        """Its appends that end behind an offset, and its close, in order, some at a time.

        Every checksum is compared that the store has of them; :class:`Damaged`.
        """

    async def removed(self) -> Removed:
        """Where streams were removed lately."""


class Source(Streams, Protocol):
    """A store that is copied.

    ``name``: for people.  ``identity``: by which it is known again.  ``by_hand``: what has nobody
    serve it any more, done by somebody.
    """

    name: str
    identity: str
    by_hand: str

    async def check_still(self) -> None:
        """Raise :class:`InUse` if somebody may have written to it since it was opened."""

    async def left(self) -> str:
        """What it has beside streams, and no copy has; nothing if that is nothing."""

    async def retire(self, successor: str) -> str:
        """Have nobody serve it from now on, durably; how that is taken back.

        ``successor``: the name of what is served instead.
        """

    async def close(self) -> None:
        """Let go of it."""


class Target(Streams, Protocol):
    """A store that a copy is made in.

    ``name``: for people.  ``was_begun``: whether it may have something of an earlier try.
    ``keeps_seen``: whether it tells of producers when they were seen, as its source does.
    ``given_up``: when it is no target any more, as something was done by hand; behind "until".
    """

    name: str
    was_begun: bool
    keeps_seen: bool
    given_up: str

    def refusal(self, stream: Moved) -> str:
        """What a stream has that cannot be held, nothing if there is no such thing."""

    def key_of(self, key: str) -> str:
        """What the copy of an incarnation of the source is called."""

    async def find(self, streams: Sequence[Moved]) -> set[str]:
        """The keys, in the source, of those of its streams that are there whole."""

    async def add(
        self,
        stream: Moved,
        appends: Callable[[Offset], AsyncIterator[Sequence[Appended]]],
    ) -> None:
        """Have a stream of the source, whole; what it is a fork of is there.

        ``appends``: the source's, that end behind an offset.
        """

    async def drop(self, streams: Sequence[Moved]) -> None:
        """Have some of its streams no more, and none that is a fork of them, directly or not."""

    async def settle(self) -> None:
        """What was added is durable, is read as it will be, and is all that is there."""

    async def finish(self, removed: Removed, state: str) -> None:
        """The copy is whole, and may be served.

        ``state``: hexadecimal, of the source; who asks for the same again is told (:class:`Done`).
        """

    async def close(self) -> None:
        """Let go of it, finished or not."""
