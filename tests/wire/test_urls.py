"""URLs: the target of a request, and the Location of a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from multidict import CIMultiDict

from durable_streams.wire.urls import Address, split_target, stream_url

if TYPE_CHECKING:
    from durable_streams.model.paths import StreamPath

OWN: Final = Address("http", "127.0.0.1:80")


def located(target: str, headers: dict[str, str], prefix: str, path: StreamPath) -> str:
    sent = CIMultiDict({"Host": "example.test"} | headers)
    return stream_url(target, sent, OWN, prefix, path, is_forwarded=True)


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
    location = located("/", headers, "/v1/stream", ("a b", "ü"))
    assert location == f"{origin}/v1/stream/a%20b/%C3%BC"


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
        {"X-Forwarded-Prefix": "evil"},
        {"X-Forwarded-Prefix": "//evil.test"},
        {"X-Forwarded-Prefix": "/a/../evil"},
        {"X-Forwarded-Prefix": "/a/."},
        {"X-Forwarded-Prefix": "/a//b"},
        {"X-Forwarded-Prefix": "/a?b"},
        {"X-Forwarded-Prefix": "/a#b"},
        {"X-Forwarded-Prefix": "/a\\b"},
        {"X-Forwarded-Prefix": "/a%2fb"},
        {"X-Forwarded-Prefix": "/a\r\nSet-Cookie: b"},
        {"X-Forwarded-Prefix": "/ä"},
        {"X-Forwarded-Prefix": "/" + "a" * 1024},
        {"X-Forwarded-Prefix": "/a, evil"},
        {"X-Forwarded-Prefix": ""},
        {"X-Forwarded-Prefix": "/"},
    ],
)
def test_headers_that_say_more_than_a_scheme_a_host_or_a_path_are_ignored(
    headers: dict[str, str],
) -> None:
    assert located("/", headers, "", ("a",)) == "http://example.test/a"


@pytest.mark.parametrize(
    ("said", "prefix"),
    [
        ("/api", "/api"),
        ("/api/", "/api"),
        ("/a.b/c_d~/..c", "/a.b/c_d~/..c"),
        ("/outer, /inner", "/outer/inner"),
        ("/, /inner", "/inner"),
        ("/" + "a" * 1023, "/" + "a" * 1023),
    ],
)
def test_what_a_proxy_took_away_from_the_path_is_where_the_client_finds_the_stream(
    said: str, prefix: str
) -> None:
    url = located("/v1/stream/a", {"X-Forwarded-Prefix": said}, "/v1/stream", ("a",))
    assert url == f"http://example.test{prefix}/v1/stream/a"


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
    assert located(target, headers, "", ("a",)) == f"{origin}/a"


def test_without_any_usable_host_the_location_is_where_the_request_came_in() -> None:
    assert located("/", {"Host": "<script>"}, "", ("a",)) == "http://127.0.0.1:80/a"


def test_a_connection_with_tls_is_of_the_scheme_https_unless_a_proxy_says_otherwise() -> None:
    own = Address("https", "[::1]:443")
    for sent, scheme in (({}, "https"), ({"X-Forwarded-Proto": "http"}, "http")):
        url = stream_url("/", sent, own, "", ("a",), is_forwarded=True)
        assert url == f"{scheme}://[::1]:443/a"


def test_forwarding_headers_of_nobody_in_particular_count_for_nothing() -> None:
    for sent in (
        {"X-Forwarded-Proto": "https"},
        {"X-Forwarded-Host": "evil.test"},
        {"Forwarded": "proto=https;host=evil.test"},
        {"X-Forwarded-Prefix": "/evil"},
    ):
        headers = {"Host": "example.test"} | sent
        url = stream_url("/", headers, OWN, "", ("a",), is_forwarded=False)
        assert url == "http://example.test/a"
