"""What verify and dump know of a stream's producers: format 1, format 2, and who was forgotten."""

import asyncio
import shutil
from pathlib import Path

import pytest

import durable_streams
from durable_streams import ProducerClaim, Settings
from durable_streams.filestore.files import names
from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.files.stream_files import load
from durable_streams.filestore.format.index import unpack_opening
from durable_streams.maintenance.dump import dump
from durable_streams.maintenance.findings import Finding, Level
from durable_streams.maintenance.verify import verify
from durable_streams.rules.producers import ProducerState
from tests.filestore.files.history import ID, TIME_MS, History, sealed
from tests.filestore.files.test_golden import GOLDEN


def written(home: Path, *histories: History) -> None:
    """What each history has in its last segment."""
    for history in histories:
        number = history.segment
        (home / names.segment_file(number, ID)).write_bytes(history.segments[number])
        (home / names.index_file(number, ID)).write_bytes(history.index)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Two segments of format 1, of ``p`` and ``q``; two of format 2, with ``r`` for the latter."""
    home = tmp_path / "s@"
    home.mkdir()
    history = History(version=1)
    (home / names.SIDECAR).write_bytes(history.create(b"one.").sidecar)
    history.append(b"two.", producer=ProducerClaim("p", 1, 0), time_ms=TIME_MS + 1)
    history.append(b"two.", producer=ProducerClaim("q", 1, 0), time_ms=TIME_MS + 2)
    written(home, history)
    history.append(b"three.", roll=True, producer=ProducerClaim("p", 1, 1), time_ms=TIME_MS + 3)
    written(home, history)
    loaded = load(Disk(), home)
    assert loaded is not None
    history.producers, history.version = loaded.producers, 2
    history.append(b"four.", roll=True, time_ms=TIME_MS + 4)
    producer = ProducerClaim("r", 0, 0)
    history.append(b"five.", producer=producer, forgot=["q"], time_ms=TIME_MS + 5)
    written(home, history)
    history.append(b"six.", roll=True, time_ms=TIME_MS + 6)
    written(home, history)
    return home


def findings_of(directory: Path) -> list[Finding]:
    findings: list[Finding] = []
    verify(directory, findings.append)
    return findings


def test_a_stream_that_began_in_format_1_and_forgot_a_producer_is_sound(home: Path) -> None:
    assert findings_of(home) == []
    loaded = load(Disk(), home)
    assert loaded is not None
    assert loaded.producers == {
        "p": ProducerState(1, 1, TIME_MS + 3),
        "r": ProducerState(0, 0, TIME_MS + 5),
    }


@pytest.mark.parametrize(
    ("number", "was", "forged"),
    [(1, b'"q":[1,0]', b'"q":[1,9]'), (2, b'"q":[1,0,', b'"q":[1,0,9'), (3, b'"r"', b'"q"')],
    ids=["format 1, another number", "format 2, another time", "format 2, one that was forgotten"],
)
def test_an_opening_that_says_something_else_of_producers_is_told(
    home: Path, number: int, was: bytes, forged: bytes
) -> None:
    """As somebody would write it who makes the checksums right."""
    index = home / names.index_file(number, ID)
    opening = index.read_bytes().splitlines()[0]
    head = opening[: opening.rindex(b',"chain"')]
    assert was in head
    continues = bytes.fromhex(unpack_opening(opening)[0].continues)
    index.write_bytes(sealed(continues, head.replace(was, forged))[0])
    for later in range(number + 1, 4):
        for kind in (names.index_file, names.segment_file):
            (home / kind(later, ID)).unlink()
    told = [finding for finding in findings_of(home) if finding.level is Level.WARNING]
    assert [finding.text for finding in told] == ["its producers are not those of the lines before"]


async def test_a_directory_of_format_1_goes_on_in_format_2(tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(GOLDEN, data)
    claim = ProducerClaim("q", 0, 0)
    async with durable_streams.open(data, Settings(segment_bytes=20)) as streams:
        await streams.append("bytes", b"more.", producer=claim)
    async with durable_streams.open(data, Settings(segment_bytes=1)) as streams:
        assert (await streams.append("bytes", b"more.", producer=claim)).duplicate
        assert (await streams.append("bytes", b"x", producer=ProducerClaim("p", 0, 1))).duplicate
        await streams.append("bytes", b"most.")
    indexes = sorted((data / "streams" / names.directory_of(("bytes",))).glob("*.idx"))
    openings = [unpack_opening(path.read_bytes().splitlines()[0])[0] for path in indexes]
    assert [opening.index for opening in openings] == [1, 1, 2, 2]
    assert openings[2].producers == {"p": ProducerState(0, 1, 1795484761979)}
    assert list(openings[3].producers) == ["p", "q"]
    found = await asyncio.to_thread(findings_of, data)
    assert [finding for finding in found if finding.level is not Level.TORN] == []


def test_dump_says_who_is_known_since_when_and_who_was_forgotten(home: Path) -> None:
    told = list(dump(home))
    assert f"producer 'p': epoch 1, sequence 1, time {TIME_MS + 3}" in told
    assert not any("producer 'q'" in line for line in told)
    lines = list(dump(home / names.index_file(2, ID)))
    assert lines[0].endswith("2 producers")
    assert lines[2].endswith(f"time {TIME_MS + 5}, forgot ['q'], producer ('r', 0, 0)")
