"""Lists of streams over HTTP: what a query asks for, and a row as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from durable_streams.model.errors import InvalidRequest, MethodNotAllowed
from durable_streams.model.paths import parse_path_text, path_text
from durable_streams.model.results import StreamRow
from durable_streams.rules.lifetime import instant_text, parse_count
from durable_streams.rules.list_pages import DEFAULT_LISTED, MAX_LISTED
from durable_streams.wire.requests import parse_query

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_streams.model.paths import StreamPath
    from durable_streams.model.results import UnusableRow

_PARAMETERS: Final = frozenset({"prefix", "after", "limit"})


class ListRequest(NamedTuple):
    """What is asked for.  ``after``: as it was given, as it need not be a path."""

    prefix: StreamPath
    after: str
    limit: int


def parse_list(method: str, raw_path: str, raw_query: str) -> ListRequest | None:
    """Read a request whose first segment is the reserved one; None if it is for something else.

    :class:`InvalidRequest` says which value cannot be; or :class:`MethodNotAllowed`.
    """
    if raw_path.partition("/")[2] != "streams" or method == "OPTIONS":
        return None
    if method not in {"GET", "HEAD"}:
        raise MethodNotAllowed(f"this takes GET and HEAD, not {method[:32]!r}")
    query = parse_query(raw_query, _PARAMETERS)
    for name, value in query.items():
        if "\ufffd" in value:
            raise InvalidRequest(f"{name} is not UTF-8")
    given = query.get("limit")
    limit = DEFAULT_LISTED if given is None else parse_count("limit", given, 1, MAX_LISTED)
    return ListRequest(_parse(query.get("prefix", ""), "prefix"), query.get("after", ""), limit)


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


def row_as_json(
    row: StreamRow | UnusableRow, may_see: Callable[[StreamPath], bool]
) -> dict[str, object]:
    """A row of a list, for programs; ``may_see``: whether the source of a fork is named in it."""
    if not isinstance(row, StreamRow):
        return {"path": path_text(row.path), "error": row.reason}
    fork = row.fork
    source = path_text(fork.source) if fork and may_see(fork.source) else None
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
        "fork": fork and {"source": source, "offset": fork.offset.token},
    }


def instant(time_ms: int | None) -> str | None:
    """A time as RFC 3339 has it; None too for one that it has no way to say."""
    try:
        return None if time_ms is None else instant_text(time_ms)
    except OverflowError:
        return None
