"""Hosts and origins: what is one, and which are this machine's."""

from __future__ import annotations

import pytest

from durable_streams.wire.hosts import (
    HostName,
    Origin,
    is_host,
    is_loopback,
    parse_host,
    parse_origin,
)

HOSTS = {
    "example.test": ("example.test", ""),
    "EXAMPLE.Test": ("example.test", ""),
    "example.test.": ("example.test", ""),
    "example.test..": ("example.test.", ""),
    "example.test:80": ("example.test", "80"),
    "a_b.test": ("a_b.test", ""),
    "a": ("a", ""),
    "xn--bcher-kva.test": ("xn--bcher-kva.test", ""),
    "127.0.0.1:4437": ("127.0.0.1", "4437"),
    "[::1]": ("[::1]", ""),
    "[::1]:80": ("[::1]", "80"),
    "[2001:DB8::1]": ("[2001:db8::1]", ""),
    "[::ffff:127.0.0.1]:1": ("[::ffff:127.0.0.1]", "1"),
}

NO_HOSTS = [
    "",
    " ",
    ".",
    ".example.test",
    "-example.test",
    "example.test ",
    " example.test",
    "example.test\n",
    "example.test\r\nX: y",
    "example.test:",
    "example.test:http",
    "example.test:123456",
    "example.test:-1",
    "example.test:٣",
    "example.test:80:80",
    "user@example.test",
    "user:password@example.test",
    "example.test/",
    "example.test/path",
    "example.test?query",
    "example.test#fragment",
    "example.test, other.test",
    "example.test;x",
    "exa mple.test",
    "example%2etest",
    "bücher.test",
    "ⓔxample.test",
    "localhost\u3002evil.test",
    "localhost\0.evil.test",
    "::1",
    "[::1",
    "::1]",
    "[]",
    "[::1%25eth0]",
    "[fe80::1%eth0]",
    "[v1.x]",
    "[::1]x",
    "http://example.test",
    "*.example.test",
    "null",
]


@pytest.mark.parametrize("text", HOSTS)
def test_a_host_and_its_port(text: str) -> None:
    assert parse_host(text) == HostName(*HOSTS[text])
    assert is_host(text)


@pytest.mark.parametrize("text", [text for text in NO_HOSTS if text != "null"])
def test_what_is_no_host(text: str) -> None:
    assert parse_host(text) is None
    assert not is_host(text)


def test_a_host_is_as_long_as_names_of_the_dns() -> None:
    assert parse_host("a" * 254) is not None
    assert parse_host("a" * 255) is None


ORIGINS = {
    "http://example.test": ("http", "example.test", ""),
    "HTTP://EXAMPLE.test": ("http", "example.test", ""),
    "http://example.test:80": ("http", "example.test", ""),
    "https://example.test:443": ("https", "example.test", ""),
    "https://example.test:80": ("https", "example.test", "80"),
    "http://example.test:443": ("http", "example.test", "443"),
    "http://example.test:8080": ("http", "example.test", "8080"),
    "http://example.test.": ("http", "example.test", ""),
    "http://[::1]:5173": ("http", "[::1]", "5173"),
    "http://null": ("http", "null", ""),
}

SCHEMES = [
    "null",
    "NULL",
    "example.test",
    "//example.test",
    "://example.test",
    "file://",
    "file://localhost",
    "ftp://example.test",
    "ws://localhost",
    "chrome-extension://abcdefghijklmnop",
    "moz-extension://abc",
    "data:text/html",
    "blob:http://localhost/1",
    "javascript://localhost",
    "http:/localhost",
    "http:localhost",
    "http ://localhost",
    "http://localhost http://evil.test",
]


@pytest.mark.parametrize("text", ORIGINS)
def test_an_origin(text: str) -> None:
    scheme, name, port = ORIGINS[text]
    assert parse_origin(text) == Origin(scheme, HostName(name, port))


@pytest.mark.parametrize(
    "text", [*SCHEMES, *(f"http://{text}" for text in NO_HOSTS if text != "null")]
)
def test_what_is_no_origin(text: str) -> None:
    assert parse_origin(text) is None


LOOPBACK = [
    "localhost",
    "LOCALHOST",
    "localhost.",
    "localhost:4437",
    "app.localhost",
    "a.b.localhost.",
    "127.0.0.1",
    "127.0.0.1.",
    "127.255.255.254",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::FFFF:7f00:1]",
]

ELSEWHERE = [
    "localhost.evil.test",
    "127.0.0.1.evil.test",
    "evil-localhost",
    "evillocalhost",
    "localhost.localdomain",
    "localhost..",
    "localhos",
    "example.test",
    "0.0.0.0",
    "0",
    "[::]",
    "[::2]",
    "[::ffff:0:127.0.0.1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "128.0.0.1",
    "10.0.0.1",
    "169.254.169.254",
    # What browsers turn into 127.0.0.1 before they send it, so that nobody has to take it.
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "017700000001",
    "127.000.000.001",
]


@pytest.mark.parametrize("text", LOOPBACK)
def test_what_nobody_else_can_be(text: str) -> None:
    host = parse_host(text)
    assert host is not None
    assert is_loopback(host.name)


@pytest.mark.parametrize("text", ELSEWHERE)
def test_what_somebody_else_can_be(text: str) -> None:
    host = parse_host(text)
    assert host is None or not is_loopback(host.name)
