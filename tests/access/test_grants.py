"""Patterns of paths, against regular expressions that say the same."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from durable_streams.access.grants import Grant, Kind, Pattern, Scope, cover
from durable_streams.model.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from durable_streams.model.paths import StreamPath

_segment = st.text(st.sampled_from("ab*/"), min_size=1, max_size=4)
_paths = st.lists(_segment, min_size=1, max_size=4).map(tuple)
_wild = st.lists(st.sampled_from(["a", "b", "*", "**", "a*", "*b", "a*b", "***"]), max_size=5)


def _patterns(kinds: Iterable[Kind] = Kind) -> st.SearchStrategy[Pattern]:
    segments = st.one_of(_paths, _wild.map(tuple))
    made = st.tuples(st.sampled_from(list(kinds)), segments).map(lambda both: Pattern(*both))
    return made.filter(lambda pattern: bool(pattern.segments) or pattern.kind is Kind.PREFIX)


def _reference(pattern: Pattern) -> re.Pattern[str]:
    """A regular expression for a path, each segment of which ends in a NUL."""
    text = ""
    for segment in pattern.segments:
        if pattern.kind is not Kind.GLOB:
            text += re.escape(segment) + "\0"
        elif segment == "**":
            text += "(?:[^\0]+\0)*"
        else:
            text += re.escape(segment).replace(r"\*", "[^\0]*") + "\0"
    return re.compile(text + (".*" if pattern.kind is Kind.PREFIX else ""), re.DOTALL)


def _is_in(pattern: Pattern, path: StreamPath) -> bool:
    flat = "".join(f"{segment}\0" for segment in path)
    return _reference(pattern).fullmatch(flat) is not None


@st.composite
def _related(draw: st.DrawFn) -> tuple[Pattern, Pattern, StreamPath]:
    """Two patterns of which one may cover the other, and a path that may be in both."""
    other = draw(_patterns())
    base = other.segments[: draw(st.integers(0, 3))]
    one = draw(
        st.sampled_from(
            [
                other,
                Pattern(Kind.PREFIX, base),
                Pattern(Kind.GLOB, (*base, "**")),
                Pattern(Kind.GLOB, (*base, "*")),
                Pattern(Kind.GLOB, other.segments or ("**",)),
                draw(_patterns()),
            ]
        )
    )
    path: list[str] = []
    for segment in other.segments:
        kind = segment if other.kind is Kind.GLOB else ""
        path += draw(st.lists(_segment, max_size=2)) if kind == "**" else []
        if kind != "**":
            filling = draw(st.sampled_from(["", "a", "*", "b/"]))
            path.append(segment.replace("*", filling) if kind else segment)
    return one, other, tuple(filter(None, [*path, *draw(st.lists(_segment, max_size=2))]))


@given(_patterns(), _paths)
@example(Pattern(Kind.PREFIX, ("chat",)), ("chats",))
@example(Pattern(Kind.PREFIX, ("chat",)), ("chat/1",))
@example(Pattern(Kind.PREFIX, ()), ("a",))
@example(Pattern(Kind.GLOB, ("a", "**")), ("a",))
@example(Pattern(Kind.GLOB, ("**", "a", "**", "b")), ("a", "b", "a", "b"))
@example(Pattern(Kind.GLOB, ("*a*b",)), ("abab",))
@example(Pattern(Kind.GLOB, ("*",)), ("a/b",))
@example(Pattern(Kind.PREFIX, ("*",)), ("a",))
def test_a_pattern_matches_what_an_expression_of_the_same_does(
    pattern: Pattern, path: StreamPath
) -> None:
    assert pattern.matches(path) == _is_in(pattern, path)


@given(_related())
@example((Pattern(Kind.GLOB, ("a", "**")), Pattern(Kind.PREFIX, ("a",)), ("a",)))
@example((Pattern(Kind.GLOB, ("**",)), Pattern(Kind.PREFIX, ()), ("a",)))
@example((Pattern(Kind.GLOB, ("*",)), Pattern(Kind.PREFIX, ("a",)), ("a", "b")))
@example((Pattern(Kind.PREFIX, ("a",)), Pattern(Kind.GLOB, ("a*",)), ("ab",)))
@example((Pattern(Kind.PREFIX, ("*",)), Pattern(Kind.GLOB, ("*", "b")), ("a", "b")))
@example((Pattern(Kind.PATH, ("*",)), Pattern(Kind.GLOB, ("*",)), ("a",)))
@example((Pattern(Kind.GLOB, ("a*", "**")), Pattern(Kind.PREFIX, ("b",)), ("b",)))
def test_what_covers_another_has_every_path_of_it(
    related: tuple[Pattern, Pattern, StreamPath],
) -> None:
    one, other, path = related
    if one.covers(other) and _is_in(other, path):
        assert _is_in(one, path)
        assert one.covers(Pattern(Kind.PATH, path))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("prefix", ""), ("glob", "**")),
        (("prefix", "a"), ("prefix", "a/b")),
        (("prefix", "a"), ("glob", "a/*/c")),
        (("glob", "**"), ("prefix", "")),
        (("glob", "a/**"), ("prefix", "a")),
        (("glob", "a/**"), ("glob", "a/b*")),
        (("glob", "a*/c"), ("glob", "a*/c")),
        (("glob", "a*/c"), ("path", "ab/c")),
    ],
)
def test_it_covers_what_plainly_lies_in_it(one: tuple[str, str], other: tuple[str, str]) -> None:
    def made(what: tuple[str, str]) -> Pattern:
        return Pattern.parse(Kind(what[0]), what[1])

    assert made(one).covers(made(other))


def test_a_glob_that_goes_back_often_takes_no_time_that_matters() -> None:
    """By backtracking alone these would outlast the universe."""
    assert not Pattern(Kind.GLOB, ("*a" * 60 + "b",)).matches(("a" * 200,))
    assert not Pattern(Kind.GLOB, ("**", "a") * 60 + ("b",)).matches(("a",) * 200)


@given(_patterns())
def test_a_pattern_comes_back_from_its_text(pattern: Pattern) -> None:
    assert Pattern.parse(pattern.kind, pattern.text) == pattern


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("text", ["/", "a/", "a//b", "..", "__ds", "a\0", "a" * 256])
def test_what_no_path_could_match_is_no_pattern(kind: Kind, text: str) -> None:
    with pytest.raises(InvalidRequest):
        Pattern.parse(kind, text)


@pytest.mark.parametrize("kind", [Kind.PATH, Kind.GLOB])
def test_only_a_prefix_may_be_empty(kind: Kind) -> None:
    with pytest.raises(InvalidRequest):
        Pattern.parse(kind, "")
    assert Pattern.parse(Kind.PREFIX, "").matches(("a", "b"))


@pytest.mark.parametrize("make", [Grant.on_path, Grant.on_prefix, Grant.on_glob])
def test_a_grant_has_scopes_that_there_are(
    make: Callable[[str, Iterable[Scope | str]], Grant],
) -> None:
    assert make("a", ["read", Scope.APPEND]).scopes == {Scope.READ, Scope.APPEND}
    with pytest.raises(ValueError, match="gives nothing"):
        make("a", [])
    with pytest.raises(ValueError, match="reed"):
        make("a", ["reed"])
    with pytest.raises(TypeError):
        make("a", "read")


def test_a_grant_allows_its_scopes_where_its_pattern_matches() -> None:
    grant = Grant.on_prefix("chat", ["read"])
    assert grant.allows(Scope.READ, ("chat", "1"))
    assert not grant.allows(Scope.READ, ("chats",))
    assert not grant.allows(Scope.APPEND, ("chat", "1"))


def test_admin_holds_no_other_scope() -> None:
    assert not Grant.on_prefix("", ["admin"]).allows(Scope.READ, ("a",))
    assert not cover([Grant.on_prefix("", ["admin"])], Grant.on_path("a", ["read"]))


def test_scopes_of_several_grants_add_up_where_each_covers_the_whole() -> None:
    held = [Grant.on_prefix("a", ["read"]), Grant.on_glob("a/**", ["append"])]
    assert cover(held, Grant.on_path("a/b", ["read", "append"]))
    assert not cover(held, Grant.on_path("a/b", ["read", "delete"]))
    assert not cover(held, Grant.on_prefix("", ["read"]))
    assert not cover([], Grant.on_path("a", ["read"]))
