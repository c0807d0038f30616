from __future__ import annotations

import json
import re
from base64 import b64decode
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams.model.offsets import ZERO, Offset
from durable_streams.wire.sse import (
    BASE64_LINE_BYTES,
    KEEP_ALIVE,
    MAX_HELD_BYTES,
    NOTHING_HELD,
    Batch,
    Encoded,
    Encoding,
    control_event,
    encode_batch,
    hold_back,
)

TAIL = Offset(0, 5)


def parse_events(wire: bytes) -> list[tuple[str, str]]:
    """What a client makes of SSE: type and data of each event (WHATWG HTML §9.2.6)."""
    events = []
    for block in re.sub("\r\n|\r", "\n", wire.decode()).split("\n\n"):
        fields: dict[str, list[str]] = {"event": [], "data": []}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            if name in fields:
                fields[name].append(value.removeprefix(" "))
        if fields["event"]:
            events.append((fields["event"][-1], "\n".join(fields["data"])))
    return events


ID = f"\nid: {TAIL.token}\n\n".encode()


def encode_pieces(encoding: Encoding, pieces: list[bytes]) -> Encoded:
    """One batch from its pieces, closed at ``TAIL``."""
    batch = Batch(encoding)
    wire = b"".join([batch.part(piece) for piece in pieces])
    ended = batch.end(TAIL, closed=True, cursor=1, up_to_date=True)
    return Encoded(wire + ended.wire, ended.held, ended.next_offset)


def data_event(encoding: Encoding, data: bytes) -> bytes:
    """The data event of a batch, without the control event behind it."""
    return encode_pieces(encoding, [data]).wire.removesuffix(control_event(TAIL, None, True, True))


def as_client_sees(text: bytes) -> str:
    return re.sub("\r\n|\r", "\n", text.decode(errors="replace"))


# Control events


@pytest.mark.parametrize(
    ("cursor", "up_to_date", "closed", "fields"),
    [
        (None, False, False, ""),
        (12, False, False, ',"streamCursor":"12"'),
        (12, True, False, ',"streamCursor":"12","upToDate":true'),
        (12, True, True, ',"upToDate":true,"streamClosed":true'),
        (None, True, True, ',"upToDate":true,"streamClosed":true'),
    ],
)
def test_a_control_event_tells_where_the_reader_is(
    cursor: int | None, up_to_date: bool, closed: bool, fields: str
) -> None:
    offset = '"streamNextOffset":"0000000000000000_0000000000000005"'
    expected = f"event: control\ndata:{{{offset}{fields}}}".encode() + ID
    assert control_event(TAIL, cursor, up_to_date, closed) == expected


def test_keep_alives_are_no_events() -> None:
    assert parse_events(KEEP_ALIVE) == []
    assert KEEP_ALIVE.startswith(b":")


# Data events


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [
        ("text/plain", Encoding.TEXT),
        ("text/html;charset=utf-8", Encoding.TEXT),
        ("application/json", Encoding.JSON),
        ("application/problem+json", Encoding.BASE64),
        ("application/octet-stream", Encoding.BASE64),
    ],
)
def test_the_content_type_decides_how_data_travels(content_type: str, encoding: Encoding) -> None:
    assert Encoding.of(content_type) is encoding


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (b"one", [b"one"]),
        (b"line1\nline2\nline3", [b"line1", b"line2", b"line3"]),
        (b"a\r\nb\rc\n\rd", [b"a", b"b", b"c", b"", b"d"]),
        (b"end\n", [b"end", b""]),
        (b"\n", [b"", b""]),
        (b" a\n b\n  c", [b"  a", b"  b", b"   c"]),
        (b"data: x\ndata: y", [b"data: x", b"data: y"]),
        (b"\x00\x0b\x0c\x85\xe2\x80\xa8x", [b"\x00\x0b\x0c\xef\xbf\xbd\xe2\x80\xa8x"]),
        (b"caf\xc3\xa9", [b"caf\xc3\xa9"]),
        (b"\xff\xc3(", [b"\xef\xbf\xbd\xef\xbf\xbd("]),
    ],
)
def test_text_is_sent_as_lines(text: bytes, lines: list[bytes]) -> None:
    expected = b"event: data" + b"".join(b"\ndata:" + line for line in lines) + ID
    assert data_event(Encoding.TEXT, text) == expected


@pytest.mark.parametrize("line_break", ["\r\n", "\n", "\r"])
def test_no_text_can_forge_an_event(line_break: str) -> None:
    attack = line_break.join(["safe", "", "event: control", 'data: {"injected":true}', "", "end"])
    events = parse_events(data_event(Encoding.TEXT, attack.encode()))
    assert events == [("data", as_client_sees(attack.encode()))]


def test_json_is_sent_as_one_array_with_a_line_for_each_message() -> None:
    wire = data_event(Encoding.JSON, b'{"a":1},{\r\n "b": 2\n},"\xc3\xa9",')
    lines = [b'[{"a":1},', b"{", b"", b'  "b": 2', b"},", b'"\xc3\xa9"]']
    assert wire == b"event: data" + b"".join(b"\ndata:" + line for line in lines) + ID
    [(_, payload)] = parse_events(wire)
    assert json.loads(payload) == [{"a": 1}, {"b": 2}, "é"]


@given(st.binary(min_size=1))
def test_anything_else_is_sent_as_base64(data: bytes) -> None:
    wire = data_event(Encoding.BASE64, data)
    assert wire.startswith(b"event: data\ndata:")
    [(_, payload)] = parse_events(wire)
    assert b64decode(payload, validate=True) == data


def test_no_line_of_base64_is_too_long_for_readers_of_lines() -> None:
    data = bytes(range(256)) * 1024
    for pieces in ([data], [data[:1000], data[1000:]], [bytes([byte]) for byte in data[:999]]):
        wire = encode_pieces(Encoding.BASE64, pieces).wire
        assert max(map(len, wire.split(b"\n"))) <= 64 * 1024
        [(_, payload), _] = parse_events(wire)
        assert b64decode(payload.replace("\n", ""), validate=True) == b"".join(pieces)
    assert BASE64_LINE_BYTES % 3 == 0


def cut(whole: bytes, data: st.DataObject) -> list[bytes]:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    return [whole[start:end] for start, end in pairwise([0, *cuts, len(whole)])]


JSON_MESSAGES = st.lists(
    st.sampled_from(
        [b"1", b'"a,b"', b'"\\"],["', b"[]", b'[[1,"]"],{"a":[{}]}]', b'{\n "a":\r\n 1}', b"null"]
    ),
    min_size=1,
)


@given(JSON_MESSAGES, st.data())
def test_an_array_is_the_same_however_its_pieces_are_cut(
    messages: list[bytes], data: st.DataObject
) -> None:
    pieces = cut(b"".join(message + b"," for message in messages), data)
    [(_, payload), _] = parse_events(encode_pieces(Encoding.JSON, pieces).wire)
    assert json.loads(payload) == [json.loads(message) for message in messages]
    if not any(b"\n" in message for message in messages):
        assert payload.encode() == b"[" + b",\n".join(messages) + b"]"


@given(st.binary(), st.data())
def test_an_event_of_text_is_the_same_however_its_pieces_are_cut(
    text: bytes, data: st.DataObject
) -> None:
    assert encode_pieces(Encoding.TEXT, cut(text, data)) == encode_pieces(Encoding.TEXT, [text])


@given(st.text(st.sampled_from("a \r\né\U0001f600")), st.data())
def test_an_event_of_lines_is_the_same_however_its_pieces_are_cut(
    text: str, data: st.DataObject
) -> None:
    whole = encode_pieces(Encoding.TEXT, [text.encode()])
    assert encode_pieces(Encoding.TEXT, cut(text.encode(), data)) == whole


@pytest.mark.parametrize("encoding", Encoding)
def test_no_data_is_no_data_event(encoding: Encoding) -> None:
    assert data_event(encoding, b"") == b""


# Holding back


@pytest.mark.parametrize(
    ("data", "held"),
    [
        (b"", b""),
        (b"abc", b""),
        (b"caf\xc3\xa9", b""),
        (b"caf\xc3", b"\xc3"),
        (b"\xe2", b"\xe2"),
        (b"\xe2\x82", b"\xe2\x82"),
        (b"\xe2\x82\xac", b""),
        (b"x\xf0\x9f\x98", b"\xf0\x9f\x98"),
        (b"\xf0\x9f\x98\x80", b""),
        (b"\xf0\x9f\x98\x80\xc3", b"\xc3"),
        (b"\xed\x9f", b"\xed\x9f"),
        (b"a\r", b"\r"),
        (b"a\r\r", b"\r"),
        (b"a\r\n", b""),
        (b"\xc3\r", b"\r"),
    ],
)
def test_what_may_go_on_in_the_next_batch_is_held_back(data: bytes, held: bytes) -> None:
    assert hold_back(data) == (data[: len(data) - len(held)], held)


@pytest.mark.parametrize(
    "data",
    [
        b"\x80", b"\xff", b"\xc0", b"\xc1", b"\xf5", b"\xe0\x80", b"\xe0\x9f", b"\xed\xa0",
        b"\xed\xbf", b"\xf0\x80", b"\xf0\x8f\x80", b"\xf4\x90", b"\xf4\x90\x80", b"\xf8\x80",
        b"\xe2\x82\x80\x80",
    ],
)  # fmt: skip
def test_what_can_never_become_a_character_is_not_held_back(data: bytes) -> None:
    assert hold_back(data) == (data, b"")


@given(st.binary())
def test_at_most_three_bytes_are_held_back_and_none_lost(data: bytes) -> None:
    sent, held = hold_back(data)
    assert sent + held == data
    assert len(held) <= MAX_HELD_BYTES


# Batches


def encode_all(encoding: Encoding, batches: list[bytes], start: Offset = ZERO) -> list[Encoded]:
    """Encode batches as a live reader's; the last one closes the stream."""
    results: list[Encoded] = []
    held, end = NOTHING_HELD, start
    for number, data in enumerate(batches, 1):
        begin, end = end, Offset(end.segment, end.position + len(data))
        closed = number == len(batches)
        encoded = encode_batch(
            encoding, held, begin, data, end, closed=closed, cursor=1, up_to_date=True
        )
        results.append(encoded)
        held = encoded.held
        assert encoded.next_offset.position + len(held.data) == end.position
    assert held == NOTHING_HELD
    return results


def texts(results: list[Encoded]) -> list[str]:
    events = [event for encoded in results for event in parse_events(encoded.wire)]
    return [data for kind, data in events if kind == "data"]


def test_a_batch_is_one_data_and_one_control_event() -> None:
    encoded = encode_batch(
        Encoding.TEXT, NOTHING_HELD, ZERO, b"hello", TAIL, closed=False, cursor=3, up_to_date=False
    )
    assert encoded == Encoded(
        b"event: data\ndata:hello" + ID + control_event(TAIL, 3, False, False), NOTHING_HELD, TAIL
    )


@pytest.mark.parametrize("encoding", Encoding)
def test_a_batch_without_data_is_a_control_event(encoding: Encoding) -> None:
    encoded = encode_batch(
        encoding, NOTHING_HELD, TAIL, b"", TAIL, closed=True, cursor=3, up_to_date=True
    )
    assert encoded == Encoded(control_event(TAIL, None, True, True), NOTHING_HELD, TAIL)


def test_both_events_have_the_offset_behind_them_as_their_id() -> None:
    for encoded in encode_all(Encoding.TEXT, [b"a\xc3", b"\xa9b", b"c"]):
        ids = re.findall(rb"^id: (.*)$", encoded.wire, re.MULTILINE)
        assert ids == [encoded.next_offset.token.encode()] * 2
        assert re.search(rb"^event: control\ndata:", encoded.wire, re.MULTILINE)


def test_a_character_split_over_batches_arrives_whole_and_the_offset_waits() -> None:
    results = encode_all(Encoding.TEXT, [b"a\xf0\x9f", b"\x98", b"\x80b", b""])
    assert texts(results) == ["a", "\U0001f600b"]
    assert [encoded.next_offset.position for encoded in results] == [1, 1, 6, 6]
    assert all(b'"upToDate":true' in encoded.wire for encoded in results)


def test_a_close_flushes_what_was_held_back() -> None:
    assert texts(encode_all(Encoding.TEXT, [b"a\xe2\x82", b""])) == ["a", "\ufffd"]
    assert texts(encode_all(Encoding.TEXT, [b"a\xe2\x82"])) == ["a\ufffd"]
    assert texts(encode_all(Encoding.TEXT, [b"a\r", b""])) == ["a", "\n"]


def test_a_line_break_split_over_batches_is_one() -> None:
    assert texts(encode_all(Encoding.TEXT, [b"a\r", b"\nb\r", b"c"])) == ["a", "\nb", "\nc"]


def test_offsets_of_held_bytes_stay_right_across_segments() -> None:
    """Each byte has an offset before it; the beginning of a segment is the end of the last."""
    appends = [
        (b"0123456789\xe2", Offset(0, 11)),
        (b"\x82", Offset(1, 1)),
        (b"\xf0", Offset(2, 1)),
        (b"\x9f\x98", Offset(3, 2)),
        (b"\x80!\xc3", Offset(3, 5)),
        (b"\r", Offset(4, 1)),
    ]
    wanted = [
        Offset(0, 10),
        Offset(0, 10),  # it can still become a character
        Offset(1, 1),  # it cannot
        Offset(1, 1),
        Offset(3, 4),
        Offset(3, 5),
    ]
    held, start, found = NOTHING_HELD, ZERO, []
    for data, end in appends:
        encoded = encode_batch(
            Encoding.TEXT, held, start, data, end, closed=False, cursor=1, up_to_date=True
        )
        held, start = encoded.held, end
        found.append(encoded.next_offset)
    assert found == wanted


def test_only_text_is_held_back() -> None:
    assert texts(encode_all(Encoding.BASE64, [b"\xc3", b"\r"])) == ["ww==", "DQ=="]


@given(st.lists(st.text(st.sampled_from("a \r\né\U0001f600"))).map("".join), st.data())
def test_however_text_is_cut_its_readers_see_the_same(text: str, data: st.DataObject) -> None:
    whole = text.encode()
    batches = cut(whole, data)
    assert "".join(texts(encode_all(Encoding.TEXT, batches))) == as_client_sees(whole)


@given(st.lists(st.binary(), min_size=1))
def test_bytes_that_are_no_text_never_fail(batches: list[bytes]) -> None:
    encode_all(Encoding.TEXT, batches)
