"""Streams are found whatever happens while the disk is looked at."""

import asyncio
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

from durable_streams.filestore.catalog import Catalog
from durable_streams.filestore.files.directory import DataDirectory
from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.files.stream_files import load
from durable_streams.filestore.files.writer import StreamWriter
from durable_streams.filestore.format.journal import AppendRecord, CreateRecord
from durable_streams.filestore.pipeline.outages import Outages
from durable_streams.filestore.streams.stream import Stream
from durable_streams.model.paths import parse_path_text
from tests.filestore.files.history import OTHER_ID, TIME_MS, History


class LateExecutor(Executor):
    """Does its jobs at once and tells of them when it is told to."""

    def __init__(self) -> None:
        self.done: list[tuple[Future[Any], Any]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.done.append((future, fn(*args, **kwargs)))
        return future

    async def tell(self) -> None:
        """Tell of the first job that nobody was told of yet."""
        await turns()
        future, result = self.done.pop(0)
        future.set_result(result)


@pytest.fixture(autouse=True)
def nothing_blocks_the_loop() -> None:
    """The late executor does its jobs on the loop's thread."""


@pytest.fixture
def directory(tmp_path: Path) -> DataDirectory:
    return DataDirectory.open(Disk(), tmp_path / "data")


@pytest.fixture
def executor() -> LateExecutor:
    return LateExecutor()


async def turns() -> None:
    """Let everything on the loop happen that can."""
    for _ in range(20):
        await asyncio.sleep(0)


def in_files(directory: DataDirectory, *records: CreateRecord | AppendRecord) -> None:
    writer = StreamWriter(directory, 64)
    for record in records:
        if isinstance(record, CreateRecord):
            writer.create(record)
        else:
            writer.append(record, record.data, record.index)
    writer.close()


def opened(directory: DataDirectory, path: str) -> Stream:
    loaded = load(directory.disk, directory.stream_directory(parse_path_text(path)))
    assert loaded is not None
    return Stream(parse_path_text(path), loaded, TIME_MS)


async def searching(
    catalog: Catalog, executor: LateExecutor, *, likely: bool = True
) -> asyncio.Task[Stream | None]:
    """Somebody looks for ``s``; the disk was read, and nobody knows what it said."""
    finding = asyncio.create_task(catalog.find(("s",), likely=likely))
    await turns()
    assert executor.done
    return finding


async def test_a_stream_that_the_cache_drops_before_those_who_wait_for_it_come_back_is_found(
    directory: DataDirectory, executor: LateExecutor
) -> None:
    catalog = Catalog(directory, executor, 1, lambda: TIME_MS, outages=Outages(), verify=False)
    in_files(directory, History().create(b"one."), History("t", OTHER_ID).create())
    finding = await searching(catalog, executor)
    look = catalog._opening[("s",)]
    catalog.add(opened(directory, "s"))
    look.add_done_callback(lambda _: catalog.add(opened(directory, "t")))

    await executor.tell()

    found = await finding
    assert found is not None
    assert found.path == ("s",)
    directory.close()


async def test_what_was_read_before_a_stream_was_opened_by_somebody_else_is_not_used(
    directory: DataDirectory, executor: LateExecutor
) -> None:
    catalog = Catalog(directory, executor, 1, lambda: TIME_MS, outages=Outages(), verify=False)
    history = History()
    in_files(directory, history.create(b"one."), History("t", OTHER_ID).create())
    finding = await searching(catalog, executor)
    catalog.add(opened(directory, "s"))
    in_files(directory, history.append(b"two."))
    catalog.add(opened(directory, "t"))  # in the place of the other

    await executor.tell()
    await executor.tell()

    found = await finding
    assert found is not None
    assert found.durable.position == len(b"one.two.")
    directory.close()


async def test_a_stream_that_came_while_the_disk_said_there_was_none_is_found(
    directory: DataDirectory, executor: LateExecutor
) -> None:
    catalog = Catalog(directory, executor, 1, lambda: TIME_MS, outages=Outages(), verify=False)
    in_files(directory, History("t", OTHER_ID).create())
    finding = await searching(catalog, executor, likely=False)
    in_files(directory, History().create(b"one."))
    catalog.add(opened(directory, "s"))
    catalog.add(opened(directory, "t"))  # in the place of the other

    await executor.tell()  # nothing is there
    await executor.tell()

    found = await finding
    assert found is not None
    assert found.durable.position == len(b"one.")
    assert not catalog._asked
    directory.close()


async def test_a_stream_that_came_and_left_the_cache_before_others_ask_is_found_by_the_first(
    directory: DataDirectory, executor: LateExecutor
) -> None:
    catalog = Catalog(directory, executor, 1, lambda: TIME_MS, outages=Outages(), verify=False)
    in_files(directory, History("t", OTHER_ID).create())
    first = await searching(catalog, executor, likely=False)
    in_files(directory, History().create(b"one."))
    catalog.add(opened(directory, "s"))
    catalog.add(opened(directory, "t"))  # in the place of the other
    second = await searching(catalog, executor, likely=False)

    while executor.done:
        await executor.tell()
        await turns()

    assert await first is await second is not None
    directory.close()


async def test_a_stream_that_comes_when_the_disk_has_just_said_that_there_is_none_is_found(
    directory: DataDirectory, executor: LateExecutor
) -> None:
    catalog = Catalog(directory, executor, 9, lambda: TIME_MS, outages=Outages(), verify=False)
    finding = await searching(catalog, executor)
    look = catalog._opening[("s",)]
    in_files(directory, History().create(b"one."))
    stream = opened(directory, "s")
    look.add_done_callback(lambda _: catalog.add(stream))

    await executor.tell()

    assert await finding is stream
    directory.close()


async def test_those_who_ask_for_nothing_in_one_turn_share_a_look(
    directory: DataDirectory, executor: LateExecutor
) -> None:
    catalog = Catalog(directory, executor, 9, lambda: TIME_MS, outages=Outages(), verify=False)
    in_files(directory, History().create(b"one."))
    finding = [asyncio.create_task(catalog.find((path,), likely=False)) for path in "sab"]
    await executor.tell()  # what is at the three of them
    await executor.tell()  # what "s" holds
    found = [await task for task in finding]
    assert [stream and stream.path for stream in found] == [("s",), None, None]
    assert not executor.done
    directory.close()
