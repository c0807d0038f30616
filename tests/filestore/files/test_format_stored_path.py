"""Paths on disk: what 0.1 wrote means what it meant, and a slash inside a segment has a place."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from durable_streams.filestore.format.stored_path import pack_path, stored_text, unpack_path
from durable_streams.model.paths import StreamPath

SEGMENTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
PATHS = st.lists(SEGMENTS | st.text("/%2Fa", min_size=1), min_size=1, max_size=4).map(tuple)


@pytest.mark.parametrize(
    ("path", "stored"),
    [
        (("chat", "room 1"), "chat/room 1"),
        (("100%", "%2F", "%25"), "100%/%2F/%25"),
        (("runs/1", "x"), "runs\0" + "1/x"),
        (("/",), "\0"),
    ],
)
def test_a_path_is_stored_as_it_is_with_nul_for_a_slash_inside(
    path: StreamPath, stored: str
) -> None:
    assert pack_path(path) == stored
    assert unpack_path(stored) == path


@given(PATHS)
@example(("a/b", "c"))
def test_every_path_comes_back_from_what_is_stored(path: StreamPath) -> None:
    assert unpack_path(pack_path(path)) == path


@given(st.lists(SEGMENTS.filter(lambda segment: "/" not in segment), min_size=1, max_size=4))
def test_what_0_1_wrote_is_written_still(segments: list[str]) -> None:
    assert pack_path(tuple(segments)) == "/".join(segments)


def test_people_are_told_the_text_form() -> None:
    assert stored_text("runs\0" + "1/%2F") == "runs%2F1/%252F"
