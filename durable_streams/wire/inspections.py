"""What is asked below ``__ds`` of one stream, and how it is answered: JSON, kept by no cache.

=============================  =====================================================================
``GET __ds/records/<path>``    what was appended, and when: ``offset``, ``since`` or ``last`` says
                               where to begin, ``limit`` how many; :func:`records` is the answer
``GET __ds/streams/<path>``    all that is known of it; :func:`details` is the answer
=============================  =====================================================================

No use of a stream: asking renews no TTL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from durable_streams.model.commands import Details, Records
from durable_streams.model.errors import MethodNotAllowed
from durable_streams.model.paths import parse_stream_path, path_text
from durable_streams.model.results import UnusableRow
from durable_streams.model.tokens import parse_start
from durable_streams.rules.lifetime import parse_count, parse_instant
from durable_streams.rules.record_pages import MAX_RECORDS, parse_page
from durable_streams.wire.lists import instant, row_as_json
from durable_streams.wire.replies import Reply
from durable_streams.wire.requests import parse_query

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from durable_streams.model.commands import Inspection
    from durable_streams.model.details import StreamDetails
    from durable_streams.model.paths import StreamPath
    from durable_streams.model.records import Record, RecordsPage

JSON_HEADERS: Final = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))

_OF_RECORDS: Final = frozenset({"offset", "since", "last", "limit"})


def parse_inspection(method: str, raw_path: str, raw_query: str) -> Inspection | None:
    """Read a request whose first segment is the reserved one; None if it is for something else.

    Raises ``InvalidRequest``, ``InvalidOffset`` or ``MethodNotAllowed``.
    """
    _, _, what = raw_path.partition("/")
    name, slash, path = what.partition("/")
    if name not in {"records", "streams"} or not slash or method == "OPTIONS":
        return None
    if method not in {"GET", "HEAD"}:
        raise MethodNotAllowed(f"this takes GET and HEAD, not {method[:32]!r}")
    if name == "streams":
        return Details(parse_stream_path(path))
    return _parse_records(path, raw_query)


def _parse_records(raw_path: str, raw_query: str) -> Records:
    path = parse_stream_path(raw_path)
    query = parse_query(raw_query, _OF_RECORDS)
    offset, since = query.get("offset"), query.get("since")
    last, limit = (
        None if (text := query.get(name)) is None else parse_count(name, text, 1, MAX_RECORDS)
        for name in ("last", "limit")
    )
    if since is not None:
        since = since.replace(" ", "+")  # as is written before a time zone, and not escaped
    return Records(
        path,
        *parse_page(
            None if offset is None else parse_start(offset),
            None if since is None else parse_instant("since", since),
            last,
            limit,
        ),
    )


def records(command: Records, page: RecordsPage, told: Sequence[object]) -> Reply:
    """The answer with a page of records; ``told``: each as :func:`record_as_json` has it."""
    said = {
        "path": path_text(command.path),
        "records": told,
        "next": page.next.token,
        "up_to_date": page.at_tail,
        "closed": page.closed,
    }
    return Reply(200, JSON_HEADERS, msgspec.json.encode(said) + b"\n")


def record_as_json(record: Record) -> dict[str, object]:
    """A record, for programs."""
    producer = record.producer
    return {
        "start": record.start.token,
        "end": record.end.token,
        "time": instant(record.time_ms),
        "size": record.size_bytes,
        "producer": producer and {"id": producer.id, "epoch": producer.epoch, "seq": producer.seq},
        "closed": record.closed,
    }


def details(found: StreamDetails | UnusableRow, may_see: Callable[[StreamPath], bool]) -> Reply:
    """The answer with all that is known of a stream; ``may_see``: which others are named."""
    if isinstance(found, UnusableRow):
        said = row_as_json(found, may_see)
    else:
        said = row_as_json(found.row, may_see) | _details(found, may_see)
    return Reply(200, JSON_HEADERS, msgspec.json.encode(said) + b"\n")


def _details(found: StreamDetails, may_see: Callable[[StreamPath], bool]) -> dict[str, object]:
    return {
        "begin": found.begin.token,
        "left_s": found.left_s,
        "segments": {
            "first": found.begin.segment,
            "count": found.segments,
            "last_sizes": found.segment_bytes,
        },
        "producers": {
            "count": found.producers,
            "last": [
                {
                    "id": producer.id,
                    "epoch": producer.epoch,
                    "seq": producer.seq,
                    "last_seen": instant(producer.last_ms),
                }
                for producer in found.last_producers
            ],
        },
        "forks": {
            "paths": [path_text(path) for path in found.forks if may_see(path)],
            "more": found.more_forks,
        },
        "readers": {
            "following": found.followers,
            "long_polls": found.long_polls,
            "event_streams": found.subscribers,
        },
    }
