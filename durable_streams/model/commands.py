"""What a client asks for, as data: the border between HTTP and the engine."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import msgspec

from durable_streams.model.offsets import Offset, Start

if TYPE_CHECKING:
    from durable_streams.model.paths import StreamPath


class Lifetime(msgspec.Struct, frozen=True, gc=False):
    """When a stream ends by itself: after ``ttl_s`` idle seconds, at an instant, or never.

    ``expires_at`` is the text the client configured (sent back on HEAD), ``expires_at_ms`` the
    same instant in milliseconds since 1970, by which instants are compared.
    """

    ttl_s: int | None = None
    expires_at: str | None = None
    expires_at_ms: int | None = None


FOREVER = Lifetime()


class ForkRequest(msgspec.Struct, frozen=True, gc=False):
    """The fork headers of a PUT, as requested (``offset`` omitted: the source's tail)."""

    source: StreamPath
    offset: Offset | None = None
    sub_offset: int = 0


class ProducerClaim(msgspec.Struct, frozen=True, gc=False):
    """The three ``Producer-*`` headers: who writes, in which of its runs, and which append of it.

    ``seq`` counts from 0 in each ``epoch``.  A program that starts again takes a higher ``epoch``,
    or a new ``id``: with the old ones its first appends are taken for repetitions, and dropped.
    """

    id: str
    epoch: int
    seq: int


class Create(msgspec.Struct, frozen=True, gc=False):
    """PUT. ``content_type`` is normalised; None: the header was missing or empty."""

    path: StreamPath
    content_type: str | None = None
    lifetime: Lifetime = FOREVER
    closed: bool = False
    fork: ForkRequest | None = None


class Append(msgspec.Struct, frozen=True, gc=False):
    """POST. ``content_type`` is normalised; None: missing, empty or malformed.

    That is refused as soon as there is a body; a close without one has no use for it.
    """

    path: StreamPath
    content_type: str | None = None
    close: bool = False
    producer: ProducerClaim | None = None
    stream_seq: str | None = None


class Delete(msgspec.Struct, frozen=True, gc=False):
    """DELETE."""

    path: StreamPath


class Head(msgspec.Struct, frozen=True, gc=False):
    """HEAD."""

    path: StreamPath


class Live(Enum):
    """How a read goes on when it has reached the tail."""

    NO = "no"
    LONG_POLL = "long-poll"
    SSE = "sse"


class Read(msgspec.Struct, frozen=True, gc=False):
    """GET. ``cursor`` is the client's, None if absent or no number.

    ``resumed``: ``start`` is the ``Last-Event-ID`` of an event stream.
    """

    path: StreamPath
    start: Offset | Start
    live: Live = Live.NO
    cursor: int | None = None
    if_none_match: str | None = None
    resumed: bool = False


class Preflight(msgspec.Struct, frozen=True, gc=False):
    """OPTIONS."""


Command = Create | Append | Delete | Head | Read | Preflight


class Since(msgspec.Struct, frozen=True, gc=False):
    """Where records begin: at the first append at a time, in milliseconds since 1970, or later."""

    time_ms: int


class Last(msgspec.Struct, frozen=True, gc=False):
    """Where records begin: so many before the tail."""

    count: int


Place = Offset | Start | Since | Last
"""Where records begin.  An offset: with what holds the byte there; ``NOW``: at the tail."""


class Records(msgspec.Struct, frozen=True, gc=False):
    """What was appended to a stream, one append or JSON message each; up to ``limit`` of them."""

    path: StreamPath
    place: Place
    limit: int


class Details(msgspec.Struct, frozen=True, gc=False):
    """All that is known of a stream."""

    path: StreamPath


Inspection = Records | Details
"""What is asked for below ``__ds`` of one stream; no use of it."""
