"""URLs: the target of a request, and the Location of a stream."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from aiohttp.test_utils import make_mocked_request

from durable_streams.http.urls import split_target, stream_url


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/a/b", ("/a/b", "")),
        ("/a?b=c?d", ("/a", "b=c?d")),
        ("/?", ("/", "")),
        ("//a//b", ("//a//b", "")),
        ("/a://b", ("/a://b", "")),
        ("http://host/a?b", ("/a", "b")),
        ("http://host:1/a/b", ("/a/b", "")),
        ("http://host", ("/", "")),
        ("http://host?b=/c", ("/", "b=/c")),
        ("*", ("*", "")),
        ("host:80", ("host:80", "")),
    ],
)
def test_a_target_is_split_into_path_and_query(target: str, expected: tuple[str, str]) -> None:
    assert split_target(target) == expected


@pytest.mark.parametrize(
    ("headers", "origin"),
    [
        ({}, "http://example.test"),
        ({"Host": "a.b:4437"}, "http://a.b:4437"),
        ({"Host": "[::1]:80"}, "http://[::1]:80"),
        ({"X-Forwarded-Proto": "https"}, "https://example.test"),
        ({"X-Forwarded-Proto": "HTTPS, http"}, "https://example.test"),
        ({"X-Forwarded-Host": "public.test"}, "http://public.test"),
        ({"X-Forwarded-Host": "public.test:8443, inner"}, "http://public.test:8443"),
        ({"Forwarded": "for=1.2.3.4;proto=https;host=public.test"}, "https://public.test"),
        ({"Forwarded": 'proto=https; host="public.test:1"'}, "https://public.test:1"),
        ({"Forwarded": "proto=https, proto=http;host=b"}, "https://example.test"),
        ({"X-Forwarded-Host": "a", "Forwarded": "host=b;proto=https"}, "https://a"),
        ({"Forwarded": 'for="x;host=evil";host=b'}, "http://b"),
        ({"Forwarded": 'for="x, host=evil";; ;host=b'}, "http://b"),
    ],
)
def test_a_location_is_what_the_client_sees(headers: dict[str, str], origin: str) -> None:
    request = make_mocked_request("PUT", "/", {"Host": "example.test"} | headers)
    assert (
        stream_url("/", request.headers, request.protocol, "/v1/stream", ("a b", "ü"))
        == f"{origin}/v1/stream/a%20b/%C3%BC"
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-Proto": "javascript"},
        {"X-Forwarded-Proto": "http://evil/"},
        {"X-Forwarded-Host": "evil/path"},
        {"X-Forwarded-Host": "user@evil"},
        {"X-Forwarded-Host": "evil?x#y"},
        {"X-Forwarded-Host": "evil test"},
        {"X-Forwarded-Host": "evil:99999999"},
        {"X-Forwarded-Host": "evil\x00"},
        {"X-Forwarded-Host": "a" * 1000},
        {"Forwarded": 'host="evil/"'},
        {"Forwarded": 'host="evil\\"'},
        {"Forwarded": ";;;===,,,"},
        {"X-Forwarded-Host": ""},
        {"X-Forwarded-Host": "-evil"},
    ],
)
def test_headers_that_say_more_than_a_scheme_or_a_host_are_ignored(
    headers: dict[str, str],
) -> None:
    request = make_mocked_request("PUT", "/", {"Host": "example.test"} | headers)
    assert stream_url("/", request.headers, request.protocol, "", ("a",)) == "http://example.test/a"


@pytest.mark.parametrize(
    ("target", "headers", "origin"),
    [
        ("http://a.b:4437/v1/stream/a", {}, "http://a.b:4437"),
        ("https://a.b/v1/stream/a", {}, "https://a.b"),
        ("http://a.b?x", {}, "http://a.b"),
        ("http://user@evil/a", {}, "http://127.0.0.1:80"),
        ("gopher://a.b/a", {}, "http://a.b"),
        ("/a://b", {}, "http://example.test"),
        ("http://a.b/a", {"X-Forwarded-Host": "c", "X-Forwarded-Proto": "https"}, "https://c"),
        ("http://a.b/a", {"Forwarded": "host=c;proto=https"}, "https://c"),
    ],
)
def test_a_target_that_is_a_whole_url_wins_over_the_host_header(
    target: str, headers: dict[str, str], origin: str
) -> None:
    request = make_mocked_request("PUT", "/", {"Host": "example.test"} | headers)
    connection = SimpleNamespace(ssl_context=None, sockname=("127.0.0.1", 80))
    assert stream_url(target, request.headers, connection, "", ("a",)) == f"{origin}/a"  # type: ignore[arg-type]


def test_without_any_usable_host_the_location_is_still_one() -> None:
    request = make_mocked_request("PUT", "/", {"Host": "<script>"})
    assert stream_url("/", request.headers, request.protocol, "", ("a",)).startswith("http://")
    assert "<" not in stream_url("/", request.headers, request.protocol, "", ("a",))
