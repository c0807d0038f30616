"""Records are the same wherever the lines are by now: on their way, in segments, after a start."""

from __future__ import annotations

import asyncio
import errno
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.filestore.store import FileStore
from durable_streams.filestore.tuning import Tuning
from durable_streams.model.commands import Append, Create, ForkRequest, Last, Place, ProducerClaim
from durable_streams.model.details import StreamDetails
from durable_streams.model.errors import (
    NotOpen,
    Overloaded,
    StreamDamaged,
    StreamError,
    StreamOutOfService,
)
from durable_streams.model.offsets import Start
from durable_streams.model.paths import parse_path_text
from durable_streams.model.results import UnusableRow
from tests.copying import copy_live
from tests.driving import append, directory, fork, put
from tests.filestore.engine.faulty import IMPATIENT, SMALL_JOURNAL
from tools.inside import back_in_service, checkpoint, in_files, out_of_service

if TYPE_CHECKING:
    from pathlib import Path

    from durable_streams.model.records import Record
    from tests.filestore.files.staged_disk import StagedDisk

SHORT: Final = replace(SMALL_JOURNAL, segment_bytes=200)
JSON: Final = "application/json"
S: Final = parse_path_text("s")


async def all_records(engine: FileStore, path: str = "s", limit: int = 3) -> list[Record]:
    """All of a stream, page by page."""
    found: list[Record] = []
    place: Place = Start.BEGINNING
    while True:
        page = await engine.records(parse_path_text(path), place, limit)
        found += page.records
        if page.at_tail:
            return found
        place = page.next


async def filled(engine: FileStore) -> list[bytes]:
    """Make a stream of several segments; its messages."""
    await engine.create(Create(S, JSON), b"")
    messages: list[bytes] = []
    for number in range(30):
        parts = range(number % 4 + 1)
        batch = [b'{"n":%d,"s":"%s"}' % (number, b'],\\"[' * part) for part in parts]
        messages += batch
        claim = None if number % 2 else ProducerClaim("p", 0, number // 2)
        await engine.append(Append(S, JSON, producer=claim), b"[%s]" % b",".join(batch))
    await engine.append(Append(S, JSON, close=True), b"")
    return messages


async def test_all_that_was_acknowledged_is_told_and_still_after_a_start(data: Path) -> None:
    engine = await FileStore.at(data, SHORT)
    messages = await filled(engine)
    before = await all_records(engine)
    assert [record.size_bytes for record in before] == [*map(len, messages), 0]
    assert before[-1].closed
    assert len({record.end.segment for record in before}) > 5
    await checkpoint(engine)
    assert await all_records(engine, limit=7) == before
    image = copy_live(data, data.parent / "image")
    await engine.close()
    for place in (data, image):
        engine = await FileStore.at(place, SHORT)
        assert await all_records(engine, limit=1) == before
        for last in (1, 2, 3, 17, len(before)):
            page = await engine.records(S, Last(last), 1000)
            assert page.records == before[-last:]
        await engine.close()


async def test_what_a_crash_left_in_the_journal_is_told(data: Path, disk: StagedDisk) -> None:
    """Not a line is in the stream's files when the process dies."""
    engine = await FileStore.at(data, SHORT, disk)
    await put(engine, "s", b"first")
    await in_files(engine, "s")
    gate = disk.hold("pwrite", "data/streams/s@")
    await append(engine, "s", b"second")
    await append(engine, "s", b"third")
    image = copy_live(data, data.parent / "image")
    gate.open()
    before = await all_records(engine)
    await engine.close()
    recovered = await FileStore.at(image, SHORT)
    assert await all_records(recovered) == before
    assert [record.size_bytes for record in before] == [5, 6, 5]
    await recovered.close()


async def test_whoever_asks_waits_for_the_files_and_gets_what_is_durable(
    data: Path, disk: StagedDisk
) -> None:
    engine = await FileStore.at(data, SHORT, disk)
    await put(engine, "s", b"first")
    await in_files(engine, "s")
    gate = disk.hold("pwrite", "data/streams/s@")
    await append(engine, "s", b"second")
    await engine.append(Append(S, None, close=True), b"")
    asked = asyncio.ensure_future(engine.records(S, Start.BEGINNING, 10))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not asked.done()
    gate.open()
    page = await asked
    assert [record.size_bytes for record in page.records] == [5, 6, 0]
    assert (page.at_tail, page.closed) == (True, True)
    await engine.close()


async def test_nobody_waits_for_ever_for_files_that_stay_behind(
    data: Path, disk: StagedDisk
) -> None:
    engine = await FileStore.at(data, IMPATIENT, disk)
    await put(engine, "s", b"first")
    await in_files(engine, "s")
    gate = disk.hold("pwrite", "data/streams/s@")
    await append(engine, "s", b"second")
    with pytest.raises(Overloaded):
        await engine.records(S, Start.BEGINNING, 10)
    found = await engine.details(S)
    assert isinstance(found, StreamDetails)
    assert found.row.size_bytes == 11
    gate.open()
    assert len(await all_records(engine)) == 2
    await engine.close()


async def test_details_wait_for_what_is_on_its_way_to_the_journal(
    data: Path, disk: StagedDisk
) -> None:
    engine = await FileStore.at(data, SMALL_JOURNAL, disk)
    await put(engine, "s", b"first")
    gate = disk.hold("sync", "journal")
    claim = ProducerClaim("p", 0, 0)
    command = Append(S, "application/octet-stream", producer=claim)
    writing = asyncio.ensure_future(engine.append(command, b"second"))
    await asyncio.sleep(0)
    asked = asyncio.ensure_future(engine.details(S))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not asked.done()
    gate.open()
    await writing
    found = await asked
    assert isinstance(found, StreamDetails)
    assert (found.producers, found.row.size_bytes) == (1, 11)
    await engine.close()


async def test_details_of_a_stream_out_of_service_say_why(data: Path, disk: StagedDisk) -> None:
    engine = await FileStore.at(data, SMALL_JOURNAL, disk)
    await put(engine, "s", b"first")
    await in_files(engine, "s")
    disk.fail("pwrite", errno.EIO, "data/streams/s@")
    await append(engine, "s", b"second")
    await out_of_service(engine, "s")
    found = await engine.details(S)
    assert isinstance(found, UnusableRow)
    assert "out of service" in found.reason
    disk.heal()
    await back_in_service(engine, "s")
    assert isinstance(await engine.details(S), StreamDetails)
    await engine.close()


async def test_of_a_stream_out_of_service_the_reason_is_told(data: Path, disk: StagedDisk) -> None:
    engine = await FileStore.at(data, SHORT, disk)
    await put(engine, "s", b"first")
    await in_files(engine, "s")
    disk.fail("pwrite", errno.EIO, "data/streams/s@")
    await append(engine, "s", b"second")
    with pytest.raises(StreamOutOfService):
        await engine.records(S, Start.BEGINNING, 10)
    await out_of_service(engine, "s")
    with pytest.raises(StreamOutOfService):
        await engine.records(S, Start.BEGINNING, 10)
    disk.heal()
    await back_in_service(engine, "s")
    assert [record.size_bytes for record in await all_records(engine)] == [5, 6]
    await engine.close()


async def test_a_fork_of_several_segments_has_what_its_source_had(data: Path) -> None:
    engine = await FileStore.at(data, SHORT)
    await filled(engine)
    source = await all_records(engine)
    middle = source[len(source) // 2].end
    await engine.create(Create(parse_path_text("f"), fork=ForkRequest(S, middle)), b"")
    found = await all_records(engine, "f")
    inherited = source[: len(source) // 2 + 1]
    assert [(r.start, r.end, r.time_ms) for r in found] == [
        (r.start, r.end, r.time_ms) for r in inherited
    ]
    sealed = [record for record in inherited if record.end.segment < middle.segment]
    assert found[: len(sealed)] == sealed
    await engine.delete(S)
    assert await all_records(engine, "f") == found
    await engine.close()


async def test_damaged_lines_are_not_passed_over(data: Path) -> None:
    engine = await FileStore.at(data, SHORT)
    for size in (1, 2, 3):
        await (put if size == 1 else append)(engine, "s", b"x" * size)
    await in_files(engine, "s")
    (index,) = directory(data, "s").glob("*.idx")
    text = index.read_bytes()
    index.write_bytes(text.replace(b'"end":3,', b'"end":3.'))
    with pytest.raises(StreamDamaged, match="no line of an append at"):
        await engine.records(S, Start.BEGINNING, 10)
    index.write_bytes(text[:-9])
    with pytest.raises(StreamError, match="does not end as what was written to it"):
        await engine.records(S, Start.BEGINNING, 10)
    index.unlink()
    with pytest.raises(StreamDamaged, match="is missing"):
        await engine.records(S, Start.BEGINNING, 10)
    index.write_bytes(text)
    assert [record.size_bytes for record in await all_records(engine)] == [1, 2, 3]
    await engine.close()


async def test_a_page_looks_into_so_many_bytes_and_ends_early(data: Path) -> None:
    engine = await FileStore.at(data, SMALL_JOURNAL, tuning=Tuning(looked_into_bytes=2000))
    await engine.create(Create(S, JSON), b"")
    body = json.dumps(["x" * 300] * 4).encode()
    for _ in range(5):
        await engine.append(Append(S, JSON), body)
    page = await engine.records(S, Start.BEGINNING, 1000)
    assert (len(page.records), page.at_tail) == (4, False)
    assert len(await all_records(engine, limit=1000)) == 20
    assert len(await all_records(engine, limit=3)) == 20
    await engine.close()


async def test_after_the_end_nothing_is_told(data: Path) -> None:
    engine = await FileStore.at(data, SHORT)
    await put(engine, "s", b"first")
    await fork(engine, "f", "s")
    engine.drain()
    assert len(await all_records(engine)) == 1
    await engine.close()
    with pytest.raises(NotOpen):
        await engine.records(S, Start.BEGINNING, 1)
