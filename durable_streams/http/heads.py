"""The heads of plain requests, read without parsing what was seen before.

A request is *plain* that the fast lane may answer: HTTP/1.1, no header that changes the framing, a
POST or PUT with a small body, or a GET, but not of an event stream.

aiohttp's own parser takes a head apart, and the ``parse_command`` that everybody uses reads it.
What they said is remembered by the head's bytes.  Of a producer's heads, which differ in one number
only, it is remembered by what is around the number.  What the parser said of the fields is
remembered by their bytes as well, for heads that differ in the target only, and whose request line
leaves nothing to interpret.

Credentials (the value of ``Authorization``) are cut out of a head that is new, and handed on beside
what is remembered of the rest: a thousand clients with a token each share that, and none is ever
taken for another.  Some heads are remembered whole as well, as clients repeat themselves; with them
is kept what became of the credentials.  Where they cannot be cut out the request is not plain; nor
is one with a signed URL, which is a credential as well.  So it is with what a request is called
(``request_ids``), which is another text in each.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypedDict, TypeGuard, TypeVar

import msgspec
from aiohttp import HttpVersion11
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser
from aiohttp.http_exceptions import HttpProcessingError
from msgspec import structs
from multidict import CIMultiDict

from durable_streams.access.door import Seen
from durable_streams.http.logs import made_id
from durable_streams.model.commands import Append, Create, Live, ProducerClaim, Read
from durable_streams.model.errors import StreamError
from durable_streams.settings import KIB
from durable_streams.wire import request_ids
from durable_streams.wire.replies import FOR_NO_PAGE
from durable_streams.wire.requests import parse_command
from durable_streams.wire.signed_query import NOT_SIGNED, signed_in
from durable_streams.wire.urls import authority, forwarded_for, is_stripped, split_target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from durable_streams.model.commands import Command
    from durable_streams.wire.pages import Pages
    from durable_streams.wire.replies import Common

_K = TypeVar("_K")
_V = TypeVar("_V")

MAX_BODY_BYTES: Final = 64 * KIB
"""Of a write: beyond that, copying and checking weigh more than aiohttp does."""

MAX_HEADS: Final = 16384
MAX_WHOLE_HEADS: Final = 4096
MAX_FIELDS: Final = 512
MAX_HEAD_BYTES: Final = KIB
"""How many heads, heads with credentials and fields are remembered, and up to which size.

Some 10 MiB in all where heads are as long as clients make them, 48 MiB at most.
"""

MAX_SEGMENTS: Final = 8
"""Of the path in a remembered head: each is an object of its own, which takes more than it has."""

MAX_CREDENTIALS_BYTES: Final = 4 * KIB
"""Beyond what tokens take, and well within what the parser allows for a header."""

_CUT_OUT: Final = ("Authorization", request_ids.HEADER, request_ids.TRACE)
_CHANGES_FRAMING: Final = ("Transfer-Encoding", "Trailer", "TE", "Upgrade", "Expect")
_LENGTH: Final = re.compile(r"[0-9]{1,15}", re.ASCII)
_SEQ: Final = re.compile(rb"\r\nproducer-seq: ([0-9]{1,15})\r\n", re.IGNORECASE)
_AUTHORIZATION: Final = b"\r\nauthorization:"
_REQUEST_IDS: Final = tuple(
    (name, f"\r\n{name.lower()}:".encode()) for name in (request_ids.HEADER, request_ids.TRACE)
)
_FIELD: Final = re.compile(rb"\r\n[^:]+:([\t -~]*)\r\n(?![\t ])")
_PLAIN_LINE: Final = re.compile(rb"(GET|POST|PUT) (/[A-Za-z0-9/._?&=-]*) HTTP/1\.1\r\n")
_MIN_READ_BUFFER: Final = 64 * KIB


class ParserLimits(TypedDict):
    """How much aiohttp's parser takes, by the names of its arguments; sizes in bytes."""

    max_line_size: int
    max_field_size: int
    max_headers: int


PlainCommand = Append | Create | Read


class RequestHead(msgspec.Struct, frozen=True):
    """What the head of a request says; ``command`` is None if the request is not plain.

    ``headers`` and ``target``: of a PUT, whose answer depends on them.  ``credentials``: the value
    of ``Authorization``, of this request and never of a remembered one; None if there is none.
    ``common``: the headers that its answer begins with.  ``forwarded_for``: whom proxies name.
    ``seen``: what became of the credentials in requests with this head, kept here
    (``Exchange.admit``).  ``request_id``: what the request says it is called, as ``credentials``.
    """

    command: PlainCommand | None
    body_bytes: int
    headers: Mapping[str, str] | None = None
    target: str = ""
    credentials: str | None = None
    common: Common = FOR_NO_PAGE
    forwarded_for: str = ""
    seen: Seen | None = None
    request_id: str = ""


_Fields = tuple[Any, int]
"""The headers (a multidict), and the length of the body."""

_Key = bytes | tuple[bytes, bytes]
"""A head; of a producer's, what is before and behind its number (no head is such a pair)."""


class Heads:
    """Reads the heads of requests, those seen before without parsing."""

    def __init__(
        self,
        prefix: str,
        max_body_bytes: int,
        limits: ParserLimits,
        pages: Pages,
        made_id: Callable[[], str] = made_id,
    ) -> None:
        self.prefix = prefix
        self._made_id = made_id
        self._pages = pages
        self._max_body_bytes = min(max_body_bytes, MAX_BODY_BYTES)
        # Fewer headers, as some may have been cut out; a head with all of them is aiohttp's.
        self._limits = limits.copy()
        self._limits["max_headers"] -= 1 + len(_REQUEST_IDS)
        self._loop = asyncio.get_running_loop()
        self._protocol = BaseProtocol(self._loop)
        self._known: dict[_Key, RequestHead] = {}
        self._in_order: deque[_Key] = deque()
        self._whole_in_order: deque[_Key] = deque()
        self._known_fields: dict[tuple[bytes, bytes], _Fields] = {}
        self._fields_in_order: deque[tuple[bytes, bytes]] = deque()

    def read(self, head: bytes) -> RequestHead | None:
        """Read a head, empty line included; None if the connection is better left to aiohttp."""
        known = self._known.get(head)
        if known is not None:
            return known
        number = _SEQ.search(head)
        key: _Key = head
        if number is not None:
            key = (head[: number.start(1)], head[number.end(1) :])
            known = self._known.get(key)
        if known is None:
            known = self._read_anew(key, head)
        return known if number is None or known is None else _numbered(known, int(number[1]))

    def _read_anew(self, key: _Key, head: bytes) -> RequestHead | None:
        """Read a head that is not remembered as it is."""
        lowered = head.lower()
        if any(begin in lowered for _, begin in _REQUEST_IDS):
            return self._read_called(head)
        at = lowered.find(_AUTHORIZATION)
        if at < 0:
            return self._learn(key, head)
        # Behind a request line: parsers pass over empty lines, which would make it the first.
        is_plain = head[:at].strip() and lowered.find(_AUTHORIZATION, at + 1) < 0
        read = self._read_apart(head, _FIELD.match(head, at) if is_plain else None)
        if read is not None and self._is_to_remember(read.command, head):
            read = structs.replace(read, seen=Seen())
            _remember(self._known, self._whole_in_order, key, read, MAX_WHOLE_HEADS)
        return read

    def _read_apart(self, head: bytes, line: re.Match[bytes] | None) -> RequestHead | None:
        """Read a head without the line that holds its credentials; None: it cannot be cut out."""
        if line is None or len(line[1]) > MAX_CREDENTIALS_BYTES:
            return self._not_plain(head)
        rest = self.read(head[: line.start()] + head[line.end() - len(b"\r\n") :])
        if rest is None:
            return None
        said = line[1].strip(b" \t").decode()
        return structs.replace(rest, credentials=said)

    def _read_called(self, head: bytes) -> RequestHead | None:
        """Read a head without the lines that say what the request is called."""
        said: CIMultiDict[str] = CIMultiDict()
        rest = head
        for name, begin in _REQUEST_IDS:
            at = rest.lower().find(begin)
            if at < 0:
                continue
            line = _FIELD.match(rest, at) if rest[:at].strip() else None
            rest = b"" if line is None else rest[:at] + rest[line.end() - len(b"\r\n") :]
            if line is None or begin in rest.lower():
                return self._not_plain(head)
            said[name] = line[1].strip(b" \t").decode()
        read = self.read(rest)
        if read is None or read.command is None:
            return read
        called = request_ids.request_id(said, self._made_id)
        return structs.replace(read, request_id=called, common=read.common.with_id(called))

    def _not_plain(self, head: bytes) -> RequestHead | None:
        request = self._request(head)
        return None if request is None else RequestHead(None, request[3])

    def _learn(self, key: _Key, head: bytes) -> RequestHead | None:
        parsed = self._parse(head)
        if parsed is not None and self._is_to_remember(parsed.command, head):
            _remember(self._known, self._in_order, key, parsed, MAX_HEADS)
        return parsed

    def _is_to_remember(self, command: PlainCommand | None, head: bytes) -> bool:
        """Whether a head may come again, and is small enough."""
        if command is None or isinstance(command, Create) or len(head) > MAX_HEAD_BYTES:
            return False
        return len(command.path) <= MAX_SEGMENTS

    def _parse(self, head: bytes) -> RequestHead | None:
        line = _PLAIN_LINE.match(head) if len(head) <= MAX_HEAD_BYTES else None
        if line is None:
            request = self._request(head)
            return self._classify(*request) if request is not None else None
        key = (line[1], head[line.end() :])
        fields = self._known_fields.get(key)
        if fields is None:
            request = self._request(head)
            if request is None:
                return None
            fields = request[2:]
            _remember(self._known_fields, self._fields_in_order, key, fields, MAX_FIELDS)
        return self._classify(line[1].decode(), line[2].decode(), *fields)

    def _request(self, head: bytes) -> tuple[str, str, Any, int] | None:
        """Method, target, headers (a multidict) and length of the body, as aiohttp reads them."""
        parser = HttpRequestParser(
            self._protocol, self._loop, _MIN_READ_BUFFER, auto_decompress=False, **self._limits
        )
        try:
            messages, upgraded, tail = parser.feed_data(head)
        except HttpProcessingError:
            return None
        if len(messages) != 1 or upgraded or tail:
            return None
        message = messages[0][0]
        headers = message.headers
        if (
            message.version != HttpVersion11
            or message.should_close
            or message.upgrade
            or message.chunked
            or message.compression
            or not headers.keys().isdisjoint(_CHANGES_FRAMING)
            or headers.get("Connection", "keep-alive").lower() != "keep-alive"
        ):
            return None
        length = headers.getall("Content-Length", ["0"])
        if len(length) != 1 or not _LENGTH.fullmatch(length[0]):
            return None
        return message.method, message.path, headers, int(length[0])

    def _classify(self, method: str, target: str, headers: Any, body_bytes: int) -> RequestHead:  # noqa: ANN401 - a multidict
        prefix = self.prefix
        path, query = split_target(target)
        is_ours = path.startswith(f"{prefix}/") and headers.keys().isdisjoint(_CUT_OUT)
        if is_ours and signed_in(query) == NOT_SIGNED:
            try:
                common = self._pages.admit(authority(target), headers)
                command = parse_command(method, path[len(prefix) + 1 :], query, headers, prefix)
            except StreamError:
                return RequestHead(None, body_bytes)
            if self._is_plain(command, body_bytes):
                is_create = isinstance(command, Create)
                if isinstance(command, Create) and command.fork and is_stripped(headers):
                    return RequestHead(None, body_bytes)  # it depends on who says so
                return RequestHead(
                    command,
                    body_bytes,
                    headers if is_create else None,
                    target if is_create else "",
                    common=common,
                    forwarded_for=forwarded_for(headers),
                )
        return RequestHead(None, body_bytes)

    def _is_plain(self, command: Command, body_bytes: int) -> TypeGuard[PlainCommand]:
        """Whether the lane may answer a command, with a body of that size."""
        match command:
            case Append() | Create():
                return body_bytes <= self._max_body_bytes
            case Read(live=Live.NO | Live.LONG_POLL):
                return not body_bytes
            case _:
                return False


def _numbered(known: RequestHead, seq: int) -> RequestHead:
    """What a producer's head says that has another number."""
    seen = known.command
    if not isinstance(seen, Append):
        return known
    assert seen.producer is not None
    claim = ProducerClaim(seen.producer.id, seen.producer.epoch, seq)
    append = Append(seen.path, seen.content_type, seen.close, claim, seen.stream_seq)
    return structs.replace(known, command=append)


def _remember(known: dict[_K, _V], in_order: deque[_K], key: _K, value: _V, most: int) -> None:
    """Remember one more, and forget the oldest of those in order if there are too many."""
    if len(in_order) >= most:
        del known[in_order.popleft()]
    in_order.append(key)
    known[key] = value
