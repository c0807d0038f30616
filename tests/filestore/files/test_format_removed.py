from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams.filestore.format.removed import BadRemoved, Removed, pack, unpack
from tests.filestore.files.flips import every_flip

GOLDEN: Final = Path(__file__).parent / "golden" / "REMOVED.json"
REMOVED: Final = Removed(3, {"chat/room-1": 6, "é": 1})
TEXTS: Final = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
NUMBERS: Final = st.integers(0, 2**53 - 1)


def test_the_golden_file_is_read_and_would_be_written_again() -> None:
    assert unpack(GOLDEN.read_bytes()) == REMOVED
    assert pack(REMOVED) == GOLDEN.read_bytes()


@given(st.builds(Removed, NUMBERS, st.dictionaries(TEXTS, NUMBERS, max_size=5)))
def test_what_is_packed_is_unpacked(removed: Removed) -> None:
    assert unpack(pack(removed)) == removed


def test_a_flipped_bit_is_found_unless_it_changes_nothing() -> None:
    for _, flipped in every_flip(pack(REMOVED)):
        try:
            assert unpack(flipped) == REMOVED
        except BadRemoved:
            continue


def test_a_file_that_is_cut_is_none() -> None:
    data = pack(REMOVED)
    for size in range(len(data) - 1):
        with pytest.raises(BadRemoved):
            unpack(data[:size])


def test_a_newer_format_is_told() -> None:
    newer = pack(REMOVED).replace(b'"format": 1', b'"format": 2')
    with pytest.raises(BadRemoved, match="format 2 is unknown to this version"):
        unpack(newer)


def test_of_two_numbers_for_a_path_the_higher_one_counts() -> None:
    removed = Removed(1, {"a": 5, "b": 1})
    removed.merge(Removed(2, {"a": 4, "b": 2, "c": 3}))
    assert removed == Removed(2, {"a": 5, "b": 2, "c": 3})
