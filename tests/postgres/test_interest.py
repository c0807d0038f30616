"""Which streams nodes ask each other for: enough, and no more than that."""

from __future__ import annotations

import itertools

import pytest

from durable_streams.postgres.interest import ASKED_S, KEPT_S, Interest


class Clock:
    """One that goes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def interest(clock: Clock) -> Interest:
    """Of a node that has heard for long enough what others ask for."""
    made = Interest(clock)
    made.listens()
    clock.now_s += 60
    return made


def test_what_others_ask_for_is_wanted_for_some_seconds(interest: Interest, clock: Clock) -> None:
    assert not interest.wants(1)
    assert interest.heard([1, 2]) == [1, 2]
    assert interest.wants(1)
    assert not interest.wants(3)
    clock.now_s += KEPT_S - 0.1
    assert interest.wants(1)
    assert interest.heard([2, 3]) == [3], "the other is no news"
    clock.now_s += 0.1
    assert not interest.wants(1)
    assert interest.wants(2)


def test_who_asks_does_it_again_before_it_is_forgotten(interest: Interest, clock: Clock) -> None:
    asked = []
    for _ in range(100):
        asked += [clock.now_s] * len(interest.due([7]))
        clock.now_s += 1.0  # as following does, of all that is followed
    assert 100 / (ASKED_S + 1) <= len(asked) <= 100 / ASKED_S + 1
    assert max(later - earlier for earlier, later in itertools.pairwise(asked)) < KEPT_S


def test_what_could_not_be_said_is_asked_for_again(interest: Interest) -> None:
    assert interest.due([1, 2]) == [1, 2]
    assert interest.due([1, 2, 3]) == [3]
    interest.unsaid()
    assert interest.due([1, 2]) == [1, 2]


def test_who_has_not_heard_all_tells_of_everything(clock: Clock) -> None:
    interest = Interest(clock)
    clock.now_s += 60
    assert interest.wants(1), "it does not listen yet"
    interest.listens()
    clock.now_s += ASKED_S
    assert interest.wants(1), "not all have asked again"
    clock.now_s += ASKED_S
    assert not interest.wants(1)
    interest.is_deaf()
    clock.now_s += 60
    assert interest.wants(1)


def test_what_was_asked_for_once_is_not_kept(interest: Interest, clock: Clock) -> None:
    for number in range(1000):
        interest.heard([number])
        interest.due([number])
        clock.now_s += 1.0
    assert len(interest._wanted._came_s) <= KEPT_S + 1
    assert len(interest._asked._came_s) <= ASKED_S + 1
