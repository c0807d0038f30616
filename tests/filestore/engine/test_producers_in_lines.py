"""Producers in the lines of an index: what they take, and who is known by what the lines say.

And the rule of who is forgotten, against the rule in its plainest words.
"""

from __future__ import annotations

from typing import Final
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from durable_streams.filestore.files.stream_files import LoadedStream
from durable_streams.filestore.format.index import (
    LONGEST_LINE,
    Tail,
    pack_opening,
    unpack_line,
    unpack_opening,
)
from durable_streams.filestore.streams.stream import Before, Payload, Stream
from durable_streams.model.commands import Append, ProducerClaim
from durable_streams.model.errors import TooManyProducers
from durable_streams.rules import producer_table
from durable_streams.rules.appends import MAX_TEXT_BYTES
from durable_streams.rules.producer_table import ENTRY_BYTES, ProducerTable, producer_bytes
from durable_streams.rules.producers import IDLE_MS, ProducerState
from durable_streams.settings import Settings
from tests.filestore.files.history import ID, TIME_MS, sidecar_of

DAY_MS: Final = IDLE_MS // 7
ENTRY: Final = 1 + 2 + ENTRY_BYTES  # of an id of one letter
LARGEST: Final = 2**53 - 1


def test_the_largest_entry_takes_what_is_counted_for_it() -> None:
    largest = {
        name: ProducerState(LARGEST, LARGEST, LARGEST)
        for name in ('"' * MAX_TEXT_BYTES, "p", "é" * (MAX_TEXT_BYTES // 2), "\u2028")
    }
    one, _ = pack_opening(bytes(8), 1, (1, 1), {}, None)
    all_of_them, _ = pack_opening(bytes(8), 1, (1, 1), largest, None)
    counted = sum(map(producer_bytes, largest))
    assert counted - 1 == len(all_of_them) - len(one)  # a comma behind each but the last


def test_a_line_has_room_for_all_who_are_forgotten_at_once() -> None:
    table = ProducerTable({f"{number:0200}": ProducerState(0, 0, 0) for number in range(100)})
    forgotten = table.room_for("a", TIME_MS, 0)
    assert len(forgotten) > 1
    assert sum(map(len, forgotten)) + 3 * len(forgotten) + 3 * MAX_TEXT_BYTES < LONGEST_LINE


# -- any history ---------------------------------------------------------------------------

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
