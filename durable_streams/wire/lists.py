"""Lists of streams over HTTP: what a query asks for, and a row as JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote_plus

from durable_streams.model.errors import InvalidRequest
from durable_streams.model.paths import parse_path_text, path_text
from durable_streams.model.results import StreamRow

if TYPE_CHECKING:
    from durable_streams.model.paths import StreamPath
    from durable_streams.model.results import UnusableRow

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1000
"""Rows of a page: each may take a look at the disk, and all are in memory at once."""

_PARAMETERS: Final = frozenset({"prefix", "after", "limit"})


class Asked(NamedTuple):
    """What a query asks for.  ``after``: as it was given, as it need not be a path."""

    prefix: StreamPath
    after: str
    limit: int


def parse_list(raw_query: str) -> Asked:
    """Read the query of a list; :class:`InvalidRequest` says which value cannot be."""
    given: dict[str, str] = {}
    for pair in raw_query.split("&"):
        name, _, value = pair.partition("=")
        try:
            name, value = unquote_plus(name), unquote_plus(value, errors="strict")
        except UnicodeDecodeError:
            raise InvalidRequest(f"{name[:32]} in the query is not UTF-8") from None
        if name in _PARAMETERS and given.setdefault(name, value) is not value:
            raise InvalidRequest(f"give {name} in the query once")
    prefix = given.get("prefix", "")
    return Asked(_parse(prefix, "prefix"), given.get("after", ""), _limit(given.get("limit")))


def parse_after(text: str) -> StreamPath:
    """The path that a list is to go on behind; ``""``: it begins."""
    return _parse(text, "after")


def _parse(text: str, name: str) -> StreamPath:
    try:
        return parse_path_text(text) if text else ()
    except InvalidRequest as error:
        hint = ""
        if name == "prefix" and text.endswith("/"):
            hint = "; a prefix is whole segments: leave out the slash at its end"
        raise InvalidRequest(f"{name}: {error}{hint}") from None


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= MAX_LIMIT:
        return int(text)
    raise InvalidRequest(f"limit must be an integer from 1 to {MAX_LIMIT}, not {text[:32]!r}")


def row_as_json(row: StreamRow | UnusableRow) -> dict[str, object]:
    """A row of a list, for programs."""
    if not isinstance(row, StreamRow):
        return {"path": path_text(row.path), "error": row.reason}
    fork = row.fork
    return {
        "path": path_text(row.path),
        "content_type": row.content_type,
        "tail": row.tail.token,
        "size_bytes": row.size_bytes,
        "created": instant(row.created_ms),
        "last_write": instant(row.last_write_ms),
        "closed": row.closed,
        "ttl_s": row.lifetime.ttl_s,
        "expires_at": row.lifetime.expires_at,
        "ends_at": instant(row.ends_at_ms),
        "fork": fork and {"source": path_text(fork.source), "offset": fork.offset.token},
    }


def instant(time_ms: int | None) -> str | None:
    """A time as RFC 3339 has it, to the millisecond; None for one beyond the year 9999."""
    if time_ms is None:
        return None
    try:
        time = datetime.fromtimestamp(time_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
