from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams.model.errors import InvalidRequest
from durable_streams.model.paths import (
    MAX_PATH_BYTES,
    MAX_SEGMENT_BYTES,
    parse_stream_path,
    quote_stream_path,
)


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        ("chat", "chat"),
        ("chat/room%201", "chat/room 1"),
        ("yjs/a/docs/b/.updates", "yjs/a/docs/b/.updates"),
        ("a%3Fb%23c", "a?b#c"),
        ("100%25", "100%"),
        ("%252F", "%2F"),
        ("a+b", "a+b"),
        ("...", "..."),
        ("caf%C3%A9", "café"),
        ("café", "café"),
        ("%63hat", "chat"),
        ("a/__ds", "a/__ds"),
        ("__dsx", "__dsx"),
    ],
)
def test_a_path_is_split_first_and_decoded_once(raw: str, canonical: str) -> None:
    assert parse_stream_path(raw) == canonical


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "/",
        "/chat",
        "chat/",
        "a//b",
        ".",
        "..",
        "a/../b",
        "a/%2e%2e/b",
        "%2E",
        "a%2Fb",
        "a%2fb",
        "a%00b",
        "a\0b",
        "%",
        "%4",
        "%zz",
        "%FF",
        "%ED%A0%80",
        "a\udc80b",
        "a?b",
        "a#b",
        "__ds",
        "__ds/subscriptions/x",
        "%5F%5Fds/jwks",
    ],
)
def test_a_path_that_could_mean_something_else_is_refused(raw: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_stream_path(raw)


@pytest.mark.parametrize("character", ["a", "%C3%A9", "é"])
def test_segments_are_limited_in_decoded_bytes(character: str) -> None:
    size = 1 if character == "a" else 2
    most = character * (MAX_SEGMENT_BYTES // size)
    parse_stream_path(most)
    with pytest.raises(InvalidRequest):
        parse_stream_path(most + character)


def test_paths_are_limited_in_decoded_bytes() -> None:
    longest = "/".join(["a" * 127] * 8) + "/"
    assert len(longest) == MAX_PATH_BYTES
    parse_stream_path(longest[:-1] + "a")
    with pytest.raises(InvalidRequest):
        parse_stream_path(longest + "a")


_segments = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1)


@given(st.lists(_segments, min_size=1, max_size=4))
def test_quoting_is_undone_by_parsing(segments: list[str]) -> None:
    path = "/".join(segments)
    quoted = quote_stream_path(path)
    assert quoted.isascii()
    try:
        assert parse_stream_path(quoted) == path
    except InvalidRequest:
        assert len(path.encode()) > MAX_SEGMENT_BYTES or {".", "..", "__ds"} & set(segments)


def test_harmless_characters_stay_readable_in_a_location() -> None:
    assert quote_stream_path("chat/room 1@x:y") == "chat/room%201@x:y"
