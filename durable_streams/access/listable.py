"""Where in the list of streams somebody may look: the grants with the scope ``list``, as ranges.

A list is walked through range by range, so that no time goes on what nobody asked for or may see.
Within a range each path is still compared with the grants: a glob is all below what is plain in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from durable_streams.access.grants import Kind, Scope

if TYPE_CHECKING:
    from durable_streams.access.grants import Pattern
    from durable_streams.access.principals import Principal
    from durable_streams.model.paths import StreamPath


class Range(NamedTuple):
    """A path and all below it, or that path alone."""

    prefix: StreamPath
    is_one: bool

    def is_passed(self, path: StreamPath) -> bool:
        """Whether all of it comes before or at a path."""
        return self.prefix <= path and (self.is_one or path[: len(self.prefix)] != self.prefix)


def ranges(principal: Principal, prefix: StreamPath, after: StreamPath) -> list[Range]:
    """Ranges in order, none within another, that have all that somebody may see below a prefix.

    Those that come before ``after`` are left out.
    """
    patterns = [grant.pattern for grant in principal.grants if Scope.LIST in grant.scopes]
    found = {seen for pattern in patterns if (seen := _within(pattern, prefix)) is not None}
    kept: list[Range] = []
    for some in sorted(found):  # of the same path, that with all below comes first
        last = kept[-1] if kept else None
        if last is None or not _holds(last, some):
            kept.append(some)
    return [some for some in kept if not some.is_passed(after)]


def _within(pattern: Pattern, prefix: StreamPath) -> Range | None:
    """What a pattern and a prefix have in common, at least; None if nothing."""
    base = pattern.literal()
    if pattern.kind is Kind.PATH:
        return Range(base, is_one=True) if base[: len(prefix)] == prefix else None
    if base[: len(prefix)] == prefix:
        return Range(base, is_one=False)
    return Range(prefix, is_one=False) if prefix[: len(base)] == base else None


def _holds(one: Range, other: Range) -> bool:
    if one.is_one:
        return one == other
    return other.prefix[: len(one.prefix)] == one.prefix
