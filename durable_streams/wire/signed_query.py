"""The signature of a signed URL, the parameter ``signed`` of a query, and what a log has of those.

One rule says which parameter that is, for whoever checks it and for whoever keeps it out of a log:
pairs are split at ``&``, and names and values decoded by ``unquote_plus``, as those of reads are.
So no way to escape a name is a signature here and readable text there.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote_plus

PARAMETER: Final = "signed"

REDACTED: Final = "[signature]"
"""What stands for a signature in a log."""

HIDDEN: Final = "[hidden]"
"""What stands there for what is no parameter of ours."""

_HARMLESS: Final = frozenset(
    {"offset", "live", "cursor", "prefix", "after", "limit", "since", "last"}
)

NOT_SIGNED: Final = (None, False)
"""What :func:`signed_in` says of a query without a signature."""


def signed_in(raw_query: str) -> tuple[str | None, bool]:
    """The first value of ``signed`` in a query, None if it is not there; and whether it is again.

    Without a ``=`` it is there, and empty.
    """
    if not _may_be_in(raw_query):
        return NOT_SIGNED
    values = [
        unquote_plus(value)
        for name, _, value in (pair.partition("=") for pair in raw_query.split("&"))
        if _is_ours(name)
    ]
    return (values[0] if values else None), len(values) > 1


def redacted(target: str) -> str:
    """A request target without what may be a secret.

    That is the value of each ``signed``, and of the rest of the query all that is none of our own
    parameters: somebody may take a token for one.  So it is with the user of an absolute URL.
    """
    path, mark, query = target.partition("?")
    if "@" in path and not path.startswith("/"):
        path = f"{HIDDEN}@{path.rpartition('@')[2]}"
    if not query:
        return f"{path}{mark}"
    return f"{path}{mark}{'&'.join(map(_shown, query.split('&')))}"


def _shown(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    if not pair or unquote_plus(name) in _HARMLESS:
        return pair
    if not _is_ours(name):
        return HIDDEN
    return f"{name}={REDACTED}" if equals else pair


def _may_be_in(query: str) -> bool:
    """Whether a query can have one at all; nearly none does."""
    return "%" in query or PARAMETER in query


def _is_ours(name: str) -> bool:
    return unquote_plus(name) == PARAMETER
