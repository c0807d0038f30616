from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams.errors import InvalidJson
from durable_streams.protocol.json_mode import encode_messages, split_messages


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        (b'{"a":1}', [b'{"a":1}']),
        (b' \t\r\n{"a" : 1}\n', [b'{"a" : 1}']),
        (b"1", [b"1"]),
        (b' "x" ', [b'"x"']),
        (b"null", [b"null"]),
        (b"[]", []),
        (b" [ ] ", []),
        (b"[1,2]", [b"1", b"2"]),
        (b"[ 1 ,\n2\t]", [b"1", b"2"]),
        (b"[[1, 2], [3]]", [b"[1, 2]", b"[3]"]),
        (b"[[[1,2,3]]]", [b"[[1,2,3]]"]),
        (b'[{"b":1,"a":2,"b":3}]', [b'{"b":1,"a":2,"b":3}']),
        (b"[1E+400, -0, 1.000, 123456789012345678901234567890]",
         [b"1E+400", b"-0", b"1.000", b"123456789012345678901234567890"]),
        (b'["\\u00e9\\/", "\xc3\xa9", "\x7f"]', [b'"\\u00e9\\/"', b'"\xc3\xa9"', b'"\x7f"']),
        (b'{"a":\n 1,\r\n "b": [ ]}', [b'{"a":\n 1,\r\n "b": [ ]}']),
        (b'["a, b] \\" [", "]"]', [b'"a, b] \\" ["', b'"]"']),
    ],
)  # fmt: skip
def test_messages_keep_every_byte_but_the_white_space_around_them(
    body: bytes, messages: list[bytes]
) -> None:
    assert split_messages(body) == messages


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        (b'"\\ud800"', [b'"\\ud800"']),
        (b' ["\\uDFFF" , "\\ud800\\u0041"]', [b'"\\uDFFF"', b'"\\ud800\\u0041"']),
        (b'[{"\\ud800":[1, 2]}, 3]', [b'{"\\ud800":[1, 2]}', b"3"]),
        (b'["\\\\ud800", "\\udc00"]', [b'"\\\\ud800"', b'"\\udc00"']),
        (b'[ \n"\xc3\xa9\\ud800", [] ]', [b'"\xc3\xa9\\ud800"', b"[]"]),
    ],
)
def test_escapes_of_lone_surrogates_are_json(body: bytes, messages: list[bytes]) -> None:
    assert split_messages(body) == messages


@pytest.mark.parametrize(
    "body",
    [
        b"", b"  ", b"{", b"[1,]", b"[,1]", b"[1 2]", b"[1", b"1]", b"1 2", b'{"a":1}{"b":2}',
        b"[1] x", b"{'a':1}", b"{1:2}", b'{"a" 1}', b'{"a":1,}', b"tru", b"True", b"NaN",
        b"[NaN]", b"Infinity", b"[-Infinity]", b"01", b"[-01]", b"1.", b".5", b"1e", b"+1", b"-",
        b"0x1", b"1_0", b'"a', b'"\\x"', b'"\\u12G4"', b'"\x01"', b'["a\nb"]', b'{"\x00":1}',
        b'[{"a":01}]', b"[[1,]]", b'[{"a":"\\x"}]', b"\xef\xbb\xbf[1]", b'"\xff"', b'["\xc3"]',
        b'["\xed\xa0\x80"]', b"\xc2\xa01", b"[1\x0c]", b"// x\n1", b'["\\ud800",]', b'"\\ud8"',
        b'["\\ud800" "\\ud800"]', b"\\ud800",
    ],
)  # fmt: skip
def test_what_is_no_json_text_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidJson):
        split_messages(body)


def test_nesting_too_deep_to_be_checked_is_refused() -> None:
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        deep = opening * 200_000 + b"1" + closing * 200_000
        with pytest.raises(InvalidJson):
            split_messages(deep)


def test_an_empty_array_can_be_refused() -> None:
    with pytest.raises(InvalidJson):
        split_messages(b"[]", allow_empty=False)
    assert split_messages(b"[[]]", allow_empty=False) == [b"[]"]


def test_on_the_wire_every_message_is_followed_by_a_comma() -> None:
    assert encode_messages([b"1", b"[2]"]) == b"1,[2],"
    assert encode_messages([]) == b""


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
_white_space = st.text(st.sampled_from(" \t\r\n"), max_size=2)


@given(st.lists(st.tuples(_white_space, _values, _white_space)), _white_space, st.booleans())
def test_any_array_is_split_into_the_texts_of_its_elements(
    elements: list[tuple[str, Any, str]], around: str, ascii_only: bool
) -> None:
    texts = [_dumps(value, ascii_only) for _, value, _ in elements]
    padded = (
        before + text + after for (before, _, after), text in zip(elements, texts, strict=True)
    )
    body = f"{around}[{','.join(padded)}]{around}".encode()
    assert split_messages(body) == [text.encode() for text in texts]


def _dumps(value: Any, ascii_only: bool) -> str:
    """Escapes everything that is not ASCII, or nothing but what UTF-8 cannot carry."""
    text = json.dumps(value, ensure_ascii=ascii_only)
    return re.sub("[\ud800-\udfff]", lambda match: f"\\u{ord(match[0]):04x}", text)


_pieces = st.sampled_from([*'[]{},:"\\01eE+-. \n', '"a"', "true", "nul", "\\ud800", "\\u00e9"])
_junk = st.lists(_pieces).map("".join)


@given(_junk)
def test_exactly_what_the_standard_parser_takes_is_taken(text: str) -> None:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        value = json.loads(text, parse_constant=refuse)
    except ValueError:
        with pytest.raises(InvalidJson):
            split_messages(text.encode())
    else:
        messages = split_messages(text.encode())
        values = value if isinstance(value, list) else [value]
        assert [json.loads(message) for message in messages] == values
