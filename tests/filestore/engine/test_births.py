"""Creating streams: what it asks of the disk, and what it says when the disk does not answer."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from durable_streams.filestore.store import FileStore
from durable_streams.filestore.streams.payloads import LARGE_BODY
from durable_streams.model.commands import Append, Create, ForkRequest
from durable_streams.model.errors import StreamDamaged, StreamError, StreamUnreadable, Unavailable
from durable_streams.model.offsets import Offset
from durable_streams.settings import Settings
from tests.filestore.files.staged_disk import StagedDisk
from tests.store_contract.words import settled
from tools import inside
from tools.inside import catalog, in_files

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

TEXT = "text/plain"
FORK = Create(("fork",), None, fork=ForkRequest(("s",)))


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[FileStore]:
    engine = await FileStore.at(tmp_path / "data", Settings())
    yield engine
    await engine.close()


async def test_creates_of_one_turn_look_at_the_disk_together(
    engine: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor, jobs = inside.executor(engine), []
    submit = executor.submit

    def noted(function: Any, *arguments: Any) -> Any:
        jobs.append(function)
        return submit(function, *arguments)

    monkeypatch.setattr(executor, "submit", noted)
    created = await asyncio.gather(
        *(engine.create(Create(("s", f"{number}"), TEXT), b"") for number in range(20))
    )
    assert all(one.created for one in created)
    assert len([job for job in jobs if job == catalog(engine)._are_on_disk]) == 1


async def test_a_large_create_is_not_begun_for_a_caller_who_may_leave(engine: FileStore) -> None:
    """Its body would be in memory, where nobody counts it any more."""
    assert engine.create_now(Create(("s",), TEXT), b"x" * (LARGE_BODY + 1)) is None
    begun = engine.create_now(Create(("s",), TEXT), b"x" * LARGE_BODY)
    assert begun is not None
    await settled(begun)
    assert (await engine.head(("s",))).tail == Offset(0, LARGE_BODY)


async def test_a_stream_that_is_only_on_the_disk_is_found_by_a_create(tmp_path: Path) -> None:
    for created in (True, False):
        engine = await FileStore.at(tmp_path / "data", Settings())
        assert (await engine.create(Create(("s",), TEXT), b"")).created == created
        await engine.close()


async def test_nothing_is_created_while_the_data_directory_is_away(
    engine: FileStore, tmp_path: Path
) -> None:
    shutil.move(tmp_path / "data", tmp_path / "away")
    with pytest.raises(Unavailable):
        await engine.create(Create(("s",), TEXT), b"")
    shutil.move(tmp_path / "away", tmp_path / "data")
    assert (await engine.create(Create(("s",), TEXT), b"")).created


# -- forks of what cannot be read ------------------------------------------------------------


@pytest.fixture
def _no_copies_within(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the system copies, and no read of ours can fail."""
    monkeypatch.setattr("durable_streams.filestore.files.system_calls.copy_within", lambda *_: 0)


def _refuse_open(disk: StagedDisk, file: Path) -> None:
    disk.fail("open_read", errno.EACCES, str(file))


def _refuse_reads(disk: StagedDisk, file: Path) -> None:
    disk.fail("pread", errno.EIO, str(file))


def _cut(_disk: StagedDisk, file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def _remove(_disk: StagedDisk, file: Path) -> None:
    file.unlink()


@pytest.mark.usefixtures("_no_copies_within")
@pytest.mark.parametrize(
    ("hurt", "name", "error", "reason"),
    [
        (_refuse_open, "*0-*.seg", StreamUnreadable, "Permission denied"),
        (_refuse_open, "*1-*.seg", StreamUnreadable, "Permission denied"),
        (_refuse_open, "*1-*.idx", StreamUnreadable, "Permission denied"),
        (_refuse_reads, "*1-*.seg", StreamUnreadable, "Input/output error"),
        (_refuse_reads, "*1-*.idx", StreamUnreadable, "Input/output error"),
        (_cut, "*1-*.seg", StreamUnreadable, "is shorter than 4 bytes"),
        (_remove, "*0-*.seg", StreamDamaged, "is missing"),
        (_remove, "*1-*.idx", StreamDamaged, "is missing"),
    ],
)
async def test_a_fork_of_what_cannot_be_read_is_refused_by_the_name_of_the_file(
    tmp_path: Path,
    hurt: Callable[[StagedDisk, Path], None],
    name: str,
    error: type[StreamError],
    reason: str,
) -> None:
    """And is made when the file is as it was; nothing of it stays before that."""
    disk = StagedDisk()
    engine = await FileStore.at(tmp_path / "data", Settings(segment_bytes=4), disk)
    try:
        await engine.create(Create(("s",), TEXT), b"one.")
        await engine.append(Append(("s",), TEXT), b"two.")
        await in_files(engine, "s")
        (file,) = (tmp_path / "data/streams/s@").glob(name)
        whole = file.read_bytes()
        hurt(disk, file)
        with pytest.raises(error, match=rf"'s' .*{file.name}:? {reason}"):
            await engine.create(FORK, b"")
        assert not list((tmp_path / "data/tmp").iterdir())
        disk.heal()
        file.write_bytes(whole)
        assert (await engine.create(FORK, b"")).created
    finally:
        await engine.close()


async def test_a_fork_inside_an_append_that_cannot_be_read_is_refused_by_the_name_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system copied the piece; what is left of the append has to be read for its checksum."""
    monkeypatch.setattr(
        "durable_streams.filestore.files.system_calls.copy_within",
        lambda source, target, size: os.pwrite(target, os.pread(source, size, 0), 0),
    )
    disk = StagedDisk()
    engine = await FileStore.at(tmp_path / "data", Settings(), disk)
    try:
        await engine.create(Create(("s",), TEXT), b"one.")
        await in_files(engine, "s")
        disk.fail("pread", errno.EIO, ".seg")
        inside = ForkRequest(("s",), Offset(0, 0), 2)
        with pytest.raises(StreamUnreadable, match=r"'s' .*\.seg:? Input/output error"):
            await engine.create(Create(("fork",), None, fork=inside), b"")
    finally:
        disk.heal()
        await engine.close()
