"""Group commit: what goes into which batch, who is told what, and in which order."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING, cast

import pytest

from durable_streams.filestore.files.journal import SyncFailed, Unpackable, can_pack
from durable_streams.filestore.format.journal import DeleteRecord
from durable_streams.filestore.pipeline.commit import _BATCH_BYTES, Committer
from durable_streams.model.errors import (
    DiskFull,
    Draining,
    StorageFailed,
    StreamError,
    WriteFailed,
)
from tests.filestore.engine.by_hand import Noted, stream, supervisor_by_hand

if TYPE_CHECKING:
    from durable_streams.filestore.files.journal import Journal
    from durable_streams.filestore.format.journal import Record
    from durable_streams.filestore.pipeline.operations import Operation
    from durable_streams.filestore.streams.stream import Stream

RESERVE = 10
NOT_TEXT = "\ud800"


class FakeJournal:
    """Takes batches up to so many bytes, or raises what it is told to."""

    def __init__(self) -> None:
        self.written: list[list[Record]] = []
        self.room = 2 * _BATCH_BYTES
        self.fails: Exception | None = None
        self.syncs = 0

    def has_room(self, payload_bytes: int) -> bool:
        return payload_bytes <= self.room

    def write(self, records: list[Record]) -> int:
        if self.fails is not None:
            raise self.fails
        if not can_pack(records):
            raise Unpackable
        self.written.append(records)
        return len(self.written)

    def sync(self) -> None:
        if self.fails is not None:
            raise self.fails
        self.syncs += 1


class Line:
    """A committer with a worker by hand, and what it told."""

    def __init__(self) -> None:
        supervisor, self.worker = supervisor_by_hand()
        self.journal = FakeJournal()
        self.notes: list[tuple[str, str]] = []
        self.batches: list[list[str]] = []
        self.failures: list[StorageFailed] = []
        self.refusals = 0
        self._streams: dict[str, Stream] = {}
        self.committer = Committer(
            asyncio.get_running_loop(),
            supervisor,
            cast("Journal", self.journal),
            reserve=RESERVE,
            durable=self._durable,
            failed=self.failures.append,
            refused=self._refused,
        )

    def _durable(self, number: int, operations: list[Operation], size_bytes: int) -> None:
        assert number == len(self.batches) + 1
        assert size_bytes == sum(operation.size_bytes for operation in operations)
        self.batches.append([cast("Noted", operation).name for operation in operations])
        for operation in operations:
            operation.settle(None)

    def _refused(self) -> None:
        self.refusals += 1

    def made(self, name: str, path: str = "s", size_bytes: int = 1, text: str = "") -> Noted:
        """An operation; ``text``: what its record says, if not its name."""
        of = self._streams.setdefault(path, stream(path))
        return Noted(name, of, self.notes, [DeleteRecord(path, text or name)], size_bytes)

    def submit(self, name: str, path: str = "s", size_bytes: int = 1, text: str = "") -> Noted:
        operation = self.made(name, path, size_bytes, text)
        self.committer.submit(operation)
        return operation


@pytest.fixture
async def line() -> Line:
    return Line()


async def turns() -> None:
    """As many of the loop as it takes to read what has come, and to begin."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_what_comes_in_one_turn_is_one_batch_and_what_comes_meanwhile_the_next(
    line: Line,
) -> None:
    for name in "abc":
        line.submit(name)
    assert line.worker.jobs == 0
    await turns()
    for name in "de":
        line.submit(name)
    await turns()
    assert line.worker.jobs == 1
    line.worker.do_one()
    await turns()
    line.worker.do_one()
    assert line.batches == [["a", "b", "c"], ["d", "e"]]
    written = [[getattr(record, "id", "") for record in batch] for batch in line.journal.written]
    assert written == line.batches


async def test_the_next_batch_starts_when_those_who_were_answered_may_have_written_again(
    line: Line,
) -> None:
    first = line.submit("first")
    await turns()
    line.submit("meanwhile")

    def write_again() -> None:
        line.submit("again")

    first.when_settled(write_again)
    line.worker.do_one()
    assert line.worker.jobs == 0
    await turns()
    line.worker.do_one()
    assert line.batches == [["first"], ["meanwhile", "again"]]


async def test_a_batch_has_so_many_bytes_at_most_but_for_one_operation_that_has_more(
    line: Line,
) -> None:
    half = _BATCH_BYTES // 2
    for name, size_bytes in {"a": half, "b": half, "c": 1, "d": _BATCH_BYTES + 1, "e": 1}.items():
        line.submit(name, size_bytes=size_bytes)
    for _ in range(4):
        await turns()
        line.worker.do_all()
    assert line.batches == [["a", "b"], ["c"], ["d"], ["e"]]


async def test_a_batch_waits_while_the_journal_has_no_room(line: Line) -> None:
    line.journal.room = RESERVE + 1
    line.submit("a", size_bytes=2)
    await turns()
    assert line.committer.stalled
    assert line.worker.jobs == 0
    line.journal.room += 1
    line.committer.start()
    line.worker.do_all()
    assert line.batches == [["a"]]


async def test_what_frees_the_journal_comes_first_and_may_take_the_reserve(line: Line) -> None:
    line.journal.room = RESERVE
    line.submit("a")
    await turns()
    line.committer.put_first(line.made("kept", size_bytes=RESERVE))
    line.worker.do_one()
    assert line.batches == [["kept"]]
    line.journal.room = RESERVE + 1
    line.committer.start()
    line.worker.do_one()
    assert line.batches == [["kept"], ["a"]]


async def failed(line: Line, fails: Exception) -> list[Noted]:
    """Two operations of a batch, and two behind it, when the batch has failed."""
    operations = [line.submit("a"), line.submit("b")]
    await turns()
    operations += [line.submit("c"), line.submit("d")]
    line.journal.fails = fails
    line.worker.do_one()
    return operations


@pytest.mark.parametrize(
    ("fails", "error", "no_room", "final"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), DiskFull, True, False),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), DiskFull, True, False),
        (OSError(errno.EIO, os.strerror(errno.EIO)), WriteFailed, False, False),
        (SyncFailed("Input/output error"), StorageFailed, False, True),
    ],
    ids=["full", "quota", "write", "sync"],
)
async def test_a_batch_that_fails_takes_along_what_was_decided_on_top_of_it(
    line: Line, fails: Exception, error: type[StreamError], no_room: bool, final: bool
) -> None:
    operations = await failed(line, fails)
    assert {type(operation.error) for operation in operations} == {error}
    assert [name for note, name in line.notes if note == "undone"] == ["d", "c", "b", "a"]
    assert [name for note, name in line.notes if note == "told"] == ["a", "b", "c", "d"]
    assert line.notes[:4] == [("undone", name) for name in "dcba"]  # nobody is told before
    assert (line.refusals, len(line.failures)) == (no_room, final)
    assert line.committer.waiting_bytes == 0


async def test_after_a_failure_that_is_not_final_later_writes_are_stored(line: Line) -> None:
    await failed(line, OSError(errno.EIO, "once"))
    line.journal.fails = None
    line.submit("e")
    await turns()
    line.worker.do_one()
    assert line.batches == [["e"]]


async def test_what_cannot_be_packed_fails_with_its_stream_and_nothing_else(line: Line) -> None:
    """What came before it to its stream too, if that is in its batch: nothing was stored."""
    failing = [line.submit("a"), line.submit("b", text=NOT_TEXT), line.submit("c")]
    stored = [line.submit("d", "t")]
    await turns()
    failing.append(line.submit("e"))
    stored.append(line.submit("f", "u"))
    line.worker.do_one()
    assert [type(operation.error) for operation in failing] == [WriteFailed] * 4
    assert [name for note, name in line.notes if note == "undone"] == ["e", "c", "b", "a"]
    await turns()
    line.worker.do_one()
    assert line.batches == [["d", "f"]]
    assert [operation.error for operation in stored] == [None] * 2
    assert line.committer.waiting_bytes == 0
    assert line.failures == []


async def test_a_refusal_leaves_alone_what_is_being_written(line: Line) -> None:
    written = line.submit("a", size_bytes=3)
    await turns()
    waiting = [line.submit("b"), line.made("kept")]
    line.committer.put_first(waiting[1])
    line.committer.refuse(Draining())
    assert [type(operation.error) for operation in waiting] == [Draining] * 2
    assert line.committer.waiting_bytes == 3
    line.worker.do_one()
    assert not written.pending
    assert written.error is None


async def test_after_a_refusal_a_stream_still_knows_of_what_is_being_written(line: Line) -> None:
    """An answer that depends on it waits for it."""
    written = line.submit("a")
    await turns()
    for name in "bc":
        line.submit(name)
    line.committer.refuse(Draining())
    assert written.stream.last_operation is written
    line.worker.do_one()
    assert written.stream.last_operation is None


async def test_after_the_end_everything_is_refused_at_once(line: Line) -> None:
    line.committer.end(Draining())
    late = line.submit("late")
    assert isinstance(late.error, Draining)
    assert line.notes == [("undone", "late"), ("told", "late")]
    await turns()
    assert line.worker.jobs == 0


async def test_it_is_settled_when_nothing_is_written_or_waits(line: Line) -> None:
    line.submit("a")
    await turns()
    line.submit("b")
    settled = asyncio.ensure_future(line.committer.settled())
    for batches in (0, 1):
        assert len(line.batches) == batches
        await turns()
        assert not settled.done()
        line.worker.do_all()
    await settled
    assert line.batches == [["a"], ["b"]]


async def test_syncs_that_are_asked_for_together_are_one(line: Line) -> None:
    for _ in range(3):
        line.committer.sync()
    line.worker.do_all()
    assert line.journal.syncs == 1
    line.committer.sync()
    line.worker.do_all()
    assert line.journal.syncs == 2


async def test_a_sync_that_fails_is_final(line: Line) -> None:
    line.journal.fails = SyncFailed("Input/output error")
    line.committer.sync()
    line.worker.do_all()
    (failure,) = line.failures
    assert "Input/output error" in str(failure)
