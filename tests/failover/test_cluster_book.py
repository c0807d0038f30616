"""What a proof takes for a broken promise: it has to notice each of them."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tools.proofs.cluster_book import (
    BYTES,
    JSON,
    Book,
    Faults,
    Following,
    Tails,
    digest,
    faults_of,
    record_of,
)
from tools.proofs.cluster_faults import FAULTS, Fault, Trace
from tools.proofs.cluster_load import Waits
from tools.proofs.prove_cluster import Row

if TYPE_CHECKING:
    from collections.abc import Callable

    from tools.cluster import FailoverCluster

A0, A1, B0, B1 = [record_of(who, number) for who in "ab" for number in range(2)]
ALL = [A0, B0, A1, B1]


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.mark.parametrize(
    ("records", "found"),
    [
        (ALL, (0, 0, 0)),
        ([A0, A1, B0], (1, 0, 0)),
        ([*ALL, A1], (0, 1, 0)),
        ([A1, B0, A0, B1], (0, 0, 1)),
    ],
    ids=["all", "one is lost", "one is there twice", "one came before another"],
)
def test_what_a_stream_holds_is_compared_with_what_was_acknowledged(
    records: list[str], found: tuple[int, int, int], faults: Faults
) -> None:
    book = Book("s", BYTES, faults)
    book.compare(0, records, "somebody")
    assert faults_of(book, {"a": 2, "b": 2}) == found
    assert not faults.texts


@pytest.mark.parametrize(
    "record",
    [f"{A1[:-1]}!", f"a 1 {B1[4:]}", record_of("a", 2), record_of("c", 0), "x"],
    ids=["a letter", "of another", "beyond what was sent", "of nobody", "no record at all"],
)
def test_what_was_not_sent_so_is_noticed_if_all_read_the_same(
    record: str, faults: Faults, capsys: pytest.CaptureFixture[str]
) -> None:
    book = Book("s", BYTES, faults)
    book.compare(0, [*ALL, record], "somebody")
    assert faults_of(book, {"a": 2, "b": 2}) == (0, 0, 0)
    assert "record 4 of s was never sent" in faults.texts[0]
    assert faults.texts[0] in capsys.readouterr().out, "it is printed at once"


@pytest.mark.parametrize("kind", [JSON, BYTES])
def test_whoever_reads_something_else_is_noticed(kind: str, faults: Faults) -> None:
    book = Book("s", kind, faults)
    pieces = [b"one\ntw", b"o\n"] if kind == BYTES else [b'["one"]', b'["two"]']
    for who in ("first", "second"):
        following = Following(book, who)
        for number, piece in enumerate(pieces):
            following.add(piece, f"{number}", closed=False)
    assert book.records == ["one", "two"]
    assert not faults.texts
    following = Following(book, "third")
    following.add(pieces[0], "5", closed=False)
    following.add(pieces[0], "4", closed=False)
    assert "third: s from 5 to 4" in faults.texts[0]
    assert "third: record 1 of s is" in faults.texts[1]


def test_a_tail_that_goes_back_is_noticed_on_one_node_and_between_two(faults: Faults) -> None:
    tails = Tails(faults)
    tails.see("one", "s", "5", sent_s=0.0)
    tails.see("other", "s", "4", sent_s=0.0)
    assert not faults.texts, "it was asked before"
    tails.see("other", "s", "4", sent_s=float("inf"))
    tails.see("one", "s", "4", sent_s=0.0)
    assert "other: the tail of s was inf s old" in faults.texts[0]
    assert "one: the tail of s went back from 5 to 4" in faults.texts[1]


def test_how_far_a_reader_is_behind_is_since_the_first_that_it_has_not(faults: Faults) -> None:
    tails = Tails(faults)
    for offset in ("1", "2", "3"):
        tails.told("s", offset)
    first, second, third = (tails.missing_since("s", offset) for offset in ("-1", "1", "2"))
    assert first <= second <= third < math.inf
    assert tails.missing_since("s", "3") == math.inf, "it has everything"
    waits = Waits()
    waits.missed(math.inf)
    assert waits.behind_s == 0
    waits.missed(0.0)
    assert waits.behind_s > 0


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_without_a_trace_did_not_strike(fault: Fault) -> None:
    names = ("leader", "clock", "node1", "db1 etcd", "db1 patroni", "db1 postgres")
    marks = dict.fromkeys(names, "1")
    assert not fault.struck(Trace(marks, marks, Counter({"200": 9, "204": 1}), 0.1, 3.0))
    others = dict.fromkeys(marks, "2")
    assert fault.struck(Trace(marks, others, Counter({"503": 1, "507": 1}), 2.9, 3.0))


@pytest.mark.parametrize("stops_writes", [False, True])
def test_an_outage_is_too_long_from_when_writes_could_go_on(*, stops_writes: bool) -> None:
    fault = Fault("any", "anything", _strikes, lambda _: True, stops_writes=stops_writes, bound_s=5)
    broken_s = 20.0 if stops_writes else 0.0
    row, over = (
        Row(fault, broken_s + waited_s, 0.0, 0.0, 20.0, 1.0, "1 200") for waited_s in (5.0, 5.1)
    )
    assert not row.is_over
    assert over.is_over
    assert f"over 5 s{' after it was mended' * stops_writes}" in str(over)
    assert "over" not in str(row)


def _strikes(cluster: FailoverCluster) -> Callable[[], None]:
    return cluster.network.mend


def test_a_checksum_is_of_records_and_where_they_end() -> None:
    assert digest(["ab", "c"]) != digest(["a", "bc"])
