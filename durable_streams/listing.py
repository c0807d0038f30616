"""The list of streams for those who use the library: see :meth:`.Streams.list`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from durable_streams.model.paths import path_text
from durable_streams.model.results import StreamRow

if TYPE_CHECKING:
    from durable_streams.model.results import StreamPage, UnusableRow


@dataclass(frozen=True, slots=True)
class ListedStream:
    """A stream as a list has it; times are milliseconds since 1970.

    ``next_offset``: the tail.  ``size_bytes``: of its content as it is stored, a fork's with what
    it has from its source.  ``last_write_ms``: of the last append or close, None if there was none
    since it was made.  ``ends_at_ms``: when it ends by itself if nobody uses it any more, None if
    it does not.  ``fork_of``: the path of its source, and ``fork_offset`` up to which offset it has
    that one's content, both None if it is no fork.

    ``error``: why the stream cannot be used or looked at now; then nothing but its path is known,
    and the other fields are empty.
    """

    path: str
    content_type: str = ""
    next_offset: str = ""
    size_bytes: int = 0
    created_ms: int = 0
    last_write_ms: int | None = None
    closed: bool = False
    ttl_s: int | None = None
    expires_at: str | None = None
    ends_at_ms: int | None = None
    fork_of: str | None = None
    fork_offset: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ListPage:
    """Some streams in order; ``next``: give it as ``after`` for the next page, None at the end.

    There may be fewer streams than were asked for, even none, and yet a next page.
    """

    streams: list[ListedStream]
    next: str | None


def listed(page: StreamPage) -> ListPage:
    """A page of a store, in the words of the library."""
    streams = [listed_stream(row) for row in page.rows]
    return ListPage(streams, None if page.next is None else path_text(page.next))


def listed_stream(row: StreamRow | UnusableRow) -> ListedStream:
    """A row of a store, in the words of the library."""
    if not isinstance(row, StreamRow):
        return ListedStream(path_text(row.path), error=row.reason)
    fork = row.fork
    return ListedStream(
        path_text(row.path),
        row.content_type,
        row.tail.token,
        row.size_bytes,
        row.created_ms,
        row.last_write_ms,
        row.closed,
        row.lifetime.ttl_s,
        row.lifetime.expires_at,
        row.ends_at_ms,
        path_text(fork.source) if fork else None,
        fork.offset.token if fork else None,
    )
