"""Endings: what is decided at once, and what becomes of it when it is durable, or is not stored.

The journal is cut off where it says so: a test itself settles what was sent to it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.format import sidecar as sidecar_format
from durable_streams.filestore.format.journal import DeleteRecord, SidecarRecord
from durable_streams.filestore.pipeline.operations import DeleteOperation, SidecarOperation
from durable_streams.filestore.store import FileStore
from durable_streams.model.commands import Create
from durable_streams.model.errors import (
    StreamError,
    StreamExists,
    StreamGone,
    StreamNotFound,
    WriteFailed,
)
from durable_streams.model.offsets import Start
from durable_streams.model.paths import parse_path_text
from durable_streams.settings import Settings
from tests.driving import content, fork, put
from tools.inside import (
    change_what_is_submitted,
    hold_back_what_is_submitted,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from durable_streams.filestore.format.journal import Record
    from durable_streams.filestore.pipeline.operations import Operation

FAILED = WriteFailed("nothing was stored")


@pytest.fixture
async def engine(data: Path) -> AsyncIterator[FileStore]:
    """With the stream ``s``."""
    engine = await FileStore.at(data, Settings())
    await put(engine, "s", b"one.")
    yield engine
    await engine.close()


@pytest.fixture
def held(engine: FileStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Operation]]:
    """What is sent to the journal from now on, and does not get there."""
    held = hold_back_what_is_submitted(engine, monkeypatch.setattr)
    yield held
    for operation in held:
        if operation.pending:
            settle(operation, FAILED)


def sent(engine: FileStore) -> list[Record]:
    """What is sent to the journal from now on, and does get there."""
    records: list[Record] = []
    change_what_is_submitted(engine, lambda operation: records.extend(operation.records))
    return records


async def until(held: list[Operation], number: int) -> None:
    while len(held) < number:
        await asyncio.sleep(0)


def settle(operation: Operation, error: StreamError | None = None) -> None:
    if error is None:
        operation.durable()
    else:
        operation.undo()
    operation.settle(error)


async def test_a_stream_without_forks_is_one_record_and_missing(engine: FileStore) -> None:
    stream = await engine._find(("s",))
    records = sent(engine)
    await engine.delete(("s",))
    assert [(type(record), record.path, record.id) for record in records] == [
        (DeleteRecord, "s", stream.id)
    ]
    with pytest.raises(StreamNotFound):
        await engine.head(("s",))


async def test_a_stream_with_a_fork_is_a_sidecar_and_gone(engine: FileStore) -> None:
    await fork(engine, "fork", "s")
    records = sent(engine)
    await engine.delete(("s",))
    (record,) = records
    assert isinstance(record, SidecarRecord)
    assert sidecar_format.unpack(record.sidecar).soft_deleted
    with pytest.raises(StreamGone):
        await engine.head(("s",))
    assert await content(engine, "fork") == b"one."


async def test_the_last_fork_takes_its_sources_along_in_their_order(engine: FileStore) -> None:
    await fork(engine, "fork", "s")
    await fork(engine, "fork/fork", "fork")
    ids = {
        path: (await engine._find(parse_path_text(path))).id for path in ("s", "fork", "fork/fork")
    }
    await engine.delete(("s",))
    await engine.delete(("fork",))
    records = sent(engine)
    await engine.delete(("fork", "fork"))
    assert {type(record) for record in records} == {DeleteRecord}
    assert [(record.path, record.id) for record in records] == [
        (path, ids[path]) for path in ("fork/fork", "fork", "s")
    ]


async def test_a_source_that_nobody_deleted_stays(engine: FileStore) -> None:
    await fork(engine, "fork", "s")
    records = sent(engine)
    await engine.delete(("fork",))
    assert [record.path for record in records] == ["fork"]
    assert await content(engine, "s") == b"one."


async def test_another_stream_at_a_fork_s_path_does_not_keep_the_source(engine: FileStore) -> None:
    await fork(engine, "fork", "s")
    await engine.delete(("fork",))
    await put(engine, "fork")
    await engine.delete(("s",))
    with pytest.raises(StreamNotFound):
        await engine.head(("s",))


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_who_looks_for_a_stream_waits_until_its_deletion_is_durable(
    engine: FileStore, held: list[Operation]
) -> None:
    stream = await engine.open(("s",))
    deleting = asyncio.ensure_future(engine.delete(("s",)))
    await until(held, 1)
    (operation,) = held
    assert isinstance(operation, DeleteOperation)
    looking = asyncio.ensure_future(engine.head(("s",)))
    await turns()
    assert not deleting.done()
    assert not looking.done()
    chunk = engine.read_now(stream, Start.BEGINNING)  # who had it open reads on
    assert chunk is not None
    assert await engine.bytes_of(chunk) == b"one."
    settle(operation)
    await deleting
    with pytest.raises(StreamNotFound):
        await looking
    with pytest.raises(StreamNotFound):
        engine.read_now(stream, Start.BEGINNING)


async def test_a_deletion_that_was_not_stored_leaves_the_stream_as_it_was(
    engine: FileStore, held: list[Operation], monkeypatch: pytest.MonkeyPatch
) -> None:
    deleting = asyncio.ensure_future(engine.delete(("s",)))
    await until(held, 1)
    settle(held[0], FAILED)
    with pytest.raises(WriteFailed):
        await deleting
    monkeypatch.undo()
    assert await content(engine, "s") == b"one."
    await engine.delete(("s",))
    with pytest.raises(StreamNotFound):
        await engine.head(("s",))


async def test_a_second_deletion_is_answered_when_the_first_is_durable(
    engine: FileStore, held: list[Operation]
) -> None:
    deletions = [asyncio.ensure_future(engine.delete(("s",))) for _ in range(2)]
    await until(held, 1)
    await turns()
    assert len(held) == 1
    assert not deletions[1].done()
    settle(held[0])
    first, second = await asyncio.gather(*deletions, return_exceptions=True)
    assert first is None
    assert isinstance(second, StreamNotFound)


async def test_a_deletion_that_comes_later_is_one_of_its_own_if_the_first_was_not_stored(
    engine: FileStore, held: list[Operation]
) -> None:
    first = asyncio.ensure_future(engine.delete(("s",)))
    await until(held, 1)
    second = asyncio.ensure_future(engine.delete(("s",)))
    await turns()
    settle(held[0], FAILED)
    with pytest.raises(WriteFailed):
        await first
    await until(held, 2)
    settle(held[1])
    await second


async def test_a_soft_deletion_that_was_not_stored_is_none(
    engine: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fork(engine, "fork", "s")
    held = hold_back_what_is_submitted(engine, monkeypatch.setattr)  # from here on
    deleting = asyncio.ensure_future(engine.delete(("s",)))
    await until(held, 1)
    (operation,) = held
    assert isinstance(operation, SidecarOperation)
    settle(operation, FAILED)
    with pytest.raises(WriteFailed):
        await deleting
    monkeypatch.undo()
    with pytest.raises(StreamExists):
        await engine.create(Create(("s",), "text/plain"), b"")
    assert await content(engine, "s") == b"one."
