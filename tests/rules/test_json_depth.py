from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from durable_streams.model.errors import InvalidJson
from durable_streams.rules.json_depth import MAX_DEPTH, check_flat, depth
from durable_streams.rules.json_mode import to_wire


def nested(levels: int, *, opening: bytes = b"[", within: bytes = b"1") -> bytes:
    closing = b"]" if opening == b"[" else b"}"
    return opening * levels + within + closing * levels


def at_depth(calls: int, body: bytes) -> tuple[bytes, int]:
    """Split a body with so many calls on the stack."""
    return to_wire(body) if not calls else at_depth(calls - 1, body)


WRITTEN = {
    "a value": lambda message: message,
    "in an array": lambda message: b"[" + message + b"]",
    "among others": lambda message: b"[1, " + message + b" ,2]",
    "large": lambda message: message + b" " * 100_000,
    "in a large array": lambda message: b"[" + b"1," * 100_000 + message + b"]",
    "before a large array": lambda message: b"[" + message + b",1" * 100_000 + b"]",
    "with surrogates": lambda message: b'["\\ud800",' + message + b"]",
}


@pytest.mark.parametrize("calls", [0, 700])
@pytest.mark.parametrize("way", WRITTEN)
@pytest.mark.parametrize("opening", [b"[", b'{"]":', b'{ "a\\\\\\"{" : '])
def test_the_deepest_message_is_the_same_whichever_way_it_comes(
    calls: int, way: str, opening: bytes
) -> None:
    if opening == b"[" and way in {"a value", "large"}:
        return  # the messages of an array are what is in it
    deepest = nested(MAX_DEPTH, opening=opening)
    data, _ = at_depth(calls, WRITTEN[way](deepest))
    assert deepest + b"," in data
    for levels in (MAX_DEPTH + 1, 2 * MAX_DEPTH, 100_000):
        with pytest.raises(InvalidJson, match=f"deeper than {MAX_DEPTH}"):
            at_depth(calls, WRITTEN[way](nested(levels, opening=opening)))


@pytest.mark.parametrize("calls", [0, 700])
def test_a_deep_message_that_is_no_json_is_refused(calls: int) -> None:
    for within in (b"", b"1 2", b"01", b'"', b"]", b"nul"):
        if within:
            with pytest.raises(InvalidJson):
                at_depth(calls, nested(400, opening=b'{"a":', within=within))
        with pytest.raises(InvalidJson):
            at_depth(calls, b"[" + nested(400, within=within)[:-1] + b"1]")


def test_many_brackets_are_not_deep() -> None:
    for message in (b"[" + b"[]," * 5000 + b"[]]", b'["' + b"[" * 5000 + b'"]',
                    b"[" + b'{"[":[{"{":"["}]},' * 2000 + b"1]",
                    b"[" + (nested(400) + b",") * 20 + b"1]"):  # fmt: skip
        assert to_wire(b"[" + message + b"]") == (message + b",", 1)


VALUES = st.recursive(
    st.none() | st.integers() | st.text(st.sampled_from('a,"\\[]{}: ')),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from('a,"\\[{'), inner, max_size=3)
    ),
    max_leaves=12,
)


def levels_of(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(levels_of, value.values()), default=0)
    return 1 + max(map(levels_of, value), default=0) if isinstance(value, list) else 0


@given(VALUES, st.integers(0, 4))
@example({"a": []}, 1)
@example([{}], 1)
def test_the_depth_is_that_of_the_brackets_outside_of_strings(value: object, least: int) -> None:
    text = json.dumps(value).encode()
    assert depth(text) == levels_of(value)
    assert max(depth(text, least=least), least) == max(levels_of(value), least)


@given(st.lists(st.sampled_from([*'[]{},:"\\01-. ', '"a"', "null", "tru"])).map("".join))
def test_without_recursion_the_same_texts_are_json(text: str) -> None:
    taken = True
    try:
        msgspec.json.decode(text.encode(), type=msgspec.Raw)
    except msgspec.DecodeError:
        taken = False
    try:
        check_flat(text.encode())
    except msgspec.DecodeError:
        assert not taken
    else:
        assert taken
