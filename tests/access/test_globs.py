"""Globs: what they match, as a regular expression has it, and that they hold up nobody."""

from __future__ import annotations

import re
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams.access.grants import MAX_GLOB_SEGMENTS, Kind, Pattern
from durable_streams.model.errors import InvalidRequest

SEGMENTS: Final = st.text("ab", min_size=1, max_size=6)
GLOBS: Final = st.lists(
    st.one_of(st.text("ab*", min_size=1, max_size=6), st.just("**")), min_size=1
)


def expression(glob: list[str]) -> str:
    """The same glob, of paths with a slash behind each segment."""
    one = ["(?:[^/]*/)*" if part == "**" else f"{part.replace('*', '[^/]*')}/" for part in glob]
    return "".join(one)


@given(GLOBS.map(lambda glob: glob[:5]), st.lists(SEGMENTS, min_size=1, max_size=5))
def test_a_glob_is_what_an_expression_is(glob: list[str], path: list[str]) -> None:
    pattern = Pattern.parse(Kind.GLOB, "/".join(glob))
    is_match = re.fullmatch(expression(glob), "".join(f"{part}/" for part in path)) is not None
    assert pattern.matches(tuple(path)) is is_match


def test_a_glob_has_so_many_segments_and_no_more() -> None:
    most = "/".join(["**"] * MAX_GLOB_SEGMENTS)
    assert Pattern.parse(Kind.GLOB, most).matches(("a",))
    with pytest.raises(InvalidRequest, match="at most 16 segments"):
        Pattern.parse(Kind.GLOB, f"{most}/a")
    for kind in (Kind.PATH, Kind.PREFIX):
        assert Pattern.parse(kind, f"{most}/a").text == f"{most}/a"
