"""Who asks: whoever showed credentials, and what they may do."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import msgspec

from durable_streams.access.grants import Grant, Scope

if TYPE_CHECKING:
    from durable_streams.model.paths import StreamPath


class Principal(msgspec.Struct, frozen=True):
    """Who asks, as they were known when they were admitted.

    ``name`` stands in logs and is whom limits count for: a token's id (``token:web``), the subject
    of a JWT (``jwt:alice``), or what your ``authorize`` says.  Until ``expires_at_s``, in seconds
    since 1970, they have ``grants``; live reads end then.  ``vouched_by``: the digest of the token,
    or the id of the key, by which they are known.
    """

    name: str
    grants: tuple[Grant, ...]
    expires_at_s: float = math.inf
    vouched_by: str = ""

    def may(self, scope: Scope, path: StreamPath) -> bool:
        """Whether they have a scope on a path."""
        return any(grant.allows(scope, path) for grant in self.grants)

    def has_any(self, path: StreamPath) -> bool:
        """Whether they have any scope on a path."""
        return any(grant.pattern.matches(path) for grant in self.grants)


ANYBODY: Final = Principal("anybody", (Grant.on_prefix("", Scope),))
"""Whoever asks where nobody has to say who they are."""
