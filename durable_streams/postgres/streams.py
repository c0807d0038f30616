"""What a node knows of streams: caches, which nothing relies on but what is compared and set.

A known row is one that a quorum of the database's nodes has.  So where a read finds the same
version there is nothing to wait for, and a known row never goes back: but for a fail-over that lost
commits, after which other bytes may have the same version.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

import msgspec

from durable_streams.live import Audience, Deliveries
from durable_streams.model.results import StreamInfo
from durable_streams.rules import media_type
from durable_streams.settings import MIB

if TYPE_CHECKING:
    from durable_streams.model.errors import StreamError
    from durable_streams.model.offsets import Offset
    from durable_streams.model.paths import StreamPath
    from durable_streams.postgres.rows import Row
    from durable_streams.rules.producer_table import ProducerTable

MOST_KNOWN: Final = 20_000
"""Streams without readers that are remembered, some 2 KiB each."""

MOST_PRODUCERS_BYTES: Final = 32 * MIB
"""Of the producers of all streams that are remembered, as their limits count them: in memory they
take some times of that."""

_TABLE_BYTES: Final = 512
"""That each stream with producers counts for beside these."""


class Stream:
    """An incarnation of a stream, and who reads it here.

    ``producers``: as of ``row``; None: not looked up, or a batch has them.  ``ended``: why it is no
    more.  ``published``: up to where those who subscribed were told.  ``is_stale``: another node
    has said that there is more than is known; ``told``: the mark of what a quorum has of it, then.
    ``fresh``: a row that was read for the task beside
    it, which may use it in the turn of the event loop in which it has it.
    """

    __slots__ = (
        "__weakref__",
        "audience",
        "content_type",
        "ended",
        "followers",
        "fresh",
        "id",
        "is_json",
        "is_stale",
        "number",
        "path",
        "producers",
        "published",
        "published_closed",
        "row",
        "told",
    )

    def __init__(self, path: StreamPath, row: Row, deliveries: Deliveries) -> None:
        self.path = path
        self.number = row.id
        self.id = f"{row.id:016x}"
        self.content_type = row.content_type
        self.is_json = media_type.is_json(row.content_type)
        self.row = row
        self.producers: ProducerTable | None = None
        self.audience = Audience(deliveries)
        self.followers = 0
        self.published: Offset = row.tail
        self.published_closed = row.closed
        self.is_stale = False
        self.told = ""
        self.fresh: tuple[Row, object] | None = None
        self.ended: StreamError | None = None

    @property
    def is_live(self) -> bool:
        """Whether anybody waits for what comes."""
        return bool(self.audience) or self.followers > 0

    def has_expired(self, now_ms: int) -> bool:
        """Whether it has ended by itself, as far as is known here."""
        deadline_ms, is_held = self.row.deadline_ms, self.row.lifetime.ttl_s is not None
        if deadline_ms is None or now_ms < deadline_ms:
            return False
        return not (is_held and self.followers)

    def learn(self, row: Row) -> None:
        """A row that a quorum has; whoever wrote it has to say what became of the producers."""
        known = self.row
        if row.version < known.version:
            return
        if row.version > known.version or row.chain != known.chain:
            self.producers = None
        elif (row.deadline_ms or 0) < (known.deadline_ms or 0):
            row = msgspec.structs.replace(row, deadline_ms=known.deadline_ms)
        self.row = row

    def info(self, row: Row) -> StreamInfo:
        """What is told of it."""
        return StreamInfo(
            self.path,
            self.id,
            self.content_type,
            row.tail,
            row.closed,
            row.lifetime,
            row.created_ms,
        )


class Streams:
    """Those that are known, by path and by number.

    ``most_known``: of those that nobody reads.  ``most_producers_bytes``: of the producers of all.
    """

    def __init__(self, deliveries: Deliveries, most_known: int = MOST_KNOWN) -> None:
        self.most_known = most_known
        self.most_producers_bytes = MOST_PRODUCERS_BYTES
        self._producers_bytes = 0
        self._producers_of: OrderedDict[int, int] = OrderedDict()
        self._deliveries = deliveries
        self._at: OrderedDict[StreamPath, Stream] = OrderedDict()
        self._all: WeakValueDictionary[int, Stream] = WeakValueDictionary()
        self.live: dict[int, Stream] = {}

    def __len__(self) -> int:
        return len(self._all)

    def at(self, path: StreamPath) -> Stream | None:
        """The one that was at a path the last time."""
        return self._at.get(path)

    def numbered(self, number: int) -> Stream | None:
        """The one with a number, while anybody has it."""
        return self._all.get(number)

    def all(self) -> list[Stream]:
        """Every one that anybody has."""
        return list(self._all.values())

    def learn(self, path: StreamPath, row: Row) -> Stream:
        """A row that a quorum has is at a path."""
        stream = self._all.get(row.id)
        if stream is None:
            stream = self._all[row.id] = Stream(path, row, self._deliveries)
        else:
            stream.learn(row)
        if stream.ended is None:
            self._at[path] = stream
            self._at.move_to_end(path)
            if len(self._at) > self.most_known:
                self._at.popitem(last=False)
        return stream

    def remember(self, stream: Stream, producers: ProducerTable) -> None:
        """The producers as of the row that is known; those go that were used longest ago."""
        stream.producers = producers
        if not producers.states:
            return
        sizes, size = self._producers_of, producers.size_bytes + _TABLE_BYTES
        self._producers_bytes += size - sizes.pop(stream.number, 0)
        sizes[stream.number] = size
        while self._producers_bytes > self.most_producers_bytes:
            number, size = sizes.popitem(last=False)
            self._producers_bytes -= size
            other = self._all.get(number)
            if other is not None:
                other.producers = None

    def forget(self, path: StreamPath) -> None:
        """Look again the next time."""
        stream = self._at.pop(path, None)
        if stream is not None:
            stream.producers = None

    def end(self, number: int, reason: StreamError) -> None:
        """A stream is no more, as a quorum knows: all who read it are told."""
        stream = self._all.get(number)
        if stream is not None and (stream.ended is None or type(stream.ended) is not type(reason)):
            stream.ended = reason
            if self._at.get(stream.path) is stream:
                del self._at[stream.path]
            stream.audience.end(reason)
