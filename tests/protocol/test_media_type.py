from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams.protocol.media_type import (
    DEFAULT,
    MAX_LENGTH,
    is_json,
    is_text,
    normalise,
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
