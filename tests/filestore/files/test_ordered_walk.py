"""Walking over streams below a prefix: all of them, in order, with few names in memory."""

from __future__ import annotations

import errno
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.files import names
from durable_streams.filestore.files.directory import Layout
from durable_streams.filestore.files.ordered_walk import place_of, streams_in_order
from tests.filestore.files.staged_disk import StagedDisk

if TYPE_CHECKING:
    from durable_streams.model.paths import StreamPath

PATHS: list[StreamPath] = [
    ("a",),
    ("a", "b"),
    ("a", "B"),
    ("a", "b", "c"),
    ("a-b",),
    ("a/b",),
    ("ab",),
    ("a", "\u00e9"),
    ("x" * 250,),
    ("x" * 250, "below"),
    ("x" * 240,),
    ("X" * 255, "y" * 255),
    ("deep", *"abcdefghij"),
]


@pytest.fixture
def disk() -> StagedDisk:
    return StagedDisk()


@pytest.fixture
def layout(tmp_path: Path, disk: StagedDisk) -> Layout:
    layout = Layout(disk, tmp_path)
    layout.streams.mkdir()
    return layout


def make(layout: Layout, *paths: StreamPath) -> None:
    for path in paths:
        Path(layout.stream_directory(path)).mkdir(parents=True, exist_ok=True)


def walked(layout: Layout, prefix: StreamPath = (), most_names: int = 1000) -> list[StreamPath]:
    found = list(streams_in_order(layout, prefix, most_names))
    assert found == sorted(found)
    paths = [names.path_of("/".join(place)) for place in found]
    assert [place_of(path) for path in paths if path] == found
    return [path for path in paths if path]


@pytest.mark.parametrize("most_names", [1, 2, 1000])
def test_every_stream_is_passed_once_in_order(layout: Layout, most_names: int) -> None:
    make(layout, *PATHS)
    assert sorted(walked(layout, (), most_names)) == sorted(PATHS)


@pytest.mark.parametrize(
    "prefix", [("a",), ("a", "b"), ("x" * 250,), ("X" * 255,), ("x",), ("deep", "a", "b"), ("no",)]
)
def test_below_a_prefix_those_whose_first_segments_are_the_same(
    layout: Layout, prefix: StreamPath
) -> None:
    make(layout, *PATHS)
    assert sorted(walked(layout, prefix)) == sorted(
        path for path in PATHS if path[: len(prefix)] == prefix
    )


@pytest.mark.parametrize("seed", range(5))
def test_many_at_random_with_few_names_in_memory(layout: Layout, seed: int) -> None:
    random = Random(seed)
    paths = {
        tuple(random.choice(["a", "b", "B", "c-d", "e.f", "~", "@", "g" * 241]) for _ in range(n))
        for n in (1, 2, 3, 3, 4, 4, 4, 5, 5, 5)
        for _ in range(8)
    }
    make(layout, *paths)
    assert set(walked(layout, (), random.randint(1, 5))) == paths


def test_a_directory_of_many_is_listed_a_part_at_a_time(layout: Layout, disk: StagedDisk) -> None:
    make(layout, *(("a", f"{number}") for number in range(10)))
    disk.calls.clear()
    assert len(walked(layout, ("a",), 4)) == 10
    assert disk.calls["names_behind"] == 3
    assert disk.names_behind(layout.streams / "a", "4@", 3) == ["5@", "6@", "7@"]
    assert disk.names_behind(layout.streams / "a", "8@", 3) == ["9@"]


def test_what_is_gone_or_no_directory_is_passed_over(layout: Layout) -> None:
    make(layout, ("a", "b"), ("c", "d"), ("e", "f"))
    (layout.streams / "b").write_bytes(b"of somebody else")
    walk = streams_in_order(layout, ())
    assert next(walk) == ("a", "b@")
    (layout.streams / "c" / "d@").rmdir()
    (layout.streams / "c").rmdir()
    assert list(walk) == [("e", "f@")]
    layout.streams.rename(layout.streams.with_name("away"))
    assert list(streams_in_order(layout, ())) == []


def test_a_link_to_a_directory_above_it_comes_to_an_end(layout: Layout) -> None:
    make(layout, ("a", "b"))
    (layout.streams / "a" / "up").symlink_to(layout.streams)
    assert ("a", "b@") in list(streams_in_order(layout, ()))


def test_a_directory_that_cannot_be_listed_is_an_error(layout: Layout, disk: StagedDisk) -> None:
    make(layout, ("a", "b"), ("c", "d"))
    disk.fail("names_behind", errno.EIO, "streams/c")
    walk = streams_in_order(layout, ())
    assert next(walk) == ("a", "b@")
    with pytest.raises(OSError, match="Input/output error"):
        next(walk)
