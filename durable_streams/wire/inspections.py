"""What is asked below ``__ds`` of one stream, and how it is answered: JSON, kept by no cache.

=============================  =====================================================================
``GET __ds/records/<path>``    what was appended, and when: ``offset``, ``since`` or ``last`` says
                               where to begin, ``limit`` how many; :func:`records` is the answer
=============================  =====================================================================

No use of a stream: asking renews no TTL.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_plus

import msgspec

from durable_streams.model.commands import Last, Records, Since
from durable_streams.model.errors import InvalidRequest, MethodNotAllowed
from durable_streams.model.offsets import Start
from durable_streams.model.paths import parse_stream_path, path_text
from durable_streams.model.records import DEFAULT_RECORDS, MAX_RECORDS
from durable_streams.model.tokens import parse_start
from durable_streams.rules.lifetime import parse_count, parse_instant
from durable_streams.wire.replies import Reply
from durable_streams.wire.signed_query import PARAMETER

if TYPE_CHECKING:
    from durable_streams.model.commands import Inspection, Place
    from durable_streams.model.records import Record, RecordsPage

JSON_HEADERS: Final = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PLACES: Final = frozenset({"offset", "since", "last"})


def parse_inspection(method: str, raw_path: str, raw_query: str) -> Inspection | None:
    """Read a request whose first segment is the reserved one; None if it is for something else.

    Raises :class:`InvalidRequest`, :class:`InvalidOffset` or :class:`MethodNotAllowed`.
    """
    _, _, what = raw_path.partition("/")
    name, slash, path = what.partition("/")
    if name != "records" or not slash or method == "OPTIONS":
        return None
    if method not in {"GET", "HEAD"}:
        raise MethodNotAllowed(f"this takes GET and HEAD, not {method[:32]!r}")
    return _parse_records(path, raw_query)


def _parse_records(raw_path: str, raw_query: str) -> Records:
    path = parse_stream_path(raw_path)
    query = _parse_query(raw_query, {*_PLACES, "limit"})
    places = sorted(_PLACES & query.keys())
    if len(places) > 1:
        raise InvalidRequest(f"give one of offset, since and last, not {' and '.join(places)}")
    place: Place = Start.BEGINNING
    most = DEFAULT_RECORDS
    if "offset" in query:
        place = parse_start(query["offset"])
    elif "since" in query:
        since = query["since"].replace(" ", "+")  # as is written before a time zone, unescaped
        place = Since(parse_instant("since", since))
    elif "last" in query:
        most = _parse_number("last", query["last"])
        place = Last(most)
    limit = _parse_number("limit", query["limit"]) if "limit" in query else most
    return Records(path, place, limit)


def _parse_query(raw_query: str, known: set[str]) -> dict[str, str]:
    """The parameters, each decoded once; one that is unknown is an error, not ignored."""
    query: dict[str, str] = {}
    for pair in raw_query.split("&") if raw_query else ():
        name, _, value = pair.partition("=")
        name, value = unquote_plus(name), unquote_plus(value)
        if name in query:
            raise InvalidRequest(f"the parameter {name[:32]!r} is given more than once")
        if name not in known and name != PARAMETER:
            raise InvalidRequest(
                f"no parameter {name[:32]!r} is known here: use {', '.join(sorted(known))}"
            )
        query[name] = value
    return query


def _parse_number(name: str, text: str) -> int:
    number = parse_count(name, text)
    if not 1 <= number <= MAX_RECORDS:
        raise InvalidRequest(f"{name} must be from 1 to {MAX_RECORDS}, not {number}")
    return number


def records(command: Records, page: RecordsPage) -> Reply:
    """The answer with a page of records."""
    said = {
        "path": path_text(command.path),
        "records": [_record(record) for record in page.records],
        "next": page.next.token,
        "up_to_date": page.at_tail,
        "closed": page.closed,
    }
    return Reply(200, JSON_HEADERS, msgspec.json.encode(said) + b"\n")


def _record(record: Record) -> dict[str, Any]:
    producer = record.producer
    return {
        "start": record.start.token,
        "end": record.end.token,
        "time": _instant(record.time_ms),
        "size": record.size_bytes,
        "producer": producer and {"id": producer.id, "epoch": producer.epoch, "seq": producer.seq},
        "closed": record.closed,
    }


def _instant(time_ms: int) -> str:
    """A time as RFC 3339 has it, in UTC and milliseconds."""
    at = _EPOCH + timedelta(milliseconds=time_ms)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
