"""What is open is what has the name: files, directory, journal and lock that somebody replaced."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import shutil
from typing import TYPE_CHECKING

import msgspec
import pytest

from durable_streams.filestore.files.directory import DataDirectory
from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.store import FileStore
from durable_streams.model.errors import (
    DataDirectoryError,
    StorageFailed,
    StreamGone,
    StreamOutOfService,
    Unavailable,
    WriteFailed,
)
from tests.driving import append, content, directory, fork, put
from tests.filestore.engine.faulty import SMALL_JOURNAL, written
from tools.inside import (
    back_in_service,
    begin_checkpoint,
    checkpoint,
    checkpoints_finished,
    freed_up_to,
    in_files,
    look_for_room,
    out_of_service,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.filestore.files.staged_disk import StagedDisk


@pytest.fixture
async def engine(data: Path) -> AsyncIterator[FileStore]:
    """Two streams with the same bytes, whose files are open for writing."""
    engine = await written(data, paths=("s", "twin"))
    yield engine
    if not engine.closing:
        await engine.close()


def by_copy_and_rename(file: Path) -> None:
    shutil.copy(file, file.with_suffix(".copy"))
    file.with_suffix(".copy").rename(file)


def by_link_and_rename(file: Path) -> None:
    """As tools do that link equal files."""
    twin = next(file.parent.with_name("twin@").glob(f"*{file.suffix}"))
    if twin.read_bytes() != file.read_bytes():
        twin = file
    os.link(twin, file.with_suffix(".link"))
    file.with_suffix(".link").rename(file)


def by_a_second_name(file: Path) -> None:
    os.link(file, file.parent.parent / f"backup{file.suffix}")


def by_an_older_copy(file: Path) -> None:
    text = file.read_bytes()
    shortened = text[:4] if file.suffix == ".seg" else b"".join(text.splitlines(True)[:2])
    file.with_suffix(".old").write_bytes(shortened)
    file.with_suffix(".old").rename(file)


@pytest.mark.parametrize(
    "replaced", [by_copy_and_rename, by_link_and_rename, by_a_second_name, by_an_older_copy]
)
@pytest.mark.parametrize("suffixes", [[".seg"], [".idx"], [".seg", ".idx"]], ids="-".join)
@pytest.mark.parametrize("then", ["append", "checkpoint"])
async def test_what_was_written_is_at_the_name_whoever_replaced_the_file(
    engine: FileStore,
    data: Path,
    replaced: Callable[[Path], None],
    suffixes: list[str],
    then: str,
) -> None:
    for suffix in suffixes:
        for file in directory(data, "s").glob(f"*{suffix}"):
            replaced(file)
    if then == "checkpoint":  # which lets the journal forget what was written before
        await checkpoint(engine)
        assert b"".join(f.read_bytes() for f in directory(data, "s").glob("*.seg")) == b"one.two."
    await append(engine, "s", b"three.")
    await append(engine, "twin", b"other.")
    for path in ("s", "twin"):
        await in_files(engine, path)
    await engine.close()
    again = await FileStore.at(data, SMALL_JOURNAL)
    assert await content(again, "s") == b"one.two.three."
    assert await content(again, "twin") == b"one.two.other."
    await again.close()


@pytest.fixture
async def staged(data: Path, disk: StagedDisk) -> AsyncIterator[FileStore]:
    """One stream whose files are open for writing, on a disk that does what a test says."""
    engine = await written(data, disk)
    yield engine
    disk.heal()
    await engine.close()


@pytest.mark.parametrize("suffix", [".seg", ".idx"])
async def test_what_is_written_while_its_file_is_replaced_is_at_the_name(
    staged: FileStore, data: Path, disk: StagedDisk, suffix: str
) -> None:
    """Between the look before a write and the write itself, and nobody writes again."""
    (file,) = directory(data, "s").glob(f"*{suffix}")
    gate = disk.hold("pwrite", file.name)
    await append(staged, "s", b"three.")
    await asyncio.to_thread(gate.reached.wait)
    by_copy_and_rename(file)
    gate.open()
    await in_files(staged, "s")
    found = b"".join(f.read_bytes() for f in directory(data, "s").glob(f"*{suffix}"))
    assert found == b"one.two.three." if suffix == ".seg" else len(found.splitlines()) == 4


async def test_a_checkpoint_that_cannot_put_a_file_back_frees_nothing_and_is_made_again(
    staged: FileStore, data: Path, disk: StagedDisk
) -> None:
    (file,) = directory(data, "s").glob("*.seg")
    by_an_older_copy(file)
    disk.fail("open_write", errno.EIO, "data/tmp/")
    before = freed_up_to(staged)
    for wanted in (b"one.", b"one.two."):
        begin_checkpoint(staged)
        await asyncio.wait_for(checkpoints_finished(staged), 60)
        assert file.read_bytes() == wanted
        assert (freed_up_to(staged) > before) == (wanted != b"one.")
        disk.heal()
    await append(staged, "s", b"three.")
    await in_files(staged, "s")
    assert await content(staged, "s") == b"one.two.three."


@pytest.mark.parametrize("suffix", [".seg", ".idx"])
async def test_a_file_in_whose_place_we_may_not_look_takes_its_stream_out_of_service_alone(
    staged: FileStore, data: Path, disk: StagedDisk, suffix: str
) -> None:
    """A restore by somebody else, which only they may read."""
    (file,) = directory(data, "s").glob(f"*{suffix}")
    written = file.read_bytes()
    by_copy_and_rename(file)
    disk.fail("open_read", errno.EACCES, file.name)
    before = freed_up_to(staged)
    begin_checkpoint(staged)
    await asyncio.wait_for(out_of_service(staged, "s"), 60)
    await checkpoints_finished(staged)
    assert freed_up_to(staged) > before
    assert [kept.read_bytes() for kept in (data / "aside").iterdir()] == [written]
    await put(staged, "t", b"goes on")


async def test_a_sidecar_that_is_away_when_it_is_to_be_replaced_is_when_it_comes_back(
    engine: FileStore, data: Path
) -> None:
    """What only a sidecar says is not lost: here, that a source was deleted."""
    await fork(engine, "fork", "s")
    await in_files(engine, "fork")
    sidecar = directory(data, "s") / "meta.json"
    sidecar.rename(data.parent / "away")
    await engine.delete(("s",))
    await asyncio.wait_for(out_of_service(engine, "s"), 60)
    await checkpoint(engine)
    (data.parent / "away").rename(sidecar)
    await back_in_service(engine, "s")
    with pytest.raises(StreamGone):
        await content(engine, "s")
    await engine.close()
    again = await FileStore.at(data, SMALL_JOURNAL)
    with pytest.raises(StreamGone):
        await content(again, "s")
    await again.close()


@pytest.mark.parametrize("suffix", [".seg", ".idx"])
@pytest.mark.parametrize("other", [None, b"something else"])
async def test_a_file_that_was_removed_takes_its_stream_out_of_service_and_is_kept(
    engine: FileStore, data: Path, suffix: str, other: bytes | None
) -> None:
    (file,) = directory(data, "s").glob(f"*{suffix}")
    written = file.read_bytes()
    file.unlink()
    if other is not None:
        file.write_bytes(other)
    await append(engine, "s", b"three.")
    await out_of_service(engine, "s")
    with pytest.raises(StreamOutOfService, match="kept in"):
        await append(engine, "s", b"four.")
    assert engine.out_of_service() == [("s",)]
    assert written in [kept.read_bytes() for kept in (data / "aside").iterdir()]
    await append(engine, "twin", b"goes on")


@pytest.mark.parametrize("suffix", [".seg", ".idx"])
@pytest.mark.parametrize("then", ["append", "checkpoint"])
async def test_a_file_that_was_moved_away_and_comes_back_brings_its_stream_back(
    engine: FileStore, data: Path, suffix: str, then: str
) -> None:
    """By itself if there is something to bring to it, else with the next start."""
    (file,) = directory(data, "s").glob(f"*{suffix}")
    file.rename(data.parent / "away")
    wanted = b"one.two."
    if then == "append":
        await append(engine, "s", b"three.")
        wanted += b"three."
    else:
        begin_checkpoint(engine)
    await asyncio.wait_for(out_of_service(engine, "s"), 60)
    (data.parent / "away").rename(file)
    if then == "append":
        await back_in_service(engine, "s")
        assert await content(engine, "s") == wanted
    await engine.close()
    again = await FileStore.at(data, SMALL_JOURNAL)
    await append(again, "s", b"more.")
    assert await content(again, "s") == wanted + b"more."
    await again.close()


@pytest.mark.parametrize("suffix", [".seg", ".idx"])
async def test_a_file_that_is_away_when_it_is_opened_is_not_made_anew(
    engine: FileStore, data: Path, suffix: str
) -> None:
    await engine.close()
    again = await FileStore.at(data, SMALL_JOURNAL)
    assert await content(again, "s") == b"one.two."
    (file,) = directory(data, "s").glob(f"*{suffix}")
    file.rename(data.parent / "away")
    await append(again, "s", b"three.")
    await asyncio.wait_for(out_of_service(again, "s"), 60)
    assert not file.exists()
    (data.parent / "away").rename(file)
    await back_in_service(again, "s")
    assert await content(again, "s") == b"one.two.three."
    await again.close()


async def test_nothing_is_written_where_another_directory_was_put(
    engine: FileStore, data: Path
) -> None:
    other = data.with_name("other")
    shutil.copytree(data, other)
    before = sorted((path, path.stat().st_size) for path in other.rglob("*"))
    away = data.with_name("away")
    data.rename(away)
    data.symlink_to(other)
    await look_for_room(engine)
    for use in (append(engine, "s", b"refused"), put(engine, "new", b"refused")):
        with pytest.raises(Unavailable):
            await use
    assert isinstance(engine.refusal(), Unavailable)
    assert sorted((path, path.stat().st_size) for path in other.rglob("*")) == before
    data.unlink()
    away.rename(data)
    await look_for_room(engine)
    await append(engine, "s", b"three.")
    await in_files(engine, "s")
    assert await content(engine, "s") == b"one.two.three."


async def test_what_was_acknowledged_a_moment_before_the_switch_waits_for_the_directory(
    engine: FileStore, data: Path
) -> None:
    other, away = data.with_name("other"), data.with_name("away")
    shutil.copytree(data, other)
    data.rename(away)
    data.symlink_to(other)
    writes = [
        asyncio.ensure_future(append(engine, "s", b"three.")),
        asyncio.ensure_future(put(engine, "new", b"made")),
    ]
    await asyncio.wait(writes[:1])
    data.unlink()
    away.rename(data)
    await asyncio.gather(*writes, return_exceptions=True)
    await look_for_room(engine)
    await in_files(engine, "s")
    assert await content(engine, "s") == b"one.two.three."
    assert not list((other / "streams").glob("new@"))


async def test_a_journal_that_was_removed_ends_writing_until_a_restart(
    engine: FileStore, data: Path
) -> None:
    for file in (data / "journal").iterdir():
        file.unlink()
    with pytest.raises(WriteFailed):
        await append(engine, "s", b"refused")
    await look_for_room(engine)
    assert isinstance(engine.refusal(), Unavailable)
    assert await content(engine, "s") == b"one.two."
    await engine.close()
    again = await FileStore.at(data, SMALL_JOURNAL)
    await append(again, "s", b"three.")
    assert await content(again, "s") == b"one.two.three."
    await again.close()


async def test_nothing_is_acknowledged_that_is_not_in_the_journal_s_place(
    staged: FileStore, data: Path, disk: StagedDisk
) -> None:
    """Whether whoever replaced it took the write along is for the next start to tell."""
    gate = disk.hold("sync", "data/journal/")
    writing = asyncio.ensure_future(append(staged, "s", b"three."))
    await asyncio.to_thread(gate.reached.wait)
    for file in (data / "journal").iterdir():
        by_copy_and_rename(file)
    gate.open()
    with pytest.raises(StorageFailed, match="replaced"):
        await writing


@pytest.mark.parametrize("removed", [True, False])
async def test_there_is_one_server_whatever_is_removed(
    engine: FileStore, data: Path, removed: bool
) -> None:
    if removed:
        (data / "LOCK").unlink()
    with pytest.raises(DataDirectoryError, match="in use"):
        await FileStore.at(data, SMALL_JOURNAL)
    await append(engine, "s", b"three.")


async def test_a_lock_that_was_removed_is_made_and_held_again(
    engine: FileStore, data: Path
) -> None:
    """Version 0.1 looks at nothing else."""
    (data / "LOCK").unlink()
    await look_for_room(engine)
    with (data / "LOCK").open("r+b") as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_lock_on_the_file_alone_is_respected(data: Path) -> None:
    DataDirectory.open(Disk(), data).close()
    with (data / "LOCK").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(DataDirectoryError, match="in use"):
            DataDirectory.open(Disk(), data)
    DataDirectory.open(Disk(), data).close()


def test_parts_on_different_file_systems_are_refused_by_name(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    DataDirectory.open(Disk(), data).close()
    status = Disk.status

    def elsewhere(disk: Disk, path: Path | str) -> object:
        found = status(disk, path)
        if found is not None and str(path).endswith("/streams"):
            return msgspec.structs.replace(found, identity=(999, found.identity[1]))
        return found

    monkeypatch.setattr(Disk, "status", elsewhere)
    with pytest.raises(DataDirectoryError, match="another file system"):
        DataDirectory.open(Disk(), data)
