from __future__ import annotations

import json
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams.rules.json_borders import Borders, positions

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.sampled_from('a,"\\[]{}: \né')),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from('a,"\\[{'), inner, max_size=3)
    ),
    max_leaves=8,
)


@st.composite
def messages(draw: st.DrawFn) -> list[bytes]:
    indent = draw(st.sampled_from([None, 1]))
    ascii_only = draw(st.booleans())
    values = draw(st.lists(VALUES, max_size=5))
    return [json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode() for value in values]


def on_the_wire(found: list[bytes]) -> tuple[bytes, list[int]]:
    ends = list(accumulate(len(message) + 1 for message in found))
    return b"".join(message + b"," for message in found), ends


@given(messages(), st.data())
def test_messages_end_where_they_were_written_however_the_bytes_come(
    found: list[bytes], data: st.DataObject
) -> None:
    wire, ends = on_the_wire(found)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=6)))
    borders = Borders()
    seen = [
        begin + position
        for begin, end in pairwise([0, *cuts, len(wire)])
        for position in borders.feed(wire[begin:end])
    ]
    assert seen == ends
    pieces = [wire[begin:end] for begin, end in pairwise([0, *cuts, len(wire)])]
    assert list(positions(pieces)) == list(positions([wire])) == ends


@given(messages())
def test_only_behind_a_message_a_message_ends(found: list[bytes]) -> None:
    wire, ends = on_the_wire(found)
    for at in range(1, len(wire) + 1):
        borders = Borders()
        borders.feed(wire[:at])
        assert borders.behind_message is (at in ends)


@given(messages(), st.data())
def test_a_line_feed_comes_behind_each_message(found: list[bytes], data: st.DataObject) -> None:
    wire, _ = on_the_wire(found)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=6)))
    borders = Borders()
    lines = [borders.in_lines(wire[a:b]) for a, b in pairwise([0, *cuts, len(wire)])]
    assert b"".join(lines) == b"".join(message + b",\n" for message in found)
    assert Borders().in_lines(wire) == b"".join(message + b",\n" for message in found)


@pytest.mark.parametrize(
    "wire",
    [b"1," * 100_000, b"[" * 100_000, b"]" * 100_000 + b",", b'"' * 100_001, b'["' * 100_000,
     b'"\\' * 100_000, b'{"a":' * 100_000, b"\xff\x00," * 100_000, b'[""],"' * 50_000],
)  # fmt: skip
def test_bytes_of_any_kind_are_gone_through_without_recursion(wire: bytes) -> None:
    pieces = [wire[at : at + 10_000] for at in range(0, len(wire), 10_000)]
    assert all(0 < position <= len(wire) for position in positions(pieces))
