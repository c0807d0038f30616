"""What is remembered of removed paths, for how long, and what happens when there is no room."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Final

import pytest

from durable_streams.filestore.files.segments import beginning_at
from durable_streams.filestore.files.stream_files import LoadedStream
from durable_streams.filestore.format.index import Tail
from durable_streams.filestore.format.removed import Removed
from durable_streams.filestore.pipeline.removed import MOST_BYTES, RemovedPaths, _size_of
from durable_streams.filestore.streams.stream import Stream
from tests.filestore.files.history import ID, TIME_MS, sidecar_of

KEEP_S: Final = 100.0


class Clock:
    def __init__(self) -> None:
        self.now_s = 5000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def paths(clock: Clock) -> RemovedPaths:
    return RemovedPaths(Removed(), KEEP_S, clock)


def stream_at(path: str, segment: int, position: int = 1, *, first: int = 0) -> Stream:
    """A stream that ends there."""
    tail = Tail(segment, position, 100, bytes(8))
    loaded = LoadedStream(sidecar_of(path, ID), tail, beginning_at(first))
    return Stream((path,), loaded, TIME_MS)


def test_a_stream_begins_above_the_one_that_was_there(paths: RemovedPaths) -> None:
    assert paths.first_segment("a") == 0
    assert paths.remember(stream_at("a", 5)) == 6
    assert (paths.first_segment("a"), paths.first_segment("b")) == (6, 0)


def test_one_without_content_leaves_nothing_behind(paths: RemovedPaths) -> None:
    assert paths.remember(stream_at("a", 0, 0)) == 0
    assert paths.first_segment("a") == 0
    assert paths.unsaved() is None


def test_after_one_without_content_above_others_the_beginning_is_the_same(
    paths: RemovedPaths,
) -> None:
    """Its clients know that offset, and whoever reads on from it misses nothing."""
    assert paths.remember(stream_at("b", 7, 0, first=7)) == 7
    assert paths.first_segment("b") == 7


def test_a_sealed_segment_is_content(paths: RemovedPaths) -> None:
    assert paths.remember(stream_at("a", 8, 0, first=7)) == 9


def test_one_without_content_does_not_make_the_one_before_it_forgotten(
    paths: RemovedPaths,
) -> None:
    paths.remember(stream_at("a", 5))
    paths.remember(stream_at("a", 6, 0, first=6))
    assert paths.first_segment("a") == 6


def test_it_is_remembered_for_so_long_and_no_longer(paths: RemovedPaths, clock: Clock) -> None:
    paths.remember(stream_at("a", 5))
    clock.now_s += KEEP_S - 1
    paths.remember(stream_at("b", 1))
    assert (paths.first_segment("a"), paths.first_segment("b")) == (6, 2)
    clock.now_s += 1
    assert (paths.first_segment("a"), paths.first_segment("b")) == (0, 2)


def test_one_that_is_removed_again_is_remembered_anew(paths: RemovedPaths, clock: Clock) -> None:
    paths.remember(stream_at("a", 5))
    paths.remember(stream_at("b", 5))
    clock.now_s += KEEP_S - 1
    paths.remember(stream_at("a", 7, first=6))
    clock.now_s += 1
    assert (paths.first_segment("a"), paths.first_segment("b")) == (8, 0)


def test_what_earlier_runs_left_is_remembered_from_now_on(clock: Clock) -> None:
    paths = RemovedPaths(Removed(2, {"a": 6}), KEEP_S, clock)
    assert (paths.first_segment("a"), paths.first_segment("other")) == (6, 2)
    clock.now_s += KEEP_S
    assert (paths.first_segment("a"), paths.first_segment("other")) == (0, 0)


def test_when_there_is_no_room_the_oldest_is_forgotten_and_all_begin_above_it(
    clock: Clock,
) -> None:
    paths = RemovedPaths(Removed(), KEEP_S, clock, 3 * _size_of("a"))
    for path, segment in (("a", 9), ("b", 1), ("c", 1)):
        paths.remember(stream_at(path, segment))
        clock.now_s += 10
    assert paths.first_segment("new") == 0

    paths.remember(stream_at("d", 1))

    assert [paths.first_segment(path) for path in ("a", "b", "new")] == [10, 10, 10]
    clock.now_s += KEEP_S - 30  # of the one that was forgotten the time is over
    assert [paths.first_segment(path) for path in ("a", "b", "new")] == [0, 2, 0]


def test_what_was_forgotten_last_does_not_lower_what_all_begin_above(
    clock: Clock,
) -> None:
    paths = RemovedPaths(Removed(), KEEP_S, clock, _size_of("a"))
    for path, segment in (("a", 9), ("b", 1), ("c", 1)):
        paths.remember(stream_at(path, segment))
    assert paths.first_segment("a") == 10
    unsaved = paths.unsaved()
    assert unsaved is not None
    assert unsaved[1] == Removed(10, {"c": 2})


@pytest.mark.parametrize("length", [8, 60, 1024])
def test_the_table_stays_within_its_bound(paths: RemovedPaths, length: int) -> None:
    """However long the paths are; it is not much smaller either."""
    stream = stream_at("a", 1000)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(30_000):
            stream.stored = f"{number:0{length}}"
            paths.remember(stream)
        gc.collect()
        size_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    print(f"paths of {length} characters take {size_bytes / MOST_BYTES:.2f} of it")
    assert MOST_BYTES // 2 < size_bytes <= MOST_BYTES


def test_what_is_new_is_to_be_saved_once(paths: RemovedPaths) -> None:
    assert paths.unsaved() is None
    paths.remember(stream_at("a", 5))
    unsaved = paths.unsaved()
    assert unsaved is not None
    number, found = unsaved
    assert found == Removed(0, {"a": 6})
    paths.remember(stream_at("b", 5))
    paths.saved(number)
    again = paths.unsaved()
    assert again is not None
    assert again[1] == Removed(0, {"a": 6, "b": 6})
    paths.saved(again[0])
    assert paths.unsaved() is None


def test_what_is_over_is_not_saved(paths: RemovedPaths, clock: Clock) -> None:
    paths.remember(stream_at("a", 5))
    clock.now_s += KEEP_S
    paths.remember(stream_at("b", 1))
    unsaved = paths.unsaved()
    assert unsaved is not None
    assert unsaved[1] == Removed(0, {"b": 2})
