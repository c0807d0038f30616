"""The decoder of events: whatever the pieces, the same events."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams import UnexpectedAnswer
from durable_streams.client.events import Decoder, Event

CASES: Final[dict[str, tuple[bytes, list[Event]]]] = {
    "nothing": (b"", []),
    "one": (b"data: x\n\n", [Event("message", b"x", None)]),
    "no space": (b"data:x\n\n", [Event("message", b"x", None)]),
    "two spaces": (b"data:  x\n\n", [Event("message", b" x", None)]),
    "lines": (b"data: a\ndata\ndata: b\n\n", [Event("message", b"a\n\nb", None)]),
    "CRLF": (b"event: e\r\ndata: a\r\n\r\n", [Event("e", b"a", None)]),
    "CR": (
        b"event: e\rdata: a\r\rdata: b\r\r",
        [Event("e", b"a", None), Event("message", b"b", None)],
    ),
    "mixed": (b"data: a\r\ndata: b\rdata: c\n\r\n", [Event("message", b"a\nb\nc", None)]),
    "comments": (b": hi\n\n:\ndata: a\n: in it\n\n: there\n\n", [Event("message", b"a", None)]),
    "id": (
        b"data: a\nid: 7\n\ndata: b\n\n",
        [Event("message", b"a", "7"), Event("message", b"b", None)],
    ),
    "id with NUL": (b"data: a\nid: 7\0\n\n", [Event("message", b"a", None)]),
    "no data": (b"event: e\nid: 1\n\ndata: a\n\n", [Event("message", b"a", None)]),
    "empty data": (b"event: e\ndata:\n\n", [Event("e", b"", None)]),
    "cut off": (b"data: a\n\ndata: b\n", [Event("message", b"a", None)]),
    "other fields": (b"retry: 3\nfoo\nfoo: b\ndata: a\n\n", [Event("message", b"a", None)]),
    "colons": (b"data: a: b\nevent: c:d\n\n", [Event("c:d", b"a: b", None)]),
    "byte order mark": (b"\xef\xbb\xbfdata: a\n\n", [Event("message", b"a", None)]),
    "no UTF-8": (b"data: \xff\nevent: \xff\n\n", [Event("\ufffd", b"\xff", None)]),
}


def decoded(*pieces: bytes) -> list[Event]:
    decoder = Decoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


@pytest.mark.parametrize("name", CASES)
def test_each_case_whole_and_byte_by_byte(name: str) -> None:
    wire, events = CASES[name]
    assert decoded(wire) == events
    assert decoded(*[wire[at : at + 1] for at in range(len(wire))]) == events
    for at in range(len(wire)):
        assert decoded(wire[:at], wire[at:]) == events
        assert decoded(wire[:at], b"", wire[at:]) == events


LINES = st.sampled_from([b"\n", b"\r\n", b"\r"])
TEXTS = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=8)


@st.composite
def events_on_the_wire(draw: st.DrawFn) -> tuple[bytes, list[Event]]:
    wire, events = b"", []
    for _ in range(draw(st.integers(0, 5))):
        kind, data = draw(TEXTS), draw(st.lists(TEXTS, min_size=1, max_size=4))
        end = draw(LINES)
        lines = [f"event: {kind}", *[f"data: {line}" for line in data], ""]
        if draw(st.booleans()):
            lines.insert(draw(st.integers(0, len(lines) - 1)), ": comment")
        wire += b"".join(line.encode() + end for line in lines)
        events.append(Event(kind or "message", "\n".join(data).encode(), None))
    return wire, events


@given(events_on_the_wire(), st.lists(st.integers(0, 200), max_size=20))
def test_any_events_in_any_pieces(sent: tuple[bytes, list[Event]], cuts: list[int]) -> None:
    wire, events = sent
    places = sorted({0, len(wire), *(min(cut, len(wire)) for cut in cuts)})
    pieces = [wire[begin:end] for begin, end in pairwise(places)]
    assert decoded(*pieces) == events


@given(st.lists(st.binary(max_size=20), max_size=20))
def test_any_bytes_in_any_pieces_are_the_same_as_whole(pieces: list[bytes]) -> None:
    assert decoded(*pieces) == decoded(b"".join(pieces))


@pytest.mark.parametrize("piece", [b"x", b"data: x\n", b"data\n"])
def test_an_event_without_end_is_refused_at_its_bound(piece: bytes) -> None:
    decoder = Decoder(limit_bytes=1000)

    def go_on() -> None:
        for _ in range(1001):
            list(decoder.feed(piece))

    with pytest.raises(UnexpectedAnswer):
        go_on()


def test_comments_and_events_may_go_on_for_ever() -> None:
    decoder = Decoder(limit_bytes=100)
    for _ in range(1000):
        assert len(list(decoder.feed(b": keep-alive\n\ndata: x\n\n: keep-alive\n"))) == 1
