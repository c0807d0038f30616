"""Garbage and mutated bytes on the disk: only documented errors, and nobody else is harmed."""

from __future__ import annotations

import asyncio
import logging
import random
import shutil
import struct
import tempfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams.filestore.files import names
from durable_streams.filestore.files.directory import Layout
from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.files.journal_reader import JournalContent, read_journal
from durable_streams.filestore.files.stream_files import DamagedFiles, load
from durable_streams.filestore.format import journal as fmt
from durable_streams.filestore.store import FileStore
from durable_streams.maintenance.dump import NotDumpable, dump
from durable_streams.maintenance.verify import verify
from durable_streams.model.commands import Append, Create, ProducerClaim
from durable_streams.model.errors import DataDirectoryError, StreamDamaged, StreamError
from durable_streams.model.offsets import Offset, Start
from durable_streams.model.paths import parse_path_text
from durable_streams.settings import MIB, Settings
from tests.copying import copy_live
from tools.inside import in_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hypothesis.strategies import SearchStrategy

TEXT: Final = "text/plain"
SETTINGS: Final = Settings(
    max_append_bytes=4096, segment_bytes=200, index_bytes=2000, journal_file_bytes=MIB + 8192
)
RECORDS: Final[list[fmt.Record]] = [
    fmt.AppendRecord("a", "1" * 24, 0, 0, 0, b"\0" * 8, b"line\n", b"data"),
    fmt.SidecarRecord("b", "2" * 24, 7, b"{}"),
    fmt.DeleteRecord("c", "3" * 24),
]
HEADER: Final = fmt.FileHeader(3, 1, 99)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Every mutation is reported."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def journal_file(batches: int = 3) -> bytes:
    """A whole journal file."""
    payload = fmt.pack_records(RECORDS)
    written = [
        b"".join(fmt.pack_batch(HEADER, n, n - 1, 0, payload)) for n in range(1, batches + 1)
    ]
    return fmt.pack_header(HEADER) + b"".join(written) + bytes(200)


Mutation = tuple[int, bytes, int]
MUTATIONS: Final[SearchStrategy[list[Mutation]]] = st.lists(
    st.tuples(st.integers(0, 1 << 16), st.binary(max_size=8), st.integers(0, 8)),
    min_size=1,
    max_size=4,
)


def mutated(data: bytes, mutations: list[Mutation]) -> bytes:
    """Some bytes replaced, put in or left out."""
    for where, fresh, drop in mutations:
        at = where % (len(data) + 1)
        data = data[:at] + fresh + data[at + drop :]
    return data


# -- the journal ---------------------------------------------------------------------------


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_journal(data: bytes) -> None:
    assert fmt.unpack_header(data) is None
    view = memoryview(data)
    for position in range(0, len(data), 7):
        assert fmt.unpack_batch(view, position, HEADER) is None


@given(MUTATIONS)
def test_a_mutated_header_is_told_from_the_one_written(mutations: list[Mutation]) -> None:
    packed = fmt.pack_header(HEADER)
    data = mutated(packed, mutations)
    assert fmt.unpack_header(data) == (HEADER if data[: len(packed)] == packed else None)


@given(st.binary(max_size=300) | st.just(b"".join(fmt.pack_records(RECORDS))), MUTATIONS)
def test_a_payload_holds_records_or_is_a_value_error(
    payload: bytes, mutations: list[Mutation]
) -> None:
    try:
        records = fmt.unpack_records(mutated(payload, mutations))
    except ValueError:
        return
    assert all(isinstance(record.path, str) for record in records)


@given(MUTATIONS)
def test_of_a_mutated_journal_only_what_was_written_is_read(mutations: list[Mutation]) -> None:
    payload = b"".join(fmt.pack_records(RECORDS))
    with tempfile.TemporaryDirectory() as place:
        layout = Layout(Disk(), Path(place))
        layout.journal.mkdir()
        (layout.journal / "0.journal").write_bytes(mutated(journal_file(), mutations))
        content = JournalContent()
        read = list(read_journal(layout, content))
    assert all(batch.payload == payload for batch in read)
    numbers = [batch.number for batch in read]
    assert numbers == sorted(set(numbers))
    assert set(numbers) <= {1, 2, 3}


@given(st.lists(st.binary(max_size=400), max_size=3))
def test_a_journal_of_garbage_is_empty(files: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as place:
        layout = Layout(Disk(), Path(place))
        layout.journal.mkdir()
        for number, data in enumerate(files):
            (layout.journal / f"{number}.journal").write_bytes(data)
        assert list(read_journal(layout, JournalContent())) == []


def test_a_journal_whose_checksums_are_right_and_whose_records_are_not_is_refused_by_name(
    written: Path, tmp_path: Path
) -> None:
    """No crash can leave that; a bug of another version might."""
    data = tmp_path / "data"
    shutil.copytree(written, data)
    batch = b"".join(fmt.pack_batch(HEADER, 1, 0, 0, [b"\xc1 no records"]))
    (data / "journal" / "9.journal").write_bytes(fmt.pack_header(HEADER) + batch + bytes(100))
    findings: list[str] = []
    verify(data, lambda finding: findings.append(str(finding)))
    assert any("holds no records" in text for text in findings), findings


# -- streams -------------------------------------------------------------------------------


async def write_streams(engine: FileStore) -> None:
    """Three streams with several segments, producers and a close."""
    for path in ("a", "b", "n/c"):
        await engine.create(Create(parse_path_text(path), TEXT), b"")
        for n in range(12):
            claim = ProducerClaim("p", 0, n) if path != "b" else None
            command = Append(
                parse_path_text(path), TEXT, path == "n/c" and n == 11, claim, f"{n:04d}"
            )
            await engine.append(command, b"%s-%d;" % (path.encode(), n) * 5)


def whole(path: str) -> bytes:
    return b"".join(b"%s-%d;" % (path.encode(), n) * 5 for n in range(12))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory after a proper end."""
    return tmp_path_factory.mktemp("written") / "data"


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same after a kill: the journal has it all."""
    return tmp_path_factory.mktemp("killed") / "data"


@pytest.fixture(autouse=True)
async def both(written: Path, killed: Path) -> None:
    if written.exists():
        return
    engine = await FileStore.at(written, SETTINGS)
    await write_streams(engine)
    for path in ("a", "b", "n/c"):  # so that there is something to mutate
        await in_files(engine, path)
    copy_live(written, killed)
    await engine.close()


async def content(engine: FileStore, path: str) -> bytes:
    stream = await engine.open(parse_path_text(path))
    data, at_tail = b"", False
    where: Offset | Start = Start.BEGINNING
    while not at_tail:
        with await engine.read(stream, where) as chunk:
            data += await engine.bytes_of(chunk)
        where, at_tail = chunk.end, chunk.at_tail
    return data


def mutate_file(rng: random.Random, file: Path) -> None:
    """One of what disks, copies and people do to files."""
    data = file.read_bytes()
    at = rng.randrange(len(data) + 1)
    match rng.choice(("flip", "cut", "insert", "zero", "garbage", "append", "remove")):
        case "flip" if data:
            at = min(at, len(data) - 1)
            data = data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
        case "cut":
            data = data[:at]
        case "insert":
            data = data[:at] + rng.randbytes(rng.randrange(1, 9)) + data[at:]
        case "zero":
            size = rng.randrange(1, 200)
            data = data[:at] + bytes(len(data[at : at + size])) + data[at + size :]
        case "garbage":
            data = rng.randbytes(len(data))
        case "append":
            data += rng.randbytes(rng.randrange(1, 100))
        case _:
            file.unlink()
            return
    file.write_bytes(data)


def files_of(data: Path, path: str) -> list[Path]:
    return sorted((data / "streams" / names.directory_of(parse_path_text(path))).iterdir())


@pytest.mark.parametrize("state", ["written", "killed"])
@pytest.mark.parametrize("first", range(0, 80, 20))
async def test_a_mutated_stream_is_served_in_part_or_refused_and_the_others_are_whole(
    request: pytest.FixtureRequest, tmp_path: Path, state: str, first: int
) -> None:
    source: Path = request.getfixturevalue(state)
    for seed in range(first, first + 20):
        rng = random.Random(seed)
        data = tmp_path / f"{seed}"
        shutil.copytree(source, data)
        for _ in range(rng.randrange(1, 4)):
            files = files_of(data, "a")
            if files:
                mutate_file(rng, rng.choice(files))
        await asyncio.to_thread(look_through, data)
        engine = await FileStore.at(data, SETTINGS)
        try:
            assert await content(engine, "b") == whole("b"), seed
            assert await content(engine, "n/c") == whole("n/c"), seed
            try:
                found = await content(engine, "a")
            except (StreamError, OSError):
                found = b""
            assert len(found) <= len(whole("a")), seed
            with suppress(StreamError, OSError):
                await engine.append(Append(("a",), TEXT), b"more")
            await engine.append(Append(("b",), TEXT), b"more")
            assert await content(engine, "b") == whole("b") + b"more"
        finally:
            await engine.close()
        shutil.rmtree(data)


def look_through(data: Path) -> None:
    """The tools show and check it; opening a stream finds it, none, or damage."""
    list(dump_all(data))
    verify(data, lambda _finding: None)
    home = data / "streams" / names.directory_of(("a",))
    for checks in (False, True):
        try:
            load(Disk(), home, verify=checks)
        except DamagedFiles:
            continue


def dump_all(data: Path) -> Iterator[str]:
    """What there is to see of anything in the directory; a file that cannot be shown says so."""
    for file in sorted(data.rglob("*")):
        try:
            yield from dump(file)
        except NotDumpable:
            continue


@pytest.mark.parametrize("first", range(0, 40, 20))
async def test_a_mutated_journal_over_whole_files_harms_no_stream(
    written: Path, tmp_path: Path, first: int
) -> None:
    for seed in range(first, first + 20):
        rng = random.Random(seed)
        data = tmp_path / f"{seed}"
        shutil.copytree(written, data)
        for file in sorted((data / "journal").iterdir()):
            mutate_journal(rng, file)
        await asyncio.to_thread(look_through, data)
        engine = await FileStore.at(data, SETTINGS)
        try:
            for path in ("a", "b", "n/c"):
                assert await content(engine, path) == whole(path), (seed, path)
        finally:
            await engine.close()
        shutil.rmtree(data)


def mutate_journal(rng: random.Random, file: Path) -> None:
    """Change its used part: most of a journal file is zeros."""
    data = file.read_bytes()
    used = len(data.rstrip(b"\0")) or 1
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(used)
        fresh = rng.randbytes(rng.randrange(1, 30))
        data = data[:at] + fresh + data[at + rng.randrange(30) :]
    file.write_bytes(data)


@given(st.binary(max_size=400))
def test_garbage_in_every_kind_of_file_is_verified_and_dumped(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        home = root / "streams" / "a@"
        home.mkdir(parents=True)
        (root / "journal").mkdir()
        for file in (
            home / "meta.json",
            home / f"{0:016d}-{'1' * 24}.seg",
            home / f"{0:016d}-{'1' * 24}.idx",
            root / "journal" / "0.journal",
            root / "FORMAT.json",
        ):
            file.write_bytes(data)
        list(dump_all(root))
        for target in (root, home):
            try:
                verify(target, lambda _finding: None)
            except DataDirectoryError:
                assert target is root
        (root / "FORMAT.json").write_bytes(b'{"format":1,"id":"a"}\n')
        verify(root, lambda _finding: None)
        with suppress(DamagedFiles):
            assert load(Disk(), home) is None, "garbage was taken for a stream"


async def test_a_directory_whose_every_file_is_garbage_starts_and_serves_what_is_new(
    tmp_path: Path, written: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(written, data)
    rng = random.Random(5)
    for file in sorted((data / "streams").rglob("*")) + sorted((data / "journal").iterdir()):
        if file.is_file():
            file.write_bytes(rng.randbytes(min(file.stat().st_size, 5000)))
    engine = await FileStore.at(data, SETTINGS)
    try:
        for path in ("a", "b", "n/c"):
            with pytest.raises(StreamDamaged):
                await content(engine, path)
        await engine.create(Create(("new",), TEXT), b"fine")
        assert await content(engine, "new") == b"fine"
    finally:
        await engine.close()


def test_a_batch_longer_than_its_file_is_none() -> None:
    header = fmt.pack_header(HEADER)
    rest = struct.pack("<QQQQI", HEADER.generation, 1, 0, 0, 0xFFFFFFFF)
    crc = zlib.crc32(rest)
    data = header + fmt.BATCH_MAGIC + struct.pack("<I", crc) + rest
    assert fmt.unpack_batch(memoryview(data), fmt.FILE_HEADER_BYTES, HEADER) is None
