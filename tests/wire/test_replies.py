from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from durable_streams.model import errors
from durable_streams.model.commands import FOREVER, Lifetime
from durable_streams.model.offsets import ZERO, Offset
from durable_streams.model.results import Appended, Chunk, Created, FileSlice, StreamInfo
from durable_streams.wire import replies
from durable_streams.wire.requests import parse_command
from tests.error_samples import sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from durable_streams.model.paths import StreamPath

TAIL = Offset(0, 5)
TAIL_TOKEN = "0000000000000000_0000000000000005"


@dataclass
class Stream:
    id: str = "id"
    path: StreamPath = ("s",)
    content_type: str = "application/json"
    is_json: bool = True


class File:
    """One that nobody opens here: it is described, not read."""

    def fileno(self) -> int:
        return 7

    def read(self, size: int, position: int) -> bytes:
        raise NotImplementedError

    async def warm(self, size: int, position: int) -> None:
        raise NotImplementedError


FILE = File()


def info(closed: bool = False, lifetime: Lifetime = FOREVER) -> StreamInfo:
    return StreamInfo(("s",), "id", "text/plain", TAIL, closed, lifetime, created_ms=0)


def chunk(*parts: bytes | FileSlice, at_tail: bool = True, closed: bool = False) -> Chunk:
    size = sum(part.size if isinstance(part, FileSlice) else len(part) for part in parts)
    return Chunk(Stream(), ZERO, TAIL, b"", parts, size, at_tail, closed)


def own(headers: replies.HeaderList) -> dict[str, str]:
    """The headers of a reply: each once, also beside those that all have, but for ``Vary``."""
    for common in (replies.FOR_ALL, replies.FOR_NO_PAGE, replies.Common.for_origin("http://a")):
        names = [name.lower() for name, _ in common.headers + headers if name != "Vary"]
        assert len(set(names)) == len(names)
    return dict(headers)


# Writes


def test_a_created_stream_is_described() -> None:
    reply = replies.created(Created(True, info()), "http://h/v1/stream/s")
    assert (reply.status, reply.body) == (201, b"")
    assert own(reply.headers) == {
        "Location": "http://h/v1/stream/s",
        "Content-Type": "text/plain",
        "Stream-Next-Offset": TAIL_TOKEN,
    }


def test_an_existing_stream_is_described_just_so() -> None:
    new = replies.created(Created(True, info(closed=True)), "http://h/s")
    old = replies.created(Created(False, info(closed=True)), "http://h/s")
    assert (new.status, old.status) == (201, 200)
    assert new.headers == old.headers
    assert own(new.headers)["Stream-Closed"] == "true"


@pytest.mark.parametrize(
    ("outcome", "status", "headers"),
    [
        (Appended(TAIL, False, True), 204, {}),
        (Appended(TAIL, True, True), 204, {"Stream-Closed": "true"}),
        (Appended(TAIL, True, False), 204, {"Stream-Closed": "true"}),
        (
            Appended(TAIL, False, True, producer=(1, 2)),
            200,
            {"Producer-Epoch": "1", "Producer-Seq": "2"},
        ),
        (
            Appended(TAIL, True, True, producer=(1, 2)),
            200,
            {"Stream-Closed": "true", "Producer-Epoch": "1", "Producer-Seq": "2"},
        ),
        (
            Appended(TAIL, True, False, producer=(1, 2)),
            204,
            {"Stream-Closed": "true", "Producer-Epoch": "1", "Producer-Seq": "2"},
        ),
        (
            Appended(TAIL, False, False, duplicate=True, producer=(1, 9)),
            204,
            {"Producer-Epoch": "1", "Producer-Seq": "9"},
        ),
    ],
)
def test_an_append_is_200_only_for_new_data_of_a_producer(
    outcome: Appended, status: int, headers: dict[str, str]
) -> None:
    reply = replies.appended(outcome)
    assert (reply.status, reply.body) == (status, b"")
    assert own(reply.headers) == {"Stream-Next-Offset": TAIL_TOKEN} | headers


def test_a_delete_is_204() -> None:
    assert replies.deleted().status == 204
    assert own(replies.deleted().headers) == {}


# Metadata and preflight


def test_metadata_is_never_stored_by_caches() -> None:
    reply = replies.info(info())
    assert reply.status == 200
    assert own(reply.headers) == {
        "Content-Type": "text/plain",
        "Stream-Next-Offset": TAIL_TOKEN,
        "Cache-Control": "no-store",
    }


def test_metadata_tells_the_lifetime_as_configured_and_closure() -> None:
    assert own(replies.info(info(lifetime=Lifetime(ttl_s=0))).headers)["Stream-TTL"] == "0"
    text = "2030-01-01T01:00:00+01:00"
    lifetime = Lifetime(expires_at=text, expires_at_ms=1)
    headers = own(replies.info(info(closed=True, lifetime=lifetime)).headers)
    assert headers["Stream-Expires-At"] == text
    assert headers["Stream-Closed"] == "true"
    assert "Stream-TTL" not in headers


def names(header: str) -> set[str]:
    return {name.strip().lower() for name in header.split(",")}


class RecordedHeaders:
    """Remembers which headers are looked at."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def getall(self, name: str, default: Sequence[str], /) -> Sequence[str]:
        self.names.add(name.lower())
        return default


def test_preflight_allows_every_request_header_that_is_read() -> None:
    reply = replies.preflight()
    headers = own(reply.headers)
    assert reply.status == 204
    asked = RecordedHeaders()
    for method in names(headers["Access-Control-Allow-Methods"]):
        parse_command(method.upper(), "s", "", asked, "/v1/stream")
    asked.names -= {"content-encoding", "transfer-encoding"}
    assert asked.names | {"authorization"} <= names(headers["Access-Control-Allow-Headers"])
    assert int(headers["Access-Control-Max-Age"]) > 0


def test_every_response_header_is_exposed() -> None:
    answers = [
        replies.created(Created(True, info(closed=True)), "http://h/s").headers,
        replies.appended(Appended(TAIL, True, True, producer=(1, 2))).headers,
        replies.info(info(lifetime=Lifetime(1, "2030-01-01T00:00:00Z", 1))).headers,
        replies.chunk_reply_headers(chunk(), "no-cache", '"e"', 1),
        replies.sse_headers("image/png"),
        *(replies.errors(error).headers for error in EXAMPLES.values()),
    ]
    sent = {name.lower() for headers in answers for name in own(headers)}
    exposed = names(dict(replies.FOR_ALL.headers)["Access-Control-Expose-Headers"])
    assert sent - {"x-accel-buffering", "allow", "accept-encoding", "vary"} <= exposed


# Reads


def test_a_chunk_before_the_tail_says_neither_up_to_date_nor_closed() -> None:
    headers = replies.chunk_reply_headers(chunk(at_tail=False), "public", '"e"')
    assert own(headers) == {
        "Content-Type": "application/json",
        "Stream-Next-Offset": TAIL_TOKEN,
        "Cache-Control": "public",
        "ETag": '"e"',
    }


def test_a_chunk_at_the_tail_is_up_to_date() -> None:
    headers = own(replies.chunk_reply_headers(chunk(), "no-store", cursor=12))
    assert headers["Stream-Up-To-Date"] == "true"
    assert headers["Stream-Cursor"] == "12"
    assert "ETag" not in headers
    assert "Stream-Closed" not in headers


def test_a_chunk_at_the_end_of_a_closed_stream_has_no_cursor() -> None:
    headers = own(replies.chunk_reply_headers(chunk(closed=True), "no-cache", '"e"', 12))
    assert headers["Stream-Up-To-Date"] == headers["Stream-Closed"] == "true"
    assert "Stream-Cursor" not in headers


def test_not_modified_carries_the_headers_of_the_answer_it_stands_for() -> None:
    headers = replies.chunk_reply_headers(chunk(), "no-cache", '"e"')
    assert replies.not_modified(headers) == replies.Reply(304, headers, b"")


def test_a_long_poll_without_data_is_204() -> None:
    reply = replies.long_poll_empty(TAIL, closed=False, cursor=12)
    assert (reply.status, reply.body) == (204, b"")
    expected = {
        "Stream-Next-Offset": TAIL_TOKEN,
        "Stream-Up-To-Date": "true",
        "Cache-Control": "no-store",
    }
    assert own(reply.headers) == expected | {"Stream-Cursor": "12"}
    reply = replies.long_poll_empty(TAIL, closed=True, cursor=12)
    assert own(reply.headers) == expected | {"Stream-Closed": "true"}


def test_sse_names_its_encoding_only_if_it_is_base64() -> None:
    text = own(replies.sse_headers("text/plain"))
    assert text == {
        "Content-Type": "text/event-stream",
        "Cache-Control": "no-cache, no-transform",
        "X-Accel-Buffering": "no",
        "Vary": "Last-Event-ID",
    }
    assert own(replies.sse_headers("application/json")) == text
    for binary in ("application/octet-stream", "application/problem+json"):
        assert own(replies.sse_headers(binary)) == text | {"stream-sse-data-encoding": "base64"}


def test_a_browser_that_has_all_of_a_closed_stream_is_told_to_stop() -> None:
    reply = replies.nothing_follows(TAIL)
    assert reply.status == 204
    assert own(reply.headers) == {
        "Stream-Next-Offset": TAIL_TOKEN,
        "Stream-Up-To-Date": "true",
        "Stream-Closed": "true",
        "Cache-Control": "no-store",
        "Vary": "Last-Event-ID",
    }


def test_a_plain_body_is_the_parts() -> None:
    parts = (b"ab", FileSlice(FILE, 10, 5))
    assert replies.plain_body(chunk(*parts)) == replies.BodyPlan(b"", parts, b"", 7)
    assert replies.plain_body(chunk()) == replies.BodyPlan(b"", (), b"", 0)


@pytest.mark.parametrize(
    ("parts", "trimmed", "size"),
    [
        ((), (), 2),
        ((b"1,2,",), (b"1,2",), 5),
        ((b"1,", b"2,"), (b"1,", b"2"), 5),
        ((FileSlice(FILE, 4, 4),), (FileSlice(FILE, 4, 3),), 5),
        ((FileSlice(FILE, 4, 3), b","), (FileSlice(FILE, 4, 3),), 5),
        ((b"123", FileSlice(FILE, 4, 1)), (b"123",), 5),
        ((b"1,", b"", FileSlice(FILE, 4, 0)), (b"1",), 3),
    ],
)
def test_a_json_body_is_an_array_without_the_last_comma(
    parts: tuple[bytes | FileSlice, ...], trimmed: tuple[bytes | FileSlice, ...], size: int
) -> None:
    assert replies.json_body(chunk(*parts)) == replies.BodyPlan(b"[", trimmed, b"]", size)


def test_a_body_in_memory_is_bytes_and_one_in_files_is_described() -> None:
    byte_stream = Stream(content_type="text/plain", is_json=False)
    for parts, text, array in (
        ((), b"", b"[]"),
        ((b"1,2,",), b"1,2,", b"[1,2]"),
        ((b"1,", b"2,"), b"1,2,", b"[1,2]"),
    ):
        assert replies.chunk_body(chunk(*parts)) == array
        plain = chunk(*parts)
        plain.stream = byte_stream
        assert replies.chunk_body(plain) == text
    in_file = chunk(b"1,", FileSlice(FILE, 4, 4))
    assert replies.chunk_body(in_file) == replies.json_body(in_file)
    in_file.stream = byte_stream
    assert replies.chunk_body(in_file) == replies.plain_body(in_file)


# Errors

ERRORS: dict[str, type[errors.StreamError]] = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, errors.StreamError)
}
EXAMPLES = {name: sample(kind) for name, kind in ERRORS.items()}


def test_every_error_has_a_status_of_its_own() -> None:
    assert set(replies.STATUS) == set(ERRORS.values())


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_error_is_a_line_of_text_that_no_cache_keeps(name: str) -> None:
    error = EXAMPLES[name]
    reply = replies.errors(error)
    headers = own(reply.headers)
    assert reply.status == replies.STATUS[type(error)] >= 400
    assert reply.body == f"{error}\n".encode()
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (
            errors.StreamClosed(TAIL),
            409,
            {"Stream-Closed": "true", "Stream-Next-Offset": TAIL_TOKEN},
        ),
        (
            errors.ProducerGap(3, 5),
            409,
            {"Producer-Expected-Seq": "3", "Producer-Received-Seq": "5"},
        ),
        (errors.StaleEpoch(7), 403, {"Producer-Epoch": "7"}),
        (errors.Draining(4), 503, {"Retry-After": "4"}),
        (errors.Overloaded("busy"), 503, {"Retry-After": "1"}),
        (errors.StorageFailed("a sync failed"), 503, {"Retry-After": "60"}),
        (
            errors.MethodNotAllowed("PATCH"),
            405,
            {"Allow": "GET, HEAD, PUT, POST, DELETE, OPTIONS"},
        ),
        (errors.UnsupportedEncoding("gzip"), 415, {"Accept-Encoding": "identity"}),
        (errors.StreamGone("s"), 410, {}),
        (errors.DiskFull("full"), 507, {}),
    ],
)
def test_some_errors_carry_headers(
    error: errors.StreamError, status: int, headers: dict[str, str]
) -> None:
    reply = replies.errors(error)
    assert reply.status == status
    assert headers.items() <= own(reply.headers).items()
    always = {"Content-Type", "Cache-Control"}
    assert own(reply.headers).keys() == headers.keys() | always


def test_the_official_client_finds_the_word_it_looks_for_in_a_sequence_conflict() -> None:
    assert b"sequence" in replies.errors(errors.SequenceConflict("b", "a")).body.lower()


def test_an_error_of_a_subclass_has_the_status_of_its_nearest_class() -> None:
    class Unheard(errors.InvalidOffset):
        pass

    assert replies.errors(Unheard("x")).status == 400


def test_an_error_echoes_little_and_no_control_characters() -> None:
    hostile = "a\r\nSet-Cookie: x\0\x1b[31m\udcff" + "b" * 10_000
    body = replies.errors(errors.InvalidRequest(hostile)).body
    assert len(body) == replies.MAX_MESSAGE_CHARACTERS + 1
    assert body[:-1].decode().isprintable()
    assert body.endswith(b"b\n")


def test_a_bug_tells_nothing() -> None:
    reply = replies.internal_error()
    assert (reply.status, reply.body) == (500, b"internal server error\n")
    assert own(reply.headers)["Cache-Control"] == "no-store"
