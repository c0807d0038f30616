"""Records of an append with very many messages: each page looks into its own bytes."""

from __future__ import annotations

import sys
import tracemalloc
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.store import FileStore
from durable_streams.model.commands import Append, Create, Last, Place
from durable_streams.model.offsets import Offset, Start
from durable_streams.model.paths import parse_path_text
from durable_streams.rules.json_marks import STEP_BYTES, Mark, Marks, marks_among
from durable_streams.settings import KIB, MIB, Settings
from tests.filestore.engine.faulty import DEFAULT

if TYPE_CHECKING:
    from pathlib import Path

    from durable_streams.filestore.tuning import Tuning
    from durable_streams.model.records import Record

JSON: Final = "application/json"
S: Final = parse_path_text("s")
LARGE: Final = Settings(max_append_bytes=16 * MIB)
PAGE_BYTES: Final = 64 * KIB
"""What a page of short messages reads at most, its lines of the index included."""


class CountingDisk(Disk):
    """Counts what is read."""

    def __init__(self) -> None:
        self.read_bytes = 0

    def pread(self, fd: int, size: int, position: int) -> bytes:
        data = super().pread(fd, size, position)
        self.read_bytes += len(data)
        return data


async def holding(
    data: Path, disk: Disk, *bodies: bytes, settings: Settings = LARGE, tuning: Tuning = DEFAULT
) -> FileStore:
    """A store with a stream of these appends."""
    engine = await FileStore.at(data, settings, disk, tuning=tuning)
    await engine.create(Create(S, JSON), b"")
    for body in bodies:
        await engine.append(Append(S, JSON), body)
    return engine


async def paged(
    engine: FileStore,
    disk: CountingDisk,
    limit: int,
    place: Place = Start.BEGINNING,
    pages: int = sys.maxsize,
) -> tuple[list[Record], list[int]]:
    """The records from a place on, page by page, and what each page has read."""
    found: list[Record] = []
    took: list[int] = []
    while True:
        before = disk.read_bytes
        page = await engine.records(S, place, limit)
        took.append(disk.read_bytes - before)
        found += page.records
        if page.at_tail or len(took) == pages:
            return found, took
        place = page.next


def numbered(count: int) -> bytes:
    return b"[%s]" % b",".join(b"%d" % number for number in range(count))


async def test_pages_of_a_million_messages_read_a_bounded_piece_each(data: Path) -> None:
    disk = CountingDisk()
    engine = await holding(data, disk, b"[%s]" % b",".join([b"1"] * 1_000_000))
    for place in (Start.BEGINNING, Offset(0, 1_900_000)):
        found, took = await paged(engine, disk, 100, place, pages=150)
        begin = 0 if isinstance(place, Start) else place.position
        assert [record.end.position - begin for record in found] == [*range(2, 30_002, 2)]
        assert len(took) == 150
        assert max(took[1:]) <= PAGE_BYTES  # the first has to find its place, once
        again, took = await paged(engine, disk, 100, place, pages=2)
        assert again == found[:200]
        assert max(took) <= PAGE_BYTES
    await engine.close()


async def test_the_last_ones_are_looked_for_from_the_beginning_once(data: Path) -> None:
    disk = CountingDisk()
    engine = await holding(data, disk, numbered(100_000))
    expected, _ = await paged(engine, disk, 1000)
    await engine.close()
    engine = await FileStore.at(data, LARGE, disk)
    for number in range(3):
        before = disk.read_bytes
        page = await engine.records(S, Last(10), 10)
        assert page.records == expected[-10:]
        assert (disk.read_bytes - before <= PAGE_BYTES) == (number > 0)
    await engine.close()


async def test_records_are_the_same_wherever_a_page_begins(data: Path) -> None:
    """Messages of all sizes, so that marks, slices and pages end at different places."""
    disk = CountingDisk()
    sizes = [1, 7, 300, 5000, 9 * KIB, 2, 20 * KIB, 3] * 40
    body = b"[%s]" % b",".join(b'"%s"' % (b"x" * size) for size in sizes)
    engine = await holding(data, disk, b"[1,2]", body, b"[3,4,5]")
    expected, _ = await paged(engine, disk, 1000)
    assert len(expected) == len(sizes) + 5
    for limit in (7, 64, 100):
        assert (await paged(engine, disk, limit))[0] == expected
    for number in (*range(0, len(expected), 23), len(expected) - 1):
        for place in (expected[number].start, Offset(0, expected[number].end.position - 1)):
            page = await engine.records(S, place, 5)
            assert page.records == expected[number : number + 5]
        page = await engine.records(S, Last(len(expected) - number), 5)
        assert page.records == expected[number : number + 5]
    await engine.close()


async def test_what_is_forgotten_of_an_append_is_gone_through_again(data: Path) -> None:
    disk = CountingDisk()
    small = replace(DEFAULT, marks_bytes=1)
    engine = await holding(data, disk, numbered(20_000), tuning=small)
    found, took = await paged(engine, disk, 1000)
    assert [record.size_bytes for record in found] == [len(f"{n}") for n in range(20_000)]
    assert max(took) > PAGE_BYTES
    await engine.close()


def test_marks_stay_within_their_bound_and_those_asked_for_last_stay() -> None:
    marks = Marks(10_000)
    appends = [("id", 0, number * MIB, f"{number}") for number in range(50)]
    for append in appends:
        begin = Mark(append[2], 0)
        ends = range(append[2] + 100, append[2] + 40 * STEP_BYTES, 100)
        marks.keep(append, begin, marks_among(ends, begin, 0))
        assert marks._bytes <= 10_000
        assert marks.before(append, ends[-1], 0).position > append[2] + 38 * STEP_BYTES
    assert marks.before(appends[0], appends[0][2] + MIB, 0) == Mark(appends[0][2], 0)
    assert marks.before(("id", 0, 49 * MIB, "other"), 50 * MIB, 0).messages == 0
    last = appends[-1]
    by_position = marks.before(last, last[2] + 5 * STEP_BYTES + 99, 0)
    assert by_position == marks.before(last, 0, by_position.messages)
    assert (by_position.position - last[2]) == 100 * by_position.messages


def test_marks_have_no_gap_where_an_append_was_forgotten_while_it_was_looked_into() -> None:
    marks = Marks(10_000)
    append, begin, middle = ("id", 0, 0, "x"), Mark(0, 0), Mark(5 * STEP_BYTES, 500)
    marks.keep(append, middle, [Mark(6 * STEP_BYTES, 600)])
    assert marks.before(append, 7 * STEP_BYTES, 0) == begin
    marks.keep(append, begin, [Mark(STEP_BYTES, 100), middle])
    marks.keep(append, middle, [Mark(6 * STEP_BYTES, 600)])
    assert marks.before(append, 2 * STEP_BYTES, 0) == Mark(STEP_BYTES, 100)
    assert marks.before(append, 7 * STEP_BYTES, 0) == Mark(6 * STEP_BYTES, 600)


def test_short_appends_push_no_marks_out() -> None:
    marks = Marks(2000)
    large = ("id", 0, 0, "large")
    marks.keep(large, Mark(0, 0), marks_among(range(100, 2 * STEP_BYTES, 100), Mark(0, 0), 0))
    for number in range(100):
        begin = number * MIB
        short, at = ("id", 1, begin, f"{number}"), Mark(begin, 0)
        marks.keep(short, at, marks_among(range(begin + 2, begin + 2000, 2), at, 0))
    assert marks.before(large, 2 * STEP_BYTES, 0).messages > 0


def test_an_append_takes_what_is_said_of_it() -> None:
    marks = Marks(sys.maxsize)
    tracemalloc.start()
    try:
        for number in range(1000):
            begin = number * 10_007
            append = (f"{number:032x}", 1000 + number, begin, f"{number:016x}")
            marks.keep(append, Mark(begin, 0), [Mark(begin + STEP_BYTES, 1000)])
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert marks._bytes / 2 < taken < 1.2 * marks._bytes
