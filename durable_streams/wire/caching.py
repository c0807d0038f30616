"""What caches may keep, and for how long (protocol §10).

An answer that ends before the tail can never change and is cached by everybody.  One at the
tail changes with the next append or close, so it is revalidated by its ETag each time (the
protocol would allow a minute; then browsers show stale data).  Where the tail is now is never
cached.  No cache may keep an answer for longer than the stream lives.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from durable_streams.model.results import Chunk

NO_STORE: Final = "no-store"
NO_CACHE: Final = "no-cache"
STALE_WHILE_REVALIDATE_S: Final = 300
ON_THE_WAY_S: Final = 2
"""From a lifetime: an answer's age begins to count when it arrives, and some caches (nginx) count
whole seconds."""

LAST_ANSWERS_S: Final = 60
"""Longer than any answer takes that was begun before its stream ended until its age counts."""

_ENTITY_TAG: Final = re.compile(r'(?:W/)?("[^"]*")')


def etag(chunk: Chunk) -> str:
    """Return the strong entity tag of the answer with a chunk.

    It names the stream's incarnation, the range, and the running checksum at its end: offsets are
    given again after a loss, or in a restored backup, and other bytes then must have another tag.
    That the stream is closed is another answer.
    """
    state = ":c" if chunk.closed else ""
    return f'"{chunk.stream.id}:{chunk.start.token}:{chunk.end.token}:{chunk.chain.hex()}{state}"'


def matches(if_none_match: str, etag: str) -> bool:
    """Whether ``If-None-Match`` holds the tag: a list, weak tags and ``*`` (RFC 9110 §13.1.2)."""
    if if_none_match == etag or if_none_match.strip() == "*":
        return True
    return any(tag == etag for tag in _ENTITY_TAG.findall(if_none_match))


def kept_s(max_age_s: int) -> int:
    """How long after its stream's end a cache may give a piece away that it kept so long; 0: never.

    Until then no other piece may have the same path and offset.
    """
    return max_age_s + STALE_WHILE_REVALIDATE_S + LAST_ANSWERS_S if max_age_s else 0


def cache_control(
    *,
    sealed: bool,
    from_now: bool,
    max_age_s: int = 60,
    private: bool = False,
    program: bool = False,
    left_s: int | None = None,
) -> str:
    """Return ``Cache-Control`` for a read.

    ``sealed``: the answer ends before the tail.  ``from_now``: the client asked for
    ``offset=now``.  ``private``: shared caches must not keep confidential streams.  ``program``: a
    page might run it, so it gets it from the server only, which refuses that (``pages``).
    ``left_s``: how many seconds the stream has to live if nobody uses it, None if it has no end.
    """
    if from_now or program:
        return NO_STORE
    stale_s = STALE_WHILE_REVALIDATE_S
    if left_s is not None:
        left_s = max(0, left_s - ON_THE_WAY_S)
        max_age_s = min(max_age_s, left_s)
        stale_s = min(stale_s, left_s - max_age_s)
    if not sealed or not max_age_s:
        return "private, no-cache" if private else NO_CACHE
    scope = "private" if private else "public"
    # Also if it is 0: a cache that is not told has a time of its own (Varnish 10 s).
    return f"{scope}, max-age={max_age_s}, stale-while-revalidate={stale_s}"
