"""The signature of a signed URL: the parameter ``signed`` of a query.

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
    """A request target with ``[signature]`` for the value of each ``signed`` in its query."""
    path, mark, query = target.partition("?")
    if not _may_be_in(query):
        return target
    pairs = []
    for pair in query.split("&"):
        name, equals, _ = pair.partition("=")
        pairs.append(f"{name}={REDACTED}" if equals and _is_ours(name) else pair)
    return f"{path}{mark}{'&'.join(pairs)}"


def _may_be_in(query: str) -> bool:
    """Whether a query can have one at all; nearly none does."""
    return "%" in query or PARAMETER in query


def _is_ours(name: str) -> bool:
    return unquote_plus(name) == PARAMETER
