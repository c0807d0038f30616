"""Repairing: a plan first; then everything sound is served, and nothing is deleted."""

import asyncio
import shutil
from pathlib import Path

import pytest

import durable_streams
from durable_streams.filestore.files import names
from durable_streams.filestore.files.disk import Disk, StrPath
from durable_streams.maintenance.repair import Outcome, repair
from durable_streams.maintenance.verify import verify
from durable_streams.model.errors import DataDirectoryError, StreamDamaged
from durable_streams.model.paths import parse_path_text
from tests.maintenance.conftest import SETTINGS, is_sound
from tests.maintenance.unreadable import UnreadableDisk
from tests.tags import assert_agree, tags
from tools.engines import file_store
from tools.inside import in_files


def home(data: Path, path: str) -> Path:
    return data / "streams" / names.directory_of(parse_path_text(path))


def flip(file: Path, position: int) -> None:
    """Flip a bit of this file only, not of those that it is linked with."""
    damaged = bytearray(file.read_bytes())
    damaged[position] ^= 1
    file.unlink()
    file.write_bytes(damaged)


def tree(data: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}


def verifies(data: Path) -> bool:
    return is_sound(verify(data, lambda _finding: None))


def repaired(data: Path) -> list[str]:
    told: list[str] = []
    repair(data, told.append, apply=True)
    return told


async def read(data: Path, path: str) -> bytes:
    async with durable_streams.open(data, SETTINGS) as streams:
        content, offset = b"", "-1"
        while True:
            result = await streams.read(path, offset)
            content, offset = content + result.data, result.next_offset
            if result.up_to_date:
                return content


def test_a_sound_directory_needs_no_repair(data: Path) -> None:
    before = tree(data)
    assert repair(data, lambda _text: None, apply=False) == Outcome()
    assert tree(data) == before
    assert repair(data, lambda _text: None, apply=True) == Outcome()


def test_without_apply_nothing_is_changed(data: Path) -> None:
    flip(max(home(data, "bytes").glob("*.seg")), 7)
    before, told = tree(data), list[str]()
    assert repair(data, told.append, apply=False) == Outcome(repaired=1)
    assert tree(data) == before
    [text] = told
    assert text == (
        "stream bytes: keep everything up to offset 0000000000000000_0000000000000006, "
        "move aside the 7 bytes behind it"
    )


def test_what_the_disk_refuses_to_read_is_left_and_said_to_be(data: Path) -> None:
    flip(max(home(data, "chat/room").glob("*.seg")), 7)
    before = {path: path.read_bytes() for path in home(data, "bytes").iterdir()}
    for expected in (Outcome(repaired=1, left=1), Outcome(left=1)):
        told: list[str] = []
        assert repair(data, told.append, apply=True, disk=UnreadableDisk("bytes@")) == expected
        assert any("bytes@: left, it cannot be read" in text for text in told)
        assert any("aside" in text for text in told) == bool(expected.repaired)
    assert {path: path.read_bytes() for path in home(data, "bytes").iterdir()} == before


async def test_a_damaged_stream_serves_its_sound_beginning_and_can_be_written(data: Path) -> None:
    flip(max(home(data, "bytes").glob("*.seg")), 7)
    await asyncio.to_thread(repaired, data)
    assert await asyncio.to_thread(verifies, data)
    async with durable_streams.open(data, SETTINGS) as streams:
        assert (await streams.read("bytes")).data == b"first."
        await streams.append("bytes", b"again.")
        assert (await streams.read("bytes")).data == b"first.again."
        assert (await streams.get_metadata("chat/room")).path == "chat/room"


async def test_a_cut_stream_has_other_etags(data: Path) -> None:
    async with durable_streams.open(data, SETTINGS) as streams:
        before = await tags(file_store(streams), "bytes")
    flip(max(home(data, "bytes").glob("*.seg")), 7)
    await asyncio.to_thread(repaired, data)
    async with durable_streams.open(data, SETTINGS) as streams:
        await streams.append("bytes", b"others.")
        after = await tags(file_store(streams), "bytes")
    assert len(b"".join(after.values())) == len(b"".join(before.values()))
    assert_agree(before, after)


def test_every_damaged_byte_is_cut_to_a_sound_prefix_and_kept(data: Path, tmp_path: Path) -> None:
    """Wherever the damage is, the sound part stays and every other byte is in ``aside/``."""
    files = sorted(home(data, "chat/room").glob("*-*"))
    sound = {path: path.read_bytes() for path in files}
    whole = b"".join(sound[path] for path in files if path.suffix == ".seg")
    for file in files:
        for position in range(0, len(sound[file]), 7):
            flip(file, position)
            repaired(data)
            assert verifies(data), (file.name, position)
            left = b"".join(
                path.read_bytes() for path in sorted(home(data, "chat/room").glob("*.seg"))
            )
            assert whole.startswith(left)
            aside = [path.read_bytes() for path in (data / "aside").rglob("*") if path.is_file()]
            assert sum(map(len, aside)) + sum(
                path.stat().st_size for path in home(data, "chat/room").glob("*-*")
            ) == sum(map(len, sound.values()))
            for path, content in sound.items():
                path.unlink(missing_ok=True)
                path.write_bytes(content)
            (data / "aside").rename(tmp_path / f"aside-{file.name}-{position}")


async def test_a_fork_that_shares_the_sound_file_is_not_touched(data: Path) -> None:
    expected = await read(data, "fork")
    flip(min(home(data, "chat/room").glob("*.seg")), 3)
    await asyncio.to_thread(repaired, data)
    assert await read(data, "fork") == expected


def test_a_stream_without_a_readable_sidecar_is_moved_as_a_whole(data: Path) -> None:
    flip(home(data, "bytes") / names.SIDECAR, 30)
    before = {path.name: path.read_bytes() for path in home(data, "bytes").iterdir()}
    told = repaired(data)
    assert "stream bytes: no sidecar tells what it is; move it aside whole" in told
    assert not home(data, "bytes").exists()
    [kept] = (data / "aside").rglob("bytes@")
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before
    assert verifies(data)


async def test_what_the_journal_still_has_is_not_lost(data: Path) -> None:
    """A server that was killed: recovery comes first, and mends what it can."""
    async with durable_streams.open(data, SETTINGS) as streams:
        await streams.append("empty", b"acknowledged")
        await in_files(file_store(streams), "empty")
        image = data.parent / "image"
        shutil.copytree(data, image)
    flip(max(home(image, "empty").glob("*.seg")), 3)
    assert not await asyncio.to_thread(verifies, image)
    await asyncio.to_thread(repaired, image)
    assert await read(image, "empty") == b"acknowledged"


def test_a_directory_in_use_is_not_repaired(data: Path) -> None:
    from durable_streams.filestore.files.directory import DataDirectory

    opened = DataDirectory.open(Disk(), data)
    with pytest.raises(DataDirectoryError, match="in use"):
        repaired(data)
    opened.close()


class Killed(BaseException):
    """The process ends here."""


class KillingDisk(Disk):
    """Ends the process before the n-th change."""

    def __init__(self, changes: int) -> None:
        self._left = changes

    def _change(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Killed

    def open_write(self, path: Path | str) -> int:
        self._change()
        return super().open_write(path)

    def pwrite(self, fd: int, data: bytes, position: int) -> None:
        self._change()
        super().pwrite(fd, data, position)

    def truncate(self, fd: int, size: int) -> None:
        self._change()
        super().truncate(fd, size)

    def rename(self, source: StrPath, target: StrPath) -> None:
        self._change()
        super().rename(source, target)

    def make_directory(self, path: StrPath) -> None:
        self._change()
        super().make_directory(path)


def test_a_repair_that_was_killed_anywhere_is_finished_by_the_next_one(
    data: Path, tmp_path: Path
) -> None:
    flip(min(home(data, "chat/room").glob("*.seg")), 30)
    for changes in range(1000):
        image = tmp_path / f"image-{changes}"
        shutil.copytree(data, image)
        try:
            repair(image, lambda _text: None, apply=True, disk=KillingDisk(changes))
        except Killed:
            repaired(image)
            assert verifies(image), changes
            continue
        break
    assert changes > 10


async def test_a_damaged_stream_does_not_stop_the_others(data: Path) -> None:
    index = max(home(data, "bytes").glob("*.idx"))
    flip(index, index.read_bytes().rindex(b'"end"') + 2)
    async with durable_streams.open(data, SETTINGS) as streams:
        with pytest.raises(StreamDamaged):
            await streams.read("bytes")
        with pytest.raises(StreamDamaged):
            await streams.append("bytes", b"x")
        for path in ("chat/room", "fork", "empty"):
            await streams.read(path)
            await streams.append(path, b'"more"')
