"""The store in a database, for all that open one by its URL."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from durable_streams.postgres.urls import SECRET, NoDatabaseUrl, parse

if TYPE_CHECKING:
    from durable_streams.postgres.store import PostgresStore
    from durable_streams.settings import Settings

_NO_SERVER: Final = re.compile(r"(?!https?://)[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def is_database(name: object) -> bool:
    """Whether something names a database, and neither a data directory nor a server.

    Any URL but one of HTTP does: which of them can be read is said when it is opened.  None becomes
    a directory, with the password in its name.
    """
    return isinstance(name, str) and _NO_SERVER.match(name) is not None


def without_password(name: str) -> str:
    """The name of a store as everybody may see it."""
    if not is_database(name):
        return name
    try:
        url = parse(name)
    except NoDatabaseUrl:
        return "a URL that cannot be read"
    return str(url) if url.has_password else name


def identity(name: str) -> str:
    """What tells a database from all others, also if its password changes: it has none.

    :class:`.NoDatabaseUrl` if it cannot be read.
    """
    url = parse(name)
    kept = [one for one in parse_qsl(urlsplit(name).query) if one[0] not in SECRET]
    return f"{url}?{urlencode(kept)}" if kept else str(url)


async def open_database(url: str, settings: Settings) -> PostgresStore:
    """Open one; ``ImportError`` without its driver, ``DataDirectoryError`` if it cannot be."""
    try:
        from durable_streams.postgres.store import PostgresStore  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise ImportError(
            "a database as the store takes pip install 'durable-streams-server[postgres]'"
        ) from error
    return await PostgresStore.at(url, settings)
