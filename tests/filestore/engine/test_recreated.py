"""A stream at a path where another one was removed begins above it, whatever comes between.

One module because all of it is about the same few streams, in memory, in the file and in forks.
"""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.filestore.files import removed_file
from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.format.removed import Removed, unpack
from durable_streams.filestore.store import FileStore
from durable_streams.maintenance.findings import Level
from durable_streams.maintenance.repair import repair
from durable_streams.maintenance.verify import verify
from durable_streams.model.commands import Append, Create, ForkRequest
from durable_streams.model.errors import OffsetGone
from durable_streams.model.offsets import ZERO, Offset, Start
from durable_streams.settings import Settings
from tests.copying import copy_live
from tools.inside import all_in_files, batches, checkpoint, freed_up_to
from tools.simulation.contents import read as read_runs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from durable_streams.maintenance.findings import Finding

BYTES: Final = "application/octet-stream"
JSON: Final = "application/json"
SETTINGS: Final = Settings(segment_bytes=30)
TEN: Final = b"0123456789"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
async def engine(data: Path) -> AsyncIterator[FileStore]:
    engine = await FileStore.at(data, SETTINGS)
    yield engine
    await engine.close()


async def create(engine: FileStore, path: str, body: bytes = b"", **more: object) -> Offset:
    """Create a stream; where it ends."""
    created = await engine.create(Create((path,), BYTES, **more), body)  # type: ignore[arg-type]
    assert created.created
    return created.info.tail


async def append(engine: FileStore, path: str, body: bytes) -> Offset:
    return (await engine.append(Append((path,), BYTES), body)).tail


async def make(engine: FileStore, path: str, letter: bytes, appends: int = 7) -> list[Offset]:
    """A stream of appends of 10 bytes, three of which fill a segment; where they end."""
    await create(engine, path)
    return [await append(engine, path, letter * 10) for _ in range(appends)]


async def content(
    engine: FileStore, path: str, start: Offset | Start = Start.BEGINNING
) -> tuple[bytes, list[int]]:
    """What is read from an offset on, and the segments that it is in."""
    runs, _ = await read_runs(engine, await engine.open((path,)), start)
    return b"".join(run.data for run in runs), [run.segment for run in runs]


async def recreate(engine: FileStore, path: str) -> None:
    """Three segments of ``o``, removed, and three of ``n`` in their place."""
    await make(engine, path, b"o")
    await engine.delete((path,))
    await make(engine, path, b"n")


async def is_sound(data: Path) -> bool:
    findings: list[Finding] = []
    await asyncio.to_thread(verify, data, findings.append)
    return not [finding for finding in findings if finding.level is not Level.TORN]


async def test_its_offsets_lie_above_all_of_the_one_before(engine: FileStore) -> None:
    old = await make(engine, "s", b"o")
    await engine.delete(("s",))
    assert await create(engine, "s") == Offset(3, 0)
    new = [await append(engine, "s", b"n" * 10) for _ in range(7)]
    assert (max(old), min(new)) == (Offset(2, 10), Offset(3, 10))
    assert await content(engine, "s") == (b"n" * 70, [3, 4, 5])


async def test_with_first_content_too(engine: FileStore) -> None:
    await make(engine, "s", b"o")
    await engine.delete(("s",))
    assert await create(engine, "s", b"first") == Offset(3, 5)
    assert await content(engine, "s") == (b"first", [3])


async def test_the_zero_token_is_its_beginning(engine: FileStore) -> None:
    await recreate(engine, "s")
    assert await content(engine, "s", ZERO) == (b"n" * 70, [3, 4, 5])
    with await engine.read(await engine.open(("s",)), ZERO) as chunk:
        assert chunk.start == Offset(3, 0)


async def test_the_zero_token_of_an_empty_one_is_its_tail(engine: FileStore) -> None:
    await make(engine, "s", b"o")
    await engine.delete(("s",))
    await create(engine, "s")
    for start in (ZERO, Start.BEGINNING, Start.NOW, Offset(3, 0)):
        with await engine.read(await engine.open(("s",)), start) as chunk:
            assert (chunk.start, chunk.end, chunk.at_tail) == (Offset(3, 0), Offset(3, 0), True)


async def test_whoever_read_the_one_before_is_told_so(engine: FileStore) -> None:
    old = await make(engine, "s", b"o")
    await engine.delete(("s",))
    await make(engine, "s", b"n")
    stream = await engine.open(("s",))
    for offset in [*old, Offset(0, 1), Offset(2, 999)]:
        with pytest.raises(OffsetGone) as caught:
            await engine.read(stream, offset, is_end=True)
        with pytest.raises(OffsetGone):
            engine.read_now(stream, offset)
        assert (caught.value.path, caught.value.begin) == ("s", Offset(3, 0))
        assert caught.value.offset == offset


async def test_a_path_that_nobody_used_begins_at_zero(engine: FileStore) -> None:
    await recreate(engine, "s")
    assert await create(engine, "other") == ZERO


async def test_one_without_content_leaves_the_path_as_it_was(engine: FileStore) -> None:
    await create(engine, "s", closed=True)
    await engine.delete(("s",))
    assert await create(engine, "s") == ZERO


async def test_each_of_many_begins_above_the_one_before(engine: FileStore) -> None:
    for number in range(4):
        assert await create(engine, "s", b"x") == Offset(number, 1)
        await engine.delete(("s",))


# -- restarts and crashes ----------------------------------------------------------------------


async def test_a_restart_remembers(data: Path) -> None:
    engine = await FileStore.at(data, SETTINGS)
    await make(engine, "s", b"o")
    await engine.delete(("s",))
    await engine.close()
    engine = await FileStore.at(data, SETTINGS)
    assert await create(engine, "s") == Offset(3, 0)
    await engine.close()


async def test_a_stream_begins_where_its_files_do_whatever_is_remembered(data: Path) -> None:
    engine = await FileStore.at(data, SETTINGS)
    await recreate(engine, "s")
    await engine.close()
    (data / removed_file.NAME).unlink()
    shutil.rmtree(data / "journal")
    engine = await FileStore.at(data, SETTINGS)
    assert await content(engine, "s") == (b"n" * 70, [3, 4, 5])
    assert await append(engine, "s", b"x") == Offset(5, 11)
    await engine.close()
    assert await is_sound(data)


MOMENTS: Final = ("the deletion", "the create", "an append", "more appends", "a checkpoint")


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_kill_at_any_moment_leaves_what_is_remembered(
    data: Path, tmp_path: Path, moment: str
) -> None:
    """What a copy of the files at that moment has is what a kill leaves."""
    killed = tmp_path / "killed"
    engine = await FileStore.at(data, SETTINGS)
    await make(engine, "s", b"o")

    async def reached(name: str) -> None:
        if name == moment:
            await asyncio.to_thread(copy_live, data, killed)

    await engine.delete(("s",))
    await reached("the deletion")
    await create(engine, "s")
    await reached("the create")
    await append(engine, "s", b"n" * 10)
    await reached("an append")
    for _ in range(6):
        await append(engine, "s", b"n" * 10)
    await reached("more appends")
    await checkpointed(engine)
    await reached("a checkpoint")
    await engine.close()

    after = await FileStore.at(killed, SETTINGS)
    if moment == "the deletion":
        await create(after, "s")
    expected = {"an append": 1, "more appends": 7, "a checkpoint": 7}.get(moment, 0)
    assert (await content(after, "s"))[0] == b"n" * 10 * expected
    assert await append(after, "s", b"x" * 30) >= Offset(3, 0)
    with pytest.raises(OffsetGone):
        await after.read(await after.open(("s",)), Offset(2, 10))
    await after.close()
    assert await is_sound(killed)


async def checkpointed(engine: FileStore) -> None:
    """Return when everything so far is in files, and the journal need not have it."""
    await all_in_files(engine)
    await checkpoint(engine)
    assert freed_up_to(engine) == batches(engine)


async def test_what_the_journal_forgets_is_in_the_file_before(
    data: Path, engine: FileStore
) -> None:
    await make(engine, "s", b"o")
    await engine.delete(("s",))
    assert not (data / removed_file.NAME).exists()
    await checkpointed(engine)
    assert unpack((data / removed_file.NAME).read_bytes()) == Removed(0, {"s": 3})


async def test_a_kill_after_the_journal_forgot_leaves_what_is_remembered(
    data: Path, tmp_path: Path
) -> None:
    engine = await FileStore.at(data, SETTINGS)
    await make(engine, "s", b"o")
    await engine.delete(("s",))
    await checkpointed(engine)
    await asyncio.to_thread(copy_live, data, tmp_path / "killed")
    await engine.close()
    shutil.rmtree(tmp_path / "killed" / "journal")
    after = await FileStore.at(tmp_path / "killed", SETTINGS)
    assert await create(after, "s") == Offset(3, 0)
    await after.close()


class FullDisk(Disk):
    """Has no room for the file of removed paths while it is ``full``."""

    full = True
    full_until_gone: Path | None = None
    tries = 0

    def open_write(self, path: object) -> int:
        gone = self.full_until_gone
        is_full = self.full if gone is None else gone.exists()
        if is_full and str(path).endswith(removed_file.NAME):
            self.tries += 1
            raise OSError(28, "No space left on device", str(path))
        return super().open_write(path)  # type: ignore[arg-type]


async def test_without_room_for_the_file_the_journal_is_not_freed(data: Path) -> None:
    disk = FullDisk()
    engine = await FileStore.at(data, SETTINGS, disk)
    await make(engine, "s", b"o")
    await engine.delete(("s",))
    await all_in_files(engine)
    await checkpoint(engine)
    assert disk.tries
    assert freed_up_to(engine) < batches(engine)
    disk.full = False
    await checkpointed(engine)
    await engine.close()
    assert unpack((data / removed_file.NAME).read_bytes()) == Removed(0, {"s": 3})


async def test_without_room_for_it_at_the_end_the_next_start_has_the_journal(data: Path) -> None:
    disk = FullDisk()
    engine = await FileStore.at(data, SETTINGS, disk)
    await make(engine, "s", b"o")
    await engine.delete(("s",))
    await engine.close()
    assert engine.fault is None
    engine = await FileStore.at(data, SETTINGS)
    assert await create(engine, "s") == Offset(3, 0)
    await engine.close()


async def test_on_a_full_disk_a_start_goes_on_and_the_first_checkpoint_writes_it_down(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Only a server that has started makes room."""
    engine = await FileStore.at(data, SETTINGS)
    await make(engine, "s", b"o")
    await engine.delete(("s",))
    await asyncio.to_thread(copy_live, data, tmp_path / "killed")
    await engine.close()
    disk = FullDisk()
    after = await FileStore.at(tmp_path / "killed", SETTINGS, disk)
    assert disk.tries
    assert "no room to write down which paths were removed" in caplog.text
    disk.full = False
    await checkpointed(after)
    file = tmp_path / "killed" / removed_file.NAME
    assert unpack(file.read_bytes()) == Removed(0, {"s": 3})
    await after.close()


async def test_the_reserve_makes_room_for_the_file(data: Path) -> None:
    disk = FullDisk()
    engine = await FileStore.at(data, SETTINGS, disk)
    reserve = data / "RESERVE"
    reserve.write_bytes(b"some")
    await make(engine, "s", b"o")
    await engine.delete(("s",))
    disk.full_until_gone = reserve
    await checkpointed(engine)
    assert not reserve.exists()
    await engine.close()


async def test_a_damaged_journal_is_not_set_aside_before_the_file_has_what_it_says(
    data: Path, tmp_path: Path
) -> None:
    engine = await FileStore.at(data, SETTINGS)
    await make(engine, "s", b"o")
    await engine.delete(("s",))
    for body in (b"to be damaged", b"behind it"):
        await create(engine, "t", body)
        await engine.delete(("t",))
    killed = tmp_path / "killed"
    await asyncio.to_thread(copy_live, data, killed)
    await engine.close()
    (journal,) = (killed / "journal").iterdir()
    journal.write_bytes(journal.read_bytes().replace(b"to be damaged", b"two bits gone"))
    told: list[str] = []
    await asyncio.to_thread(repair, killed, told.append, apply=True)
    assert "damage" in "".join(told)
    after = await FileStore.at(killed, SETTINGS)
    assert await create(after, "s") == Offset(3, 0)
    await after.close()


async def test_what_the_file_has_is_not_taken_from_the_journal_again(
    data: Path, tmp_path: Path
) -> None:
    """It may be of hours ago, and more than there is room for."""
    engine = await FileStore.at(data, SETTINGS)
    await make(engine, "s", b"o")
    await engine.delete(("s",))
    await checkpointed(engine)
    await create(engine, "t")  # with which the journal says what was checkpointed
    await asyncio.to_thread(copy_live, data, tmp_path / "killed")
    await engine.close()
    (tmp_path / "killed" / removed_file.NAME).unlink()
    after = await FileStore.at(tmp_path / "killed", SETTINGS)
    assert await create(after, "s") == ZERO
    await after.close()


@pytest.mark.parametrize("text", [b"", b"nonsense", b'{"format": 9}'])
async def test_a_file_that_says_nothing_is_moved_aside_and_told(
    data: Path, caplog: pytest.LogCaptureFixture, text: bytes
) -> None:
    await (await FileStore.at(data, SETTINGS)).close()
    (data / removed_file.NAME).write_bytes(text)
    engine = await FileStore.at(data, SETTINGS)
    assert await create(engine, "s") == ZERO
    await engine.close()
    assert "caches may mix up" in caplog.text
    [aside] = (data / "aside").glob(f"{removed_file.NAME}.*")
    assert aside.read_bytes() == text


# -- forks -------------------------------------------------------------------------------------


async def fork(engine: FileStore, path: str, source: str = "s", *more: object) -> Offset:
    request = ForkRequest((source,), *more)  # type: ignore[arg-type]
    return (await engine.create(Create((path,), fork=request), b"")).info.tail


async def test_a_fork_has_the_offsets_of_its_source(engine: FileStore) -> None:
    await recreate(engine, "s")
    assert await fork(engine, "f") == Offset(5, 10)
    assert await append(engine, "f", b"f" * 10) == Offset(5, 20)
    assert await content(engine, "f") == (b"n" * 70 + b"f" * 10, [3, 4, 5])


@pytest.mark.parametrize("offset", [ZERO, Offset(3, 0)])
async def test_a_fork_at_the_beginning_has_nothing_of_its_source(
    engine: FileStore, offset: Offset
) -> None:
    await recreate(engine, "s")
    assert await fork(engine, "f", "s", offset) == Offset(3, 0)
    assert await append(engine, "f", b"f") == Offset(3, 1)
    assert await content(engine, "f", ZERO) == (b"f", [3])


@pytest.mark.parametrize("offset", [Offset(3, 10), Offset(3, 30), Offset(4, 0), Offset(5, 10)])
async def test_a_fork_at_an_offset_has_what_is_before(engine: FileStore, offset: Offset) -> None:
    await recreate(engine, "s")
    size = 30 * (offset.segment - 3) + offset.position
    await fork(engine, "f", "s", offset)
    assert (await content(engine, "f"))[0] == b"n" * size


async def test_a_fork_counts_from_the_zero_token_as_well(engine: FileStore) -> None:
    await recreate(engine, "s")
    assert await fork(engine, "f", "s", ZERO, 4) == Offset(3, 4)


async def test_a_fork_at_an_offset_of_the_stream_before_is_refused(engine: FileStore) -> None:
    await recreate(engine, "s")
    with pytest.raises(OffsetGone):
        await fork(engine, "f", "s", Offset(2, 10))
    assert await create(engine, "f") == ZERO


async def test_repeating_a_fork_at_the_zero_token_finds_it(engine: FileStore) -> None:
    await recreate(engine, "s")
    await fork(engine, "f", "s", ZERO)
    again = await engine.create(Create(("f",), fork=ForkRequest(("s",), ZERO)), b"")
    assert not again.created


async def test_a_fork_made_where_a_stream_was_removed_begins_above_it(
    engine: FileStore, data: Path
) -> None:
    """Its source's files have other numbers there; all that follows goes on from those."""
    await make(engine, "f", b"o", 13)  # up to segment 4
    await engine.delete(("f",))
    await make(engine, "s", b"n")
    assert await fork(engine, "f") == Offset(7, 10)
    assert await content(engine, "f") == (b"n" * 70, [5, 6, 7])
    for _ in range(4):
        await append(engine, "f", b"f" * 10)
    whole = (b"n" * 70 + b"f" * 40, [5, 6, 7, 8])
    assert await content(engine, "f") == whole
    with pytest.raises(OffsetGone):
        await engine.read(await engine.open(("f",)), Offset(2, 10))
    await engine.close()
    assert await is_sound(data)

    again = await FileStore.at(data, SETTINGS)
    assert await content(again, "f") == whole
    await again.close()


async def test_a_fork_of_such_a_fork_may_begin_above_another_stream(
    engine: FileStore, data: Path
) -> None:
    for path, appends in (("f", 13), ("g", 25)):
        await make(engine, path, b"o", appends)
        await engine.delete((path,))
    await make(engine, "s", b"n")
    await fork(engine, "f")
    for _ in range(5):
        await append(engine, "f", b"f" * 10)
    assert await fork(engine, "g", "f", Offset(8, 15)) == Offset(12, 15)
    await append(engine, "g", b"g" * 10)
    await append(engine, "g", b"g" * 10)
    assert await fork(engine, "h", "g") == Offset(13, 10)
    whole = (b"n" * 70 + b"f" * 35 + b"g" * 20, [9, 10, 11, 12, 13])
    for path in ("g", "h"):
        assert await content(engine, path) == whole
    await engine.close()
    assert await is_sound(data)
    again = await FileStore.at(data, SETTINGS)
    for path in ("g", "h"):
        assert await content(again, path) == whole
    await again.close()


async def test_what_a_fork_was_asked_for_is_as_it_was_asked_for(engine: FileStore) -> None:
    await make(engine, "f", b"o")
    await engine.delete(("f",))
    await make(engine, "s", b"n")
    await fork(engine, "f", "s", Offset(1, 20))
    again = await engine.create(Create(("f",), fork=ForkRequest(("s",), Offset(1, 20))), b"")
    assert (again.created, again.info.tail) == (False, Offset(4, 20))


async def test_a_source_that_went_with_its_last_fork_counts_as_removed(engine: FileStore) -> None:
    await make(engine, "s", b"o")
    await fork(engine, "f")
    await engine.delete(("s",))
    await engine.delete(("f",))
    assert await create(engine, "s") == Offset(3, 0)
    assert await create(engine, "f") == Offset(3, 0)


async def test_a_json_stream_and_its_forks_begin_above_as_well(engine: FileStore) -> None:
    await engine.create(Create(("s",), JSON), b"[1,2,3]")
    await engine.delete(("s",))
    await engine.create(Create(("s",), JSON), b"[4,5,6]")
    assert await content(engine, "s", ZERO) == (b"4,5,6,", [1])
    assert await content(engine, "s", Offset(1, 2)) == (b"5,6,", [1])
    assert await fork(engine, "f", "s", ZERO, 2) == Offset(1, 4)
    assert await content(engine, "f") == (b"4,5,", [1])
