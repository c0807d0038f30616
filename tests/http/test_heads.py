"""Heads that were seen before are read as if they had not been."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from durable_streams.http import heads
from durable_streams.http.heads import Heads, ParserLimits, RequestHead
from durable_streams.model.commands import Append, Create, ProducerClaim
from durable_streams.wire.pages import OPEN_TO_ALL
from durable_streams.wire.replies import FOR_ALL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from durable_streams.http.heads import PlainCommand

LIMITS: Final = ParserLimits(max_line_size=8190, max_field_size=8190, max_headers=128)

METHODS: Final = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "get", "BREW", ""]
TARGETS: Final = [
    "/v1/stream/a",
    "/v1/stream/b",
    "/v1/stream/a/b-c_d.e",
    "/v1/stream/a?offset=-1",
    "/v1/stream/a?offset=now&live=sse",
    "/v1/stream/a?x=/../",
    "/v1/stream/a%20b",
    "/v1/stream/a%zz",
    "/v1/stream/a#b",
    "/v1/stream/ä",
    "/v1/stream/",
    "/v1/stream/../a",
    "//v1/stream/a",
    "/v1/streams",
    "http://a/v1/stream/a",
    "*",
    "",
]
VERSIONS: Final = ["HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/1.1 ", "http/1.1"]
FIELDS: Final = [
    "Host: a",
    "Content-Type: text/plain",
    "content-type:application/json",
    "Content-Length: 3",
    "Content-Length: 70000",
    "Content-Length: +3",
    "Transfer-Encoding: chunked",
    "Expect: 100-continue",
    "Upgrade: h2c",
    "Connection: close",
    "Connection: keep-alive",
    "Producer-Id: p",
    "Producer-Epoch: 0",
    "Producer-Seq: 0",
    "Producer-Seq: 17",
    "producer-seq: 5",
    "Stream-Closed: true",
    "Stream-Forked-From: /v1/stream/a",
    "X-Forwarded-Host: b",
    "X-Request-Id: one",
    "x-request-id:two ",
    "X-Request-Id: not this",
    "X-Request-Id: three\r\n four",
    f"traceparent: 00-{'a' * 32}-{'b' * 16}-01",
    "Traceparent: none",
    "Authorization: Bearer one",
    "authorization:two ",
    "AUTHORIZATION: \tthree",
    "Authorization : four",
    "Authorization: \x7f",
    "Proxy-Authorization: five",
    " folded",
    "no colon",
    "X: \x00",
]


@st.composite
def a_head(draw: st.DrawFn) -> bytes:
    """Mostly one that the lane takes."""
    method = draw(st.sampled_from(["GET", "POST", "PUT"]) | st.sampled_from(METHODS))
    target = draw(st.sampled_from(TARGETS))
    version = draw(st.just("HTTP/1.1") | st.sampled_from(VERSIONS))
    fields = draw(st.lists(st.sampled_from(FIELDS), max_size=6))
    return "\r\n".join([f"{method} {target} {version}", *fields, "", ""]).encode()


def bare(head: RequestHead | None) -> RequestHead | None:
    """What a head says, without what is kept with it."""
    return None if head is None else structs.replace(head, seen=None)


def told(
    command: PlainCommand,
    body_bytes: int,
    headers: Mapping[str, str] | None = None,
    target: str = "",
    credentials: str | None = None,
) -> RequestHead:
    """What a head says where all pages are welcome."""
    return RequestHead(command, body_bytes, headers, target, credentials, FOR_ALL)


def heads_of_one_server() -> Heads:
    return Heads("/v1/stream", 1 << 20, LIMITS, OPEN_TO_ALL, lambda: "made")


@given(st.lists(a_head(), min_size=1, max_size=8))
def test_what_was_remembered_is_what_a_parser_says(seen: list[bytes]) -> None:
    async def read() -> None:
        remembering = heads_of_one_server()
        for head in [*seen, *seen]:
            alone = heads_of_one_server().read(head)
            assert bare(remembering.read(head)) == bare(alone), head

    asyncio.run(read())


async def test_the_fields_of_another_target_are_not_parsed_again() -> None:
    server = heads_of_one_server()
    first = b"PUT /v1/stream/a HTTP/1.1\r\nHost: b\r\nContent-Type: text/plain\r\n\r\n"
    known = server.read(first)
    assert known is not None
    assert known.command == Create(("a",), "text/plain")
    assert known.headers is not None
    server._request = None  # type: ignore[assignment,method-assign]
    again = server.read(first.replace(b"/a ", b"/c "))
    assert bare(again) == told(Create(("c",), "text/plain"), 0, known.headers, "/v1/stream/c")


async def test_a_producers_next_number_is_not_parsed_again() -> None:
    server = heads_of_one_server()
    head = (
        b"POST /v1/stream/a HTTP/1.1\r\nHost: b\r\nContent-Type: text/plain\r\n"
        b"Content-Length: 1\r\nProducer-Id: p\r\nProducer-Epoch: 3\r\nProducer-Seq: 4\r\n\r\n"
    )
    assert server.read(head) is not None
    server._parse = None  # type: ignore[assignment,method-assign]
    again = server.read(head.replace(b"Seq: 4", b"Seq: 15"))
    claim = ProducerClaim("p", 3, 15)
    assert bare(again) == told(Append(("a",), "text/plain", producer=claim), 1)


async def test_few_heads_are_remembered() -> None:
    server = heads_of_one_server()
    for number in range(heads.MAX_HEADS + 10):
        head = f"GET /v1/stream/{number} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
        parsed = server.read(head)
        assert parsed is not None
        assert parsed.command is not None
    assert len(server._known) == heads.MAX_HEADS
    assert len(server._known_fields) == 1
    assert server.read(b"PUT /v1/stream/new HTTP/1.1\r\nHost: a\r\n\r\n") is not None
    assert not any(b"PUT" in key for key in server._known)
    for number in range(heads.MAX_FIELDS + 10):
        assert server.read(b"GET /v1/stream/a HTTP/1.1\r\nHost: %d\r\n\r\n" % number) is not None
    assert len(server._known) == heads.MAX_HEADS
    assert len(server._known_fields) == heads.MAX_FIELDS


async def test_heads_with_deep_paths_are_not_remembered() -> None:
    """Each of their segments is an object, and there may be hundreds in a kilobyte."""
    server = heads_of_one_server()
    for segments in (heads.MAX_SEGMENTS, heads.MAX_SEGMENTS + 1):
        path = "/".join(["a"] * segments)
        head = f"GET /v1/stream/{path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
        assert server.read(head) is not None
        assert len(server._known) == 1


@pytest.mark.parametrize("before", [b"", b"\r\n", b"\r\n\n", b" "])
async def test_credentials_before_the_request_line_are_none(before: bytes) -> None:
    server = heads_of_one_server()
    rest = b"GET /v1/stream/a HTTP/1.1\r\nHost: a\r\n\r\n"
    read = server.read(before + b"\r\nAuthorization: secret\r\n" + rest)
    assert read is None or (read.command is None and not read.credentials)


async def test_long_heads_are_not_remembered() -> None:
    server = heads_of_one_server()
    long = b"GET /v1/stream/a HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 2000 + b"\r\n\r\n"
    assert server.read(long) is not None
    assert not server._known
    assert not server._known_fields


def said(**others: str) -> bytes:
    """A plain head, with these headers."""
    lines = {"Host": "b", "Content-Type": "text/plain", "Content-Length": "1", **others}
    text = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
    return f"POST /v1/stream/a HTTP/1.1\r\n{text}\r\n".encode()


async def test_a_head_with_other_credentials_is_not_parsed_again_and_has_its_own() -> None:
    server = heads_of_one_server()
    append = Append(("a",), "text/plain")
    assert bare(server.read(said(Authorization="Bearer one"))) == told(
        append, 1, credentials="Bearer one"
    )
    server._parse = None  # type: ignore[assignment,method-assign]
    for credentials in ("Bearer two", "Bearer three", "Bearer one"):
        for name in ("Authorization", "authorization", "AUTHORIZATION"):
            again = server.read(said(**{name: f" {credentials}\t"}))
            assert bare(again) == told(append, 1, credentials=credentials)
    assert bare(server.read(said())) == told(append, 1)
    assert len(server._in_order) == 1


async def test_a_producer_with_credentials_has_its_own_and_its_own_number() -> None:
    server = heads_of_one_server()
    producer = {"Producer_Id": "p", "Producer_Epoch": "0"}
    assert server.read(said(**producer, Producer_Seq="1", Authorization="one")) is not None
    server._parse = None  # type: ignore[assignment,method-assign]
    for seq, credentials in ((2, "two"), (3, None), (4, "")):
        sent = {} if credentials is None else {"Authorization": credentials}
        again = server.read(said(**sent, **producer, Producer_Seq=str(seq)))
        claim = ProducerClaim("p", 0, seq)
        assert bare(again) == told(
            Append(("a",), "text/plain", producer=claim), 1, credentials=credentials
        )


@pytest.mark.parametrize(
    "line",
    [
        "Authorization: one\r\nAuthorization: two",
        "authorization: one\r\nAUTHORIZATION: one",
        "Authorization: one\r\n two",
        "Authorization: \xe9",
        "Authorization: " + "x" * (heads.MAX_CREDENTIALS_BYTES + 1),
    ],
)
async def test_where_credentials_cannot_be_cut_out_the_request_is_not_plain(line: str) -> None:
    server = heads_of_one_server()
    head = said().replace(b"Host: b", b"Host: b\r\n" + line.encode("latin-1"))
    for _ in range(2):
        read = server.read(head)
        assert read is None or read == RequestHead(None, 1)
    assert not server._known
    assert not server._known_fields


async def test_heads_that_differ_in_what_they_are_called_are_known_as_one() -> None:
    server = heads_of_one_server()
    plain = server.read(said(Authorization="one"))
    assert plain is not None
    assert plain.command is not None
    for parse in ("_request", "_classify"):
        setattr(server, parse, None)
    trace = "a" * 32
    for name, text, called in (
        ("X-Request-Id", "one", "one"),
        ("x-request-id", "two", "two"),
        ("X-Request-Id", "no id", "made"),
        ("X-Request-Id", "", "made"),
        ("traceparent", f"00-{trace}-{'b' * 16}-01", trace),
    ):
        read = server.read(
            said(Authorization="one").replace(b"Host: b", f"Host: b\r\n{name}: {text}".encode())
        )
        assert read is not None
        assert read.request_id == called
        assert read.common == FOR_ALL.with_id(called)
        assert read.seen is plain.seen
        assert structs.replace(read, request_id="", common=plain.common) == plain
    assert len(server._known) == 2


@pytest.mark.parametrize(
    "line",
    [
        "X-Request-Id: one\r\nX-Request-Id: two",
        "X-Request-Id: one\r\n two",
        "X-Request-Id: \xe9",
        "traceparent: a\r\nTraceparent: b",
    ],
)
async def test_where_that_cannot_be_cut_out_the_request_is_not_plain(line: str) -> None:
    server = heads_of_one_server()
    head = said().replace(b"Host: b", b"Host: b\r\n" + line.encode("latin-1"))
    read = server.read(head)
    assert read is None or read == RequestHead(None, 1)
    assert not server._known
    assert not server._known_fields


async def test_credentials_are_one_of_as_many_headers_as_a_head_may_have() -> None:
    server = heads_of_one_server()
    most = LIMITS["max_headers"]
    for count, is_plain in ((most - 1, False), (most - 2, True)):
        more = {f"X_{number}": "" for number in range(count - 4)}
        read = server.read(said(Authorization="one", **more))
        assert (read is not None and read.command is not None) == is_plain, count


async def test_a_head_with_credentials_that_comes_again_is_known_whole() -> None:
    server = heads_of_one_server()
    first, other = said(Authorization="Bearer one"), said(Authorization="Bearer two")
    once, again, else_ = server.read(first), server.read(first), server.read(other)
    assert once is not None
    assert again is once
    assert else_ is not None
    assert (once.credentials, else_.credentials) == ("Bearer one", "Bearer two")
    assert once.seen is not None
    assert else_.seen is not None
    assert once.seen is not else_.seen
    plain = server.read(said())
    assert plain is not None
    assert (plain.credentials, plain.seen) == (None, None)


async def test_heads_with_credentials_that_are_remembered_whole_are_bounded() -> None:
    server = heads_of_one_server()
    for number in range(heads.MAX_WHOLE_HEADS + 10):
        assert server.read(said(Authorization=f"Bearer {number}")) is not None
    assert len(server._known) == heads.MAX_WHOLE_HEADS + 1
    assert server.read(said()) is not None
    assert len(server._known) == heads.MAX_WHOLE_HEADS + 1
