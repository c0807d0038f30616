from __future__ import annotations

import weakref
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams.model.errors import InvalidRequest
from durable_streams.rules.media_type import (
    DEFAULT,
    MAX_LENGTH,
    MOST_SHARED,
    is_json,
    is_text,
    normalise,
    parse,
    same,
    shared,
)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("text/plain", "text/plain"),
        ("Text/PLAIN", "text/plain"),
        ("text/plain;charset=UTF-8", "text/plain;charset=utf-8"),
        ('text/plain ; Charset="utf-8"', "text/plain;charset=utf-8"),
        ("text/plain; b=2; a=1", "text/plain;a=1;b=2"),
        ("text/plain; a=Case", "text/plain;a=Case"),
        ("text/plain;", "text/plain"),
        ("text/plain; ;a=1;", "text/plain;a=1"),
        ('a/b;x="two words"', 'a/b;x="two words"'),
        ('a/b;x="q\\"\\\\"', 'a/b;x="q\\"\\\\"'),
        ('a/b;x="\\a"', "a/b;x=a"),
        ('a/b;x=""', 'a/b;x=""'),
        ("application/vnd.api+json", "application/vnd.api+json"),
    ],
)
def test_every_spelling_of_a_type_has_one_canonical_form(text: str, canonical: str) -> None:
    assert normalise(text) == canonical


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "junk",
        "text/",
        "/plain",
        "text/plain extra",
        "text/plain, text/html",
        "text/plain;a",
        "text/plain;a=",
        "text/plain;a = b",
        "text/plain;a=1;A=2",
        'text/plain;a="open',
        'text/plain;a="x"y',
        "text/pläin",
        "*",
        "a b/c",
        " text/plain",
        "text/plain\n",
        'text/plain;a="x\ny"',
    ],
)
def test_a_missing_or_junk_type_is_none(text: str | None) -> None:
    assert normalise(text) is None


def test_the_length_is_limited() -> None:
    longest = "a/" + "b" * (MAX_LENGTH - 2)
    assert normalise(longest) == longest
    assert normalise(longest + "b") is None


@given(st.text(st.sampled_from('aB/;="\\ \t1')))
def test_normalising_twice_changes_nothing(text: str) -> None:
    canonical = normalise(text)
    assert canonical is None or normalise(canonical) == canonical


@pytest.mark.parametrize(
    ("content_type", "json", "text"),
    [
        ("application/json", True, True),
        ("application/json;charset=utf-8", True, True),
        ("application/problem+json", False, False),
        ("application/jsonl", False, False),
        ("text/plain", False, True),
        ("text/html;charset=utf-8", False, True),
        ("textual/x", False, False),
        (DEFAULT, False, False),
    ],
)
def test_only_application_json_is_json_and_only_it_and_text_are_text(
    content_type: str, json: bool, text: bool
) -> None:
    assert is_json(content_type) is json
    assert is_text(content_type) is text


UTF_8 = ["text/plain", "text/plain;charset=utf-8", 'Text/Plain; Charset="UTF8"',
         "text/plain; charset=us-ascii", "text/plain;charset=ASCII;format=flowed"]  # fmt: skip


def canonical(text: str) -> str:
    found = parse(text)
    assert found is not None
    return found


@pytest.mark.parametrize(("one", "other"), list(product(UTF_8, UTF_8)))
def test_names_of_utf_8_and_other_parameters_make_no_other_type(one: str, other: str) -> None:
    assert same(canonical(one), canonical(other))
    assert same(
        canonical(one.lower().replace("text/plain", "application/json")), "application/json"
    )


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("text/plain;charset=iso-8859-1", "text/plain", False),
        ("text/plain;charset=iso-8859-1", "text/plain; charset=ISO-8859-1; x=y", True),
        ("text/plain;charset=iso-8859-1", "text/plain;charset=latin1", False),
        ('text/plain;charset=""', "text/plain", False),
        ("application/json;charset=utf-16", "application/json", False),
        ('text/plain;a=";charset=x"', "text/plain", True),
        ("image/png;charset=x", "image/png;charset=y", True),
        ("application/xml;charset=latin1", "application/xml", True),
        ("multipart/mixed;boundary=a", "multipart/mixed;boundary=b", True),
        ("text/plain", "text/html", False),
        ("application/json", "application/problem+json", False),
    ],
)
def test_only_the_charset_of_text_makes_another_type(one: str, other: str, equal: bool) -> None:
    assert same(canonical(one), canonical(other)) is equal
    assert same(canonical(other), canonical(one)) is equal


def test_a_type_that_an_older_version_stored_is_itself() -> None:
    assert same("no type", "no type")
    assert not same("no type", "text/plain")


@pytest.mark.parametrize("text", [None, "", " ", "\t"])
def test_what_is_absent_or_empty_is_none(text: str | None) -> None:
    assert parse(text) is None


@pytest.mark.parametrize("text", ["junk", "a/b,c/d", "a/b;c", "a/b;c=d;c=e", "a/b" * 100, "ä/b"])
def test_what_is_malformed_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="Content-Type"):
        parse(text)


class Text(str):
    """One that tells when it is gone."""

    __slots__ = ("__weakref__",)


def test_streams_share_the_texts_of_so_many_types_and_others_are_let_go_of() -> None:
    """At the limit and one past it."""
    text = Text("first/type")
    gone = weakref.ref(text)
    assert shared(text) is text
    del text
    for number in range(MOST_SHARED - 1):
        shared(f"another/type-{number}")
    assert shared(Text("first/type")) is gone()
    for number in range(MOST_SHARED):
        shared(f"one-more/type-{number}")
    assert gone() is None


def test_a_text_that_is_too_long_for_a_type_is_not_remembered() -> None:
    text = Text("a/" + "b" * MAX_LENGTH)
    gone = weakref.ref(text)
    assert normalise(text) is None
    del text
    assert gone() is None
