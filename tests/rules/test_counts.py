"""Counting streams for limits: whom each is for, and when there is no room."""

from __future__ import annotations

import pytest

from durable_streams.model.errors import TooManyRequests
from durable_streams.model.stream_limits import parse_limits
from durable_streams.rules.stream_counts import StreamCounts


def counts_of(*limits: str, number: int | None = 0) -> StreamCounts:
    return StreamCounts(parse_limits(limits), number)


def numbers(counts: StreamCounts, *path: str) -> list[int | None]:
    return [count.number for count in counts.at(path)]


def test_a_limit_is_for_the_stream_at_its_prefix_and_for_all_below() -> None:
    counts = counts_of("chat=5", "chat/a/b=5", "other=5", "=5")
    assert [count.limit.prefix for count in counts.at(("chat", "a", "b", "c"))] == [
        (),
        ("chat",),
        ("chat", "a", "b"),
    ]
    assert [count.limit.prefix for count in counts.at(("chat", "a", "b"))] == [
        (),
        ("chat",),
        ("chat", "a", "b"),
    ]
    assert [count.limit.prefix for count in counts.at(("chat", "a"))] == [(), ("chat",)]
    assert [count.limit.prefix for count in counts.at(("chat",))] == [(), ("chat",)]
    assert [count.limit.prefix for count in counts.at(("chatter",))] == [()]
    assert [count.limit.prefix for count in counts.at(("chat/a",))] == [()]


def test_without_limits_there_is_always_room() -> None:
    counts = counts_of()
    assert counts.is_known(("a",))
    for _ in range(5):
        counts.take(("a",))
    counts.give_back(("a",))


def test_as_many_as_the_limit_says_and_not_one_more() -> None:
    counts = counts_of("a=2")
    counts.take(("a",))
    counts.take(("a", "b"))
    with pytest.raises(TooManyRequests, match=r"2 streams at and below 'a'") as refusal:
        counts.take(("a", "c"))
    assert refusal.value.retry_after_s == 60
    counts.take(("b",))
    counts.give_back(("a",))
    counts.take(("a", "c"))
    assert numbers(counts, "a") == [2]


def test_what_one_limit_refuses_counts_for_none() -> None:
    counts = counts_of("=5", "a=5", "a/b=1")
    counts.take(("a", "b"))
    with pytest.raises(TooManyRequests, match="'a/b'"):
        counts.take(("a", "b", "c"))
    assert numbers(counts, "a", "b") == [1, 1, 1]
    counts.give_back(("a", "b"))
    assert numbers(counts, "a", "b") == [0, 0, 0]


def test_a_number_that_is_not_known_is_not_kept() -> None:
    counts = counts_of("a=5", "a/b=5", number=None)
    assert not counts.is_known(("a", "b"))
    assert counts.is_known(("c",))
    counts.give_back(("a", "b"))
    [wide, narrow] = counts.at(("a", "b"))
    wide.number = 3
    assert counts.is_known(("a",))
    assert not counts.is_known(("a", "b"))
    counts.give_back(("a", "b"))
    assert (wide.number, narrow.number) == (2, None)


def test_where_there_are_more_than_allowed_none_comes_until_enough_have_gone() -> None:
    counts = counts_of("a=2", number=4)
    for _ in range(2):
        with pytest.raises(TooManyRequests):
            counts.take(("a",))
        counts.give_back(("a",))
    with pytest.raises(TooManyRequests):
        counts.take(("a",))
    counts.give_back(("a",))
    counts.take(("a",))
