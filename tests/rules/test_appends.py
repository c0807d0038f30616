from __future__ import annotations

import msgspec
import pytest

from durable_streams.filestore.format.index import Tail
from durable_streams.model.commands import Append, ProducerClaim
from durable_streams.model.errors import (
    ContentTypeMismatch,
    InvalidRequest,
    ProducerGap,
    SequenceConflict,
    StreamClosed,
)
from durable_streams.model.offsets import Offset
from durable_streams.rules.appends import (
    Repeat,
    Write,
    WriterState,
    check_syntax,
    decide_append,
)
from durable_streams.rules.producers import ProducerState

OPEN = WriterState("text/plain", Tail(0, 5, 0, b""))
CLAIM = ProducerClaim("p", 0, 3)
CLOSED = msgspec.structs.replace(OPEN, closed=True)
CLOSED_BY_CLAIM = msgspec.structs.replace(CLOSED, closed_by=CLAIM)
TEXT = Append(("s",), "text/plain")
CLOSE = Append(("s",), close=True)


def test_an_append_without_body_must_close() -> None:
    with pytest.raises(InvalidRequest):
        check_syntax(TEXT, has_body=False)
    check_syntax(CLOSE, has_body=False)


def test_a_body_needs_a_content_type() -> None:
    with pytest.raises(InvalidRequest):
        check_syntax(CLOSE, has_body=True)
    check_syntax(TEXT, has_body=True)


@pytest.mark.parametrize(
    ("command", "has_body", "decision"),
    [
        (TEXT, True, Write(closes=False, has_data=True)),
        (CLOSE, False, Write(closes=True, has_data=False)),
        (msgspec.structs.replace(TEXT, close=True), True, Write(closes=True, has_data=True)),
        (Append(("s",), "image/png", close=True), False, Write(closes=True, has_data=False)),
    ],
)
def test_an_open_stream_takes_data_and_closes(
    command: Append, has_body: bool, decision: Write
) -> None:
    assert decide_append(OPEN, None, command, has_body) == decision


def test_a_plain_close_of_a_closed_stream_is_a_repeat() -> None:
    assert decide_append(CLOSED, None, CLOSE, has_body=False) == Repeat(None)
    assert decide_append(CLOSED_BY_CLAIM, None, CLOSE, has_body=False) == Repeat(None)


@pytest.mark.parametrize("has_body", [True, False])
def test_the_closing_request_can_be_repeated(has_body: bool) -> None:
    command = Append(("s",), "text/plain", close=True, producer=CLAIM)
    state = ProducerState(0, 3)
    assert decide_append(CLOSED_BY_CLAIM, state, command, has_body) == Repeat((0, 3))


@pytest.mark.parametrize(
    ("state", "claim", "has_body"),
    [
        (CLOSED, None, True),
        (CLOSED, CLAIM, True),
        (CLOSED, CLAIM, False),
        (CLOSED_BY_CLAIM, None, True),
        (CLOSED_BY_CLAIM, ProducerClaim("p", 0, 2), True),
        (CLOSED_BY_CLAIM, ProducerClaim("p", 0, 4), False),
        (CLOSED_BY_CLAIM, ProducerClaim("p", 1, 0), True),
        (CLOSED_BY_CLAIM, ProducerClaim("q", 0, 3), False),
    ],
)
def test_a_closed_stream_refuses_everything_else_and_says_where_it_ends(
    state: WriterState, claim: ProducerClaim | None, has_body: bool
) -> None:
    command = Append(("s",), "text/plain", close=True, producer=claim)
    with pytest.raises(StreamClosed) as caught:
        decide_append(state, ProducerState(0, 3), command, has_body)
    assert caught.value.tail == Offset(0, 5)


def test_an_accepted_sequence_of_a_closed_stream_is_no_duplicate_any_more() -> None:
    command = Append(("s",), "text/plain", producer=ProducerClaim("p", 0, 1))
    with pytest.raises(StreamClosed):
        decide_append(CLOSED_BY_CLAIM, ProducerState(0, 3), command, has_body=True)


def test_closed_comes_before_the_content_type() -> None:
    with pytest.raises(StreamClosed):
        decide_append(CLOSED, None, Append(("s",), "image/png"), has_body=True)


def test_the_content_type_comes_before_the_producer() -> None:
    command = Append(("s",), "image/png", producer=CLAIM)
    with pytest.raises(ContentTypeMismatch) as caught:
        decide_append(OPEN, ProducerState(0, 3), command, has_body=True)
    assert (caught.value.expected, caught.value.received) == ("text/plain", "image/png")


def test_the_producer_comes_before_stream_seq() -> None:
    state = msgspec.structs.replace(OPEN, stream_seq="b")
    command = Append(("s",), "text/plain", producer=CLAIM, stream_seq="a")
    assert decide_append(state, ProducerState(0, 3), command, has_body=True) == Repeat((0, 3))
    with pytest.raises(ProducerGap):
        decide_append(state, None, command, has_body=True)


def test_an_accepted_producer_still_has_to_increase_stream_seq() -> None:
    state = msgspec.structs.replace(OPEN, stream_seq="b")
    producer = ProducerState(0, 2)
    command = Append(("s",), "text/plain", producer=CLAIM, stream_seq="c")
    expected = Write(closes=False, has_data=True)
    assert decide_append(state, producer, command, has_body=True) == expected
    with pytest.raises(SequenceConflict):
        decide_append(
            state, producer, msgspec.structs.replace(command, stream_seq="b"), has_body=True
        )


def test_a_duplicate_that_asks_for_a_close_does_not_close() -> None:
    command = msgspec.structs.replace(CLOSE, producer=ProducerClaim("p", 0, 1))
    assert decide_append(OPEN, ProducerState(0, 3), command, has_body=False) == Repeat((0, 3))


@pytest.mark.parametrize(
    ("last", "received"), [("1", "2"), ("09", "10"), ("B", "a"), ("a", "aa"), ("é", "\U0001f600")]
)
def test_stream_seq_increases_byte_by_byte(last: str, received: str) -> None:
    state = msgspec.structs.replace(OPEN, stream_seq=last)
    command = msgspec.structs.replace(TEXT, stream_seq=received)
    assert decide_append(state, None, command, has_body=True) == Write(closes=False, has_data=True)
    state = msgspec.structs.replace(OPEN, stream_seq=received)
    for again in (last, received):
        command = msgspec.structs.replace(TEXT, stream_seq=again)
        with pytest.raises(SequenceConflict) as caught:
            decide_append(state, None, command, has_body=True)
        assert "sequence" in str(caught.value)


def test_the_first_stream_seq_and_appends_without_one_are_taken() -> None:
    decide_append(OPEN, None, msgspec.structs.replace(TEXT, stream_seq="z"), has_body=True)
    decide_append(msgspec.structs.replace(OPEN, stream_seq="z"), None, TEXT, has_body=True)
