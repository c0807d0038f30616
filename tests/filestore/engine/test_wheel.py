"""The timing wheel: nobody too late, nobody for ever, and no more than there are streams."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.files.stream_files import LoadedStream
from durable_streams.filestore.format.index import Tail
from durable_streams.filestore.streams.stream import Stream
from durable_streams.filestore.verbs.wheel import HORIZON_S, TICK_S, Wheel
from tests.filestore.files.history import ID, sidecar_of

if TYPE_CHECKING:
    from weakref import ref


def stream() -> Stream:
    return Stream(("s",), LoadedStream(sidecar_of("s", ID), Tail(0, 0, 0, b"")), 0)


def taken(wheel: Wheel, now_s: float) -> list[ref[Stream]]:
    """Everybody whose time has come until now."""
    found: list[ref[Stream]] = []
    while (turn := wheel.turn(now_s)) is not None:
        found += turn
    return found


@pytest.mark.parametrize("began_s", [0.0, 0.3, 1_234_567.8])
@pytest.mark.parametrize("delay_s", [-1.0, 0.0, 0.1, 0.5, 7.7, HORIZON_S - 0.1, HORIZON_S])
def test_whoever_is_put_on_it_comes_round_once_not_sooner_and_a_tick_later_at_most(
    began_s: float, delay_s: float
) -> None:
    wheel, one = Wheel(began_s), stream()
    wheel.put(one, delay_s)
    came_s = []
    for step in range(1500):
        now_s = began_s + step * 0.1
        came_s += [now_s - began_s for found in taken(wheel, now_s) if found() is one]
    [after_s] = came_s
    assert delay_s - TICK_S <= after_s <= max(delay_s, 0) + TICK_S + 0.1 + 1e-6


@pytest.mark.parametrize("delay_s", [HORIZON_S + 0.1, 1e9])
def test_whoever_has_longer_to_wait_comes_round_at_the_horizon(delay_s: float) -> None:
    wheel, one = Wheel(0.0), stream()
    wheel.put(one, delay_s)
    assert taken(wheel, HORIZON_S - 0.1) == []
    assert len(taken(wheel, HORIZON_S + TICK_S)) == 1


def test_after_a_long_sleep_everybody_comes_round_once() -> None:
    wheel, streams = Wheel(0.0), [stream() for _ in range(100)]
    for number, one in enumerate(streams):
        wheel.put(one, number * 0.7)
    assert len(taken(wheel, 1e6)) == 100
    assert len(wheel) == 0
    wheel.put(streams[0], 1.0)
    assert len(taken(wheel, 1e6 + 2)) == 1


def test_it_keeps_no_stream_and_of_a_closed_one_nothing_beyond_the_horizon() -> None:
    wheel = Wheel(0.0)
    for number in range(1000):
        wheel.put(stream(), number)
    gc.collect()
    assert {found() for found in taken(wheel, HORIZON_S + TICK_S)} == {None}
    assert len(wheel) == 0


def test_everybody_can_be_taken_off_at_once() -> None:
    wheel, streams = Wheel(0.0), [stream() for _ in range(10)]
    for number, one in enumerate(streams):
        wheel.put(one, number * 10)
    assert len(wheel.take_all()) == 10
    assert len(wheel) == 0
