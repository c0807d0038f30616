"""Where a signed URL has its signature: the parameter ``signed`` of its query.

It is a credential, so it is told apart here from all other parameters, however it is escaped, and
is taken out of whatever is logged.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote_plus

PARAMETER: Final = "signed"

NOT_SIGNED: Final = (None, False)
"""What :func:`signed_in` says of a query without a signature."""


def signed_in(raw_query: str) -> tuple[str | None, bool]:
    """The signature in a query, None if there is none, and whether there are several."""
    found = [unquote_plus(value) for name, value in _pairs(raw_query) if _is_ours(name)]
    return (found[0], len(found) > 1) if found else NOT_SIGNED


def redacted(target: str) -> str:
    """A request target without its signatures."""
    path, mark, query = target.partition("?")
    if not mark:
        return target
    pairs = [
        f"{name}=[signature]" if _is_ours(name) else pair
        for pair in query.split("&")
        for name in (pair.partition("=")[0],)
    ]
    return f"{path}?{'&'.join(pairs)}"


def _pairs(raw_query: str) -> list[tuple[str, str]]:
    pairs = (pair.partition("=") for pair in raw_query.split("&"))
    return [(name, value) for name, _, value in pairs]


def _is_ours(name: str) -> bool:
    return name == PARAMETER or ("%" in name and unquote_plus(name) == PARAMETER)
