"""A set of paths in order: what a plain sorted list does, in blocks."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams.filestore.streams.path_set import PathSet

if TYPE_CHECKING:
    from durable_streams.model.paths import StreamPath

_SEGMENTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
_PATHS = st.lists(st.one_of(st.sampled_from("abc"), _SEGMENTS), min_size=1, max_size=3).map(tuple)


def made(paths: list[StreamPath], block_bytes: int) -> PathSet:
    found = PathSet(block_bytes)
    for path in paths:
        found.add(path)
    return found


@given(
    st.lists(st.tuples(st.booleans(), _PATHS)),
    st.lists(st.tuples(_PATHS, st.one_of(st.just(()), _PATHS), st.integers(1, 5)), max_size=5),
    st.integers(1, 60),
)
def test_it_is_a_sorted_set(
    changes: list[tuple[bool, StreamPath]],
    looks: list[tuple[StreamPath, StreamPath, int]],
    block_bytes: int,
) -> None:
    paths, plain = PathSet(block_bytes), set[tuple[str, ...]]()
    for is_there, path in changes:
        (paths.add if is_there else paths.remove)(path)
        (plain.add if is_there else plain.discard)(path)
        assert len(paths) == len(plain)
    assert paths.behind((), (), len(plain) + 1) == sorted(plain)
    for after, prefix, most in looks:
        inside = [path for path in sorted(plain) if path[: len(prefix)] == prefix]
        assert paths.behind((), prefix, most) == inside[:most]
        assert paths.behind(after, prefix, most) == [p for p in inside if p > after][:most]


@pytest.mark.parametrize("block_bytes", [16, 200, 8192])
def test_many_paths_in_any_order(block_bytes: int) -> None:
    paths: list[StreamPath] = [(f"{number % 7}", f"{number}") for number in range(3000)]
    Random(1).shuffle(paths)
    found = made(paths, block_bytes)
    assert found.behind((), (), 5000) == sorted(paths)
    for path in paths[::2]:
        found.remove(path)
    assert found.behind((), (), 5000) == sorted(paths[1::2])
    for path in paths[1::2]:
        found.remove(path)
    assert (len(found), found.behind((), (), 1)) == (0, [])
    assert not found._blocks
    assert not found._firsts
