"""What the methods of the library return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from durable_streams.model.paths import path_text

if TYPE_CHECKING:
    from durable_streams.messages import Message
    from durable_streams.model.results import StreamInfo


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


@dataclass(frozen=True, slots=True)
class MessagesResult:
    """Like :class:`ReadResult`, taken apart into messages."""

    messages: list[Message]
    next_offset: str
    up_to_date: bool
    closed: bool

    @property
    def has_more(self) -> bool:
        """Whether the tail was not reached."""
        return not self.up_to_date


@dataclass(frozen=True, slots=True)
class JsonResult:
    """Like :class:`ReadResult`, the messages of a stream of JSON as values."""

    values: list[Any]
    next_offset: str
    up_to_date: bool
    closed: bool

    @property
    def has_more(self) -> bool:
        """Whether the tail was not reached."""
        return not self.up_to_date


def metadata_of(info: StreamInfo, *, created: bool = False) -> Metadata:
    """What a store knows of a stream, in the words of the library."""
    return Metadata(
        path_text(info.path),
        info.content_type,
        info.tail.token,
        info.closed,
        info.lifetime.ttl_s,
        info.lifetime.expires_at,
        info.created_ms,
        created,
    )
