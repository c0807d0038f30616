"""The ledger notices what it is there to notice."""

from __future__ import annotations

import pytest

from tools.proofs.ledger import (
    JSON,
    TEXT,
    Damaged,
    Found,
    Life,
    Window,
    body_of,
    faults_of,
    life_in_copy,
    lines_in,
    lines_of,
    tokens_in,
)

COPY = Window(began_s=100.0, ended_s=101.0)


def life_of(*acknowledged_s: float | None, created_s: float = 1.0) -> Life:
    """A stream with an append at each of these times; None: it got no answer."""
    life = Life("s", 0, TEXT, create_sent_s=created_s - 1, created_s=created_s)
    for number, time_s in enumerate(acknowledged_s):
        append = life.begin("w")
        append.acknowledged_s = time_s
        append.offset = None if time_s is None else f"{number:033d}"
    return life


@pytest.mark.parametrize("content_type", [TEXT, JSON])
def test_lines_come_back_as_the_tokens_of_whole_appends(content_type: str) -> None:
    lines = lines_of("a", 3, "filler") + lines_of("b", 1, "")

    assert lines_in(body_of(lines, content_type), content_type) == lines
    assert tokens_in(lines) == ["a", "b"]


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(lines_of("a", 3, "x")[:2], id="cut_at_the_end"),
        pytest.param(lines_of("a", 3, "x")[1:], id="cut_at_the_beginning"),
        pytest.param(lines_of("a", 2, "x")[:1] + lines_of("b", 1, "x"), id="torn_by_another"),
        pytest.param([lines_of("a", 1, "x")[0].replace("x", "y")], id="changed"),
    ],
)
def test_an_append_that_is_not_whole_is_noticed(lines: list[str]) -> None:
    with pytest.raises(Damaged):
        tokens_in(lines)


def test_appends_without_an_answer_may_be_there_or_not() -> None:
    life = life_of(2.0, None, 3.0)
    first, doubtful, last = life.order()[0], life.appends[1].token, life.appends[2].token

    assert faults_of(life, [first, last]) == []
    assert faults_of(life, [first, doubtful, last]) == []


@pytest.mark.parametrize(
    "order",
    [
        pytest.param([0], id="lost"),
        pytest.param([0, 1, 1], id="doubled"),
        pytest.param([1, 0], id="moved"),
    ],
)
def test_what_is_lost_doubled_or_moved_is_noticed(order: list[int]) -> None:
    life = life_of(2.0, 3.0)
    tokens = life.order()

    assert faults_of(life, tokens) == []
    assert faults_of(life, [tokens[number] for number in order]) != []
    assert faults_of(life, [*tokens, "s#0/w/9"]) != []


def test_a_copy_holds_what_was_acknowledged_a_second_before_it_began() -> None:
    life = life_of(98.0, 99.0, 99.5, 100.5)
    tokens = life.order()

    for count in (2, 3, 4):
        assert life_in_copy([life], Found(tokens[:count], closed=False), COPY) is life
    for wrong in (tokens[:1], [tokens[0], tokens[2]]):
        with pytest.raises(Damaged):
            life_in_copy([life], Found(wrong, closed=False), COPY)
    with pytest.raises(Damaged):
        life_in_copy([life], None, COPY)


def test_a_copy_shows_no_stream_that_was_deleted_long_before_or_created_after() -> None:
    deleted, later = life_of(2.0), life_of(102.0, created_s=103.0)
    deleted.delete_sent_s = deleted.deleted_s = 50.0

    assert life_in_copy([deleted, later], None, COPY) is None
    for life in (deleted, later):
        with pytest.raises(Damaged):
            life_in_copy([deleted, later], Found(life.order(), closed=False), COPY)
    layered = Window(COPY.began_s, COPY.ended_s, layered=True)
    assert life_in_copy([deleted], Found(deleted.order(), closed=False), layered) is deleted


def test_a_stream_deleted_meanwhile_may_be_absent_cut_or_whole() -> None:
    life = life_of(2.0, 3.0)
    life.delete_sent_s = life.deleted_s = 100.5

    for found in (None, Found([], closed=False), Found(life.order(), closed=False)):
        life_in_copy([life], found, COPY)


def test_a_closed_stream_is_closed_in_a_later_copy() -> None:
    life = life_of(2.0)
    life.close_sent_s = life.closed_s = 50.0

    assert life_in_copy([life], Found(life.order(), closed=True), COPY) is life
    with pytest.raises(Damaged):
        life_in_copy([life], Found(life.order(), closed=False), COPY)
