from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams.filestore.format.index import (
    LONGEST_LINE,
    BadLine,
    NewerIndex,
    Tail,
    chain_at_end,
    checksum,
    pack_line,
    pack_opening,
    root_of,
    time_of,
    unpack_line,
    unpack_opening,
)
from durable_streams.model.commands import ProducerClaim
from durable_streams.model.offsets import Offset
from durable_streams.rules.producers import ProducerState
from tests.filestore.files.flips import every_flip
from tests.filestore.files.history import ID, TIME_MS, pack_opening_1

ROOT = root_of(ID)
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=64)
NUMBERS = st.integers(0, 2**53 - 1)
CLAIMS = st.builds(ProducerClaim, TEXTS, NUMBERS, NUMBERS)
STATES = st.builds(ProducerState, NUMBERS, NUMBERS, NUMBERS)
FULL_LINE, AFTER_FULL_LINE = pack_line(
    ROOT,
    256,
    messages=3,
    crc=checksum(b"hello"),
    time_ms=TIME_MS,
    forgot=("q", 'r"'),
    producer=ProducerClaim('p"\\é', 2, 7),
    stream_seq="0042",
    closed=True,
)
OF_OPENING = (ROOT, 1, (256, 700), {"p": ProducerState(2, 7, TIME_MS)}, "0042")
OPENING, AFTER_OPENING = pack_opening(*OF_OPENING)
OPENING_1, AFTER_OPENING_1 = pack_opening_1(*OF_OPENING)


def test_a_line_reads_as_the_specification_shows_it() -> None:
    assert json.loads(FULL_LINE) == {
        "end": 256,
        "messages": 3,
        "crc32": f"{checksum(b'hello'):08x}",
        "time": TIME_MS,
        "forgot": ["q", 'r"'],
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
        "index": 2,
        "segment": 1,
        "continues": ROOT.hex(),
        "previous": [256, 700],
        "producers": {"p": [2, 7, TIME_MS]},
        "stream_seq": "0042",
        "chain": AFTER_OPENING.hex(),
    }


def test_an_opening_of_format_1_is_read_as_what_it_says() -> None:
    opening, chain = unpack_opening(OPENING_1[:-1])
    assert chain == AFTER_OPENING_1
    assert opening.index == 1
    assert opening.producers == {"p": ProducerState(2, 7, 0)}
    assert (opening.segment, opening.previous, opening.stream_seq) == (1, (256, 700), "0042")


def test_the_producers_of_format_1_count_from_the_last_append_before_them() -> None:
    old, _ = unpack_opening(OPENING_1[:-1])
    new, _ = unpack_opening(OPENING[:-1])
    assert old.known_producers(TIME_MS + 5) == {"p": ProducerState(2, 7, TIME_MS + 5)}
    assert new.known_producers(TIME_MS + 5) == {"p": ProducerState(2, 7, TIME_MS)}


def test_a_line_changes_the_producers_as_it_says() -> None:
    line, _ = unpack_line(FULL_LINE[:-1], ROOT)
    stays, goes = ProducerState(0, 1, 2), ProducerState(3, 4, 5)
    producers = {"q": goes, "s": stays}
    line.change(producers)
    assert producers == {"s": stays, 'p"\\é': ProducerState(2, 7, TIME_MS)}


def test_a_line_without_a_producer_changes_none() -> None:
    line, _ = unpack_line(pack_line(ROOT, 5, messages=1, crc=0, time_ms=TIME_MS)[0][:-1], ROOT)
    producers = {"q": ProducerState(0, 1, 2)}
    line.change(producers)
    assert producers == {"q": ProducerState(0, 1, 2)}


def test_a_line_tells_its_time() -> None:
    assert time_of(FULL_LINE[:-1]) == TIME_MS
    for text in (b"", OPENING[:-1], FULL_LINE[:20], b"\xff"):
        assert time_of(text) is None


@given(
    end=NUMBERS,
    messages=st.integers(0, 10**6),
    crc=st.integers(0, 2**32 - 1),
    forgot=st.lists(TEXTS, max_size=3).map(tuple),
    producer=st.none() | CLAIMS,
    stream_seq=st.none() | TEXTS,
    closed=st.booleans(),
)
def test_a_line_comes_back_as_it_was_written(
    *,
    end: int,
    messages: int,
    crc: int,
    forgot: tuple[str, ...],
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
        forgot=forgot,
        producer=producer,
        stream_seq=stream_seq,
        closed=closed,
    )
    line, after = unpack_line(text[:-1], ROOT)
    assert (line.end, line.messages, line.time) == (end, messages, TIME_MS)
    assert int(line.crc32, 16) == crc
    assert (line.claim(), line.stream_seq, line.closed) == (producer, stream_seq, closed)
    assert line.forgot == forgot
    assert after == chain == chain_at_end(text)
    assert len(text) <= LONGEST_LINE


@given(
    segment=st.integers(0, 10**6),
    previous=st.none() | st.tuples(NUMBERS, NUMBERS),
    producers=st.dictionaries(TEXTS, STATES, max_size=3),
    stream_seq=st.none() | TEXTS,
)
def test_an_opening_comes_back_as_it_was_written(
    segment: int,
    previous: tuple[int, int] | None,
    producers: dict[str, ProducerState],
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
        forgot=("q" * 256,) * 15,
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


@pytest.mark.parametrize("opening", [OPENING, OPENING_1], ids=["format 2", "format 1"])
def test_every_flipped_bit_of_an_opening_is_noticed(opening: bytes) -> None:
    for position, damaged in every_flip(opening[:-1]):
        with pytest.raises(BadLine) as refusal:
            unpack_opening(damaged)
        assert str(refusal.value), f"byte {position}"
        assert not isinstance(refusal.value, NewerIndex), f"byte {position}"


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
    with pytest.raises(BadLine, match="index format 3 is unknown"):
        unpack_opening(OPENING[:-1].replace(b'"index":2', b'"index":3'))


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
    newer = b'{"index":3,"segment":0,"continues":"00","entirely":"different","chain":"00"}'
    with pytest.raises(NewerIndex, match="written by a newer version"):
        unpack_opening(newer)


@pytest.mark.parametrize("opening", [OPENING, OPENING_1], ids=["format 2", "format 1"])
@pytest.mark.parametrize("number", [0, 1, 2, 3, 9])
def test_a_format_number_that_was_damaged_is_not_of_a_newer_version(
    opening: bytes, number: int
) -> None:
    was = opening[:10]
    if was == b'{"index":%d' % number:
        return
    with pytest.raises(BadLine) as refused:
        unpack_opening(opening[:-1].replace(was, b'{"index":%d' % number))
    assert not isinstance(refused.value, NewerIndex)
