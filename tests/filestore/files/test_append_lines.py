"""Appends are found in indexes of any size by reading little of them, and are the right ones."""

from __future__ import annotations

import tracemalloc
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from durable_streams.filestore.files import names
from durable_streams.filestore.files.append_lines import AppendLines, Found, Spot, records_in
from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.files.segments import Segments
from durable_streams.filestore.format.index import (
    BadLine,
    Tail,
    pack_line,
    pack_opening,
    root_of,
)
from durable_streams.model.commands import ProducerClaim
from durable_streams.model.offsets import Offset
from durable_streams.rules.producers import ProducerState
from durable_streams.settings import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

STREAM_ID: Final = "0123456789abcdef01234567"
FIRST: Final = 3


class CountingDisk(Disk):
    """``read_bytes``: of files, so far."""

    def __init__(self) -> None:
        super().__init__()
        self.read_bytes = 0

    def pread(self, fd: int, size: int, position: int) -> bytes:
        data = super().pread(fd, size, position)
        self.read_bytes += len(data)
        return data


class Made(NamedTuple):
    """An append to be: its size, messages and time, and whether a segment begins with it."""

    size: int
    messages: int
    time_ms: int
    begins: bool = False


def written(
    directory: Path,
    appends: Iterable[Made],
    *,
    producers: int = 0,
    claims: bool = False,
    disk: Disk | None = None,
) -> AppendLines:
    """The indexes of a stream with these appends; ``producers``: so many in each first line."""
    known = {f"producer-{number}": ProducerState(0, number, 5) for number in range(producers)}
    chain, segments, previous = root_of(STREAM_ID), Segments(Offset(FIRST, 0)), None
    end, lines, position, segment = 0, bytearray(), 0, FIRST

    def write() -> None:
        (directory / names.index_file(segment, STREAM_ID)).write_bytes(lines)

    for number, append in enumerate(appends):
        if append.begins and position:
            write()
            segments, previous = segments.sealed(end, chain), (end, position)
            end, lines, position, segment = 0, bytearray(), 0, segment + 1
        if not lines:
            opening, chain = pack_opening(chain, segment, previous, known, None)
            lines += opening
        end += append.size
        claim = ProducerClaim(chr(number % 7) * 256, 1, number) if claims else None
        line, chain = pack_line(
            chain,
            end,
            messages=append.messages,
            crc=0,
            time_ms=append.time_ms,
            producer=claim,
            closed=not append.messages,
        )
        lines += line
        position = len(lines)
    if lines:
        write()
    tail = Tail(segment, end, position, chain)
    return AppendLines(disk or Disk(), str(directory), STREAM_ID, segments, tail)


def as_told(appends: Sequence[Made]) -> list[tuple[int, int, int]]:
    """Segment, beginning and end of each append."""
    found, segment, end = [], FIRST, 0
    for number, append in enumerate(appends):
        if append.begins and number:
            segment, end = segment + 1, 0
        found.append((segment, end, end + append.size))
        end += append.size
    return found


def told(found: Iterable[Found]) -> list[tuple[int, int, int]]:
    return [(append.segment, append.begin, append.line.end) for append in found]


_APPENDS = st.lists(
    st.builds(Made, st.integers(1, 9), st.integers(1, 4), st.integers(0, 9), st.booleans()),
    min_size=1,
    max_size=40,
)


@given(appends=_APPENDS, producers=st.sampled_from([0, 1, 3000]), claims=st.booleans())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_each_place_is_found(
    appends: list[Made], producers: int, claims: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    times = sorted(append.time_ms for append in appends)
    appends = [append._replace(time_ms=time) for append, time in zip(appends, times, strict=True)]
    lines = written(tmp_path_factory.mktemp("lines"), appends, producers=producers, claims=claims)
    every = as_told(appends)
    for at, (segment, begin, end) in enumerate(every):
        for position in {begin, end - 1}:
            assert told(lines.behind(lines.holding(segment, position), 10**6)) == every[at:]
    last_segment, _, last_end = every[-1]
    assert told(lines.behind(lines.holding(last_segment, last_end), 9)) == []
    for time_ms in range(11):
        before = sum(append.time_ms < time_ms for append in appends)
        assert told(lines.behind(lines.since(time_ms), 10**6)) == every[before:]
    total = sum(append.messages for append in appends)
    for count in range(1, total + 3):
        spot = lines.last(count)
        rest = list(lines.behind(spot, 10**6))
        assert sum(records_in(append.line) for append in rest) - spot.skip == min(count, total)
        assert told(rest) == every[len(every) - len(rest) :]


def test_a_page_ends_where_it_has_enough(tmp_path: Path) -> None:
    lines = written(tmp_path, [Made(1, 3, 0)] * 10)
    begin = lines.holding(FIRST, 0)
    for records, appends in ((1, 1), (2, 2), (4, 2), (5, 3), (1000, 10)):
        assert len(list(lines.behind(begin, records))) == appends


def test_nothing_is_found_where_nothing_was_written(tmp_path: Path) -> None:
    lines = written(tmp_path, [])
    for spot in (lines.holding(FIRST, 0), lines.since(0), lines.last(5)):
        assert list(lines.behind(spot, 10)) == []


def test_a_close_without_data_is_behind_the_bytes_before_it(tmp_path: Path) -> None:
    lines = written(tmp_path, [Made(5, 1, 0), Made(0, 0, 1)])
    assert told(lines.behind(lines.holding(FIRST, 5), 10)) == [(FIRST, 5, 5)]
    assert told(lines.behind(lines.last(1), 10)) == [(FIRST, 5, 5)]
    assert told(lines.behind(lines.holding(FIRST, 4), 10)) == [(FIRST, 0, 5), (FIRST, 5, 5)]


def test_a_clock_that_was_put_back_leads_to_a_place_all_the_same(tmp_path: Path) -> None:
    times = [*range(100, 200), *range(150), *range(120, 220)]
    appends = [Made(1, 1, time, number % 50 == 0) for number, time in enumerate(times)]
    lines = written(tmp_path, appends)
    for time_ms in range(0, 230, 7):
        found = list(lines.behind(lines.since(time_ms), 10**6))
        assert all(append.line.time >= time_ms for append in found[:1])
    assert list(lines.behind(lines.since(220), 1)) == []


@pytest.mark.parametrize("producers", [0, 20_000])
def test_a_million_appends_take_no_more_than_a_few_pieces(tmp_path: Path, producers: int) -> None:
    """Of an index some 16 KiB at each halving, and the first line of one where that is needed."""
    count, to_a_segment = 1_000_000, 50_000
    disk = CountingDisk()
    lines = written(
        tmp_path,
        (Made(1, 1, number, number % to_a_segment == 0) for number in range(count)),
        producers=producers,
        disk=disk,
    )
    first_line = 2 * len(f'"producer-{producers}":[0,{producers},5],') * producers
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert sum(sizes) > 80 * MIB
    most = first_line + 768 * KIB
    assert most < min(sizes)

    def first_time(spot: Callable[[], Spot]) -> int:
        """The time of the first append of a page, which takes little to find."""
        disk.read_bytes = 0
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        found = list(lines.behind(spot(), 1000))
        assert disk.read_bytes < most
        assert tracemalloc.get_traced_memory()[1] - before < 2 * first_line + 4 * MIB
        assert all(a.line.time + 1 == b.line.time for a, b in pairwise(found))
        return found[0].line.time

    tracemalloc.start()
    for at in (0, 1, 49_999, 50_000, 123_456, 777_777, 999_998):
        segment, position = FIRST + at // to_a_segment, at % to_a_segment
        assert first_time(partial(lines.holding, segment, position)) == at
        assert first_time(partial(lines.since, at)) == at
    for last in (1, 2, 777, 1000):
        assert first_time(partial(lines.last, last)) == count - last
    tracemalloc.stop()
    for path in tmp_path.iterdir():  # which are large, and kept otherwise
        path.unlink()


@pytest.mark.parametrize("find", ["holding", "since", "last"])
def test_what_is_no_line_is_said_to_be_none(tmp_path: Path, find: str) -> None:
    lines = written(tmp_path, [Made(1, 1, number) for number in range(50)])
    (path,) = tmp_path.iterdir()
    text = path.read_bytes().split(b"\n")
    text[45] = b"x" * len(text[45])
    path.write_bytes(b"\n".join(text))
    arguments = {"holding": (FIRST, 3), "since": (3,), "last": (40,)}[find]
    with pytest.raises(BadLine):
        list(lines.behind(getattr(lines, find)(*arguments), 100))


@pytest.mark.parametrize("segment", [FIRST, FIRST + 1])
def test_an_index_of_another_age_is_noticed(tmp_path: Path, segment: int) -> None:
    lines = written(tmp_path, [Made(1, 1, 0), Made(1, 1, 0, begins=True), Made(1, 1, 1)])
    path = tmp_path / names.index_file(segment, STREAM_ID)
    path.write_bytes(path.read_bytes().replace(b'"end":1,', b'"end":2,')[:-120])
    with pytest.raises(OSError, match="does not end as what was written to it"):
        list(lines.behind(lines.holding(segment, 0), 10))
