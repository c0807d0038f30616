from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from durable_streams.model.errors import InvalidRequest
from durable_streams.model.paths import (
    MAX_PATH_BYTES,
    MAX_SEGMENT_BYTES,
    RESERVED_SEGMENT,
    StreamPath,
    parse_path_text,
    parse_stream_path,
    path_text,
    quote_stream_path,
)

Parse = Callable[[str], StreamPath]


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ("chat", ("chat",)),
        ("chat/room%201", ("chat", "room 1")),
        ("yjs/a/docs/b/.updates", ("yjs", "a", "docs", "b", ".updates")),
        ("a%3Fb%23c", ("a?b#c",)),
        ("100%25", ("100%",)),
        ("%252F", ("%2F",)),
        ("a+b", ("a+b",)),
        ("...", ("...",)),
        ("caf%C3%A9", ("café",)),
        ("café", ("café",)),
        ("%63hat", ("chat",)),
        ("a/__ds", ("a", "__ds")),
        ("__dsx", ("__dsx",)),
        ("streams/runs%2Frun-1", ("streams", "runs/run-1")),
        ("a%2fb", ("a/b",)),
        ("%2F", ("/",)),
        ("a%2F%2E%2E%2Fb", ("a/../b",)),
    ],
)
def test_a_path_is_split_first_and_decoded_once(raw: str, path: StreamPath) -> None:
    assert parse_stream_path(raw) == path


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
        "a%00b",
        "a\0b",
        "a%2F%00",
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


@pytest.mark.parametrize("parse", [parse_stream_path, parse_path_text])
@pytest.mark.parametrize("character", ["a", "%2F", "é"])
def test_segments_are_limited_in_decoded_bytes(parse: Parse, character: str) -> None:
    size = 2 if character == "é" else 1
    most = character * (MAX_SEGMENT_BYTES // size)
    parse(most)
    with pytest.raises(InvalidRequest):
        parse(most + character)


@pytest.mark.parametrize("parse", [parse_stream_path, parse_path_text])
def test_paths_are_limited_in_decoded_bytes(parse: Parse) -> None:
    longest = "/".join(["a" * 127] * 8) + "/"
    assert len(longest) == MAX_PATH_BYTES
    parse(longest[:-1] + "a")
    with pytest.raises(InvalidRequest):
        parse(longest + "a")


_segments = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
_awkward = st.text(st.sampled_from("/%25fFé a"), min_size=1, max_size=12)
_paths = st.lists(_segments | _awkward, min_size=1, max_size=4).map(tuple)


def _is_accepted(path: StreamPath) -> bool:
    return (
        len("/".join(path).encode()) <= MAX_PATH_BYTES
        and max(len(segment.encode()) for segment in path) <= MAX_SEGMENT_BYTES
        and not {".", ".."} & set(path)
        and path[0] != RESERVED_SEGMENT
    )


@given(_paths)
@example(("a/b", "c"))
@example(("%2F", "/"))
def test_quoting_is_undone_by_parsing(path: StreamPath) -> None:
    quoted = quote_stream_path(path)
    assert quoted.isascii()
    if _is_accepted(path):
        assert parse_stream_path(quoted) == path
    else:
        with pytest.raises(InvalidRequest):
            parse_stream_path(quoted)


def test_harmless_characters_stay_readable_in_a_location() -> None:
    assert quote_stream_path(("chat", "room 1@x:y")) == "chat/room%201@x:y"
    assert quote_stream_path(("runs/1", "100%")) == "runs%2F1/100%25"


# The text form


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("chat", "room 1"), "chat/room 1"),
        (("runs/1",), "runs%2F1"),
        (("a", "b/c/"), "a/b%2Fc%2F"),
        (("100%",), "100%"),
        (("%41",), "%41"),
        (("%2",), "%2"),
        (("%2/",), "%2%2F"),
        (("%/",), "%%2F"),
        (("%2F",), "%252F"),
        (("%2f",), "%252f"),
        (("%25",), "%2525"),
        (("%%2F%25", "x"), "%%252F%2525/x"),
        (("a?b#c",), "a?b#c"),
    ],
)
def test_the_text_of_a_path_is_its_segments_where_nothing_is_in_doubt(
    path: StreamPath, text: str
) -> None:
    assert path_text(path) == text
    assert parse_path_text(text) == path


def test_an_escaped_slash_may_be_spelled_in_small_letters() -> None:
    assert parse_path_text("a%2fb") == ("a/b",)
    assert path_text(("a/b",)) == "a%2Fb"


@given(_paths)
def test_every_path_comes_back_from_its_text(path: StreamPath) -> None:
    text = path_text(path)
    assert text.count("/") == len(path) - 1
    if _is_accepted(path):
        assert parse_path_text(text) == path
    else:
        with pytest.raises(InvalidRequest):
            parse_path_text(text)


@given(_paths, _paths)
@example(("a/b",), ("a", "b"))
@example(("a%2Fb",), ("a/b",))
def test_no_two_paths_have_the_same_text(one: StreamPath, other: StreamPath) -> None:
    assert (path_text(one) == path_text(other)) == (one == other)


@pytest.mark.parametrize("text", ["", "/", "a//b", "a/", ".", "a/..", "__ds/x", "a\0", "a\udc80"])
def test_a_text_that_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_path_text(text)
