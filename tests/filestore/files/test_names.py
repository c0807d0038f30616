from __future__ import annotations

import unicodedata

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from durable_streams.filestore.files import names
from durable_streams.filestore.files.directory import LONGEST_DIRECTORY
from durable_streams.model.errors import InvalidRequest
from durable_streams.model.paths import (
    MAX_PATH_BYTES,
    MAX_SEGMENT_BYTES,
    StreamPath,
    parse_path_text,
    parse_stream_path,
    quote_stream_path,
)
from tests.filestore.files.history import ID

AWKWARD = "aA@~+%.-_ /:\\\t\né\u0301Åﬁß\U0001f600\x7f"
SEGMENTS = st.text(st.sampled_from(AWKWARD), min_size=1, max_size=90) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=90
)
RAW_PATHS = st.lists(SEGMENTS, min_size=1, max_size=4).map(
    lambda segments: quote_stream_path(tuple(segments))
)


def accepted(raw: str) -> StreamPath:
    try:
        return parse_stream_path(raw)
    except InvalidRequest:
        assume(False)
        raise


PATHS = RAW_PATHS.map(accepted)


@pytest.mark.parametrize(
    ("text", "directory"),
    [
        ("chat", "chat@"),
        ("chat/room-1", "chat/room-1@"),
        ("Chat", "+chat@"),
        ("yjs/a/.updates", "yjs/a/%2eupdates@"),
        ("...", "%2e..@"),
        ("a.b", "a.b@"),
        ("me@home", "me%40home@"),
        ("~", "%7e@"),
        ("a+b", "a%2bb@"),
        ("100%", "100%25@"),
        ("%2e", "%252e@"),
        ("room 1", "room%201@"),
        ("café", "caf%c3%a9@"),
        ("cafe\u0301", "cafe%cc%81@"),
        ("meta.json", "meta.json@"),
        ("runs%2F1", "runs%2f1@"),
        ("runs%252F1", "runs%252+f1@"),
        ("%2F", "%2f@"),
        ("a/..%2F..%2Fb", "a/%2e.%2f..%2fb@"),
    ],
)
def test_directory_names_are_readable_and_mean_one_path(text: str, directory: str) -> None:
    path = parse_path_text(text)
    assert names.directory_of(path) == directory
    assert names.path_of(directory) == path


@given(PATHS)
@example(("." * 3,))
@example(("A" * 255,))
@example(("é" * 127,))
@example(("\U0001f600" * 63,) * 4)
@example(("a/b",))
def test_every_path_that_a_url_can_name_comes_back_from_its_directory(path: StreamPath) -> None:
    assert names.path_of(names.directory_of(path)) == path


@given(PATHS, PATHS)
@example(("chat",), ("Chat",))
@example(("café",), ("cafe\u0301",))
@example(("ﬁ",), ("fi",))
@example(("a@",), ("a",))
@example(("a~",), ("a",))
@example(("A",), ("+a",))
@example(("a", "b"), ("a/b",))
@example(("a%2fb",), ("a/b",))
def test_no_two_paths_share_a_directory_whatever_the_file_system_folds(
    one: StreamPath, other: StreamPath
) -> None:
    assume(one != other)
    folded = {
        unicodedata.normalize(form, names.directory_of(path)).casefold()
        for path in (one, other)
        for form in ("NFC", "NFD", "NFKC", "NFKD")
    }
    assert len(folded) == 2


@given(PATHS)
def test_no_stream_directory_lies_inside_another_ones(path: StreamPath) -> None:
    *parents, last = names.directory_of(path).split("/")
    assert names.is_stream_directory(last)
    assert not any(names.is_stream_directory(parent) for parent in parents)


def test_a_stream_and_a_namespace_of_the_same_name_live_side_by_side() -> None:
    assert names.directory_of(("chat",)) == "chat@"
    assert names.directory_of(("chat", "room")).split("/")[0] == "chat"


@given(PATHS)
def test_names_are_plain_visible_and_short_enough_for_every_file_system(path: StreamPath) -> None:
    for name in names.directory_of(path).split("/"):
        assert name.isascii()
        assert name.isprintable()
        assert name == name.lower()
        assert not name.startswith(".")
        assert 0 < len(name) <= 255


def test_the_longest_path_fits_a_file_path() -> None:
    wide = "\U0001f600" * (MAX_SEGMENT_BYTES // 4)
    path = (wide,) * (MAX_PATH_BYTES // (len(wide.encode()) + 1))
    file = f"{names.directory_of(path)}/{names.segment_file(0, ID)}"
    assert LONGEST_DIRECTORY + len("/streams/") + len(file) < 4096
    assert names.path_of(names.directory_of(path)) == path


def test_a_long_name_is_cut_between_escapes_and_continued() -> None:
    path = ("a" * 239 + "é",)
    directory = names.directory_of(path)
    assert directory == "a" * 239 + "~/%c3%a9@"
    assert names.path_of(directory) == path
    assert names.path_of("a" * 239 + "~") is None


@pytest.mark.parametrize(
    "directory",
    [
        "chat",
        "Chat@",
        "+1@",
        "%2E@",
        "%61@",
        ".hidden@",
        "a~/b@",
        "%ff@",
        "a%@",
        "a%4@",
        "a+@",
        "a~@",
        "a b@",
        "@",
        "a//b@",
        "a@/b@",
        "a%00b@",
    ],
)
def test_a_directory_that_no_path_leads_to_is_no_streams(directory: str) -> None:
    assert names.path_of(directory) is None


def test_file_names_carry_the_segment_and_the_id() -> None:
    assert names.segment_file(12, ID) == f"0000000000000012-{ID}.seg"
    assert names.index_file(12, ID) == f"0000000000000012-{ID}.idx"
    assert names.parse_file(names.segment_file(12, ID)) == (12, ID, "seg")
    assert names.parse_file(names.index_file(12, ID)) == (12, ID, "idx")


@pytest.mark.parametrize(
    "name",
    [
        "meta.json",
        f"12-{ID}.seg",
        f"0000000000000012-{ID}.segx",
        f"0000000000000012-{ID.upper()}.seg",
        f"\N{ARABIC-INDIC DIGIT ZERO}000000000000012-{ID}.seg",
        f"0000000000000012-{ID}.seg\n",
    ],
)
def test_other_files_in_a_streams_directory_are_not_its_segments(name: str) -> None:
    assert names.parse_file(name) is None
