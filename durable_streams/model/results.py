"""What the engine answers, as data: the border between the engine and its users.

A read is *described* here (which bytes of which files) and sent elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from durable_streams.model.commands import Lifetime
    from durable_streams.model.errors import StreamError
    from durable_streams.model.offsets import Offset
    from durable_streams.model.paths import StreamPath


class StreamInfo(msgspec.Struct, frozen=True):
    """The metadata of a stream; times are milliseconds since 1970."""

    path: StreamPath
    id: str
    content_type: str
    tail: Offset
    closed: bool
    lifetime: Lifetime
    created_ms: int


class ForkedFrom(msgspec.Struct, frozen=True, gc=False):
    """What a fork was made of: ``offset`` is its own, up to which it has its source's content."""

    source: StreamPath
    offset: Offset


class StreamRow(msgspec.Struct, frozen=True):
    """A stream as lists and details have it; times are milliseconds since 1970.

    ``size_bytes``: of its content as it is stored, a fork's with what it has from its source.
    ``last_write_ms``: of the last append or close; None: there was none since it was made.
    ``ends_at_ms``: when it ends by itself if nobody uses it any more; None: it does not.
    """

    path: StreamPath
    id: str
    content_type: str
    tail: Offset
    size_bytes: int
    created_ms: int
    last_write_ms: int | None
    closed: bool
    lifetime: Lifetime
    ends_at_ms: int | None
    fork: ForkedFrom | None


class UnusableRow(msgspec.Struct, frozen=True):
    """A stream that is there and cannot be used or looked at now; ``reason`` is for people."""

    path: StreamPath
    reason: str


class StreamPage(msgspec.Struct, frozen=True):
    """Some streams, in the order of their paths.

    ``next``: the path up to which was looked, to go on behind; None: there are no more.
    """

    rows: Sequence[StreamRow | UnusableRow]
    next: StreamPath | None


class NodeSeen(msgspec.Struct, frozen=True):
    """A server among several that serve the same streams; times are milliseconds since 1970.

    ``name``: of its machine.  ``version``: of the program.  ``is_this``: it is the one that is
    asked.  ``seen_ms``: when it was there for certain.
    """

    name: str
    version: str
    began_ms: int
    seen_ms: int
    is_this: bool


class Created(msgspec.Struct, frozen=True):
    """Outcome of a create; ``created`` is False if the same stream existed already."""

    created: bool
    info: StreamInfo


class Appended(msgspec.Struct, frozen=True, gc=False):
    """Outcome of an append or close, durable when it is returned.

    ``duplicate``: the data was there already.  ``wrote_data``: this request appended bytes.
    ``producer``: (epoch, highest accepted seq) to echo, None without producer headers.
    """

    tail: Offset
    closed: bool
    wrote_data: bool
    duplicate: bool = False
    producer: tuple[int, int] | None = None


class ReadableFile(Protocol):
    """An open file that a slice refers to, until the chunk that holds the slice is released."""

    def fileno(self) -> int:
        """Its descriptor, for ``sendfile``."""

    def read(self, size: int, position: int) -> bytes:
        """Read up to ``size`` bytes, less only at the end of the file; may wait for the disk."""

    async def warm(self, size: int, position: int) -> None:
        """Have what is not in memory of so many bytes read, so that reading them does not wait."""


class FileSlice(msgspec.Struct, frozen=True):
    """``size`` bytes of a file from ``position``."""

    file: ReadableFile
    position: int
    size: int


class StreamRef(Protocol):
    """An opened stream, to be handed back to the engine."""

    @property
    def id(self) -> str:
        """Identity of this incarnation of the stream."""

    @property
    def path(self) -> StreamPath:
        """Where it is."""

    @property
    def content_type(self) -> str:
        """Normalised content type."""

    @property
    def is_json(self) -> bool:
        """Whether it is in JSON mode."""


class Chunk(msgspec.Struct):
    """A described read: the stream's wire bytes in [start, end), in ``parts``.

    In a JSON stream every message of the wire bytes ends in a comma, so the whole does too.
    ``chain``: the running checksum of the stream at ``end``, which no other bytes up to there have.
    ``at_tail``: ``end`` was the durable tail.  ``closed``: at_tail, and the stream is closed.
    ``parts`` with files stay valid until :meth:`release`, which must be called, best by a ``with``
    block.  A chunk whose parts are all bytes holds nothing, as does an empty one, which has none.
    """

    stream: StreamRef
    start: Offset
    end: Offset
    chain: bytes
    parts: Sequence[bytes | FileSlice]
    size_bytes: int
    at_tail: bool
    closed: bool
    _held: list[_Releasable] = msgspec.field(default_factory=list)

    def hold(self, file: _Releasable) -> None:
        """Keep a file until the release."""
        self._held.append(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Give the files back."""
        for file in self._held:
            file.release()
        self._held.clear()


class _Releasable(Protocol):
    def release(self) -> None: ...


class Publication(msgspec.Struct):
    """Bytes that just became durable: wire bytes [start, end) of a stream, and maybe its close.

    All bytes are in one segment, that of ``end``.
    One object is handed to every subscriber; ``encoded`` is theirs to share what they made of it.
    """

    start: Offset
    end: Offset
    data: bytes
    closed: bool
    encoded: dict[object, Any] = msgspec.field(default_factory=dict)


class Subscriber(Protocol):
    """A live reader; both methods are called on the event loop, must not block, must not raise."""

    def published(self, publication: Publication) -> None:
        """New durable data, in stream order, each exactly once from the moment of subscribing."""

    def overtaken(self) -> None:
        """More was published than is kept for it: it is subscribed no more, and reads on itself."""

    def ended(self, reason: StreamError) -> None:
        """The stream is no more (deleted, expired) or the engine is going down; the last call."""
