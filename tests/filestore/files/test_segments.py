import pytest

from durable_streams.filestore.files.segments import UNSEALED, Segments, beginning_at
from durable_streams.filestore.format.index import Tail
from durable_streams.model.offsets import ZERO, Offset

ONE, TWO, THREE = (bytes([number]) * 8 for number in (1, 2, 3))


def sealed(first: int) -> Segments:
    """Two sealed segments, of 10 and 20 bytes."""
    return beginning_at(first).sealed(10, ONE).sealed(20, TWO)


def test_streams_that_begin_at_zero_share_one_object() -> None:
    assert beginning_at(0) is UNSEALED
    assert (UNSEALED.begin, UNSEALED.first, UNSEALED.last) == (ZERO, 0, 0)


@pytest.mark.parametrize("first", [0, 7])
def test_sizes_and_chains_are_found_by_the_number_of_a_segment(first: int) -> None:
    segments = sealed(first)
    tail = Tail(first + 2, 5, 300, THREE)
    assert (segments.first, segments.last) == (first, first + 2)
    assert segments.begin == Offset(first, 0)
    assert [segments.size_of(first + at, tail) for at in range(3)] == [10, 20, 5]
    assert [segments.chain_behind(first + at, tail) for at in range(3)] == [ONE, TWO, THREE]


@pytest.mark.parametrize("first", [0, 7])
def test_a_segment_that_is_sealed_and_not_durable_yet_is_as_long_as_the_durable_tail(
    first: int,
) -> None:
    tail = Tail(first + 1, 15, 200, THREE)
    assert sealed(first).size_of(first + 1, tail) == 15
    assert sealed(first).chain_behind(first + 1, tail) == THREE


@pytest.mark.parametrize("first", [0, 7])
def test_a_cut_leaves_those_before_the_new_last_one(first: int) -> None:
    segments = sealed(first)
    assert segments.cut(first + 2) == segments
    assert segments.cut(first + 1) == beginning_at(first).sealed(10, ONE)
    assert segments.cut(first) == beginning_at(first)


def test_sealing_leaves_the_former_object_as_it_was() -> None:
    before = beginning_at(3)
    after = before.sealed(10, ONE)
    assert (before.sizes, before.chains, after.sizes) == ((), b"", (10,))
