"""How many pairs of files stay open where descriptors run out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.files.open_pairs import OpenFile, OpenPairs, Pair

if TYPE_CHECKING:
    from collections.abc import Iterator


def opened(pairs: OpenPairs, number: int) -> None:
    """Add a pair of files."""
    disk = Disk()
    fds = [os.open(os.devnull, os.O_RDONLY) for _ in range(2)]
    segment, index = [OpenFile(os.devnull, fd, disk.file_status(fd).identity) for fd in fds]
    pairs.add(Pair((f"s{number}", "id", 0), segment, index))


@pytest.fixture
def pairs() -> Iterator[OpenPairs]:
    """Room for eight."""
    pairs = OpenPairs(Disk(), 8)
    yield pairs
    for pair in pairs.give_back():
        pairs.drop(pair)


def test_fewer_are_kept_once_they_are_what_takes_the_descriptors(pairs: OpenPairs) -> None:
    for number in range(7):
        opened(pairs, number)
    assert pairs.in_the_way() is None
    for pair in pairs.give_back():
        pairs.drop(pair)
    for number in range(3):
        opened(pairs, number)
        assert pairs.in_the_way() is None
    opened(pairs, 3)
    assert pairs.in_the_way() is not None


def test_who_asks_again_and_again_while_none_is_open_takes__from_later_ones(
    pairs: OpenPairs,
) -> None:
    for _ in range(20):
        assert pairs.give_back() == []
    for number in range(7):
        opened(pairs, number)
    assert pairs.in_the_way() is None
