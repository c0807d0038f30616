"""After an end that may have lost unsynced bytes: what is cut, what is damage, how that ends."""

import asyncio
import errno
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from durable_streams.filestore import catalog
from durable_streams.filestore.files.disk import Disk, StrPath
from durable_streams.filestore.files.stream_files import LoadedStream, load
from durable_streams.filestore.store import FileStore
from durable_streams.filestore.tuning import Tuning
from durable_streams.model.commands import Create
from durable_streams.model.errors import StreamDamaged
from durable_streams.model.paths import parse_path_text
from durable_streams.settings import Durability, Settings
from tests.copying import copy_live
from tests.driving import append, content, directory
from tools import inside
from tools.inside import forgotten, in_files

BYTES = "application/octet-stream"
UNSYNCED = Settings(durability=Durability.INTERVAL, sync_interval_s=3600)
SYNCED = Settings(max_open_streams=1)
SLOW = Tuning(verify_pause_s=3600)
"""The walk over all streams looks at one, and then waits for long."""


def flip(data: Path, path: str) -> None:
    """One bit in the middle of a stream's index."""
    index = next(directory(data, path).glob("*.idx"))
    text = bytearray(index.read_bytes())
    text[len(text) // 2] ^= 1
    index.write_bytes(text)


def is_marked(data: Path) -> bool:
    return (data / "UNSYNCED").exists()


async def until_unmarked(data: Path) -> None:
    while is_marked(data):
        await asyncio.sleep(0)


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """What a power cut left of two streams whose last append was not synced."""
    engine = await FileStore.at(tmp_path / "data", UNSYNCED)
    for path in ("a", "far/away"):
        await engine.create(Create(parse_path_text(path), BYTES), b"AAAA")
        await append(engine, path, b"BBBB")
        await in_files(engine, path)
    image = copy_live(tmp_path / "data", tmp_path / "image")
    await engine.close()
    shutil.rmtree(image / "journal")
    for path in ("a", "far/away"):
        segment = next(directory(image, path).glob("*.seg"))
        segment.write_bytes(b"AAAA" + bytes(4))
    return image


async def test_every_stream_is_verified_and_then_the_unclean_end_is_forgotten(data: Path) -> None:
    engine = await FileStore.at(data, SYNCED)
    await until_unmarked(data)
    await engine.close()
    for path in ("a", "far/away"):
        segment = next(directory(data, path).glob("*.seg"))
        assert segment.read_bytes() == b"AAAA"
    flip(data, "a")
    engine = await FileStore.at(data, SYNCED)
    with pytest.raises(StreamDamaged):
        await content(engine, "a")
    assert await content(engine, "far/away") == b"AAAA"
    await engine.close()


async def test_what_was_written_since_a_stream_was_verified_is_never_cut(data: Path) -> None:
    engine = await FileStore.at(data, SYNCED, tuning=SLOW)
    await append(engine, "far/away", b"CCCC")
    await engine.create(Create(("new",), BYTES), b"one")
    await append(engine, "new", b"two")
    for path in ("far/away", "new"):
        await in_files(engine, path)
    await content(engine, "a")  # the others have left the cache
    for path in ("far/away", "new"):
        await forgotten(engine, path)
        flip(data, path)
        before = next(directory(data, path).glob("*.idx")).read_bytes()
        with pytest.raises(StreamDamaged):
            await content(engine, path)
        assert next(directory(data, path).glob("*.idx")).read_bytes() == before
    assert is_marked(data)
    await engine.close()


@pytest.mark.parametrize(("others", "again"), [(2, False), (3, True)])
async def test_so_many_streams_are_remembered_as_verified_and_others_are_verified_again(
    data: Path, monkeypatch: pytest.MonkeyPatch, others: int, again: bool
) -> None:
    verified: list[str] = []

    def noted(disk: Disk, home: StrPath, *, verify: bool = False) -> LoadedStream | None:
        if verify:
            verified.append(Path(home).name)
        return load(disk, home, verify=verify)

    monkeypatch.setattr(catalog, "load", noted)
    engine = await FileStore.at(data, SYNCED, tuning=replace(SLOW, most_verified=3))
    while not inside.catalog(engine)._verified:  # the walk begins with another
        await asyncio.sleep(0)
    await append(engine, "far/away", b"CCCC")
    await in_files(engine, "far/away")
    for number in range(others):
        await engine.create(Create(("s", f"{number}"), BYTES), b"")
    assert len(inside.catalog(engine)._verified) == 3
    verified.clear()
    assert await content(engine, "far/away") == b"AAAACCCC"
    assert verified == ["away@"] * again
    await engine.close()


async def test_what_was_left_behind_a_loss_is_not_met_again_by_later_segments(
    data: Path,
) -> None:
    next(directory(data, "a").glob("*.seg")).write_bytes(b"AAAABBBB")
    for number, left in (1, bytes(100)), (2, bytes(100) + b"\n"):
        for suffix in (".seg", ".idx"):
            file = next(directory(data, "a").glob(f"*{suffix}"))
            file.with_name(file.name.replace("0-", f"{number}-", 1)).write_bytes(left)
    engine = await FileStore.at(data, SYNCED)
    await until_unmarked(data)
    await engine.close()
    settings = Settings(segment_bytes=8)
    engine = await FileStore.at(data, settings)
    await append(engine, "a", b"CCCCCCCC")
    await engine.close()
    engine = await FileStore.at(data, settings)
    assert (await engine.head(("a",))).tail == (1, 8)
    await engine.close()


async def test_an_end_before_all_are_verified_leaves_the_rest_to_the_next_start(
    data: Path,
) -> None:
    for settings in (SYNCED, UNSYNCED):
        engine = await FileStore.at(data, settings, tuning=SLOW)
        await engine.close()
        assert is_marked(data)
    engine = await FileStore.at(data, SYNCED)
    await until_unmarked(data)
    await engine.close()


async def test_where_writes_are_not_synced_the_mark_goes_with_a_proper_end(data: Path) -> None:
    engine = await FileStore.at(data, UNSYNCED)
    while inside.catalog(engine).verifying:
        await asyncio.sleep(0)
    assert is_marked(data)
    await engine.close()
    assert not is_marked(data)


class Unreadable(Disk):
    """Refuses to list a namespace, until told otherwise."""

    refuses = True

    def names(self, path: StrPath) -> list[str]:
        if self.refuses and Path(path).name == "far":
            raise OSError(errno.EIO, "refused")
        return super().names(path)


async def test_streams_that_cannot_be_looked_at_are_looked_at_again(
    data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Unreadable()
    engine = await FileStore.at(data, SYNCED, disk, tuning=Tuning(verify_again_s=0.001))
    while caplog.text.count("could not be verified") < 2:
        await asyncio.sleep(0)
    assert is_marked(data)
    disk.refuses = False
    await until_unmarked(data)
    await engine.close()
