"""From outcomes to HTTP: status, headers and a description of the body (protocol §5).

A :class:`Reply` is complete; a read is its headers and a :class:`BodyPlan`, sent elsewhere.
``STATUS`` is the only place where an error gets its status.  The sender adds Date,
Content-Length and Connection, and leaves the body out for HEAD, 204 and 304.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from durable_streams.model import errors as e
from durable_streams.model.results import FileSlice
from durable_streams.rules.media_type import is_text
from durable_streams.wire import request_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from durable_streams.model.offsets import Offset
    from durable_streams.model.results import Appended, Chunk, Created, StreamInfo

Header = tuple[str, str]
HeaderList = tuple[Header, ...]

MAX_MESSAGE_CHARACTERS: Final = 500
"""Of an error's text: enough for any of ours, and no echo of a megabyte of input."""

PREFLIGHT_MAX_AGE_S: Final = 86_400

_METHODS: Final = "GET, HEAD, PUT, POST, DELETE, OPTIONS"
_REQUEST_HEADERS: Final = (
    # The asterisk is for what pages send beside; it leaves out Authorization, and means nothing to
    # pages that send cookies, which may trace as well.
    "*, Authorization, Content-Type, Cache-Control, If-None-Match, Last-Event-ID, "
    "X-Request-Id, traceparent, tracestate, baggage, "
    "Stream-Seq, Stream-TTL, Stream-Expires-At, Stream-Closed, "
    "Stream-Forked-From, Stream-Fork-Offset, Stream-Fork-Sub-Offset, "
    "Producer-Id, Producer-Epoch, Producer-Seq"
)
_RESPONSE_HEADERS: Final = (
    "Content-Type, Cache-Control, ETag, Location, Retry-After, WWW-Authenticate, "
    "Stream-Next-Offset, Stream-Cursor, Stream-Up-To-Date, Stream-Closed, "
    "Stream-TTL, Stream-Expires-At, stream-sse-data-encoding, "
    "Producer-Epoch, Producer-Seq, Producer-Expected-Seq, Producer-Received-Seq, X-Request-Id"
)

_SAFE: Final[HeaderList] = (
    ("X-Content-Type-Options", "nosniff"),
    # Whatever is in a stream, it is no program on this origin when somebody opens its URL.
    ("Content-Security-Policy", "sandbox"),
    # A signed URL is told to nobody whose link is followed from there.
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "cross-origin"),
)
_BY_ORIGIN: Final[Header] = ("Vary", "Origin")
_EXPOSED: Final[Header] = ("Access-Control-Expose-Headers", _RESPONSE_HEADERS)

_CLOSED: Final[HeaderList] = (("Stream-Closed", "true"),)
_UP_TO_DATE: Final[HeaderList] = (("Stream-Up-To-Date", "true"),)
_NO_STORE: Final[HeaderList] = (("Cache-Control", "no-store"),)
_BY_LAST_EVENT_ID: Final[HeaderList] = (("Vary", "Last-Event-ID"),)

BY_CREDENTIALS: Final[HeaderList] = (("Vary", "Authorization, Cookie"),)
"""Of what only some may read: else a browser gives it away to whoever uses it next."""

STATUS: Final[dict[type[e.StreamError], int]] = {
    e.StreamError: 500,
    e.InvalidRequest: 400,
    e.InvalidOffset: 400,
    e.InvalidJson: 400,
    e.EpochWithoutStart: 400,
    e.TooManyProducers: 400,
    e.UnsupportedEncoding: 415,
    e.UnsupportedTransferCoding: 501,
    e.TargetTooLong: 414,
    e.HeadersTooLarge: 431,
    e.MethodNotAllowed: 405,
    e.RequestTimeout: 408,
    e.PayloadTooLarge: 413,
    e.StreamNotFound: 404,
    e.StreamGone: 410,
    e.OffsetGone: 410,
    e.Conflict: 409,
    e.StreamExists: 409,
    e.SourceGone: 409,
    e.StreamClosed: 409,
    e.ContentTypeMismatch: 409,
    e.SequenceConflict: 409,
    e.ProducerGap: 409,
    e.StaleEpoch: 403,
    e.Unauthenticated: 401,
    e.Forbidden: 403,
    e.ForeignPage: 403,
    e.ForeignHost: 403,
    e.TooManyRequests: 429,
    e.Unavailable: 503,
    e.Overloaded: 503,
    e.Draining: 503,
    e.NotOpen: 503,
    e.DatabaseDown: 503,
    e.DatabaseMigrated: 503,
    e.DatabaseReadOnly: 503,
    e.DatabaseUnconfirmed: 503,
    e.WriteFailed: 503,
    e.StorageFailed: 503,
    e.Unreachable: 503,
    e.UnexpectedAnswer: 500,
    e.DiskFull: 507,
    e.StreamUnusable: 500,
    e.StreamOutOfService: 500,
    e.StreamUnreadable: 500,
    e.StreamDamaged: 500,
    e.OpenedElsewhere: 500,
}

_WORD_BEGINS: Final = re.compile("(?<=[a-z])(?=[A-Z])")

REASONS: Final[dict[type[e.StreamError], str]] = {
    kind: _WORD_BEGINS.sub("_", kind.__name__).lower() for kind in STATUS
}
"""What each is called where it is counted: ``stream_not_found``.  There are no others."""


_BODILESS: Final = frozenset({204, 304})


class Common(msgspec.Struct, frozen=True):
    """The headers of every answer, errors included: those that a page's origin decides about.

    They come before the headers of a :class:`Reply`, and are put there by whoever sends it;
    ``lines`` as they are sent.
    """

    headers: HeaderList
    lines: str

    @classmethod
    def of(cls, headers: HeaderList) -> Common:
        """Made of headers; a value must not begin a line of its own."""
        return cls(headers, "".join(f"{name}: {value}\r\n" for name, value in headers))

    @classmethod
    def for_origin(cls, origin: str, *, with_cookies: bool = False) -> Common:
        """Those for a page of a welcome origin, which may have sent cookies."""
        headers: HeaderList = (*_SAFE, _BY_ORIGIN, ("Access-Control-Allow-Origin", origin))
        if with_cookies:
            headers += (("Access-Control-Allow-Credentials", "true"),)
        return cls.of((*headers, _EXPOSED))

    def with_id(self, request_id: str) -> Common:
        """The same for a request that says what it is called (``request_ids``); "": it does not."""
        if not request_id:
            return self
        said: HeaderList = ((request_ids.HEADER, request_id),)
        return Common(self.headers + said, f"{self.lines}{request_ids.HEADER}: {request_id}\r\n")


FOR_ALL: Final = Common.of((*_SAFE, ("Access-Control-Allow-Origin", "*"), _EXPOSED))
"""Where pages of every origin are welcome."""

FOR_NO_PAGE: Final = Common.of((*_SAFE, _BY_ORIGIN))
"""Where an origin decides, and the request names none, or one that is not welcome."""


class Reply(msgspec.Struct, frozen=True, gc=False):
    """A complete response, but for the headers that all have (:class:`Common`)."""

    status: int
    headers: HeaderList
    body: bytes = b""


def has_no_body(status: int, method: str) -> bool:
    """Whether an answer is without the body that its reply may have."""
    return status in _BODILESS or method == "HEAD"


def told_length(status: int, method: str, length_bytes: int | None) -> int | None:
    """The ``Content-Length`` of an answer, None if it has none.

    The length of what HEAD leaves out is known for errors, not for streams.
    """
    if status in _BODILESS or (method == "HEAD" and not length_bytes):
        return None
    return length_bytes


class BodyPlan(msgspec.Struct, frozen=True):
    """A body to be sent: ``prefix``, then ``parts``, then ``suffix``; ``size_bytes`` in all."""

    prefix: bytes
    parts: tuple[bytes | FileSlice, ...]
    suffix: bytes
    size_bytes: int


# Outcomes of writes


def created(outcome: Created, location: str) -> Reply:
    """Answer a PUT; ``location`` is the absolute URL of the stream (§5.1)."""
    info = outcome.info
    headers = (
        ("Location", location),
        ("Content-Type", info.content_type),
        ("Stream-Next-Offset", info.tail.token),
    )
    return Reply(201 if outcome.created else 200, headers + _CLOSED if info.closed else headers)


def appended(outcome: Appended) -> Reply:
    """Answer a POST: 200 only for new data of a producer, else 204 (§5.2, §5.2.1)."""
    headers: HeaderList = (("Stream-Next-Offset", outcome.tail.token),)
    if outcome.closed:
        headers += _CLOSED
    if outcome.producer is None:
        return Reply(204, headers)
    epoch, seq = outcome.producer
    headers += (("Producer-Epoch", str(epoch)), ("Producer-Seq", str(seq)))
    return Reply(200 if outcome.wrote_data else 204, headers)


def deleted() -> Reply:
    """Answer a DELETE (§5.4)."""
    return _DELETED


def preflight() -> Reply:
    """Answer an OPTIONS: to a page that is welcome, everything is allowed."""
    return _PREFLIGHT


def info(stream: StreamInfo) -> Reply:
    """Answer a HEAD: the stream as it is and its lifetime as configured (§5.5)."""
    headers: HeaderList = (
        ("Content-Type", stream.content_type),
        ("Stream-Next-Offset", stream.tail.token),
        *_NO_STORE,
    )
    if stream.lifetime.ttl_s is not None:
        headers += (("Stream-TTL", str(stream.lifetime.ttl_s)),)
    if stream.lifetime.expires_at is not None:
        headers += (("Stream-Expires-At", stream.lifetime.expires_at),)
    return Reply(200, headers + _CLOSED if stream.closed else headers)


# Reads


def chunk_reply_headers(
    chunk: Chunk, cache_control: str, etag: str | None = None, cursor: int | None = None
) -> HeaderList:
    """Return the headers of a 200 with a chunk, catch-up or long-poll (§5.6, §5.7).

    ``etag`` is None for ``offset=now``; ``cursor`` None on catch-up.  They serve for the 304 as
    well, see :func:`not_modified`.
    """
    headers: HeaderList = (
        ("Content-Type", chunk.stream.content_type),
        ("Stream-Next-Offset", chunk.end.token),
        ("Cache-Control", cache_control),
    )
    if etag is not None:
        headers += (("ETag", etag),)
    if cursor is not None and not chunk.closed:
        headers += (("Stream-Cursor", str(cursor)),)
    if chunk.at_tail:
        headers += _UP_TO_DATE
    return headers + _CLOSED if chunk.closed else headers


def not_modified(headers: HeaderList) -> Reply:
    """Return the 304 in place of a 200 with these headers (RFC 9110 §15.4.5)."""
    return Reply(304, headers)


def long_poll_empty(tail: Offset, closed: bool, cursor: int) -> Reply:
    """Answer a long-poll without data: the timeout, or the end of a closed stream (§5.7)."""
    headers = (("Stream-Next-Offset", tail.token), *_UP_TO_DATE, *_NO_STORE)
    if closed:
        return Reply(204, headers + _CLOSED)
    return Reply(204, (*headers, ("Stream-Cursor", str(cursor))))


def sse_headers(content_type: str) -> HeaderList:
    """Return the headers of an SSE answer of a stream of ``content_type`` (§5.8)."""
    return _SSE_TEXT if is_text(content_type) else _SSE_BASE64


def nothing_follows(tail: Offset) -> Reply:
    """Answer a browser that has all events of a closed stream: 204 ends its reconnecting.

    The protocol would have a control event, after which an ``EventSource`` asks again for ever.
    """
    headers = (("Stream-Next-Offset", tail.token), *_UP_TO_DATE, *_CLOSED, *_NO_STORE)
    return Reply(204, headers + _BY_LAST_EVENT_ID)


def chunk_body(chunk: Chunk) -> bytes | BodyPlan:
    """Return the body of an answer with a chunk, or where it is in files describe it."""
    parts: Any = chunk.parts
    is_json = chunk.stream.is_json
    if FileSlice in map(type, parts):
        return json_body(chunk) if is_json else plain_body(chunk)
    data = b"".join(parts)
    return b"[%b]" % data[:-1] if is_json else data


def plain_body(chunk: Chunk) -> BodyPlan:
    """Describe the body of a byte stream's chunk: its bytes."""
    return BodyPlan(b"", tuple(chunk.parts), b"", chunk.size_bytes)


def json_body(chunk: Chunk) -> BodyPlan:
    """Describe the body of a JSON stream's chunk: an array, made by dropping the last comma."""
    parts = _without_last_byte(chunk.parts)
    return BodyPlan(b"[", parts, b"]", max(chunk.size_bytes - 1, 0) + 2)


def _without_last_byte(parts: Sequence[bytes | FileSlice]) -> tuple[bytes | FileSlice, ...]:
    kept = list(parts)
    while kept:
        last = kept.pop()
        if isinstance(last, FileSlice):
            if last.size > 1:
                kept.append(FileSlice(last.file, last.position, last.size - 1))
            if last.size:
                break
        elif last:
            if len(last) > 1:
                kept.append(last[:-1])
            break
    return tuple(kept)


# Errors


def errors(error: e.StreamError, *, of_producer: bool = False) -> Reply:
    """Answer a request that failed: a status by the type, and a line of text for a person.

    ``of_producer``: it had Producer headers.  Official clients take any 403 to such a request for a
    stale epoch, and raise it for ever: they get 401 for whatever else forbids it.
    """
    status = STATUS[_known(error)]
    if of_producer and isinstance(error, e.Forbidden):
        status = 401
    return _error_reply(status, str(error), _error_headers(error))


def reason(error: e.StreamError) -> str:
    """What an error is called where errors are counted, and where nobody is told more."""
    return REASONS[_known(error)]


def _known(error: e.StreamError) -> type[e.StreamError]:
    """The nearest class of an error that is in the tables."""
    return next(kind for kind in type(error).__mro__ if kind in STATUS)


def internal_error() -> Reply:
    """Answer a request that met a bug: nothing about it is told (500)."""
    return _INTERNAL_ERROR


def _error_headers(error: e.StreamError) -> HeaderList:
    match error:
        case e.StreamClosed():
            return (*_CLOSED, ("Stream-Next-Offset", error.tail.token))
        case e.OffsetGone():
            return (("Stream-Next-Offset", error.begin.token),)
        case e.ProducerGap():
            return (
                ("Producer-Expected-Seq", str(error.expected)),
                ("Producer-Received-Seq", str(error.received)),
            )
        case e.StaleEpoch():
            return (("Producer-Epoch", str(error.current)),)
        case e.Unauthenticated():
            return (("WWW-Authenticate", _challenge(error.error)),)
        case e.Forbidden():
            return (
                (
                    "WWW-Authenticate",
                    _challenge("insufficient_scope" if error.scope else "", error.scope),
                ),
            )
        case e.Unavailable():
            return (("Retry-After", str(error.retry_after_s)),)
        case e.MethodNotAllowed():
            return (("Allow", _METHODS),)
        case e.UnsupportedEncoding():
            return (("Accept-Encoding", "identity"),)
        case _:
            return ()


def _challenge(error: str, scope: str = "") -> str:
    """What is asked of a client that has to say who it is (RFC 6750 section 3)."""
    parts = [f'{name}="{value}"' for name, value in (("error", error), ("scope", scope)) if value]
    return ", ".join(['Bearer realm="durable-streams"', *parts])


def _error_reply(status: int, message: str, headers: HeaderList) -> Reply:
    """Errors quote user input only through ``repr``; what is left of control characters goes."""
    text = message[:MAX_MESSAGE_CHARACTERS]
    if not text.isprintable():
        text = "".join(character if character.isprintable() else " " for character in text)
    common: HeaderList = (("Content-Type", "text/plain; charset=utf-8"), *_NO_STORE)
    return Reply(status, common + headers, f"{text}\n".encode())


_SSE_TEXT: Final[HeaderList] = (
    ("Content-Type", "text/event-stream"),
    # Compressing proxies hold every event back; those that obey no-transform do not.
    ("Cache-Control", "no-cache, no-transform"),
    ("X-Accel-Buffering", "no"),
    *_BY_LAST_EVENT_ID,
)
_SSE_BASE64: Final[HeaderList] = (*_SSE_TEXT, ("stream-sse-data-encoding", "base64"))
_DELETED: Final = Reply(204, ())
_PREFLIGHT: Final = Reply(
    204,
    (
        ("Access-Control-Allow-Methods", _METHODS),
        ("Access-Control-Allow-Headers", _REQUEST_HEADERS),
        ("Access-Control-Max-Age", str(PREFLIGHT_MAX_AGE_S)),
        ("Allow", _METHODS),
    ),
)
_INTERNAL_ERROR: Final = _error_reply(500, "internal server error", ())
