from __future__ import annotations

import json
import re
import tracemalloc
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams.model.errors import InvalidJson
from durable_streams.rules import json_mode
from durable_streams.rules.json_borders import positions
from durable_streams.rules.json_mode import to_wire
from durable_streams.settings import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Sequence


def split_messages(body: bytes, *, allow_empty: bool = True) -> list[bytes]:
    """The messages of a body; on the wire each one is followed by a comma."""
    data, count = to_wire(body, allow_empty=allow_empty)
    ends = list(positions([data]))
    assert len(ends) == count
    assert ends[-1:] == ([len(data)] if data else [])
    return [data[begin : end - 1] for begin, end in pairwise([0, *ends])]


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


def test_an_empty_array_can_be_refused() -> None:
    with pytest.raises(InvalidJson):
        split_messages(b"[]", allow_empty=False)
    assert split_messages(b"[[]]", allow_empty=False) == [b"[]"]


def test_on_the_wire_every_message_is_followed_by_a_comma() -> None:
    assert to_wire(b"[1, [2]]") == (b"1,[2],", 2)
    assert to_wire(b" 1 ") == (b"1,", 1)
    assert to_wire(b"[ ]") == (b"", 0)


LONG = [
    b"1",
    b'{"a": "' + b"x" * 3000 + b'", "b": [1, 2, {"c": []}]}',
    b"[" + b'[1,{"a":"],[{"}],' * 9000 + b"1]",
    b'"\\ud800 ' + b"\\ud800, ]}" * 100 + b'"',
    '"é😀"'.encode(),
    b"[]",
    b'["' + b"y," * 70_000 + b'"]',
    b"-1.50e3",
]


@pytest.mark.parametrize("around", [b"", b" ", b"\r\n\t "])
def test_large_arrays_are_gone_through_in_pieces_that_end_behind_messages(around: bytes) -> None:
    comma = around + b"," + around
    for messages in (LONG * 3, LONG[:2] * 2000, [b"1"] * 200_000, LONG[6:7]):
        body = around + b"[" + around + comma.join(messages) + around + b"]" + around
        assert to_wire(body) == (b"".join(message + b"," for message in messages), len(messages))


@pytest.mark.parametrize(
    "end",
    [b"1", b"1,]", b",1]", b"1]]", b"1] 2", b'"a]', b"01]", b"}", b"", b'"\xff"]', b"[1]", b"1 ,",
     b'"\\ud800",]', b"nul]", b"1]\xc2\xa0"],
)  # fmt: skip
@pytest.mark.parametrize("begin", [b"[" + b"1," * 100_000, b'["\\udfff",' + b"[1,[2]]," * 20_000])
def test_what_is_no_json_text_is_refused_however_long_it_is(begin: bytes, end: bytes) -> None:
    with pytest.raises(InvalidJson):
        to_wire(begin + end)
    with pytest.raises(InvalidJson):
        to_wire(begin + b"," + end)


def test_the_fault_in_a_long_array_is_told_with_its_place() -> None:
    for body in (b"[" + b"1," * 100_000 + b"]", b'["\\ud800",' + b"1, " * 100_000 + b",2]"):
        place = len(body) - (1 if body.endswith(b",]") else 3)
        with pytest.raises(InvalidJson, match=rf"\(byte {place}\)"):
            to_wire(body)
    with pytest.raises(InvalidJson, match=r"UTF-8 \(byte 200001\)"):
        to_wire(b'["' + b"x" * 199_999 + b'\xff"]')
    with pytest.raises(InvalidJson, match=r"UTF-8 \(byte 65536\)"):
        to_wire(b'["' + b"x" * (64 * KIB - 2) + b'\xc3"]')


def test_millions_of_messages_take_the_memory_of_a_few_bodies() -> None:
    body = b"[" + b"1," * (MIB - 1) + b"1]"
    emoji = '["' + "\N{GRINNING FACE}" * (MIB // 2) + '"]'
    for large in (body, body.replace(b",", b" ,"), emoji.encode()):
        tracemalloc.start()
        try:
            data, _ = to_wire(large)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak_bytes < 2 * len(large) + 8 * MIB
        assert len(data) <= len(large)


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


@pytest.mark.parametrize(
    "long",
    [b"[{},[],1," + b"{},[],1," * 9000 + b"1]", b'"' + b"a" * 70_000 + b'"', b"7" * 70_000],
    ids=["nested", "string", "number"],
)
@pytest.mark.parametrize("short", [b"1,", b"{},", b"[],", b'",",', b'"],",'])
def test_many_short_messages_before_long_ones_are_parsed_a_bounded_number_of_times(
    long: bytes, short: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a likely end of a message is inside of the long one, again and again."""
    parsed = 0

    def counted(body: bytes) -> Sequence[bytes]:
        nonlocal parsed
        parsed += len(body)
        return split(body)

    split = json_mode._split
    monkeypatch.setattr(json_mode, "_split", counted)
    values = [short[:-1]] * 40_000 + [long]
    body = b"[" + b",".join(values * 3) + b"]"
    assert to_wire(body) == (b",".join([*values * 3, b""]), 3 * len(values))
    assert parsed < 5 * len(body)
