"""Which stream a scope of ASGI asks for, whatever server and framework made it."""

from __future__ import annotations

from typing import Any

import pytest

from durable_streams.http.asgi.scopes import (
    came_in_at,
    is_below,
    mounted_at,
    peername_of,
    place_of,
    target_of,
)
from durable_streams.model.errors import InvalidRequest, StreamNotFound


def scope(path: str, raw: bytes | None, root: str = "", **more: Any) -> dict[str, Any]:
    made = {"type": "http", "path": path, "root_path": root, **more}
    return made if raw is None else made | {"raw_path": raw}


@pytest.mark.parametrize(
    ("made", "prefix", "below"),
    [
        pytest.param(scope("/a/b", b"/a/b"), "", "a/b", id="alone"),
        pytest.param(scope("/a/b", b"/a%2Fb"), "", "a%2Fb", id="an encoded slash is no slash"),
        pytest.param(scope("/s/a b", b"/s/a%20b", "/s"), "/s", "a%20b", id="mounted"),
        pytest.param(scope("/s/a/b", b"/s/a%2Fb", "/s"), "/s", "a%2Fb", id="mounted, encoded"),
        pytest.param(scope("/s/s/a", b"/s/s/a", "/s"), "/s", "s/a", id="a stream named like it"),
        pytest.param(scope("/a", b"/s/a", "/s"), "/s", "a", id="Starlette before 0.33"),
        pytest.param(scope("/s/a", b"/s/s/a", "/s"), "/s", "s/a", id="Starlette before, alike"),
        pytest.param(scope("/ä/a", b"/%C3%A4/a", "/ä"), "/ä", "a", id="a prefix that is encoded"),
        pytest.param(
            scope("/api/s/a", b"/api/s/a", "/api/s", app_root_path="/api"),
            "/api/s",
            "a",
            id="behind a proxy that strips, and uvicorn",
        ),
        pytest.param(
            scope("/s/a", b"/s/a", "/api/s", app_root_path="/api"),
            "/api/s",
            "a",
            id="behind a proxy that strips, and hypercorn",
        ),
        pytest.param(scope("/a", b"/a", "/api"), "/api", "a", id="the same, not mounted"),
        pytest.param(scope("/a/b", None), "", "a/b", id="no raw path"),
        pytest.param(scope("/s/a?b", None, "/s"), "/s", "a%3Fb", id="no raw path, mounted"),
        pytest.param(scope("/a", None, "/s"), "/s", "a", id="no raw path, Starlette before"),
        pytest.param(scope("/new/a", b"/old/a", "/new"), "/new", "a", id="rewritten"),
        pytest.param(scope("/a", b"/a?x=1"), "", "a", id="with the query in it"),
        pytest.param(scope("/s/", b"/s/", "/s/"), "/s", "", id="nothing below"),
    ],
)
def test_a_stream_is_named_by_what_was_sent(made: Any, prefix: str, below: str) -> None:
    assert place_of(made) == (prefix, below)


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(scope("/a%2Fb", None), id="no raw path"),
        pytest.param(scope("/s/50%", None, "/s"), id="no raw path, mounted"),
        pytest.param(scope("/new/a%b", b"/old/a%25b", "/new"), id="rewritten"),
    ],
)
def test_what_cannot_be_told_is_refused(made: Any) -> None:
    with pytest.raises(InvalidRequest, match="gives no raw_path"):
        place_of(made)


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(scope("/v1/s/a", b"/v1%2Fs/a", "/v1/s"), id="an escaped slash before it"),
        pytest.param(scope("/s", b"/s", "/s"), id="the prefix itself"),
        pytest.param(scope("*", b"*"), id="no path"),
        pytest.param(scope("http://a/b", b"http://a/b", "/s"), id="a whole URL"),
    ],
)
def test_what_is_not_below_the_prefix_is_no_stream(made: Any) -> None:
    with pytest.raises(StreamNotFound):
        place_of(made)


def test_what_is_put_around_an_application_has_only_its_prefix() -> None:
    inside = scope("/api/s/a%2", b"/api/s/a%252", "/api")
    assert is_below(inside, "/s")
    assert place_of(mounted_at(inside, "/s")) == ("/api/s", "a%252")
    stripped = scope("/s/a", b"/s/a", "/api")
    assert is_below(stripped, "/s")
    assert place_of(mounted_at(stripped, "/s")) == ("/api/s", "a")
    assert not is_below(scope("/s", b"/s"), "/s")
    assert not is_below(scope("/sx/a", b"/sx/a"), "/s")


def test_peers_and_addresses_are_those_of_the_connection() -> None:
    here = {"client": ["10.0.0.1", 5], "server": ("::1", 80), "scheme": "https"}
    assert peername_of(here) == ("10.0.0.1", 5)
    assert came_in_at(here) == ("https", "[::1]:80")
    on_a_unix_socket = {"client": None, "server": ("/run/a.sock", None), "scheme": "http"}
    assert peername_of(on_a_unix_socket) == ""
    assert came_in_at(on_a_unix_socket) == ("http", "localhost")
    assert peername_of({}) is None
    assert came_in_at({}) == ("http", "localhost")


def test_logs_have_the_target_as_it_came() -> None:
    assert target_of(scope("/a b", b"/a%20b", query_string=b"x=%41")) == "/a%20b?x=%41"
    assert target_of(scope("/a b", None)) == "/a%20b"
