"""Applying: what is written when, who hears of it, and what becomes of streams that cannot be."""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING, cast

import pytest

from durable_streams.filestore.files import names
from durable_streams.filestore.files.directory import DataDirectory
from durable_streams.filestore.files.writer import StreamWriter
from durable_streams.filestore.pipeline import apply
from durable_streams.filestore.pipeline.apply import Applier
from durable_streams.filestore.pipeline.outages import KeptOperation
from durable_streams.model.paths import parse_path_text
from durable_streams.settings import Durability
from tests.filestore.engine.by_hand import Calls, Deletion, Noted, stream, supervisor_by_hand
from tests.filestore.files.history import History

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from durable_streams.filestore.files.dirty import Dirty
    from durable_streams.filestore.format.journal import Record
    from durable_streams.filestore.runtime.machine import Runtime
    from tests.filestore.files.staged_disk import StagedDisk

LAST = 7
"""The batch that was applied before."""

A_ID, B_ID = "a" * 24, "b" * 24


class Files:
    """An applier with its thread by hand, on real files; ``calls``: what it told."""

    def __init__(self, disk: StagedDisk, data: Path, share_writes: int = 512) -> None:
        self.directory = DataDirectory.open(disk, data)
        self.writer = StreamWriter(self.directory, 20)
        supervisor, self.worker = supervisor_by_hand()
        self.calls = Calls()
        self.pauses: list[float] = []
        self.on_pause: Callable[[], None] = lambda: None
        self.number = LAST
        self.applier = Applier(
            supervisor,
            cast("Runtime", self),
            self.directory,
            self.writer,
            LAST,
            durability=Durability.FSYNC,
            share_writes=share_writes,
            applied=lambda number, _operations: self.calls.applied(number),
            failed=self.calls.failed,
            ended=self.calls.ended,
            tried=self.calls.tried,
            refused=self.calls.refused,
        )

    def pause(self, seconds: float) -> None:
        """As the runtime's: a moment passes for the worker."""
        self.pauses.append(seconds)
        self.on_pause()

    def submit(self, *records: Record) -> None:
        """A batch with an operation for each record."""
        self.number += 1
        operations = [Noted("", stream(record.path, record.id), [], [record]) for record in records]
        self.applier.submit(self.number, list(operations))

    def apply(self, *records: Record) -> None:
        """The same, to its end."""
        self.submit(*records)
        self.worker.do_all()

    def delete(self, history: History, *, keep: bool = False) -> None:
        self.number += 1
        deletion = Deletion(stream(history.path, history.id), [history.delete()], keep=keep)
        self.applier.submit(self.number, [deletion])

    def told(self, *names: str) -> list[tuple[object, ...]]:
        return [call for call in self.calls.made if call[0] in names]

    def home(self, history: History) -> Path:
        return self.directory.streams / names.directory_of(parse_path_text(history.path))

    def content(self, history: History) -> bytes:
        return b"".join(path.read_bytes() for path in sorted(self.home(history).glob("*.seg")))

    def close(self) -> None:
        self.writer.close()
        self.directory.close()


@pytest.fixture
def files(disk: StagedDisk, data: Path) -> Iterator[Files]:
    files = Files(disk, data)
    yield files
    disk.heal()
    files.close()


@pytest.fixture
def a() -> History:
    return History("a", A_ID)


@pytest.fixture
def b() -> History:
    return History("b", B_ID)


# -- when ----------------------------------------------------------------------------------


def test_nothing_is_written_before_a_moment_in_which_more_may_come(
    files: Files, a: History
) -> None:
    files.submit(a.create(b"one."))
    assert not files.home(a).exists()
    files.on_pause = lambda: files.submit(a.append(b"two."))
    files.worker.do_one()
    assert files.pauses == [apply._GATHER_S]
    assert files.content(a) == b"one.two."
    assert files.told("applied") == [("applied", LAST + 2)]


def test_appends_to_a_segment_are_written_at_once_and_other_segments_each_on_their_own(
    files: Files, disk: StagedDisk, a: History
) -> None:
    files.apply(a.create(b"one."))
    before = disk.calls["pwrite"]
    files.submit(a.append(b"two."), a.append(b"three."))
    files.submit(a.append(b"four."), a.append(b"five.", roll=True))
    files.worker.do_all()
    assert disk.calls["pwrite"] - before == 4  # a segment and an index, twice
    assert files.content(a) == b"one.two.three.four.five."


def test_one_share_is_scheduled_however_many_batches_come(files: Files, a: History) -> None:
    files.submit(a.create(b""))
    for _ in range(10):
        files.submit(a.append(b"x"))
    assert files.worker.jobs == 1
    files.worker.do_one()
    assert files.worker.jobs == 0
    assert files.content(a) == b"x" * 10


def test_a_checkpoint_has_its_turn_between_two_shares(
    disk: StagedDisk, data: Path, a: History, b: History
) -> None:
    files = Files(disk, data, share_writes=1)
    seen: list[int] = []
    files.submit(a.create(b"one."))
    files.submit(b.create(b"one."))

    def then(dirty: Dirty, number: int) -> None:
        assert dirty
        seen.append(number)
        files.applier.synced(dirty)

    files.applier.take_dirty(then, lambda _error: None)
    files.worker.do_one()
    files.worker.do_one()
    assert seen == [LAST + 1]
    assert files.home(a).exists()
    assert not files.home(b).exists()
    files.worker.do_all()
    assert files.home(b).exists()
    assert files.told("applied") == [("applied", LAST + 1), ("applied", LAST + 2)]
    assert files.pauses == [apply._GATHER_S]  # what is known to be left is not waited for
    files.close()


def test_a_stop_applies_everything_first(files: Files, a: History) -> None:
    files.submit(a.create(b"one."))
    files.submit(a.append(b"two."))
    files.applier.hasten()
    files.applier.stop()
    assert files.content(a) == b"one.two."
    assert files.pauses == []
    assert files.applier.left() == []


def test_what_is_not_in_files_when_the_worker_ends_is_left(
    files: Files, a: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    def buggy(*_: object) -> None:
        raise KeyError("a bug")

    files.apply(a.create(b"one."))
    monkeypatch.setattr(StreamWriter, "append", buggy)
    files.submit(a.append(b"two."))
    with pytest.raises(KeyError):
        files.worker.do_all()
    files.submit(a.append(b"three."))
    assert len(files.applier.left()) == 2
    assert files.told("applied") == [("applied", LAST + 1)]


# -- streams that cannot be written --------------------------------------------------------


def test_a_stream_whose_files_fail_is_told_of_and_nobody_else_is_harmed(
    files: Files, disk: StagedDisk, a: History, b: History
) -> None:
    files.apply(a.create(b"one."), b.create(b"one."))
    disk.fail("pwrite", errno.EIO, "streams/a@", times=1)
    files.apply(a.append(b"two."), b.append(b"two."))
    files.apply(a.append(b"three."), b.append(b"three."))
    assert files.content(a) == b"one."  # though the disk is well again: it would be a hole
    assert files.content(b) == b"one.two.three."
    ((_, path, stream_id, reason, gone),) = files.told("failed")
    assert (path, stream_id, gone) == ("a", A_ID, False)
    assert "Input/output error" in str(reason)
    assert [call[0] for call in files.calls.made] == ["applied", "failed", "applied", "applied"]


def test_a_stream_without_files_is_gone(files: Files, a: History) -> None:
    files.apply(a.create(b"one."))
    files.writer.forget(a.path, a.id)
    files.home(a).rename(files.directory.root / "away")
    files.apply(a.append(b"two."))
    ((_, _, _, _, gone),) = files.told("failed")
    assert gone


def test_the_deletion_of_a_stream_that_cannot_be_written_ends_that(
    files: Files, disk: StagedDisk, a: History
) -> None:
    files.apply(a.create(b"one."))
    disk.fail("pwrite", errno.EIO, "streams/a@", times=1)
    files.apply(a.append(b"two."))
    files.apply(a.delete())
    assert not files.home(a).exists()
    assert files.told("failed", "ended")[1:] == [("ended", "a", A_ID)]


def test_what_the_journal_keeps_is_not_written(files: Files, a: History) -> None:
    created = a.create(b"one.")
    files.number += 1
    files.applier.submit(files.number, [KeptOperation([created])])
    files.worker.do_all()
    assert not files.home(a).exists()
    assert files.told("applied") == [("applied", files.number)]


def test_streams_that_a_start_could_not_write_are_not_written(
    files: Files, a: History, b: History
) -> None:
    files.apply(a.create(b"one."), b.create(b"one."))
    files.applier.put_out_of_service([(a.path, a.id)])
    files.apply(a.append(b"two."), b.append(b"two."))
    assert (files.content(a), files.content(b)) == (b"one.", b"one.two.")
    assert files.told("failed") == []


# -- trying again --------------------------------------------------------------------------


def test_a_stream_that_has_all_it_missed_is_in_service_again(
    files: Files, disk: StagedDisk, a: History
) -> None:
    files.apply(a.create(b"one."))
    disk.fail("pwrite", errno.EIO, "streams/a@", times=1)
    missed = [a.append(b"two."), a.append(b"three.")]
    files.apply(*missed)
    files.applier.try_again([((a.path, a.id), missed)], files.number)
    files.worker.do_all()
    assert files.told("ended", "tried") == [("ended", "a", A_ID), ("tried",)]
    files.apply(a.append(b"four."))
    assert files.content(a) == b"one.two.three.four."


def test_a_stream_that_missed_more_meanwhile_stays_out_of_service(
    files: Files, disk: StagedDisk, a: History
) -> None:
    files.apply(a.create(b"one."))
    disk.fail("pwrite", errno.EIO, "streams/a@", times=1)
    missed = [a.append(b"two.")]
    files.apply(*missed)
    known = files.number
    files.apply(a.append(b"three."))
    files.applier.try_again([((a.path, a.id), missed)], known)
    files.worker.do_all()
    assert files.told("ended", "tried") == [("tried",)]
    assert files.content(a) == b"one."


def test_where_several_fail_one_after_the_other_the_rest_is_not_tried(
    files: Files, disk: StagedDisk, caplog: pytest.LogCaptureFixture
) -> None:
    histories = [History(f"s{number}", f"{number:024}") for number in range(10)]
    files.apply(*(history.create(b"one.") for history in histories))
    disk.fail("pwrite", errno.EIO, "streams/")
    missed = [history.append(b"two.") for history in histories]
    files.apply(*missed)
    kept = [((record.path, record.id), [record]) for record in missed]
    files.applier.try_again(kept, files.number)
    with caplog.at_level(logging.DEBUG):
        files.worker.do_all()
    assert files.told("ended", "tried") == [("tried",)]
    assert caplog.text.count("stays out of service") == apply._FAILURES_IN_A_ROW


# -- disks that have no room for a while ---------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT], ids=errno.errorcode.get)
def test_a_full_disk_is_waited_out(
    files: Files, disk: StagedDisk, a: History, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    files.apply(a.create(b"one."))
    disk.fail("pwrite", number, "streams/a@", times=3)
    with caplog.at_level(logging.ERROR):
        files.apply(a.append(b"two."))
    assert files.content(a) == b"one.two."
    assert files.pauses[-3:] == [apply._FULL_DISK_PAUSE_S] * 3
    assert len(files.told("refused")) == 3
    assert files.told("failed") == []
    assert len(caplog.records) == 1  # it is said once


def test_who_closes_waits_for_no_room(files: Files, disk: StagedDisk, a: History) -> None:
    files.apply(a.create(b"one."))
    disk.fail("pwrite", errno.ENOSPC, "streams/a@")
    files.on_pause = files.applier.hasten
    files.apply(a.append(b"two."))
    assert len(files.told("failed")) == 1


@pytest.mark.parametrize("keep", [False, True])
def test_deletions_behind_a_write_without_room_make_some(
    files: Files, disk: StagedDisk, a: History, b: History, keep: bool
) -> None:
    """But for those that keep the files."""
    files.apply(a.create(b"one."), b.create(b"one."))
    disk.fail("pwrite", errno.ENOSPC, "streams/a@", times=1)
    files.submit(a.append(b"two."))
    files.delete(b, keep=keep)
    there: list[bool] = []
    files.on_pause = lambda: there.append(files.home(b).exists())
    files.worker.do_all()
    assert there == [True, keep]  # while more is gathered, and while room is waited for
    assert files.content(a) == b"one.two."
    assert not files.home(b).exists()
    in_trash = [path.name for path in (files.directory.root / "trash").iterdir()]
    assert in_trash == ([B_ID] if keep else [])


# -- checkpoints ---------------------------------------------------------------------------


def test_a_checkpoint_hears_which_batches_it_covers_and_syncs_nothing_twice(
    files: Files, a: History
) -> None:
    files.apply(a.create(b"one."))
    dirty, number = files.applier.unsynced()
    assert (bool(dirty), number) == (True, LAST + 1)
    files.applier.synced(dirty)
    files.worker.do_all()
    assert not files.applier.unsynced()[0]


def test_a_checkpoint_is_told_if_it_cannot_be_said_what_to_sync(
    files: Files, a: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(_: StreamWriter) -> Iterator[object]:
        raise OSError(errno.ENOSPC, "no place to keep it")

    files.apply(a.create(b"one."))
    monkeypatch.setattr(StreamWriter, "strayed", refuses)
    told: list[OSError] = []
    files.applier.take_dirty(lambda *_: pytest.fail("there is nothing to say"), told.append)
    files.worker.do_all()
    assert [error.errno for error in told] == [errno.ENOSPC]


def test_a_stream_whose_files_somebody_took_is_out_of_service_with_the_next_checkpoint(
    files: Files, a: History
) -> None:
    files.apply(a.create(b"one."))
    files.apply(a.append(b"two."))
    (segment,) = files.home(a).glob("*.seg")
    segment.unlink()
    files.applier.unsynced()
    assert [call[1:3] for call in files.told("failed")] == [("a", A_ID)]
