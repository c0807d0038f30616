"""Whatever is in a stream, a client that reads events as the specification says gets it back."""

from __future__ import annotations

import base64
import json
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from durable_streams.model.offsets import Offset
from durable_streams.wire import sse
from tools.fuzz.event_streams import events, normalised

PIECES: Final = st.lists(
    st.binary(max_size=12)
    | st.text(max_size=8).map(str.encode)
    | st.sampled_from([b"\r", b"\n", b"\r\n", b" ", b": ", b"data:x", b"event: control\n\n"])
    | st.sampled_from(["é".encode()[:1], "é".encode()[1:], "\U0001f600".encode()[:3], b"\xed\xa0"]),
    max_size=8,
)


def sent(encoding: sse.Encoding, pieces: list[bytes]) -> tuple[bytes, list[Offset]]:
    """The wire bytes for these appends and a close, and the offset of each control event."""
    held, position, wire = sse.NOTHING_HELD, 0, b""
    offsets = []
    for number, piece in enumerate(pieces):
        position += len(piece)
        last = number == len(pieces) - 1
        encoded, held, at = sse.encode_batch(
            encoding,
            held,
            Offset(0, position - len(piece)),
            piece,
            Offset(0, position),
            closed=last,
            cursor=1,
            up_to_date=True,
        )
        assert at == Offset(0, position - len(held.data))
        assert len(held.data) <= sse.MAX_HELD_BYTES
        offsets.append(at)
        wire += encoded
    assert held == sse.NOTHING_HELD
    return wire, offsets


@given(PIECES)
def test_text_arrives_as_it_was_written_however_it_was_cut(pieces: list[bytes]) -> None:
    wire, offsets = sent(sse.Encoding.TEXT, [*pieces, b""])
    found = list(events(wire))
    text = "".join(data for kind, data in found if kind == "data")
    assert text == normalised(b"".join(pieces))
    controls = [json.loads(data) for kind, data in found if kind == "control"]
    assert [control["streamNextOffset"] for control in controls] == [o.token for o in offsets]
    assert [control.get("streamClosed", False) for control in controls][-1]
    assert {kind for kind, _ in found} <= {"data", "control"}


@given(PIECES)
def test_bytes_arrive_as_they_were_written(pieces: list[bytes]) -> None:
    wire, _ = sent(sse.Encoding.BASE64, [*pieces, b""])
    data = [base64.b64decode(data, validate=True) for kind, data in events(wire) if kind == "data"]
    assert b"".join(data) == b"".join(pieces)


VALUES: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.lists(VALUES, min_size=1, max_size=3), min_size=1, max_size=4), st.booleans())
def test_json_messages_arrive_as_they_were_written(
    appends: list[list[object]], indented: bool
) -> None:
    def message(value: object) -> bytes:
        text = json.dumps(value, indent=1 if indented else None, ensure_ascii=False)
        return text.encode("utf-8", "replace") + b","

    batches = [b"".join(message(value) for value in append) for append in appends]
    wire, _ = sent(sse.Encoding.JSON, batches)
    found = [json.loads(data) for kind, data in events(wire) if kind == "data"]
    wanted = [json.loads(b"[" + batch[:-1] + b"]") for batch in batches]
    assert found == wanted
    batch = sse.Batch(sse.Encoding.JSON)
    parts = [batch.part(batches[0][at : at + 5]) for at in range(0, len(batches[0]), 5)]
    end = batch.end(Offset(0, 0), closed=True, cursor=None, up_to_date=True)
    [(_, data), _] = events(b"".join(parts) + end.wire)
    assert json.loads(data) == wanted[0]
