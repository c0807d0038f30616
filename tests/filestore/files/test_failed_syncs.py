"""What a failed sync left is in memory only, after a kill too: no later sync brings it to disk."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.files.directory import DataDirectory
from durable_streams.filestore.files.disk import FailedSync
from durable_streams.filestore.files.fork_marks import some_marks
from durable_streams.filestore.files.journal import SyncFailed
from durable_streams.filestore.files.recovery import apply_again, recover
from durable_streams.filestore.files.stream_files import load
from durable_streams.filestore.format.journal import ForkRecord
from tests.filestore.files.history import OTHER_ID, History
from tests.filestore.files.recovering import FILES, applied, content, home, journal, journaled
from tools.simulation.disk import PowerCut, SimulatedDisk, power_cut_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_streams.filestore.files.disk import StrPath
    from durable_streams.filestore.format.journal import Record
    from tests.filestore.files.staged_disk import StagedDisk

ROOT = Path("/simulated")


def failing(suffix: str) -> Callable[[str, StrPath], None]:
    def before(call: str, path: StrPath) -> None:
        if call == "sync" and str(path).endswith(suffix):
            raise OSError(errno.EIO, "Input/output error", str(path))

    return before


def opened(disk: SimulatedDisk) -> DataDirectory:
    return DataDirectory.open(disk, ROOT / "data")


def killed(seed: int, before: Record, last: Record) -> SimulatedDisk:
    """One record is durable in the files; the sync of the other's batch failed, then the kill."""
    disk = SimulatedDisk(ROOT)
    directory = opened(disk)
    applied(directory, before)
    disk.sync_file_system(directory.root_fd)
    with journal(directory) as written:
        disk.before, disk.random = failing(".journal"), Random(seed)
        with pytest.raises(SyncFailed):
            written.write([last])
    return disk.after_kill()


@pytest.mark.parametrize("seed", range(40))
def test_a_power_cut_during_the_start_that_acts_on_it_tears_nothing(seed: int) -> None:
    """A sidecar was torn for a change that nobody was told of, and that the journal had lost."""
    history, random = History(), Random(seed)
    left = killed(seed, history.create(b"one."), history.change(cuts=3))
    call, finished = 0, False
    while not finished:
        call += 1
        disk = left.after_kill()
        disk.before = power_cut_at(disk, call)
        try:
            recover(opened(disk), FILES)
            finished = True
        except PowerCut:
            pass
        directory = opened(disk.after_power_cut(random))
        recover(directory, FILES)
        loaded = load(directory.disk, home(directory))
        assert loaded is not None
        assert loaded.sidecar.cuts in {0, 3}
        assert (loaded.tail.position, loaded.notes) == (4, [])


@pytest.mark.parametrize("suffix", [".seg", ".idx", ".json", OTHER_ID])
@pytest.mark.parametrize("seed", range(10))
def test_what_files_have_in_memory_only_is_there_after_a_start_and_a_power_cut(
    suffix: str, seed: int
) -> None:
    """Recovery found what the journal has in the files, and let the journal go for it."""
    history, disk = History(), SimulatedDisk(ROOT)
    directory = opened(disk)
    fork = ForkRecord("s", history.id, OTHER_ID, "fork")
    records: list[Record] = [history.create(b"one."), history.append(b"two.")]
    records += [history.change(cuts=3), fork]
    journaled(directory, *records)
    applied(directory, *records)
    disk.sync_directory(directory.streams)
    disk.before, disk.random = failing(suffix), Random(seed)
    for file in disk.list_files(directory.streams):
        fd = disk.open_read(file)
        with suppress(FailedSync):
            disk.sync(fd)
        disk.close(fd)
    killed = disk.after_kill()
    directory = opened(killed)
    recovery = recover(directory, FILES)
    with journal(directory, recovery):
        pass
    left = killed.after_power_cut(Random(seed))
    loaded = load(left, home(directory))
    assert loaded is not None
    assert (loaded.tail.position, loaded.notes, loaded.sidecar.cuts) == (8, [], 3)
    assert some_marks(left, home(directory), history.id, 2, ()) == [(OTHER_ID, ("fork",))]


def test_a_journal_that_a_full_disk_does_not_let_be_written_anew_is_read_all_the_same(
    directory: DataDirectory, disk: StagedDisk
) -> None:
    """Some file systems never overwrite; to empty them, the server has to start."""
    history = History()
    journaled(directory, history.create(b"one."), history.append(b"two."))
    disk.fail("pwrite", errno.ENOSPC, ".journal")
    recover(directory, FILES)
    assert content(directory) == b"one.two."


def test_no_more_is_written_anew_than_what_was_written_last(
    directory: DataDirectory, disk: StagedDisk
) -> None:
    history = History()
    journaled(directory, history.create(b"one."))
    short = 4  # the size that is to be written, in KiB, is less than that of the journal
    journaled(directory, *[history.append(b"x" * 1024) for _ in range(2 * short)])
    written: list[int] = []
    pwrite = disk.pwrite

    def noted(fd: int, data: bytes, position: int) -> None:
        if disk._paths[fd].suffix == ".journal":
            written.append(len(data))
        pwrite(fd, data, position)

    disk.pwrite = noted  # type: ignore[method-assign]
    recover(directory, FILES)
    assert len(written) == 1
    assert 1024 < written[0] < 1024 * short


def test_files_with_another_name_are_not_copied_for_what_they_have_already(
    directory: DataDirectory, tmp_path: Path
) -> None:
    """A backup by hard links may have been made just before the end."""
    history = History()
    records: list[Record] = [history.create(b"one."), history.append(b"two.")]
    records += [history.append(b"three.", roll=True), history.change(cuts=3)]
    journaled(directory, *records)
    applied(directory, *records)
    for file in home(directory).iterdir():
        os.link(file, tmp_path / file.name)
    recover(directory, FILES)
    assert {file.stat().st_nlink for file in home(directory).iterdir()} == {2}
    assert content(directory) == b"one.two.three."


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_what_we_may_only_read_is_left_to_the_journal(
    directory: DataDirectory, disk: StagedDisk, number: int
) -> None:
    """Were it let go, what is in memory only would be lost: nobody else can write it again."""
    history = History()
    records: list[Record] = [history.create(b"one."), history.append(b"two.")]
    journaled(directory, *records)
    applied(directory, *records)
    disk.fail("open_write", number, "/streams/")
    recovery = recover(directory, FILES)
    assert recovery.kept["s", history.id].records == records
    assert recovery.checkpointed == 0
    disk.heal()
    apply_again(directory, records)
    assert content(directory) == b"one.two."


@pytest.mark.parametrize("suffix", [".seg", ".idx", ".json"])
def test_what_a_full_disk_does_not_let_be_written_anew_is_left_to_the_journal(
    directory: DataDirectory, disk: StagedDisk, suffix: str
) -> None:
    """Nobody knows whether it is on the disk: its stream waits, alone."""
    history, other = History(), History("t", OTHER_ID)
    records: list[Record] = [history.create(b"one."), history.append(b"two.")]
    records += [other.create(b"other")]
    journaled(directory, *records)
    applied(directory, *records)
    for file in home(directory).glob(f"*{suffix}"):
        disk.fail("pwrite", errno.ENOSPC, str(file))
    recovery = recover(directory, FILES)
    assert list(recovery.kept) == [("s", history.id)]
    assert recovery.kept["s", history.id].records == records[:2]
    disk.heal()
    apply_again(directory, recovery.kept["s", history.id].records)
    assert content(directory) == b"one.two."
