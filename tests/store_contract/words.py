"""What the tests of all stores say, in a few words each."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from durable_streams.model.commands import FOREVER, Append, Create, ForkRequest, ProducerClaim
from durable_streams.model.offsets import Offset, Start
from durable_streams.model.paths import parse_path_text, path_text

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from durable_streams.model.commands import Lifetime
    from durable_streams.model.errors import StreamError
    from durable_streams.model.paths import StreamPath
    from durable_streams.model.results import Appended, Created, Publication
    from durable_streams.store import Store, Ticket

BINARY: Final = "application/octet-stream"
TEXT: Final = "text/plain"
JSON: Final = "application/json"

at, text_of = parse_path_text, path_text
"""The path that is spelled so, and how one is spelled, in errors for one."""

ROOM: Final = at("house/room")
OTHER: Final = at("other")
SOURCE: Final = at("source")
FORK: Final = at("house/fork")
SECOND: Final = at("second")
NOWHERE: Final = at("house/nowhere")


async def create(
    store: Store,
    path: StreamPath = ROOM,
    body: bytes = b"",
    *,
    content_type: str | None = TEXT,
    lifetime: Lifetime = FOREVER,
    closed: bool = False,
) -> Created:
    return await store.create(Create(path, content_type, lifetime, closed), body)


async def fork(
    store: Store,
    path: StreamPath = FORK,
    source: StreamPath = ROOM,
    *,
    offset: Offset | None = None,
    sub_offset: int = 0,
    body: bytes = b"",
    content_type: str | None = None,
    lifetime: Lifetime = FOREVER,
    closed: bool = False,
) -> Created:
    request = ForkRequest(source, offset, sub_offset)
    return await store.create(Create(path, content_type, lifetime, closed, request), body)


async def append(
    store: Store,
    body: bytes,
    path: StreamPath = ROOM,
    *,
    content_type: str | None = TEXT,
    close: bool = False,
    producer: ProducerClaim | None = None,
    stream_seq: str | None = None,
) -> Appended:
    return await store.append(Append(path, content_type, close, producer, stream_seq), body)


async def close(
    store: Store, path: StreamPath = ROOM, producer: ProducerClaim | None = None
) -> Appended:
    return await store.append(Append(path, None, close=True, producer=producer), b"")


def by(seq: int, *, epoch: int = 0, name: str = "writer") -> ProducerClaim:
    """A producer's claim."""
    return ProducerClaim(name, epoch, seq)


async def content(
    store: Store,
    path: StreamPath = ROOM,
    start: Offset | Start = Start.BEGINNING,
    max_bytes: int = 10**9,
) -> bytes:
    """All that is there from an offset on, read in as many chunks as it takes."""
    stream = await store.open(path)
    data, is_end = b"", False
    while True:
        with await store.read(stream, start, is_end=is_end, max_bytes=max_bytes) as chunk:
            data += await store.bytes_of(chunk)
        if chunk.at_tail:
            return data
        assert chunk.size_bytes
        start, is_end = chunk.end, True


async def ends(store: Store, *bodies: bytes, content_type: str = TEXT) -> list[Offset]:
    """A stream with these appends, and where it ended before the first and after each."""
    created = await create(store, content_type=content_type)
    return [
        created.info.tail,
        *[(await append(store, body, content_type=content_type)).tail for body in bodies],
    ]


def beyond(offset: Offset, count: int) -> Offset:
    """So many bytes behind an offset, in the same append."""
    return Offset(offset.segment, offset.position + count)


async def outcome(ticket: Ticket[Any] | None, otherwise: Coroutine[Any, Any, Any]) -> Any:
    """What a write came to that was begun now, or else, where that was not to be, waited for."""
    if ticket is None:
        return await otherwise
    otherwise.close()
    await settled(ticket)
    return ticket.outcome()


async def settled(ticket: Ticket[Any]) -> None:
    """Return when a write is not on its way any more."""
    if ticket.pending:
        done = asyncio.Event()
        ticket.when_settled(done.set)
        await done.wait()


class Listener:
    """A subscriber that notes what it is told."""

    def __init__(self) -> None:
        self.heard: list[Publication] = []
        self.was_overtaken = False
        self.reason: StreamError | None = None
        self._news = asyncio.Event()

    @property
    def data(self) -> bytes:
        """All that it was handed."""
        return b"".join([publication.data for publication in self.heard])

    def published(self, publication: Publication) -> None:
        assert self.reason is None
        self.heard.append(publication)
        self._news.set()

    def overtaken(self) -> None:
        self.was_overtaken = True
        self._news.set()

    def ended(self, reason: StreamError) -> None:
        assert self.reason is None
        self.reason = reason
        self._news.set()

    async def told(self) -> None:
        """Return when it was told something since this was last called."""
        await self._news.wait()
        self._news.clear()
