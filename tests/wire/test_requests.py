from __future__ import annotations

import pytest
from multidict import CIMultiDict

from durable_streams.model.commands import (
    FOREVER,
    Append,
    Create,
    Delete,
    ForkRequest,
    Head,
    Lifetime,
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
from durable_streams.model.offsets import ZERO, Offset, Start
from durable_streams.rules.appends import MAX_TEXT_BYTES, check_syntax
from durable_streams.wire.requests import parse_command

PREFIX = "/v1/stream"


def parse(method: str, *headers: tuple[str, str], path: str = "s", query: str = "") -> object:
    return parse_command(method, path, query, CIMultiDict(headers), PREFIX)


def refused(method: str, *headers: tuple[str, str]) -> None:
    with pytest.raises(InvalidRequest):
        parse(method, *headers)


# Methods and paths


@pytest.mark.parametrize(
    ("method", "command"),
    [
        ("PUT", Create(("s",))),
        ("POST", Append(("s",))),
        ("GET", Read(("s",), Start.BEGINNING)),
        ("HEAD", Head(("s",))),
        ("DELETE", Delete(("s",))),
        ("OPTIONS", Preflight()),
    ],
)
def test_every_method_is_a_command(method: str, command: object) -> None:
    assert parse(method) == command


@pytest.mark.parametrize("method", ["PATCH", "TRACE", "get", "", "x" * 100])
def test_other_methods_mean_nothing(method: str) -> None:
    with pytest.raises(MethodNotAllowed):
        parse(method)


@pytest.mark.parametrize("method", ["PUT", "POST", "GET", "HEAD", "DELETE"])
def test_every_command_names_its_stream(method: str) -> None:
    assert parse(method, path="chat/room%201").path == ("chat", "room 1")  # type: ignore[attr-defined]
    with pytest.raises(InvalidRequest):
        parse(method, path="a/../b")


# Headers of PUT and POST


def test_a_put_takes_its_headers_in_any_case() -> None:
    command = parse(
        "PUT", ("content-TYPE", "Text/Plain"), ("stream-ttl", "60"), ("STREAM-CLOSED", "True")
    )
    assert command == Create(("s",), "text/plain", Lifetime(ttl_s=60), closed=True)


def test_a_post_takes_its_headers() -> None:
    command = parse(
        "POST",
        ("Content-Type", "text/plain"),
        ("Stream-Closed", "true"),
        ("Producer-Id", "p"),
        ("Producer-Epoch", "1"),
        ("Producer-Seq", "2"),
        ("Stream-Seq", "a"),
    )
    assert command == Append(("s",), "text/plain", True, ProducerClaim("p", 1, 2), "a")


@pytest.mark.parametrize(
    "text",
    ["junk", "a/b, a/b", "text/plain; charset", "text/plain;charset=a;charset=b", "text/plain;=x"],
)
def test_a_malformed_content_type_is_refused_unless_it_is_of_a_close(text: str) -> None:
    with pytest.raises(InvalidRequest, match="Content-Type"):
        parse("PUT", ("Content-Type", text))
    append = parse("POST", ("Content-Type", text))
    assert isinstance(append, Append)
    with pytest.raises(InvalidRequest, match="Content-Type"):
        check_syntax(append, has_body=True)


@pytest.mark.parametrize("text", ["", " ", "\t "])
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_an_empty_content_type_is_none(method: str, text: str) -> None:
    assert parse(method, ("Content-Type", text)) == parse(method)


@pytest.mark.parametrize(("value", "closed"), [("true", True), ("TRUE", True), ("tRuE", True)])
def test_stream_closed_is_true_in_any_case(value: str, closed: bool) -> None:
    assert parse("POST", ("Stream-Closed", value)) == Append(("s",), close=closed)
    assert parse("PUT", ("Stream-Closed", value)) == Create(("s",), closed=closed)


@pytest.mark.parametrize("value", ["", "false", "yes", "1", "true ", "true, true", "\u0442rue"])
def test_any_other_stream_closed_is_absent_and_no_error(value: str) -> None:
    assert parse("POST", ("Stream-Closed", value)) == Append(("s",))
    assert parse("PUT", ("Stream-Closed", value)) == Create(("s",))


@pytest.mark.parametrize(
    ("method", "name", "value"),
    [
        ("PUT", "Content-Type", "text/plain"),
        ("PUT", "Stream-TTL", "1"),
        ("PUT", "Stream-Expires-At", "2030-01-01T00:00:00Z"),
        ("PUT", "Stream-Closed", "true"),
        ("PUT", "Stream-Forked-From", "/v1/stream/a"),
        ("POST", "Content-Type", "text/plain"),
        ("POST", "Content-Encoding", "identity"),
        ("POST", "Stream-Closed", "true"),
        ("POST", "Stream-Seq", "a"),
        ("POST", "Producer-Id", "p"),
    ],
)
def test_a_repeated_header_is_refused_even_if_the_values_agree(
    method: str, name: str, value: str
) -> None:
    refused(method, (name, value), (name.lower(), value))


@pytest.mark.parametrize("name", ["Content-Type", "Stream-Seq", "Stream-Closed", "Producer-Id"])
def test_a_header_that_is_not_utf_8_is_refused(name: str) -> None:
    refused("POST", (name, "a\udcff"))


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_content_encoding_is_refused(method: str) -> None:
    for encoding in ("gzip", "identity, gzip", "x" * 1000):
        with pytest.raises(UnsupportedEncoding):
            parse(method, ("Content-Encoding", encoding))
    assert parse(method, ("Content-Encoding", "Identity")) == parse(method)


@pytest.mark.parametrize("method", ["PUT", "POST", "GET", "HEAD", "DELETE", "OPTIONS"])
def test_a_transfer_coding_other_than_chunked_is_refused(method: str) -> None:
    for codings in (["gzip, chunked"], ["gzip", "chunked"], ["chunked", "chunked"], ["x" * 1000]):
        with pytest.raises(UnsupportedTransferCoding):
            parse(method, *(("Transfer-Encoding", coding) for coding in codings))
    assert parse(method, ("Transfer-Encoding", "Chunked")) == parse(method)


def test_a_lifetime_is_checked() -> None:
    refused("PUT", ("Stream-TTL", "01"))
    refused("PUT", ("Stream-Expires-At", "tomorrow"))
    refused("PUT", ("Stream-TTL", "1"), ("Stream-Expires-At", "2030-01-01T00:00:00Z"))
    assert parse("POST", ("Stream-TTL", "ignored here")) == Append(("s",))


# Producers and Stream-Seq

COMPLETE = {"Producer-Id": "p", "Producer-Epoch": "0", "Producer-Seq": "0"}


@pytest.mark.parametrize("missing", COMPLETE)
def test_producer_headers_go_together(missing: str) -> None:
    some = {name: value for name, value in COMPLETE.items() if name != missing}
    refused("POST", *some.items())
    refused("POST", (missing, COMPLETE[missing]))


@pytest.mark.parametrize("name", ["Producer-Epoch", "Producer-Seq"])
@pytest.mark.parametrize(
    "value", ["", "-1", "+1", "1abc", "0xyz", "1e3", "1.0", " 1", "٣", "²", str(2**53), "9" * 5000]
)
def test_producer_numbers_are_digits_up_to_the_largest_safe_integer(name: str, value: str) -> None:
    refused("POST", *(COMPLETE | {name: value}).items())


def test_the_largest_producer_numbers_are_taken() -> None:
    most = str(2**53 - 1)
    command = parse("POST", *(COMPLETE | {"Producer-Epoch": most, "Producer-Seq": most}).items())
    assert command == Append(("s",), producer=ProducerClaim("p", 2**53 - 1, 2**53 - 1))


@pytest.mark.parametrize("value", ["", "a\tb", "a\x7f", "a\x85", "é" * 128 + "a"])
def test_an_unfit_producer_id_or_stream_seq_is_refused(value: str) -> None:
    refused("POST", *(COMPLETE | {"Producer-Id": value}).items())
    refused("POST", ("Stream-Seq", value))


@pytest.mark.parametrize(
    "value", ["a" * MAX_TEXT_BYTES, "é" * (MAX_TEXT_BYTES // 2), "a b, \U0001f600"]
)
def test_a_producer_id_and_stream_seq_may_be_any_other_text(value: str) -> None:
    command = parse("POST", *(COMPLETE | {"Producer-Id": value}).items(), ("Stream-Seq", value))
    assert command == Append(("s",), producer=ProducerClaim(value, 0, 0), stream_seq=value)


# Forks


def fork(source: str, offset: str | None = None, sub_offset: str | None = None) -> object:
    headers = [("Stream-Forked-From", source)]
    if offset is not None:
        headers.append(("Stream-Fork-Offset", offset))
    if sub_offset is not None:
        headers.append(("Stream-Fork-Sub-Offset", sub_offset))
    return parse("PUT", *headers).fork  # type: ignore[attr-defined]


def test_a_fork_names_its_source_by_url_path() -> None:
    assert fork("/v1/stream/chat/room%201") == ForkRequest(("chat", "room 1"))
    assert fork("/v1/stream/runs%2F1") == ForkRequest(("runs/1",))
    assert fork("/v1/stream/a", ZERO.token) == ForkRequest(("a",), ZERO)
    assert fork("/v1/stream/a", Offset(1, 9).token, "3") == ForkRequest(("a",), Offset(1, 9), 3)


def test_a_sub_offset_of_zero_is_as_good_as_none() -> None:
    assert fork("/v1/stream/a", None, "0") == ForkRequest(("a",))


@pytest.mark.parametrize(
    "source",
    [
        "", "a", "/a", "/v1/stream", "/v1/stream/", "/v1/streams/a", "v1/stream/a",
        "/v1/stream/../a", "/v1/stream/a?offset=-1", "http://host/v1/stream/a",
        "/v1/stream/__ds/x", "/v1/stream//a",
    ],
)  # fmt: skip
def test_a_source_that_is_no_stream_of_this_server_is_refused(source: str) -> None:
    with pytest.raises(InvalidRequest):
        fork(source)


def test_a_fork_offset_may_be_the_beginning() -> None:
    assert fork("/v1/stream/a", "-1") == fork("/v1/stream/a", ZERO.token)


@pytest.mark.parametrize("offset", ["", "-2", "now", "5", "0_0", ZERO.token + "0"])
def test_a_fork_offset_is_a_token(offset: str) -> None:
    with pytest.raises(InvalidOffset):
        fork("/v1/stream/a", offset)


@pytest.mark.parametrize("sub_offset", ["", "-1", "abc", "1.5", "05", "+1", str(2**53)])
def test_a_sub_offset_has_the_notation_of_a_ttl(sub_offset: str) -> None:
    with pytest.raises(InvalidRequest):
        fork("/v1/stream/a", ZERO.token, sub_offset)


def test_a_sub_offset_needs_something_to_refine() -> None:
    with pytest.raises(InvalidRequest):
        fork("/v1/stream/a", None, "1")
    refused("PUT", ("Stream-Fork-Sub-Offset", "0"))
    refused("PUT", ("Stream-Fork-Offset", ZERO.token))


def test_a_prefix_may_be_empty_or_long() -> None:
    headers = CIMultiDict({"Stream-Forked-From": "/a"})
    assert parse_command("PUT", "s", "", headers, "") == Create(
        ("s",), None, FOREVER, fork=ForkRequest(("a",))
    )
    headers = CIMultiDict({"Stream-Forked-From": "/x/y/z/a"})
    assert parse_command("PUT", "s", "", headers, "/x/y/z") == Create(
        ("s",), fork=ForkRequest(("a",))
    )


# Reads


@pytest.mark.parametrize(
    ("query", "start"),
    [
        ("", Start.BEGINNING),
        ("other=1", Start.BEGINNING),
        ("offset=-1", Start.BEGINNING),
        ("offset=now", Start.NOW),
        ("offset=%6eow", Start.NOW),
        ("%6fffset=now", Start.NOW),
        (f"offset={ZERO.token}", ZERO),
        (f"a=b&offset={Offset(3, 14).token}&c&&=", Offset(3, 14)),
    ],
)
def test_a_read_begins_at_its_offset(query: str, start: object) -> None:
    assert parse("GET", query=query) == Read(("s",), start)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "query",
    [
        "offset", "offset=", "offset=5", "offset=-2", "offset=+1", "offset=NOW", "offset=now%20",
        "offset=+now", "offset=%2B1", "offset=a,b", "offset=../x", f"offset={ZERO.token}%0A",
        f"offset={ZERO.token}%00", f"offset=%25{ZERO.token}", "offset=%zz", "offset=%ff",
        "offset=0000000000000000/0000000000000000", "offset=\u0660000000000000000_0000000000000000",
    ],
)  # fmt: skip
def test_a_malformed_offset_is_refused(query: str) -> None:
    with pytest.raises(InvalidOffset):
        parse("GET", query=query)


@pytest.mark.parametrize(
    "query",
    [
        "offset=-1&offset=-1",
        "offset=-1&%6fffset=-1",
        "offset=-1&live=sse&live=sse",
        "offset=-1&live=sse&cursor=1&cursor=1",
    ],
)
def test_a_repeated_parameter_is_refused(query: str) -> None:
    with pytest.raises(InvalidRequest):
        parse("GET", query=query)


@pytest.mark.parametrize(
    ("value", "live"),
    [
        ("long-poll", Live.LONG_POLL),
        ("true", Live.LONG_POLL),
        ("sse", Live.SSE),
        ("%73se", Live.SSE),
    ],
)
def test_a_read_may_go_on_live(value: str, live: Live) -> None:
    assert parse("GET", query=f"offset=now&live={value}") == Read(("s",), Start.NOW, live)


@pytest.mark.parametrize("value", ["", "false", "SSE", "sse+", "websocket"])
def test_an_unknown_way_of_being_live_is_refused(value: str) -> None:
    with pytest.raises(InvalidRequest):
        parse("GET", query=f"offset=-1&live={value}")


def test_a_live_read_needs_an_offset() -> None:
    for live in ("long-poll", "sse", "true"):
        with pytest.raises(InvalidRequest):
            parse("GET", query=f"live={live}")


@pytest.mark.parametrize(
    ("cursor", "number"),
    [("0", 0), ("1234", 1234), ("", None), ("abc", None), ("-1", None), ("1.5", None),
     ("%D9%A3", None), ("9" * 64, 10**64 - 1), ("9" * 65, None), ("9" * 5000, None)],
)  # fmt: skip
def test_a_cursor_that_is_no_number_is_ignored(cursor: str, number: int | None) -> None:
    command = parse("GET", query=f"offset=-1&live=sse&cursor={cursor}")
    assert command == Read(("s",), Start.BEGINNING, Live.SSE, number)


ID = "0000000000000003_0000000000000007"


@pytest.mark.parametrize(
    ("last_event_id", "start"),
    [(ID, Offset(3, 7)), (ZERO.token, ZERO), ("-1", Start.BEGINNING)],
)
def test_a_last_event_id_wins_over_the_offset_of_an_event_stream(
    last_event_id: str, start: Offset | Start
) -> None:
    header = ("Last-Event-ID", last_event_id)
    command = parse("GET", header, query="offset=now&live=sse")
    assert command == Read(("s",), start, Live.SSE, resumed=True)
    for query in ("offset=now", "offset=now&live=long-poll"):
        assert parse("GET", header, ("Last-Event-ID", "junk"), query=query) == parse(
            "GET", query=query
        )
    with pytest.raises(InvalidRequest):
        parse("GET", header, query="live=sse")
    with pytest.raises(InvalidRequest):
        parse("GET", header, query="offset=junk&live=sse")


def test_an_empty_last_event_id_is_none() -> None:
    query = "offset=-1&live=sse"
    assert parse("GET", ("Last-Event-ID", ""), query=query) == parse("GET", query=query)


@pytest.mark.parametrize("text", ["junk", "now", "0", f"{ID} ", f"{ID},{ID}", "\udcff"])
def test_a_last_event_id_that_is_no_id_of_ours_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse("GET", ("Last-Event-ID", text), query="offset=-1&live=sse")


def test_a_repeated_last_event_id_is_refused() -> None:
    twice = (("Last-Event-ID", ID), ("last-event-id", ID))
    with pytest.raises(InvalidRequest):
        parse("GET", *twice, query="offset=-1&live=sse")


def test_if_none_match_is_one_list_even_in_two_lines() -> None:
    command = parse("GET", ("If-None-Match", '"a", "b"'), ("if-none-match", 'W/"c"'))
    assert command == Read(("s",), Start.BEGINNING, if_none_match='"a", "b", W/"c"')
    refused("GET", ("If-None-Match", '"\udcff"'))


def test_only_reads_have_parameters() -> None:
    assert parse("POST", query="offset=junk&live=junk") == Append(("s",))
