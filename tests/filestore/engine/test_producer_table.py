"""Whom a stream forgets for a new producer: the rule, against the rule in its plainest words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable_streams.filestore.files.stream_files import LoadedStream
from durable_streams.filestore.format.index import (
    LONGEST_LINE,
    Tail,
    pack_opening,
    unpack_line,
    unpack_opening,
)
from durable_streams.filestore.streams import producer_table
from durable_streams.filestore.streams.producer_table import (
    ENTRY_BYTES,
    ProducerTable,
    producer_bytes,
)
from durable_streams.filestore.streams.stream import Before, Payload, Stream
from durable_streams.model.commands import Append, ProducerClaim
from durable_streams.model.errors import TooManyProducers
from durable_streams.rules.appends import MAX_TEXT_BYTES
from durable_streams.rules.producers import IDLE_MS, ProducerState
from durable_streams.settings import Settings
from tests.filestore.files.history import ID, TIME_MS, sidecar_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DAY_MS: Final = IDLE_MS // 7
ENTRY: Final = 1 + 2 + ENTRY_BYTES  # of an id of one letter
LARGEST: Final = 2**53 - 1


def table_of(ages: dict[str, int], now_ms: int = TIME_MS) -> ProducerTable:
    """Producers that appended so many milliseconds ago."""
    return ProducerTable({name: ProducerState(0, 0, now_ms - age) for name, age in ages.items()})


def test_the_largest_entry_takes_what_is_counted_for_it() -> None:
    largest = {
        name: ProducerState(LARGEST, LARGEST, LARGEST)
        for name in ('"' * MAX_TEXT_BYTES, "p", "é" * (MAX_TEXT_BYTES // 2), "\u2028")
    }
    one, _ = pack_opening(bytes(8), 1, (1, 1), {}, None)
    all_of_them, _ = pack_opening(bytes(8), 1, (1, 1), largest, None)
    counted = sum(map(producer_bytes, largest))
    assert counted - 1 == len(all_of_them) - len(one)  # a comma behind each but the last


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


def test_where_less_is_allowed_than_before_the_table_shrinks_by_what_a_line_can_name() -> None:
    table = table_of({f"{number:0200}": 8 * DAY_MS for number in range(100)})
    limit = table.size_bytes // 2
    for name in "abcdefgh":
        before = table.size_bytes
        forgotten = table.room_for(name, TIME_MS, limit)
        assert sum(map(len, forgotten)) + 3 * len(forgotten) + 3 * MAX_TEXT_BYTES < LONGEST_LINE
        for gone in forgotten:
            table.remove(gone)
        table.put(name, ProducerState(0, 0, TIME_MS))
        assert before <= limit or table.size_bytes < before
    assert table.size_bytes <= limit


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


# Any history

NAMES: Final = st.sampled_from([f"{letter}{'-' * size}" for letter in "abc" for size in (0, 0, 9)])
JUMPS_MS: Final = st.sampled_from(
    [0, 1, 1000, DAY_MS, 3 * DAY_MS, IDLE_MS - 1, IDLE_MS, IDLE_MS + 1, -1, -DAY_MS, -9 * DAY_MS]
)
STEPS: Final = st.lists(st.tuples(NAMES, JUMPS_MS, st.integers(-9, 3)), max_size=40)
"""Who appends, how much later, and how many of the latest appends fail then."""

SETTINGS: Final = Settings(segment_bytes=7)  # seven appends


def by_the_rule(
    states: dict[str, ProducerState], name: str, now_ms: int, limit: int
) -> list[int] | None:
    """When those appended last who are forgotten; None if the new one is refused."""
    size = sum(map(producer_bytes, [*states, name]))
    gone: list[int] = []
    oldest = sorted(states.items(), key=lambda entry: entry[1].time_ms)
    for other, state in oldest:
        if size <= limit:
            break
        if now_ms - state.time_ms <= IDLE_MS:
            return None
        gone.append(state.time_ms)
        size -= producer_bytes(other)
    return gone if size <= limit else None


def decided(stream: Stream, name: str, now_ms: int, limit: int) -> tuple[str, ...] | None:
    """Who is forgotten for an append of ``name``; None if it is refused."""
    table = stream.producers
    if name in table.states:
        return ()
    try:
        return table.room_for(name, now_ms, limit)
    except TooManyProducers:
        return None


@settings(deadline=None)
@given(steps=STEPS, looked_for=st.sampled_from([2, 3, 1024]), limit=st.integers(1, 5))
def test_what_was_decided_is_the_rule_and_what_the_lines_say(
    steps: list[tuple[str, int, int]], looked_for: int, limit: int
) -> None:
    """Whatever the clock does, and whichever appends fail."""
    root = bytes.fromhex(sidecar_of("s", ID).root)
    stream = Stream(("s",), LoadedStream(sidecar_of("s", ID), Tail(0, 0, 0, root)), TIME_MS)
    done: list[tuple[bytes, Before, dict[str, ProducerState]]] = []
    now_ms, limit_bytes = TIME_MS, limit * (ENTRY + 5)
    with patch.object(producer_table, "_LOOKED_FOR", looked_for):
        for name, jump, failing in steps:
            now_ms += jump
            states = dict(stream.producers.states)
            known = states.get(name)
            forgot = decided(stream, name, now_ms, limit_bytes)
            if known is None:
                times = None if forgot is None else [states[gone].time_ms for gone in forgot]
                assert times == by_the_rule(states, name, now_ms, limit_bytes)
            if forgot is None:
                continue
            claim = ProducerClaim(name, 0, known.seq + 1 if known else 0)
            command = Append(("s",), "text/plain", producer=claim)
            payload = Payload(b"x", 1, 0)
            record, before = stream.reserve(command, payload, now_ms, SETTINGS, forgot)
            done.append((record.index, before, states))
            for _ in range(min(failing, len(done))):
                _, before, states = done.pop()
                stream.take_back(before)
                assert stream.producers.states == states
            known_bytes = sum(map(producer_bytes, stream.producers.states))
            assert stream.producers.size_bytes == known_bytes <= limit_bytes
            assert said(b"".join(index for index, _, _ in done)) == stream.producers.states


def said(lines: bytes) -> dict[str, ProducerState]:
    """Who is known by what the last index says."""
    opening_at = lines.rfind(b'{"index":')
    if opening_at < 0:
        return {}
    first, *others = lines[opening_at:].splitlines()
    opening, chain = unpack_opening(first)
    producers = opening.known_producers(0)
    for text in others:
        line, chain = unpack_line(text, chain)
        line.change(producers)
    return producers
