"""What a server of ours tells below ``__ds``: lists, details and records, as the library has them.

Other servers have none of it: their 404 is an ``UnexpectedAnswer`` for a list, and for one stream
cannot be told from a stream that is not there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from durable_streams.client.refusals import Asked
from durable_streams.client.steps import Request
from durable_streams.details import Details
from durable_streams.history import Record, RecordsResult
from durable_streams.listing import ListedStream, ListPage
from durable_streams.model.commands import ProducerClaim
from durable_streams.model.details import ProducerSeen
from durable_streams.model.errors import InvalidRequest, StreamNotFound, UnexpectedAnswer
from durable_streams.model.paths import path_text
from durable_streams.rules.lifetime import parse_instant

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_streams.client.steps import Answer, Conversation
    from durable_streams.client.verbs import Verbs
    from durable_streams.model.paths import StreamPath

_T = TypeVar("_T")


def list_page(
    verbs: Verbs, prefix: StreamPath, after: StreamPath, limit: int
) -> Conversation[ListPage]:
    """``GET __ds/streams``."""
    said = {
        "prefix": path_text(prefix) or None,
        "after": path_text(after) or None,
        "limit": str(limit),
    }
    request = Request("GET", verbs.address.control("streams", (), said), {})
    try:
        answer = yield from verbs.ask(request, Asked("GET", path_text(prefix)))
    except StreamNotFound:
        raise UnexpectedAnswer(
            "the server has no list of streams: see whether the URL is right, and whose it is"
        ) from None
    return _read(answer, _page)


def details(verbs: Verbs, path: StreamPath) -> Conversation[Details]:
    """``GET __ds/streams/<path>``."""
    request = Request("GET", verbs.address.control("streams", path), {})
    answer = yield from verbs.ask(request, Asked("GET", path_text(path)))
    return _read(answer, _details)


def records(
    verbs: Verbs, path: StreamPath, place: tuple[str, str] | None, limit: int
) -> Conversation[RecordsResult]:
    """``GET __ds/records/<path>``; ``place``: the parameter that says where, and its value."""
    said: dict[str, str | None] = {"limit": str(limit)}
    if place is not None:
        said[place[0]] = place[1]
    request = Request("GET", verbs.address.control("records", path, said), {})
    offset = place[1] if place is not None and place[0] == "offset" else None
    answer = yield from verbs.ask(request, Asked("GET", path_text(path), offset=offset))
    return _read(answer, _records)


def _read(answer: Answer, made: Callable[[dict[str, Any]], _T]) -> _T:
    try:
        return made(_json.decode(answer.body))
    except (msgspec.MsgspecError, LookupError, TypeError, ValueError, InvalidRequest) as error:
        raise UnexpectedAnswer(f"the answer cannot be read: {error!r}") from None


def _page(found: dict[str, Any]) -> ListPage:
    return ListPage([_listed(row) for row in found["streams"]], found["next"])


def _listed(row: dict[str, Any]) -> ListedStream:
    if "error" in row:
        return ListedStream(row["path"], error=row["error"])
    fork = row["fork"] or {"source": None, "offset": None}
    return ListedStream(
        row["path"],
        row["content_type"],
        row["tail"],
        row["size_bytes"],
        _ms(row["created"]) or 0,
        _ms(row["last_write"]),
        row["closed"],
        row["ttl_s"],
        row["expires_at"],
        _ms(row["ends_at"]),
        fork["source"],
        fork["offset"],
    )


def _details(found: dict[str, Any]) -> Details:
    stream = _listed(found)
    if stream.error is not None:
        return Details(stream)
    producers, forks, readers = found["producers"], found["forks"], found["readers"]
    last = (
        ProducerSeen(one["id"], one["epoch"], one["seq"], _ms(one["last_seen"]) or 0)
        for one in producers["last"]
    )
    return Details(
        stream,
        found["begin"],
        found["left_s"],
        found["segments"]["count"],
        tuple(found["segments"]["last_sizes"]),
        producers["count"],
        tuple(last),
        tuple(forks["paths"]),
        forks["more"],
        readers["following"],
        readers["long_polls"],
        readers["event_streams"],
    )


def _records(found: dict[str, Any]) -> RecordsResult:
    made = [_record(row) for row in found["records"]]
    return RecordsResult(made, found["next"], found["up_to_date"], found["closed"])


def _record(row: dict[str, Any]) -> Record:
    producer = row["producer"]
    claim = producer and ProducerClaim(producer["id"], producer["epoch"], producer["seq"])
    return Record(
        row["start"], row["end"], _ms(row["time"]) or 0, row["size"], claim, row["closed"]
    )


def _ms(instant: str | None) -> int | None:
    return None if instant is None else parse_instant("a time", instant)


_json: Final = msgspec.json.Decoder()
