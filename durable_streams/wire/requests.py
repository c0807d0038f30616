"""From the head of an HTTP request to a command (protocol §5 and §8: header and query syntax).

Everything that can be wrong without knowing any stream is found here and raised as
:class:`InvalidRequest`.  A protocol header or query parameter that means something to the
method may come at most once; other headers and parameters are ignored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import unquote_plus

from durable_streams.model.commands import (
    Append,
    Create,
    Delete,
    ForkRequest,
    Head,
    Live,
    Preflight,
    ProducerClaim,
    Read,
)
from durable_streams.model.errors import (
    InvalidOffset,
    InvalidRequest,
    MethodNotAllowed,
    UnsupportedEncoding,
    UnsupportedTransferCoding,
)
from durable_streams.model.offsets import Offset, Start
from durable_streams.model.paths import parse_stream_path
from durable_streams.model.tokens import parse_point, parse_start
from durable_streams.rules import media_type
from durable_streams.rules.appends import check_producer, check_stream_seq
from durable_streams.rules.lifetime import MAX_INTEGER, parse_count, parse_lifetime
from durable_streams.wire.cursor import MAX_DIGITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from durable_streams.model.commands import Command

_MAX_INTEGER_DIGITS: Final = len(str(MAX_INTEGER))
_LIVE: Final = {"long-poll": Live.LONG_POLL, "true": Live.LONG_POLL, "sse": Live.SSE}
_PRODUCER: Final = ("Producer-Id", "Producer-Epoch", "Producer-Seq")
_READ_PARAMETERS: Final = frozenset({"offset", "live", "cursor"})


class Headers(Protocol):
    """The headers of a request, looked up without regard to case (a ``multidict`` is one)."""

    def getall(self, name: str, default: Sequence[str], /) -> Sequence[str]:
        """Return all values of a header, ``default`` if it is absent."""


def parse_command(
    method: str, raw_path: str, raw_query: str, headers: Headers, prefix: str
) -> Command:
    """Read a request.

    ``raw_path`` is the undecoded path below the prefix, without a leading slash; ``raw_query``
    what follows the question mark; ``prefix`` the path streams are mounted under, without a
    slash at its end (``Stream-Forked-From`` values begin with it).  Raises
    :class:`InvalidRequest`, :class:`UnsupportedEncoding`, :class:`UnsupportedTransferCoding` or
    :class:`MethodNotAllowed`.
    """
    _refuse_transfer_coding(headers)
    match method:
        case "POST":
            return _parse_append(raw_path, headers)
        case "GET":
            return _parse_read(raw_path, raw_query, headers)
        case "PUT":
            return _parse_create(raw_path, headers, prefix)
        case "HEAD":
            return Head(parse_stream_path(raw_path))
        case "DELETE":
            return Delete(parse_stream_path(raw_path))
        case "OPTIONS":
            return Preflight()
        case _:
            raise MethodNotAllowed(f"the method {method[:32]!r} means nothing to a stream")


def claims_producer(method: str, headers: Headers) -> bool:
    """Whether a request is a producer's append, good or bad."""
    return method == "POST" and any(headers.getall(name, ()) for name in _PRODUCER)


def _parse_append(raw_path: str, headers: Headers) -> Append:
    _refuse_encoding(headers)
    return Append(
        parse_stream_path(raw_path),
        media_type.normalise(_header(headers, "Content-Type")),
        _parse_closed(headers),
        _parse_producer(headers),
        _parse_stream_seq(headers),
    )


def _parse_create(raw_path: str, headers: Headers, prefix: str) -> Create:
    _refuse_encoding(headers)
    return Create(
        parse_stream_path(raw_path),
        media_type.parse(_header(headers, "Content-Type")),
        parse_lifetime(_header(headers, "Stream-TTL"), _header(headers, "Stream-Expires-At")),
        _parse_closed(headers),
        _parse_fork(headers, prefix),
    )


def _parse_read(raw_path: str, raw_query: str, headers: Headers) -> Read:
    path = parse_stream_path(raw_path)
    query = parse_query(raw_query, _READ_PARAMETERS) if raw_query else {}
    offset = query.get("offset")
    start = Start.BEGINNING if offset is None else parse_start(offset)
    live = Live.NO
    if "live" in query:
        chosen = _LIVE.get(query["live"])
        if chosen is None:
            raise InvalidRequest(f"live must be long-poll or sse, not {query['live'][:32]!r}")
        if offset is None:
            raise InvalidOffset("a live read needs an offset")
        live = chosen
    last_event_id = _header(headers, "Last-Event-ID") if live is Live.SSE else None
    if last_event_id:
        start = _parse_last_event_id(last_event_id)
    return Read(
        path,
        start,
        live,
        _parse_cursor(query.get("cursor")),
        _if_none_match(headers),
        resumed=bool(last_event_id),
    )


def _parse_last_event_id(text: str) -> Offset | Start:
    """Read what a browser sends to go on behind the last event that it got: an offset of ours."""
    start = parse_start(text)
    if start is Start.NOW:
        raise InvalidOffset("Last-Event-ID must be the id of an event, not 'now'")
    return start


def parse_query(raw_query: str, known: frozenset[str]) -> dict[str, str]:
    """Return those parameters that are known, each decoded once; others mean nothing to us."""
    query: dict[str, str] = {}
    is_plain = "%" not in raw_query and "+" not in raw_query
    for pair in raw_query.split("&"):
        name, _, value = pair.partition("=")
        if not is_plain:
            name, value = unquote_plus(name), unquote_plus(value)
        if name in known:
            if name in query:
                raise InvalidRequest(f"the parameter {name} is given more than once")
            query[name] = value
    return query


def _parse_cursor(text: str | None) -> int | None:
    """A cursor that is no number of ours is ignored: it only ever helps caches."""
    if text is None or not _is_digits(text) or len(text) > MAX_DIGITS:
        return None
    return int(text)


def _header(headers: Headers, name: str) -> str | None:
    """Return the one value of a header; one that is repeated or not UTF-8 is an error."""
    values = headers.getall(name, ())
    if not values:
        return None
    if len(values) > 1:
        raise InvalidRequest(f"the header {name} is given more than once")
    return _check_unicode(name, values[0])


def _check_unicode(name: str, value: str) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidRequest(f"the header {name} is not UTF-8") from None
    return value


def _if_none_match(headers: Headers) -> str | None:
    """A list header: lines of it are one list."""
    values = headers.getall("If-None-Match", ())
    return _check_unicode("If-None-Match", ", ".join(values)) if values else None


def _refuse_encoding(headers: Headers) -> None:
    encoding = _header(headers, "Content-Encoding")
    if encoding and encoding.lower() != "identity":
        raise UnsupportedEncoding(
            f"bodies are stored as they are sent; Content-Encoding {encoding[:32]!r} is not taken"
        )


def _refuse_transfer_coding(headers: Headers) -> None:
    """Take bodies in chunks and coded in no other way (RFC 9112 §6.1)."""
    codings = headers.getall("Transfer-Encoding", ())
    if codings and (len(codings) > 1 or codings[0].lower() != "chunked"):
        named = ", ".join(codings)[:32]
        raise UnsupportedTransferCoding(
            f"the transfer coding {named!r} is not known here: send the body as it is, "
            "with its length or in chunks"
        )


def _parse_closed(headers: Headers) -> bool:
    """Only ``true`` counts; any other value is as if the header were absent (§4.1)."""
    value = _header(headers, "Stream-Closed")
    return value is not None and value.lower() == "true"


def _parse_stream_seq(headers: Headers) -> str | None:
    value = _header(headers, "Stream-Seq")
    return None if value is None else check_stream_seq(value)


def _parse_producer(headers: Headers) -> ProducerClaim | None:
    producer_id = _header(headers, "Producer-Id")
    epoch = _header(headers, "Producer-Epoch")
    seq = _header(headers, "Producer-Seq")
    if producer_id is None and epoch is None and seq is None:
        return None
    if producer_id is None or epoch is None or seq is None:
        raise InvalidRequest("Producer-Id, Producer-Epoch and Producer-Seq go together")
    return check_producer(
        ProducerClaim(
            producer_id,
            _parse_number("Producer-Epoch", epoch),
            _parse_number("Producer-Seq", seq),
        )
    )


def _parse_fork(headers: Headers, prefix: str) -> ForkRequest | None:
    source = _header(headers, "Stream-Forked-From")
    offset = _header(headers, "Stream-Fork-Offset")
    sub_offset = _header(headers, "Stream-Fork-Sub-Offset")
    if source is None:
        if offset is not None or sub_offset is not None:
            raise InvalidRequest("a fork offset needs Stream-Forked-From")
        return None
    if not source.startswith(f"{prefix}/"):
        raise InvalidRequest(
            f"Stream-Forked-From must be the URL path of a stream, below {prefix + '/'!r}"
        )
    fork = ForkRequest(
        parse_stream_path(source[len(prefix) + 1 :]),
        None if offset is None else parse_point(offset),
        0 if sub_offset is None else parse_count("Stream-Fork-Sub-Offset", sub_offset),
    )
    if fork.sub_offset and fork.offset is None:
        raise InvalidRequest("a Stream-Fork-Sub-Offset above 0 needs a Stream-Fork-Offset")
    return fork


def _parse_number(name: str, text: str) -> int:
    """Read a producer's number: digits only; leading zeros do no harm here."""
    if _is_digits(text) and len(text) <= _MAX_INTEGER_DIGITS:
        number = int(text)
        if number <= MAX_INTEGER:
            return number
    raise InvalidRequest(f"{name} must be an integer from 0 to {MAX_INTEGER}, not {text[:32]!r}")


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdecimal()
