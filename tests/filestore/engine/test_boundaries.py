"""Where reads begin and end: at whole appends, the same whether they are in the files or not."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.store import FileStore
from durable_streams.model.commands import Append, Create, ForkRequest
from durable_streams.model.errors import (
    InvalidOffset,
    InvalidRequest,
    StreamDamaged,
    StreamUnreadable,
)
from durable_streams.model.offsets import ZERO, Offset, Start
from durable_streams.model.paths import parse_path_text
from durable_streams.settings import Settings
from tests.filestore.files.staged_disk import StagedDisk
from tools import inside
from tools.inside import data_directory, reader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

BYTES = "application/octet-stream"
TEXT = "text/plain"
JSON = "application/json"
SETTINGS = Settings()


@asynccontextmanager
async def opened(
    data: Path,
    content_type: str,
    *appends: bytes,
    in_files: bool = True,
    settings: Settings = SETTINGS,
) -> AsyncIterator[FileStore]:
    """A stream ``s``; unless ``in_files``, only its first append is applied, the rest in memory."""
    disk = StagedDisk()
    engine = await FileStore.at(data, replace(settings, max_lag_s=3600), disk)
    try:
        await engine.create(Create(("s",), content_type), appends[0])
        stream = await engine._find(("s",))
        await inside.in_files(engine, "s")
        gate = None if in_files else disk.hold("open_write", ".seg")
        for data_ in appends[1:]:
            await engine.append(Append(("s",), content_type), data_)
        if in_files:
            await inside.in_files(engine, stream.path)
        yield engine
        if gate is not None:
            gate.open()
    finally:
        disk.heal()
        await engine.close()


async def read(
    engine: FileStore, start: Offset | Start, path: str = "s", max_bytes: int | None = None
) -> tuple[bytes, Offset, Offset]:
    """Bytes, start and end of one read."""
    chunk = await engine.read(await engine.open(parse_path_text(path)), start, max_bytes=max_bytes)
    pieces = [piece async for piece in engine.pieces(chunk, 3)]
    return b"".join(pieces), chunk.start, chunk.end


IN_FILES = pytest.mark.parametrize("in_files", [True, False], ids=["files", "memory"])


@IN_FILES
@pytest.mark.parametrize(
    ("position", "begin"), [(0, 0), (1, 0), (4, 0), (5, 5), (6, 5), (9, 5), (10, 10), (15, 10)]
)
async def test_an_offset_inside_an_append_of_bytes_reads_that_append_whole(
    tmp_path: Path, in_files: bool, position: int, begin: int
) -> None:
    appends = (b"hello", b"world", b"again!")
    async with opened(tmp_path / "d", BYTES, *appends, in_files=in_files) as engine:
        data, start, end = await read(engine, Offset(0, position))
        assert data == b"".join(appends)[begin:]
        assert (start, end) == (Offset(0, begin), Offset(0, 16))
        data, start, _ = await read(engine, Offset(0, position), max_bytes=5)
        assert data == next(
            part for part, at in zip(appends, (0, 5, 10), strict=True) if at == begin
        )


@IN_FILES
async def test_text_can_be_read_from_every_byte(tmp_path: Path, in_files: bool) -> None:
    async with opened(tmp_path / "d", TEXT, b"one", b"two", in_files=in_files) as engine:
        for position in range(7):
            data, _, _ = await read(engine, Offset(0, position))
            assert data == b"onetwo"[position:]


@IN_FILES
async def test_json_can_be_read_from_every_message_and_from_nowhere_else(
    tmp_path: Path, in_files: bool
) -> None:
    appends = (b'[1,"a,b"]', b'[[2,3],{"c":",\\""},4]')
    wire = b'1,"a,b",[2,3],{"c":",\\""},4,'
    ends = [0, 2, 8, 14, 26, 28]
    async with opened(tmp_path / "d", JSON, *appends, in_files=in_files) as engine:
        for position in range(len(wire)):
            if position in ends:
                data, start, _ = await read(engine, Offset(0, position))
                assert (data, start) == (wire[position:], Offset(0, position))
            else:
                with pytest.raises(InvalidOffset):
                    await read(engine, Offset(0, position))


async def test_an_offset_behind_a_full_segment_reads_the_next_of_bytes_and_is_refused_else(
    tmp_path: Path,
) -> None:
    """Clients that ask for the offset they know plus one do that at the end of a segment too."""
    for content_type, body in ((BYTES, b"12345678"), (TEXT, b"12345678"), (JSON, b"1234567")):
        async with opened(
            tmp_path / content_type[-4:],
            content_type,
            body,
            body,
            settings=Settings(segment_bytes=8),
        ) as engine:
            full, tail = Offset(0, 8), Offset(1, 8)
            assert (await read(engine, full))[1:] == (full, tail)
            if content_type == BYTES:
                for position in (9, 900):
                    assert await read(engine, Offset(0, position)) == (body, full, tail)
            else:
                with pytest.raises(InvalidOffset):
                    await read(engine, Offset(0, 9))


@pytest.mark.parametrize("content_type", [BYTES, TEXT])
async def test_where_a_bounded_read_ends_does_not_depend_on_what_is_in_the_files(
    tmp_path: Path, content_type: str
) -> None:
    appends = [b"1234"] * 6
    found = []
    for in_files in (False, True):
        async with opened(
            tmp_path / str(in_files),
            content_type,
            *appends,
            in_files=in_files,
            settings=Settings(max_read_bytes=10),
        ) as engine:
            ends, at = [], ZERO
            while at != Offset(0, 24):
                _, _, at = await read(engine, at)
                ends.append(at.position)
            found.append(ends)
    assert found == [[8, 16, 24]] * 2


@IN_FILES
async def test_an_append_larger_than_a_read_comes_whole(tmp_path: Path, in_files: bool) -> None:
    appends = (b"1", b"x" * 50, b"2")
    async with opened(
        tmp_path / "d", BYTES, *appends, in_files=in_files, settings=Settings(max_read_bytes=10)
    ) as engine:
        assert [(await read(engine, Offset(0, at)))[0] for at in (0, 1, 51)] == list(appends)


async def test_a_close_without_data_is_no_append_to_begin_at(tmp_path: Path) -> None:
    async with opened(tmp_path / "d", BYTES, b"one", b"two") as engine:
        await engine.append(Append(("s",), close=True), b"")
        assert (await read(engine, Offset(0, 4)))[0] == b"two"
        stream = await engine.open(("s",))
        chunk = await engine.read(stream, ZERO)
        assert await engine.sizes(chunk) == [3, 3]
        chunk.release()


async def test_a_fork_inside_an_append_is_exact_and_read_whole_from_its_own_end(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path / "d", BYTES, b"hello", b"world") as engine:
        await engine.create(Create(("f",), fork=ForkRequest(("s",), Offset(0, 7))), b"")
        await engine.append(Append(("f",), BYTES), b"!!")
        assert (await read(engine, ZERO, "f"))[0] == b"hellowo!!"
        assert (await read(engine, Offset(0, 6), "f"))[0] == b"wo!!"
        assert (await read(engine, Offset(0, 7), "f"))[0] == b"!!"
        await engine.create(Create(("g",), fork=ForkRequest(("f",), Offset(0, 6), 1)), b"")
        assert (await read(engine, ZERO, "g"))[0] == b"hellowo"
        with pytest.raises(InvalidRequest):
            await engine.create(Create(("h",), fork=ForkRequest(("f",), Offset(0, 6), 2)), b"")


async def test_a_fork_between_messages_of_an_append_is_exact(tmp_path: Path) -> None:
    async with opened(tmp_path / "d", JSON, b"[1]", b'["a,b",[2,3],4]') as engine:
        wire = b'1,"a,b",[2,3],4,'
        for at, sub_offset, end in (
            (2, 0, 2), (8, 0, 8), (8, 1, 14), (8, 2, 16), (2, 3, 16), (14, 0, 14), (16, 0, 16),
        ):  # fmt: skip
            name = f"f-{at}-{sub_offset}"
            fork = ForkRequest(("s",), Offset(0, at), sub_offset)
            created = await engine.create(Create(parse_path_text(name), fork=fork), b"5")
            assert created.info.tail == Offset(0, end + 2)
            assert (await read(engine, ZERO, name))[0] == wire[:end] + b"5,"
        for at, sub_offset in ((8, 3), (14, 2), (16, 1), (2, 4)):
            with pytest.raises(InvalidRequest):
                await engine.create(
                    Create(("g",), fork=ForkRequest(("s",), Offset(0, at), sub_offset)), b""
                )
        with pytest.raises(InvalidOffset):
            await engine.create(Create(("g",), fork=ForkRequest(("s",), Offset(0, 5))), b"")


class SmallReads(StagedDisk):
    """Notes how much is read at once."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def pread(self, fd: int, size: int, position: int) -> bytes:
        self.largest = max(self.largest, size)
        return super().pread(fd, size, position)


async def test_an_offset_inside_a_large_append_is_looked_up_in_slices(tmp_path: Path) -> None:
    """Whoever may read may ask for such offsets, as often as they like."""
    disk = SmallReads()
    engine = await FileStore.at(tmp_path / "d", SETTINGS, disk)
    body = b"[" + b",".join(b'{"number":%d}' % number for number in range(100_000)) + b"]"
    await engine.create(Create(("s",), JSON), body)
    stream = await engine._find(("s",))
    await inside.in_files(engine, "s")
    last = stream.durable.position - len(b'{"number":99999},')
    data, _, _ = await read(engine, Offset(0, last))
    assert data == b'{"number":99999},'
    with pytest.raises(InvalidOffset):
        await read(engine, Offset(0, last + 1))
    assert 0 < disk.largest <= 64 * 1024
    disk.largest = 0
    await engine.create(Create(("f",), fork=ForkRequest(("s",), ZERO, 99_999)), b"")
    assert (await engine.head(("f",))).tail == Offset(0, last)
    await engine.close()


async def test_a_slow_reader_goes_on_from_the_file_when_memory_has_let_go(tmp_path: Path) -> None:
    async with opened(tmp_path / "d", BYTES, b"one", b"x" * 100, in_files=False) as engine:
        stream = await engine._find(("s",))
        chunk = await engine.read(await engine.open(("s",)), Offset(0, 3))
        pieces = engine.pieces(chunk, 60)
        assert await anext(pieces) == b"x" * 60
        assert chunk.parts == ()
        disk = data_directory(engine).disk
        assert isinstance(disk, StagedDisk)
        disk.heal()
        await inside.in_files(engine, stream.path)
        assert not stream.memory
        assert [piece async for piece in pieces] == [b"x" * 40]


async def test_an_index_that_is_away_for_a_moment_is_not_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is known of a sealed segment is kept, so it has to be all."""
    small = replace(SETTINGS, segment_bytes=10)
    async with opened(tmp_path, BYTES, b"hello", b"world", b"again", settings=small) as engine:
        with monkeypatch.context() as away:
            away.setattr(StagedDisk, "status", lambda _disk, _path: None)
            with pytest.raises(StreamDamaged, match="missing"):
                await read(engine, Offset(0, 6))
        assert await read(engine, Offset(0, 6)) == (b"world", Offset(0, 5), Offset(0, 10))


async def test_an_older_copy_of_a_full_segments_index_is_not_taken_for_all_there_is(
    tmp_path: Path,
) -> None:
    """As a tool may put in its place, until what was written since is put back."""
    small = replace(SETTINGS, segment_bytes=10, max_read_bytes=5)
    async with opened(tmp_path, BYTES, b"hello", b"world", b"again", settings=small) as engine:
        index = next(tmp_path.rglob("0000000000000000-*.idx"))
        whole = index.read_bytes()
        index.write_bytes(whole[: whole.rindex(b"\n", 0, -1) + 1])
        with pytest.raises(StreamUnreadable, match=r"\.idx: .*shorter"):
            await read(engine, Offset(0, 5))
        index.write_bytes(whole)
        assert await read(engine, Offset(0, 5)) == (b"world", Offset(0, 5), Offset(0, 10))


@pytest.mark.parametrize("kind", ["seg", "idx"])
async def test_a_file_that_is_shorter_than_what_was_written_is_not_taken_for_all_there_is(
    tmp_path: Path, kind: str
) -> None:
    """As one that somebody replaced may be, until it is put back."""
    wire = b'"' + b"a" * 90 + b'",2,3'
    async with opened(tmp_path, JSON, b"[1]", b"[%b]" % wire) as engine:
        file = next(tmp_path.rglob(f"*.{kind}"))
        whole = file.read_bytes()
        for missing in (3, len(whole) - 3):
            file.write_bytes(whole[:-missing])
            with pytest.raises(StreamUnreadable, match=rf"\.{kind}: .*shorter"):
                await engine.create(
                    Create(("fork",), None, fork=ForkRequest(("s",), Offset(0, 2), 2)), b""
                )
            file.write_bytes(whole)
        fork = Create(("fork",), None, fork=ForkRequest(("s",), Offset(0, 2), 2))
        assert (await engine.create(fork, b"")).created


async def test_ends_of_appends_are_kept_within_a_bound_and_read_again(tmp_path: Path) -> None:
    """At the bound everything stays known; one end more, and the oldest segment's go."""
    settings = replace(SETTINGS, segment_bytes=100, max_read_bytes=40)
    appends = [b"%09d." % number for number in range(40)]
    async with opened(tmp_path, BYTES, *appends, settings=settings) as engine:
        boundaries = reader(engine).boundaries

        async def everything() -> bytes:
            content, start = b"", ZERO
            while (piece := await read(engine, start))[0]:
                content, start = content + piece[0], piece[2]
            return content

        assert await everything() == b"".join(appends)
        needed, segments = boundaries._bytes, len(boundaries._known)
        assert segments == 4
        boundaries.most_bytes = needed
        assert await everything() == b"".join(appends)
        assert (boundaries._bytes, len(boundaries._known)) == (needed, segments)
        boundaries.most_bytes = needed - 1
        boundaries.forget(await engine._find(("s",)))
        assert await everything() == b"".join(appends)
        assert boundaries._bytes < needed
        assert len(boundaries._known) == segments - 1
