"""Marks of forks: made once however often, kept whole, and never anybody else's."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams.filestore.files import whole_files
from durable_streams.filestore.files.directory import DataDirectory
from durable_streams.filestore.files.fork_marks import (
    carry_over,
    is_forked,
    pack_mark,
    remove_mark,
    some_marks,
    unpack_mark,
)
from durable_streams.filestore.files.recovery import recover
from durable_streams.filestore.files.writer import StreamWriter
from durable_streams.filestore.format.journal import ForkRecord
from durable_streams.filestore.format.stored_path import unpack_path
from tests.filestore.files.history import ID, OTHER_ID, History
from tests.filestore.files.recovering import FILES, applied, home, journaled, tree
from tools.simulation.disk import PowerCut, SimulatedDisk, power_cut_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from durable_streams.model.paths import StreamPath
    from tests.filestore.files.staged_disk import StagedDisk

FORKS = {f"{number:024x}": f"chat/{number}" for number in range(3)}
CARRIED_OVER = {fork_id: unpack_path(stored) for fork_id, stored in FORKS.items()}
FORK = ForkRecord("s", ID, OTHER_ID, "chat/fork")


def found(directory: DataDirectory) -> list[tuple[str, StreamPath | None]]:
    return some_marks(directory.disk, home(directory), ID, 10, ())


def mark(directory: DataDirectory) -> Path:
    return Path(home(directory)) / f"{ID}.forks" / OTHER_ID


def test_a_mark_has_the_specified_bytes() -> None:
    assert pack_mark(OTHER_ID, "chat/fork") == b"9a075f7b chat/fork\n"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_a_mark_is_read_back_and_no_beginning_or_flip_of_it_is(stored: str) -> None:
    data = pack_mark(OTHER_ID, stored)
    assert unpack_mark(OTHER_ID, data) == unpack_path(stored)
    assert unpack_mark(ID, data) is None
    for size in range(len(data)):
        assert unpack_mark(OTHER_ID, data[:size]) is None
        flipped = bytearray(data)
        flipped[size] ^= 1 << size % 8
        assert unpack_mark(OTHER_ID, bytes(flipped)) is None


@pytest.mark.parametrize("times", [1, 2])
def test_what_the_journal_says_of_a_fork_is_put_there_however_often(
    directory: DataDirectory, times: int
) -> None:
    applied(directory, History().create(b"one."))
    journaled(directory, *[FORK] * times)
    recover(directory, FILES)
    assert found(directory) == [(OTHER_ID, ("chat", "fork"))]
    before = tree(directory)
    recover(directory, FILES)
    assert tree(directory) == before


@pytest.mark.parametrize("torn", [b"", bytes(10), pack_mark(OTHER_ID, "chat/fork")[:-1]])
def test_a_torn_mark_is_made_again(directory: DataDirectory, torn: bytes) -> None:
    applied(directory, History().create(b"one."), FORK)
    mark(directory).write_bytes(torn)
    journaled(directory, FORK)
    recover(directory, FILES)
    assert found(directory) == [(OTHER_ID, ("chat", "fork"))]


def test_a_mark_with_a_second_name_is_not_written_to(
    directory: DataDirectory, tmp_path: Path
) -> None:
    applied(directory, History().create(b"one."), FORK)
    mark(directory).write_bytes(b"torn")
    os.link(mark(directory), tmp_path / "backup")
    applied(directory, FORK)
    assert (tmp_path / "backup").read_bytes() == b"torn"
    assert found(directory) == [(OTHER_ID, ("chat", "fork"))]


def test_a_fork_that_is_deleted_further_on_is_not_marked(directory: DataDirectory) -> None:
    applied(directory, History().create(b"one."))
    journaled(directory, FORK, History("chat/fork", OTHER_ID).delete())
    recover(directory, FILES)
    assert found(directory) == []


def test_no_other_stream_at_the_path_is_marked(directory: DataDirectory) -> None:
    applied(directory, History(stream_id=OTHER_ID).create(b"one."))
    before = tree(directory)
    journaled(directory, FORK)
    recover(directory, FILES)
    assert tree(directory) == before


def test_a_source_that_is_gone_is_no_obstacle(directory: DataDirectory) -> None:
    journaled(directory, FORK)
    recover(directory, FILES)
    assert list(directory.streams.iterdir()) == []


def test_marks_are_durable_with_the_next_checkpoint(
    directory: DataDirectory, disk: StagedDisk
) -> None:
    writer = StreamWriter(directory, FILES)
    writer.create(History().create(b"one."))
    writer.synced(writer.take_dirty())
    writer.fork(FORK)
    dirty = writer.take_dirty()
    forks = str(mark(directory).parent)
    assert {forks, str(home(directory)), str(directory.tmp)} <= set(map(str, dirty.directories))
    assert len(dirty.files) == 1
    writer.synced(dirty)
    writer.close()


def test_known_marks_are_left_out_and_no_more_are_read_than_asked_for(
    directory: DataDirectory, disk: StagedDisk
) -> None:
    ids = [f"{number:024x}" for number in range(40)]
    applied(directory, History().create(), *[ForkRecord("s", ID, one, f"f/{one}") for one in ids])
    opened = disk.calls["open_read"]
    some = some_marks(disk, home(directory), ID, 8, ())
    assert len(some) == 8
    assert disk.calls["open_read"] == opened + 8
    known = {fork_id for fork_id, _ in some}
    assert len(some_marks(disk, home(directory), ID, 16, known)) == 8
    remove_mark(disk, home(directory), ID, ids[0])
    remove_mark(disk, home(directory), ID, ids[0])
    assert len(some_marks(disk, home(directory), ID, 100, ())) == 39


def test_what_0_1_wrote_is_carried_over_once_or_again(directory: DataDirectory) -> None:
    applied(directory, History().create())
    assert not is_forked(directory.disk, home(directory), ID)
    for _ in range(2):
        carry_over(directory, home(directory), ID, {OTHER_ID: "chat/fork"})
        assert found(directory) == [(OTHER_ID, ("chat", "fork"))]
    assert is_forked(directory.disk, home(directory), ID)
    assert list(directory.tmp.iterdir()) == []


def test_a_power_cut_takes_no_mark_away_while_they_are_carried_over_once_more() -> None:
    """As where the journal has the sidecar without them, and its file could not be written."""
    for marks, _ in left_by_power_cuts(times=2):
        assert marks == CARRIED_OVER


def test_marks_that_are_carried_over_are_whole_or_not_there() -> None:
    """So that nobody who looks at one that is torn has to guess."""
    for marks, finished in left_by_power_cuts(times=1):
        assert marks.items() <= CARRIED_OVER.items()
        assert not finished or marks == CARRIED_OVER


def left_by_power_cuts(times: int) -> Iterator[tuple[dict[str, StreamPath | None], bool]]:
    """The marks after power cuts at every call of the last of so many times, and behind it.

    With each: whether the last time had come to its end.
    """
    call, finished = 0, False
    while not finished:
        call += 1
        disk = SimulatedDisk(Path("/simulated"))
        directory = DataDirectory.open(disk, Path("/simulated/data"))
        applied(directory, History().create())
        disk.sync_file_system(directory.root_fd)
        for _ in range(times - 1):
            carry_over(directory, home(directory), ID, FORKS)
        disk.before = power_cut_at(disk, disk.calls + call)
        with suppress(PowerCut):
            carry_over(directory, home(directory), ID, FORKS)
            finished = True
        for seed in range(20):
            left = disk.after_power_cut(Random(seed))
            yield dict(some_marks(left, home(directory), ID, 10, ())), finished


@pytest.mark.parametrize("make", [
    lambda directory: applied(directory, FORK),
    lambda directory: carry_over(directory, home(directory), ID, {OTHER_ID: "chat/fork"}),
], ids=["fork", "carry_over"])  # fmt: skip
def test_the_directory_of_marks_may_be_made_by_another_thread_at_the_same_time(
    directory: DataDirectory, disk: StagedDisk, make: Callable[[DataDirectory], None]
) -> None:
    applied(directory, History().create(b"one."))
    gate = disk.hold("make_directory", ".forks")
    with ThreadPoolExecutor(1) as threads:
        making = threads.submit(make, directory)
        gate.reached.wait()
        mark(directory).parent.mkdir()
        gate.open()
        making.result()
    assert found(directory) == [(OTHER_ID, ("chat", "fork"))]


def test_a_tree_of_any_depth_is_removed(directory: DataDirectory) -> None:
    top = directory.tmp / "deep"
    top.mkdir()
    fd = os.open(top, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("d", dir_fd=fd)
        deeper = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(fd)
    whole_files.remove_tree(directory.disk, top)
    assert list(directory.tmp.iterdir()) == []
