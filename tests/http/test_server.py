"""The server: what it says to requests of every kind, well-formed or not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from durable_streams.http.malformed import MAX_HEADERS
from durable_streams.model.commands import Append, ProducerClaim
from durable_streams.rules.producer_table import producer_bytes
from durable_streams.settings import MIB, HttpSettings, Settings
from tests.http.client import Client

if TYPE_CHECKING:
    from tests.http.conftest import RunningServer, Serve

COMMON = {
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "cross-origin",
    "content-security-policy": "sandbox",
    "referrer-policy": "no-referrer",
    "access-control-allow-origin": "*",
}
TEXT = {"Content-Type": "text/plain"}


def assert_common(headers: dict[str, str]) -> None:
    assert {name: headers.get(name) for name in COMMON} == COMMON


async def test_a_stream_is_created_written_read_and_deleted_on_one_connection(
    server: RunningServer,
) -> None:
    client = await server.connect()
    created = await client.request("PUT", "a/b", b"one", TEXT)
    assert created.status == 201
    assert created.headers["location"] == "http://example.test/v1/stream/a/b"
    appended = await client.request("POST", "a/b", b" two", TEXT)
    assert appended.status == 204
    assert "content-length" not in appended.headers
    read = await client.request("GET", "a/b")
    assert (read.status, read.body) == (200, b"one two")
    assert read.headers["stream-next-offset"] == appended.headers["stream-next-offset"]
    assert (await client.request("DELETE", "a/b")).status == 204
    gone = await client.request("GET", "a/b")
    assert gone.status == 404
    for answer in (created, appended, read, gone):
        assert_common(answer.headers)
        assert answer.headers["date"].endswith(" GMT")
        assert "connection" not in answer.headers


async def test_a_segment_with_a_slash_in_it_names_a_stream_of_its_own(
    server: RunningServer,
) -> None:
    client = await server.connect()
    for path in ("runs%2F1", "runs/1", "runs%252F1"):
        created = await client.request("PUT", path, path.encode(), TEXT)
        assert created.status == 201
        assert created.headers["location"] == f"http://example.test/v1/stream/{path}"
    again = await client.request("PUT", "runs%2f1", b"", TEXT)
    assert again.status == 200
    assert again.headers["location"] == "http://example.test/v1/stream/runs%2F1"
    headers = {"Stream-Forked-From": "/v1/stream/runs%2F1"}
    forked = await client.request("PUT", "copies/runs%2F1", b"", headers)
    assert forked.status == 201
    assert (await client.request("POST", "copies/runs%2F1", b", copied", TEXT)).status == 204
    assert (await client.request("DELETE", "runs%2F1")).status == 204
    assert (await client.request("GET", "runs%2F1")).status == 410
    for path, content in (
        ("runs/1", b"runs/1"),
        ("runs%252F1", b"runs%252F1"),
        ("copies/runs%2F1", b"runs%2F1, copied"),
    ):
        assert (await client.request("GET", path)).body == content
    missing = await client.request("GET", "copies%2Fruns/1")
    assert missing.status == 404
    assert b"'copies%2Fruns/1'" in missing.body


async def test_json_comes_back_as_one_array(server: RunningServer) -> None:
    await server.create("j", "application/json", b'[{"a": 1},2]')
    client = await server.connect()
    await client.request("POST", "j", b'"x"', {"Content-Type": "application/json"})
    read = await client.request("GET", "j")
    assert read.body == b'[{"a": 1},2,"x"]'
    at_tail = await client.request("GET", "j?offset=now")
    assert at_tail.body == b"[]"
    assert "etag" not in at_tail.headers
    assert at_tail.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /v1/stream/a HTTP/1.1\r\n\r\n", 400),
        (b"GET /v1/stream/a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"NONSENSE\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET /v1/stream/a HTTP/1.1\r\nHost: a\r\nBad Header: b\r\n\r\n", 400),
        (b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 17_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * MAX_HEADERS + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 98 + b" \0: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\nNONSENSE\r\n" + b"a\r\n" * 20 + b"\r\n", 400),
        (b"POST /v1/stream/a HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n" + b"{}\n" * 300 + b"\r\n", 400),
        (b"POST /v1/stream/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\n\r\n", 400),
        (
            b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            b"POST /v1/stream/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            400,
        ),
    ],
)
async def test_what_is_no_http_gets_its_4xx_with_the_common_headers_and_no_traceback(
    server: RunningServer, caplog: pytest.LogCaptureFixture, request_bytes: bytes, status: int
) -> None:
    client = await server.connect()
    client.send(request_bytes)
    answer = await client.answer()
    assert answer.status == status
    assert_common(answer.headers)
    assert answer.headers["connection"] == "close"
    assert len(answer.body) < 300
    assert await client.ended()
    assert not caplog.records


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/stream", 404),
        ("GET", "/v1/streams/a", 404),
        ("GET", "/v1/stream/", 400),
        ("GET", "/v1/stream/a//b", 400),
        ("GET", "/v1/stream/../a", 400),
        ("GET", "/v1/stream/%2e%2e/a", 400),
        ("GET", "/v1/stream/a%2fb", 404),
        ("GET", "/v1/stream/a%00", 400),
        ("GET", "/v1/stream/%ff", 400),
        ("GET", "/v1/stream/none", 404),
        ("GET", "/v1/stream/a?offset=", 400),
        ("GET", "/v1/stream/a?live=sse", 400),
        ("GET", "/v1/stream/a?offset=-1&live=what", 400),
        ("HEAD", "/v1/stream/none", 404),
        ("HEAD", "/nowhere", 404),
        ("DELETE", "/v1/stream/none", 404),
        ("PATCH", "/v1/stream/a", 405),
        ("TRACE", "/v1/stream/a", 405),
        ("OPTIONS", "*", 204),
        ("OPTIONS", "/", 204),
        ("GET", "http://other.test/v1/stream/none?offset=-1", 404),
        ("OPTIONS", "/v1/stream/any/thing", 204),
    ],
)
async def test_a_request_that_means_nothing_gets_its_status_and_keeps_the_connection(
    server: RunningServer, method: str, target: str, status: int
) -> None:
    client = await server.connect()
    client.send(f"{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    answer = await client.answer(method)
    assert answer.status == status
    assert_common(answer.headers)
    if status == 405:
        assert "POST" in answer.headers["allow"]
    assert (await client.request("GET", "/healthz")).status == 200


async def test_what_is_reserved_is_no_stream_and_for_no_page(server: RunningServer) -> None:
    client = await server.connect()
    for target in ("__ds/x", "%5f%5fds/x", "__ds"):
        answer = await client.request("GET", target, None, {"Origin": "https://app.example"})
        assert answer.status == 403
        answer = await client.request("GET", target)
        assert answer.status == 400
        assert "access-control-allow-origin" not in answer.headers


async def test_every_method_with_head_has_the_same_headers_and_no_body(
    server: RunningServer,
) -> None:
    await server.create("a", "text/plain", b"hello")
    client = await server.connect()
    head = await client.request("HEAD", "a")
    assert head.status == 200
    assert head.headers["content-type"] == "text/plain"
    assert head.headers["stream-next-offset"] == "0000000000000000_0000000000000005"
    assert "content-length" not in head.headers
    for target in ("/healthz", "/readyz", "/nowhere", "/v1/stream/none"):
        get = await client.request("GET", target)
        head = await client.request("HEAD", target)
        assert head.status == get.status
        assert head.headers | {"date": ""} == get.headers | {"date": ""}


async def test_preflight_allows_everything_of_the_protocol(server: RunningServer) -> None:
    client = await server.connect()
    answer = await client.request("OPTIONS", "a")
    assert answer.status == 204
    assert "Producer-Id" in answer.headers["access-control-allow-headers"]
    assert "PUT" in answer.headers["access-control-allow-methods"]
    assert_common(answer.headers)


async def test_pipelined_requests_are_answered_in_order(server: RunningServer) -> None:
    await server.create("a", "text/plain")
    client = await server.connect()
    for number in range(50):
        client.ask("POST", "a", f"{number},".encode(), TEXT)
    client.ask("GET", "a")
    for _ in range(50):
        assert (await client.answer()).status == 204
    assert (await client.answer()).body == "".join(f"{n}," for n in range(50)).encode()


async def test_a_pipelined_request_waits_behind_a_long_poll(serve: Serve) -> None:
    server = await serve(HttpSettings(long_poll_timeout_s=0.05))
    await server.create("a", "text/plain")
    client = await server.connect()
    client.ask("GET", "a?offset=now&live=long-poll")
    client.ask("GET", "/healthz")
    assert (await client.answer()).status == 204
    assert (await client.answer()).body == b"ok\n"


async def test_http_1_0_is_answered_in_kind(server: RunningServer) -> None:
    await server.create("a", "text/plain", b"hello")
    client = await server.connect()
    kept = await client.request("GET", "a", None, {"Connection": "keep-alive"}, version="1.0")
    assert (kept.version, kept.headers["connection"]) == ("HTTP/1.0", "keep-alive")
    closed = await client.request("GET", "a", version="1.0")
    assert (closed.status, closed.body) == (200, b"hello")
    assert closed.headers["connection"] == "close"
    assert await client.ended()


async def test_connection_close_is_honoured(server: RunningServer) -> None:
    client = await server.connect()
    answer = await client.request("GET", "/healthz", None, {"Connection": "close"})
    assert answer.headers["connection"] == "close"
    assert await client.ended()


async def test_an_unchanged_read_is_304_and_a_close_changes_it(server: RunningServer) -> None:
    await server.create("a", "text/plain", b"hello")
    client = await server.connect()
    first = await client.request("GET", "a")
    tag = first.headers["etag"]
    again = await client.request("GET", "a", None, {"If-None-Match": f'"x", W/{tag}'})
    assert (again.status, again.headers["etag"]) == (304, tag)
    assert "content-length" not in again.headers
    assert_common(again.headers)
    await client.request("POST", "a", b"", {"Stream-Closed": "true"})
    closed = await client.request("GET", "a", None, {"If-None-Match": tag})
    assert (closed.status, closed.headers["stream-closed"]) == (200, "true")


async def test_a_write_is_refused_before_its_body_when_writes_are_refused(
    server: RunningServer,
) -> None:
    await server.create("a", "text/plain")
    server.engine.drain()
    client = await server.connect()
    client.send(b"POST /v1/stream/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
    answer = await client.answer()
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.headers["connection"] == "close"


async def test_one_connection_too_many_is_told_503_and_closed(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve(HttpSettings(max_connections=2))
    first, second = await server.connect(), await server.connect()
    for client in (first, second):
        assert (await client.request("GET", "/healthz")).status == 200
    for _ in range(3):
        refused = await server.connect()
        answer = await refused.answer()
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) > 0
        assert_common(answer.headers)
        assert await refused.ended()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert (await first.request("GET", "/healthz")).status == 200


async def test_a_place_is_free_again_when_a_client_leaves(serve: Serve) -> None:
    server = await serve(HttpSettings(max_connections=1))
    first = await server.connect()
    await first.request("GET", "/healthz", None, {"Connection": "close"})
    assert await first.ended()
    second = await server.connect()
    assert (await second.request("GET", "/healthz")).status == 200


async def test_an_idle_connection_is_closed_after_the_keepalive_timeout(serve: Serve) -> None:
    server = await serve(HttpSettings(keepalive_timeout_s=0.05))
    client = await server.connect()
    assert (await client.request("GET", "/healthz")).status == 200
    assert await client.ended()


async def test_a_bug_is_one_traceback_in_the_log_and_a_500_that_tells_nothing(
    server: RunningServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(path: str) -> None:
        raise ValueError("a secret")

    monkeypatch.setattr(server.engine, "head", broken)
    client = await server.connect()
    answer = await client.request("HEAD", "a")
    assert answer.status == 500
    assert_common(answer.headers)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert (await client.request("GET", "/healthz")).status == 200


async def test_requests_are_logged_only_on_demand(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    silent = await serve()
    await (await silent.connect()).request("GET", "/healthz")
    assert not caplog.records
    talkative = await serve(HttpSettings(access_log=True))
    await (await talkative.connect()).request("GET", "/healthz?last=1")
    (record,) = caplog.records
    fields = vars(record)
    assert (fields["method"], fields["path"], fields["status"]) == ("GET", "/healthz?last=1", 200)
    assert fields["sent_bytes"] == 3


async def test_stopping_ends_live_reads_cleanly_and_finishes_what_is_under_way(
    server: RunningServer,
) -> None:
    await server.create("a", "text/plain", b"hello")
    poll, events, writer = [await server.connect() for _ in range(3)]
    poll.ask("GET", "a?offset=now&live=long-poll")
    events.ask("GET", "a?offset=-1&live=sse")
    await events.head()
    await events.events_until(b"upToDate")
    writer.send(
        b"POST /v1/stream/a HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n"
        b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    )
    assert (await writer.answer()).status == 100
    stopping = asyncio.create_task(server.stop())
    polled = await poll.answer()
    assert (polled.status, polled.headers["connection"]) == (204, "close")
    assert [chunk async for chunk in events.chunks()] == []
    assert await events.ended()
    late = await Client.connect(server.port)
    refused = await late.request("POST", "a", b"x", TEXT)
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    await late.close()
    writer.send(b"abc")
    answer = await writer.answer()
    assert (answer.status, answer.headers["connection"]) == (503, "close")
    await stopping
    with pytest.raises(OSError, match="Connect call failed"):
        await Client.connect(server.port)


async def test_stopping_does_not_wait_for_ever(serve: Serve) -> None:
    server = await serve(HttpSettings(shutdown_grace_s=0.05))
    await server.create("a", "text/plain")
    client = await server.connect()
    client.send(
        b"POST /v1/stream/a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
        b"Content-Type: text/plain\r\nContent-Length: 3\r\n\r\n"
    )
    assert (await client.answer()).status == 100
    async with asyncio.timeout(HttpSettings().body_timeout_s / 2):
        await server.stop()
    assert await client.ended()


async def test_the_largest_append_is_taken_and_one_byte_more_is_413(serve: Serve) -> None:
    server = await serve(HttpSettings(), Settings(max_append_bytes=1000))
    await server.create("a", "text/plain")
    client = await server.connect()
    assert (await client.request("POST", "a", b"x" * 1000, TEXT)).status == 204
    refused = await client.request("POST", "a", b"x" * 1001, TEXT)
    assert refused.status == 413
    assert_common(refused.headers)


async def test_one_producer_too_many_is_told_the_limit_and_what_to_do(serve: Serve) -> None:
    settings = Settings(max_append_bytes=4096, journal_file_bytes=MIB + 8192)
    server = await serve(engine_settings=settings)
    await server.create("s", "text/plain")
    most = settings.journal_file_bytes // 4 // producer_bytes("0" * 250)

    def claimed(number: int) -> dict[str, str]:
        return TEXT | {
            "Producer-Id": f"{number:0250}",
            "Producer-Epoch": "0",
            "Producer-Seq": "0",
        }

    for number in range(most):
        claim = ProducerClaim(f"{number:0250}", 0, 0)
        decided = server.engine.append_now(Append(("s",), "text/plain", producer=claim), b"x")
        assert decided is not None
    client = await server.connect()
    assert (await client.request("POST", "s", b"x", claimed(0))).status == 204
    refused = await client.request("POST", "s", b"x", claimed(most))
    assert refused.status == 400
    text = refused.body.decode()
    assert text.startswith(f"the stream has {most} producers and no room for another one")
    for told in ("264192 bytes", "over 7 days", "raise the epoch", "another stream\n"):
        assert told in text
