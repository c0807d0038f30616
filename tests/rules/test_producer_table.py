"""Whom a stream forgets for a new producer, and at what cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.model.errors import TooManyProducers, TooManyRequests
from durable_streams.rules import producer_table
from durable_streams.rules.producer_table import ENTRY_BYTES, ProducerTable
from durable_streams.rules.producers import IDLE_MS, ProducerState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DAY_MS: Final = IDLE_MS // 7
ENTRY: Final = 1 + 2 + ENTRY_BYTES  # of an id of one letter
TIME_MS: Final = 1_700_000_000_000
ENOUGH: Final = 1 << 20  # bytes


def table_of(ages: dict[str, int], now_ms: int = TIME_MS) -> ProducerTable:
    """Producers that appended so many milliseconds ago."""
    return ProducerTable({name: ProducerState(0, 0, now_ms - age) for name, age in ages.items()})


def test_nobody_is_forgotten_while_there_is_room() -> None:
    table = table_of({"a": 99 * IDLE_MS, "b": 0})
    assert table.room_for("c", TIME_MS, 3 * ENTRY) == ()


def test_one_past_the_limit_the_longest_idle_makes_room() -> None:
    table = table_of({"a": 8 * DAY_MS, "b": 9 * DAY_MS, "c": 10 * DAY_MS})
    assert table.room_for("d", TIME_MS, 4 * ENTRY - 1) == ("c",)
    assert table.room_for("d", TIME_MS, 3 * ENTRY) == ("c",)


def test_no_more_are_forgotten_than_take_the_room() -> None:
    table = table_of({"a": 8 * DAY_MS, "b": 9 * DAY_MS, "c": 10 * DAY_MS})
    longer = "d" * (ENTRY + 1)
    assert table.room_for(longer, TIME_MS, 4 * ENTRY - 1) == ("c", "b")
    assert table.room_for(longer, TIME_MS, 4 * ENTRY) == ("c",)


def test_seven_days_are_not_over_before_they_are_over() -> None:
    table = table_of({"a": IDLE_MS, "b": IDLE_MS - 1})
    with pytest.raises(TooManyProducers, match="2 producers and no room") as refusal:
        table.room_for("c", TIME_MS, 2 * ENTRY)
    assert (refusal.value.producers, refusal.value.limit_bytes) == (2, 2 * ENTRY)
    assert table.room_for("c", TIME_MS + 1, 2 * ENTRY) == ("a",)


def test_nobody_is_forgotten_if_it_would_not_be_enough() -> None:
    table = table_of({"a": 8 * DAY_MS, "b": 0})
    with pytest.raises(TooManyProducers):
        table.room_for("c" * 40, TIME_MS, 2 * ENTRY)
    assert table.room_for("c", TIME_MS, 2 * ENTRY) == ("a",)


def test_where_nobody_fits_everybody_stays() -> None:
    table = table_of({"a": 8 * DAY_MS})
    for limit in (0, ENTRY - 1):
        with pytest.raises(TooManyProducers):
            table.room_for("b", TIME_MS, limit)
    with pytest.raises(TooManyProducers):
        ProducerTable({}).room_for("b", TIME_MS, ENTRY - 1)


def test_who_appends_again_is_not_idle() -> None:
    table = table_of({"a": 10 * DAY_MS, "b": 9 * DAY_MS})
    assert table.room_for("c", TIME_MS, 2 * ENTRY) == ("a",)
    table.put("a", ProducerState(0, 1, TIME_MS))
    assert table.room_for("c", TIME_MS, 2 * ENTRY) == ("b",)
    table.put("b", ProducerState(0, 1, TIME_MS))
    with pytest.raises(TooManyProducers):
        table.room_for("c", TIME_MS, 2 * ENTRY)


def test_who_is_as_before_is_idle_as_before() -> None:
    table = table_of({"a": 10 * DAY_MS, "b": 9 * DAY_MS})
    before = table.states["a"]
    table.put("a", ProducerState(0, 1, TIME_MS))
    assert table.room_for("c", TIME_MS, 2 * ENTRY) == ("b",)
    table.put("a", before)
    assert table.room_for("c", TIME_MS, 2 * ENTRY) == ("a",)


def test_a_clock_that_is_a_year_ahead_costs_one_for_one() -> None:
    """And what appended meanwhile stays when it is right again."""
    ahead = TIME_MS + 365 * DAY_MS
    table = table_of(dict.fromkeys("abcdef", 0))
    for name in "xyz":
        [forgotten] = table.room_for(name, ahead, 6 * ENTRY)
        table.remove(forgotten)
        table.put(name, ProducerState(0, 0, ahead))
    assert set(table.states) == set("defxyz")
    with pytest.raises(TooManyProducers):
        table.room_for("n", TIME_MS + 60_000, 6 * ENTRY)
    assert table.room_for("n", TIME_MS + 8 * DAY_MS, 6 * ENTRY) == ("d",)


def test_a_clock_that_is_behind_forgets_nobody() -> None:
    table = table_of(dict.fromkeys("ab", 0))
    with pytest.raises(TooManyProducers):
        table.room_for("c", TIME_MS - 365 * DAY_MS, 2 * ENTRY)


def test_where_less_is_allowed_than_before_the_table_shrinks_by_a_few_at_a_time() -> None:
    table = table_of({f"{number:0200}": 8 * DAY_MS for number in range(100)})
    limit = table.size_bytes // 2
    for name in "abcdefgh":
        before = table.size_bytes
        forgotten = table.room_for(name, TIME_MS, limit)
        assert len(forgotten) < 10
        for gone in forgotten:
            table.remove(gone)
        table.put(name, ProducerState(0, 0, TIME_MS))
        assert before <= limit or table.size_bytes < before
    assert table.size_bytes <= limit


# -- a limit of their number -----------------------------------------------------------------


def test_without_a_limit_of_their_number_only_bytes_count() -> None:
    table = table_of({f"{number}": 8 * DAY_MS for number in range(2000)})
    assert table.room_for("a", TIME_MS, ENOUGH, 0) == ()


def test_at_the_limit_of_their_number_one_is_forgotten_and_below_it_nobody() -> None:
    table = table_of({"a": 8 * DAY_MS, "b": 9 * DAY_MS, "c": 0})
    assert table.room_for("d", TIME_MS, ENOUGH, 4) == ()
    assert table.room_for("d", TIME_MS, ENOUGH, 3) == ("b",)
    assert table.room_for("d", TIME_MS, ENOUGH, 2) == ("b", "a")


def test_one_too_many_is_refused_with_the_limit_and_what_to_do_until_somebody_is_idle() -> None:
    table = table_of({"a": IDLE_MS, "b": 0})
    with pytest.raises(TooManyRequests, match=r"2 producers, and may have 2\..*use another") as no:
        table.room_for("c", TIME_MS, ENOUGH, 2)
    assert no.value.retry_after_s == 60
    assert table.room_for("c", TIME_MS + 1, ENOUGH, 2) == ("a",)


def test_where_all_together_are_not_enough_nobody_is_forgotten() -> None:
    table = table_of({"a": 8 * DAY_MS, "b": 0})
    with pytest.raises(TooManyRequests):
        table.room_for("c", TIME_MS, ENOUGH, 1)
    assert table.room_for("c", TIME_MS, ENOUGH, 2) == ("a",)


def test_who_lacks_bytes_is_told_so_however_many_there_may_be() -> None:
    table = table_of({"a": 0, "b": 0})
    for limit in (0, 2, 3):
        with pytest.raises(TooManyProducers):
            table.room_for("c", TIME_MS, 2 * ENTRY, limit)


def test_room_is_made_for_both_bytes_and_number() -> None:
    table = table_of({"a" * 100: 9 * DAY_MS, "b": 8 * DAY_MS, "c": 0})
    assert table.room_for("d", TIME_MS, table.size_bytes, 2) == ("a" * 100, "b")
    assert table.room_for("d" * 101, TIME_MS, table.size_bytes, 3) == ("a" * 100, "b")


def test_where_fewer_are_allowed_than_before_the_table_shrinks_by_a_few_at_a_time() -> None:
    table = table_of({f"{number:03}": 8 * DAY_MS for number in range(500)})
    for number in range(500):
        forgotten = table.room_for(f"n{number}", TIME_MS, ENOUGH, 100)
        assert 1 <= len(forgotten) < 50
        for gone in forgotten:
            table.remove(gone)
        table.put(f"n{number}", ProducerState(0, 0, TIME_MS))
        if len(table.states) == 100:
            return
    raise AssertionError(len(table.states))


@pytest.mark.parametrize("idle", [True, False], ids=["forgotten for them", "refused"])
def test_ten_thousand_new_producers_do_not_cost_ten_thousand_looks_at_all(
    monkeypatch: pytest.MonkeyPatch, *, idle: bool
) -> None:
    looks: list[int] = []

    def counted(
        size: int, entries: Iterable[tuple[str, ProducerState]], key: Callable[..., int]
    ) -> list[tuple[str, ProducerState]]:
        looks.append(size)
        return sorted(entries, key=key)[:size]

    monkeypatch.setattr(producer_table, "nsmallest", counted)
    age = 8 * DAY_MS if idle else DAY_MS
    table = table_of({f"{number:06}": age - number for number in range(20_000)})
    limit, refused = table.size_bytes, 0
    for number in range(10_000):
        try:
            forgotten = table.room_for(f"n{number:05}", TIME_MS + number, limit)
        except TooManyProducers:
            refused += 1
            continue
        for name in forgotten:
            table.remove(name)
        table.put(f"n{number:05}", ProducerState(0, 0, TIME_MS + number))
    assert refused == (0 if idle else 10_000)
    assert len(looks) <= 10
