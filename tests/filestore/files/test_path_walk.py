"""Walking over all streams in no order: each once, whatever lies beside them."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.files.directory import Layout
from durable_streams.filestore.files.path_walk import paths_on_disk
from tests.filestore.files.staged_disk import StagedDisk

if TYPE_CHECKING:
    from durable_streams.model.paths import StreamPath

PATHS: list[StreamPath] = [
    ("a",),
    ("a", "b"),
    ("a", "B"),
    ("a", "b", "c"),
    ("a/b",),
    ("A", "b"),
    (".a", "b"),
    ("é", "b"),
    ("x" * 250,),
    ("x" * 250, "below"),
    ("X" * 255, "y" * 255, "z"),
    ("deep", *map(str, range(60))),
    ("deep", *map(str, range(60)), "er"),
    ("a", "__ds"),
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


def walked(layout: Layout) -> list[StreamPath]:
    return sorted(path for path in paths_on_disk(layout) if path is not None)


def test_each_stream_comes_once(layout: Layout) -> None:
    make(layout, *PATHS)
    assert walked(layout) == sorted(PATHS)


def test_there_may_be_none(layout: Layout) -> None:
    assert walked(layout) == []
    layout.streams.rmdir()
    assert walked(layout) == []


def test_what_no_stream_is_called_is_passed_over(layout: Layout) -> None:
    make(layout, ("a",), ("a", "b"), ("__ds",), ("__ds", "tokens"))
    for name in ("B@", ".c@", "%zz@", "+@", "@", "%61@", f"{'x' * 10}~/y@", "a/lost+found", "c d@"):
        (layout.streams / name).mkdir(parents=True, exist_ok=True)
    (layout.streams / "a" / "notes.txt").write_text("not ours")
    (layout.streams / "around").symlink_to(layout.streams)
    (layout.streams / "nowhere").symlink_to(layout.streams / "gone")
    found = [path for path in walked(layout) if "around" not in path]
    assert found == [("a",), ("a", "b")]


def test_what_cannot_be_listed_is_an_error(layout: Layout, disk: StagedDisk) -> None:
    make(layout, ("a",), ("a", "b"))
    disk.fail("each_name", errno.EIO, "streams/a")
    with pytest.raises(OSError, match="Input/output"):
        walked(layout)


def test_no_directory_stays_open(layout: Layout) -> None:
    make(layout, *PATHS)
    before = len(list(Path("/proc/self/fd").iterdir()))
    walk = paths_on_disk(layout)
    for _ in range(30):
        next(walk)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 17
    del walk
    assert len(list(Path("/proc/self/fd").iterdir())) == before
