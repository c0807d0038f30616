from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams.protocol.commands import ProducerClaim
from durable_streams.protocol.offsets import Offset
from durable_streams.storage.format.index import (
    LONGEST_LINE,
    BadLine,
    NewerIndex,
    Tail,
    chain_at_end,
    checksum,
    pack_line,
    pack_opening,
    root_of,
    unpack_line,
    unpack_opening,
)
from tests.storage.flips import every_flip
from tests.storage.history import ID, TIME_MS

ROOT = root_of(ID)
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=64)
NUMBERS = st.integers(0, 2**53 - 1)
CLAIMS = st.builds(ProducerClaim, TEXTS, NUMBERS, NUMBERS)
FULL_LINE, AFTER_FULL_LINE = pack_line(
    ROOT,
    256,
    messages=3,
    crc=checksum(b"hello"),
    time_ms=TIME_MS,
    producer=ProducerClaim('p"\\é', 2, 7),
    stream_seq="0042",
    closed=True,
)
OPENING, AFTER_OPENING = pack_opening(ROOT, 1, (256, 700), {"p": (2, 7)}, "0042")


def test_a_line_reads_as_the_specification_shows_it() -> None:
    assert json.loads(FULL_LINE) == {
        "end": 256,
        "messages": 3,
        "crc32": f"{checksum(b'hello'):08x}",
        "time": TIME_MS,
        "producer": ['p"\\é', 2, 7],
        "stream_seq": "0042",
        "closed": True,
        "chain": AFTER_FULL_LINE.hex(),
    }
    assert FULL_LINE.startswith(b'{"end":256,"messages":3,')
    assert FULL_LINE.endswith(b"\n")
    assert FULL_LINE.count(b"\n") == 1


def test_a_plain_line_holds_only_what_applies() -> None:
    line, _ = pack_line(ROOT, 5, messages=1, crc=0, time_ms=TIME_MS)
    assert list(json.loads(line)) == ["end", "messages", "crc32", "time", "chain"]


def test_an_opening_reads_as_the_specification_shows_it() -> None:
    assert json.loads(OPENING) == {
        "index": 1,
        "segment": 1,
        "continues": ROOT.hex(),
        "previous": [256, 700],
        "producers": {"p": [2, 7]},
        "stream_seq": "0042",
        "chain": AFTER_OPENING.hex(),
    }


@given(
    end=NUMBERS,
    messages=st.integers(0, 10**6),
    crc=st.integers(0, 2**32 - 1),
    producer=st.none() | CLAIMS,
    stream_seq=st.none() | TEXTS,
    closed=st.booleans(),
)
def test_a_line_comes_back_as_it_was_written(
    *,
    end: int,
    messages: int,
    crc: int,
    producer: ProducerClaim | None,
    stream_seq: str | None,
    closed: bool,
) -> None:
    text, chain = pack_line(
        ROOT,
        end,
        messages=messages,
        crc=crc,
        time_ms=TIME_MS,
        producer=producer,
        stream_seq=stream_seq,
        closed=closed,
    )
    line, after = unpack_line(text[:-1], ROOT)
    assert (line.end, line.messages, line.time) == (end, messages, TIME_MS)
    assert int(line.crc32, 16) == crc
    assert (line.claim(), line.stream_seq, line.closed) == (producer, stream_seq, closed)
    assert after == chain == chain_at_end(text)
    assert len(text) <= LONGEST_LINE


@given(
    segment=st.integers(0, 10**6),
    previous=st.none() | st.tuples(NUMBERS, NUMBERS),
    producers=st.dictionaries(TEXTS, st.tuples(NUMBERS, NUMBERS), max_size=3),
    stream_seq=st.none() | TEXTS,
)
def test_an_opening_comes_back_as_it_was_written(
    segment: int,
    previous: tuple[int, int] | None,
    producers: dict[str, tuple[int, int]],
    stream_seq: str | None,
) -> None:
    text, chain = pack_opening(ROOT, segment, previous, producers, stream_seq)
    opening, after = unpack_opening(text[:-1])
    assert opening.segment == segment
    assert opening.continues == ROOT.hex()
    assert opening.previous == previous
    assert opening.producers == producers
    assert opening.stream_seq == stream_seq
    assert after == chain == chain_at_end(text)


def test_the_longest_ids_make_a_line_within_its_limit() -> None:
    longest = "\u2028" * 85
    assert len(longest.encode()) <= 256
    claim = ProducerClaim(longest, 2**53 - 1, 2**53 - 1)
    line, _ = pack_line(
        ROOT,
        2**53 - 1,
        messages=2**53 - 1,
        crc=2**32 - 1,
        time_ms=TIME_MS,
        producer=claim,
        stream_seq=longest,
        closed=True,
    )
    assert len(line) <= LONGEST_LINE


def test_every_flipped_bit_of_a_line_is_noticed() -> None:
    for position, damaged in every_flip(FULL_LINE[:-1]):
        with pytest.raises(BadLine) as refusal:
            unpack_line(damaged, ROOT)
        assert str(refusal.value), f"byte {position}"


def test_every_flipped_bit_of_an_opening_is_noticed() -> None:
    for position, damaged in every_flip(OPENING[:-1]):
        with pytest.raises(BadLine) as refusal:
            unpack_opening(damaged)
        assert str(refusal.value), f"byte {position}"


def test_a_line_proves_every_line_before_it() -> None:
    one, after_one = pack_line(ROOT, 5, messages=1, crc=1, time_ms=TIME_MS)
    other, after_other = pack_line(ROOT, 5, messages=1, crc=2, time_ms=TIME_MS)
    following, _ = pack_line(after_one, 9, messages=1, crc=3, time_ms=TIME_MS)
    assert one != other
    unpack_line(following[:-1], after_one)
    with pytest.raises(BadLine, match="running checksum"):
        unpack_line(following[:-1], after_other)


def test_streams_have_different_roots() -> None:
    assert root_of(ID) != root_of(ID[::-1])


def test_an_opening_of_an_unknown_format_is_refused_by_name() -> None:
    with pytest.raises(BadLine, match="index format 2 is unknown"):
        unpack_opening(OPENING[:-1].replace(b'"index":1', b'"index":2'))


def test_an_opening_whose_chain_is_no_hexadecimal_is_no_opening() -> None:
    with pytest.raises(BadLine, match="no opening line"):
        unpack_opening(OPENING[:-1].replace(ROOT.hex().encode(), b"z" * 16))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        FULL_LINE[:-1],
        FULL_LINE[:-2] + b"\n",
        b'"}\n',
        FULL_LINE.replace(b'"chain"', b'"choir"'),
        FULL_LINE[:-19] + b"z" * 16 + b'"}\n',
        FULL_LINE[:-19] + b"\xff" * 16 + b'"}\n',
    ],
)
def test_text_that_ends_in_no_line_states_no_chain(text: bytes) -> None:
    assert chain_at_end(text) is None


def test_the_tail_is_an_offset() -> None:
    assert Tail(3, 17, 400, ROOT).offset == Offset(3, 17)


def test_an_index_of_a_newer_version_is_named_as_such() -> None:
    newer = b'{"index":2,"segment":0,"continues":"00","entirely":"different","chain":"00"}'
    with pytest.raises(NewerIndex, match="written by a newer version"):
        unpack_opening(newer)


def test_a_format_number_that_was_damaged_is_not_of_a_newer_version() -> None:
    line, _ = pack_opening(bytes(8), 0, None, {}, None)
    with pytest.raises(BadLine) as refused:
        unpack_opening(line.rstrip(b"\n").replace(b'"index":1', b'"index":3'))
    assert not isinstance(refused.value, NewerIndex)
