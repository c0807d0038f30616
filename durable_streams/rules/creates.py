"""Creating what may exist already: is it the same stream, and what a fork inherits (§5.1, §4.2).

The request is compared with the existing stream as that was requested, not as it was resolved
or inherited.  So a client's retry succeeds although the source of its fork has moved on, and
even after the source has gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from durable_streams.model.commands import FOREVER, Lifetime
from durable_streams.model.errors import StreamExists
from durable_streams.model.paths import path_text
from durable_streams.rules.media_type import DEFAULT, same

if TYPE_CHECKING:
    from durable_streams.model.commands import Create, ForkRequest


class Identity(msgspec.Struct, frozen=True, gc=False):
    """What an existing stream is compared by.

    ``requested_lifetime`` and ``fork`` are those of the PUT that created the stream;
    ``content_type`` and ``closed`` are the stream's own, today.
    """

    content_type: str
    requested_lifetime: Lifetime
    closed: bool
    fork: ForkRequest | None


def matches(existing: Identity, command: Create) -> None:
    """Return if the PUT asks for the existing stream (200); else :class:`StreamExists` (409)."""
    difference = (
        _content_type_difference(existing, command)
        or _lifetime_difference(existing.requested_lifetime, command.lifetime)
        or _closed_difference(existing, command)
        or _fork_difference(existing.fork, command.fork)
    )
    if difference is not None:
        raise StreamExists(path_text(command.path), difference)


def fork_lifetime(source: Lifetime, requested: Lifetime) -> Lifetime:
    """Return the lifetime of a fork: the requested one, else its source's (§4.2)."""
    return source if _same_lifetime(requested, FOREVER) else requested


def _content_type_difference(existing: Identity, command: Create) -> str | None:
    requested = command.content_type
    if requested is None:
        if command.fork is not None:
            return None  # a fork has its source's type, so leaving it out cannot differ
        requested = DEFAULT
    if same(requested, existing.content_type):
        return None
    return f"its content type is {existing.content_type!r}, not {requested!r}"


def _lifetime_difference(existing: Lifetime, requested: Lifetime) -> str | None:
    if _same_lifetime(existing, requested):
        return None
    return f"it was created with {_describe(existing)}, not {_describe(requested)}"


def _same_lifetime(one: Lifetime, other: Lifetime) -> bool:
    return one.ttl_s == other.ttl_s and one.expires_at_ms == other.expires_at_ms


def _describe(lifetime: Lifetime) -> str:
    if lifetime.ttl_s is not None:
        return f"Stream-TTL {lifetime.ttl_s}"
    if lifetime.expires_at is not None:
        return f"Stream-Expires-At {lifetime.expires_at!r}"
    return "no TTL or expiry"


def _closed_difference(existing: Identity, command: Create) -> str | None:
    if existing.closed == command.closed:
        return None
    return "it is closed" if existing.closed else "it is open"


def _fork_difference(existing: ForkRequest | None, requested: ForkRequest | None) -> str | None:
    if existing is None or requested is None:
        if existing is requested:
            return None
        if existing is None:
            return "it is no fork"
        return f"it is a fork of {path_text(existing.source)!r}"
    if existing.source != requested.source:
        one, other = path_text(existing.source), path_text(requested.source)
        return f"it is a fork of {one!r}, not of {other!r}"
    if requested.offset is not None and existing.offset != requested.offset:
        forked_at = "the tail" if existing.offset is None else existing.offset.token
        return f"it was forked at {forked_at}, not at {requested.offset.token}"
    if existing.sub_offset != requested.sub_offset:
        return f"its fork sub-offset is {existing.sub_offset}, not {requested.sub_offset}"
    return None
