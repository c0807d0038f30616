"""What somebody may do, and on which streams: scopes on patterns of paths.

A pattern is compared with the decoded segments of a path, never with text, so that nothing that is
escaped, and no name that only begins alike, gets past it: the prefix ``chat`` holds ``chat`` and
``chat/1``, not ``chats``.

==========  ==================  ===================================================================
pattern     written             matches
==========  ==================  ===================================================================
path        ``chat/room-1``     that stream and no other
prefix      ``chat``            that stream, and all whose paths begin with these segments; the
                                empty prefix matches every stream
glob        ``chat/*/log``      a ``*`` is any characters within a segment, a segment ``**`` any
                                number of segments, none too
==========  ==================  ===================================================================

They are written as paths are (``model/paths``): a slash inside a segment is ``%2F``.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

import msgspec

from durable_streams.model.errors import InvalidRequest
from durable_streams.model.paths import parse_path_text, path_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from durable_streams.model.paths import StreamPath

MAX_GLOB_SEGMENTS: Final = 16
"""Each is compared with up to 512 of a path, for each grant, and everybody waits meanwhile."""

_ANY: Final = "*"
_ANY_SEGMENTS: Final = "**"


class Scope(Enum):
    """One thing that somebody may do.

    ``FORK`` is on the source: a fork keeps its source's storage, and gives away what is in it, so
    that it takes ``READ`` there as well.  ``ADMIN`` is to grant what one has oneself, and to see
    how the server is; it holds no other scope.
    """

    READ = "read"
    APPEND = "append"
    CREATE = "create"
    DELETE = "delete"
    FORK = "fork"
    LIST = "list"
    ADMIN = "admin"

    __hash__ = object.__hash__  # members are single; by their names it takes five times as long


class Kind(Enum):
    """How a pattern is compared."""

    PATH = "path"
    PREFIX = "prefix"
    GLOB = "glob"


class Pattern(msgspec.Struct, frozen=True):
    """A set of stream paths; see the module."""

    kind: Kind
    segments: StreamPath

    @classmethod
    def parse(cls, kind: Kind, text: str) -> Pattern:
        """Read a pattern; ``ValueError`` (``InvalidRequest``) if no path could match it."""
        if kind is Kind.PREFIX and text == "":
            return cls(kind, ())
        segments = parse_path_text(text)
        if kind is Kind.GLOB and len(segments) > MAX_GLOB_SEGMENTS:
            raise InvalidRequest(f"a glob has at most {MAX_GLOB_SEGMENTS} segments")
        return cls(kind, segments)

    @property
    def text(self) -> str:
        """How it is written: :meth:`parse` undoes it."""
        return path_text(self.segments) if self.segments else ""

    def matches(self, path: StreamPath) -> bool:
        """Whether a path is in it."""
        segments = self.segments
        if self.kind is Kind.PREFIX:
            return path[: len(segments)] == segments
        if self.kind is Kind.PATH:
            return path == segments
        return _wild(segments, path)

    def covers(self, other: Pattern) -> bool:
        """Whether every path of ``other`` is certainly in this one.

        Of two globs only what is plain counts: equal ones, or that one begins with this one's
        ``literal/**``.  So the answer may be no although they do, and never yes although not.
        """
        if self == other:
            return True
        if other.kind is Kind.PATH:
            return self.matches(other.segments)
        base = self._base()
        return base is not None and other.literal()[: len(base)] == base

    def _base(self) -> StreamPath | None:
        """The segments that are all it asks for; None if it asks for more."""
        if self.kind is Kind.PREFIX:
            return self.segments
        if self.kind is Kind.GLOB and self.segments[-1] == _ANY_SEGMENTS:
            base = self.segments[:-1]
            return base if not any(_ANY in segment for segment in base) else None
        return None

    def literal(self) -> StreamPath:
        """The segments that every path in it begins with."""
        if self.kind is not Kind.GLOB:
            return self.segments
        wild = [at for at, segment in enumerate(self.segments) if _ANY in segment]
        return self.segments[: wild[0]] if wild else self.segments


class Grant(msgspec.Struct, frozen=True):
    """Scopes on the streams of a pattern."""

    scopes: frozenset[Scope]
    pattern: Pattern

    @classmethod
    def on_path(cls, path: str, scopes: Iterable[Scope | str]) -> Grant:
        """Scopes, or their names, on one stream; ``ValueError`` for what is no path or scope."""
        return cls(_scopes(scopes), Pattern.parse(Kind.PATH, path))

    @classmethod
    def on_prefix(cls, prefix: str, scopes: Iterable[Scope | str]) -> Grant:
        """Scopes on a stream and all below it; ``""``: on every stream."""
        return cls(_scopes(scopes), Pattern.parse(Kind.PREFIX, prefix))

    @classmethod
    def on_glob(cls, glob: str, scopes: Iterable[Scope | str]) -> Grant:
        """Scopes on the streams of a glob."""
        return cls(_scopes(scopes), Pattern.parse(Kind.GLOB, glob))

    def allows(self, scope: Scope, path: StreamPath) -> bool:
        """Whether it gives a scope on a path."""
        return scope in self.scopes and self.pattern.matches(path)


def cover(grants: Iterable[Grant], wanted: Grant) -> bool:
    """Whether all that ``wanted`` gives is certainly given by ``grants`` as well."""
    held = [grant.scopes for grant in grants if grant.pattern.covers(wanted.pattern)]
    return wanted.scopes <= frozenset().union(*held)


def _scopes(scopes: Iterable[Scope | str]) -> frozenset[Scope]:
    if isinstance(scopes, str):
        raise TypeError(f"scopes are several: give [{scopes!r}]")
    found = frozenset(Scope(scope) for scope in scopes)
    if not found:
        raise ValueError("a grant without a scope gives nothing")
    return found


def _matches_segment(glob: str, segment: str) -> bool:
    """Whether a segment is what one of a glob says, of which each ``*`` is any characters.

    What is between two of them may be found where it comes first: what follows fits there, if it
    fits anywhere.
    """
    if _ANY not in glob:
        return glob == segment
    first, *pieces = glob.split(_ANY)
    last = pieces.pop()
    at, end = len(first), len(segment) - len(last)
    if at > end or not segment.startswith(first) or not segment.endswith(last):
        return False
    for piece in pieces:
        at = segment.find(piece, at, end)
        if at < 0:
            return False
        at += len(piece)
    return True


def _wild(pattern: StreamPath, path: StreamPath) -> bool:
    """Whether a path is what a glob says, of which each ``**`` stands for any number of segments.

    Going back to the last ``**`` only, as what stood before it fits whatever follows: the time
    is at most the product of both lengths, whatever the pattern.
    """
    at = taken = 0
    last, restart = -1, 0
    while taken < len(path):
        if at < len(pattern) and pattern[at] == _ANY_SEGMENTS:
            last, restart = at, taken
            at += 1
        elif at < len(pattern) and _matches_segment(pattern[at], path[taken]):
            at += 1
            taken += 1
        elif last >= 0:
            restart += 1
            at, taken = last + 1, restart
        else:
            return False
    return all(rest == _ANY_SEGMENTS for rest in pattern[at:])
