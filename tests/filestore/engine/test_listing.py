"""Lists of streams in files: whatever is open, on its way, out of service, or somebody else's."""

from __future__ import annotations

import asyncio
import errno
import logging
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.filestore.store import FileStore
from durable_streams.filestore.tuning import Tuning
from durable_streams.model.commands import Append, Create, ForkRequest, Lifetime
from durable_streams.model.errors import Draining, StreamError, Unavailable
from durable_streams.model.results import StreamPage, StreamRow, UnusableRow
from durable_streams.settings import MIB, Settings
from tests.copying import copy_live
from tests.driving import append, directory, put
from tests.filestore.engine.faulty import SMALL_JOURNAL
from tests.filestore.files.staged_disk import StagedDisk
from tests.store_contract.conftest import Clock, ClockedRuntime
from tools.inside import (
    all_in_files,
    back_in_service,
    forget_paths,
    in_files,
    knows_all_paths,
    of,
    paths_loaded,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.filestore.files.staged_disk import Gate

SMALL_STEPS: Final = Tuning(listed_at_once=2, listed_unpaused=1, rows_at_once=2)


async def page(engine: FileStore, prefix: str = "", limit: int = 1000) -> StreamPage:
    return await engine.list_streams(of(prefix) if prefix else (), (), limit)


async def listed(engine: FileStore, prefix: str = "") -> list[str]:
    """The paths of all that can be used."""
    rows = (await page(engine, prefix)).rows
    return ["/".join(row.path) for row in rows if isinstance(row, StreamRow)]


async def unusable(engine: FileStore) -> dict[str, str]:
    """Why others cannot be."""
    rows = (await page(engine)).rows
    return {"/".join(row.path): row.reason for row in rows if isinstance(row, UnusableRow)}


async def left_behind(data: Path, *paths: str) -> None:
    """Streams of an earlier run."""
    engine = await FileStore.at(data, Settings())
    for path in paths:
        await put(engine, path, b"some")
    await engine.close()


async def reached(gate: Gate) -> None:
    while not gate.reached.is_set():
        await asyncio.sleep(0)


# -- rows ----------------------------------------------------------------------------------


@pytest.mark.parametrize("segment_bytes", [1, 16 * MIB])
async def test_a_row_is_the_same_whether_the_stream_is_open_or_not(
    data: Path, segment_bytes: int
) -> None:
    """All in one millisecond: no comparison of times can tell what was written to which."""
    settings, standing = Settings(segment_bytes=segment_bytes), ClockedRuntime(Clock())
    engine = await FileStore.at(data, settings, runtime=standing)
    await put(engine, "empty")
    await put(engine, "begun", b"at once")
    await engine.create(Create(of("json"), "application/json"), b'[1, {"two": 2}]')
    await engine.append(Append(of("json"), "application/json"), b"3")
    await engine.create(Create(of("closed"), "text/plain", closed=True), b"")
    await engine.create(Create(of("mortal"), lifetime=Lifetime(ttl_s=1000)), b"x")
    for number in range(20):
        await append(engine, "begun", b"%d" % number)
    at = (await engine.head(of("begun"))).tail
    await append(engine, "begun", b"and more")
    await engine.create(Create(of("fork"), fork=ForkRequest(of("begun"), at)), b"")
    await engine.create(Create(of("fork/2"), fork=ForkRequest(of("begun"))), b"of its own")
    await put(engine, "again", b"before")
    await engine.delete(of("again"))
    await put(engine, "again")
    rows = (await page(engine)).rows
    assert len(rows) == 8
    await engine.close()

    engine = await FileStore.at(data, settings, runtime=standing)
    assert not paths_loaded(engine)
    assert (await page(engine)).rows == rows
    assert not paths_loaded(engine)
    for row in rows:
        assert isinstance(row, StreamRow)
        info = await engine.head(row.path)
        assert (row.tail, row.closed, row.id) == (info.tail, info.closed, info.id)
    assert (await page(engine)).rows == rows
    await engine.close()


async def test_where_files_are_torn_a_row_ends_where_the_stream_does(data: Path) -> None:
    await left_behind(data, "torn", "short", "whole")
    for path, kind, cut in (("torn", "idx", 3), ("short", "seg", 1)):
        (file,) = directory(data, path).glob(f"*.{kind}")
        file.write_bytes(file.read_bytes()[:-cut])
    engine = await FileStore.at(data, Settings())
    rows = {row.path: row for row in (await page(engine)).rows}
    for at, row in rows.items():
        info = await engine.head(at)
        assert isinstance(row, StreamRow)
        assert row.tail == info.tail
    assert [row.size_bytes for row in rows.values() if isinstance(row, StreamRow)] == [0, 0, 4]
    await engine.close()


async def test_a_write_that_failed_is_no_last_write(data: Path, disk: StagedDisk) -> None:
    engine = await FileStore.at(data, Settings(), disk)
    await put(engine, "a")
    disk.fail("sync", errno.EIO, "journal")
    with pytest.raises(StreamError):
        await append(engine, "a", b"x")
    (row,) = (await page(engine)).rows
    assert isinstance(row, StreamRow)
    assert (row.size_bytes, row.last_write_ms) == (0, None)
    disk.heal()
    await engine.close()


# -- what is on its way --------------------------------------------------------------------


async def test_a_birth_counts_from_when_it_is_durable_and_an_end_too(
    data: Path, disk: StagedDisk
) -> None:
    engine = await FileStore.at(data, Settings(), disk)
    await put(engine, "a")
    gate = disk.hold("sync", "journal")
    coming = asyncio.create_task(put(engine, "b"))
    going = asyncio.create_task(engine.delete(of("a")))
    await reached(gate)
    assert await listed(engine) == ["a"]
    gate.open()
    await asyncio.gather(coming, going)
    assert await listed(engine) == ["b"]
    await engine.close()


async def test_what_the_files_do_not_have_yet_is_listed_by_the_first_list_as_well(
    data: Path, disk: StagedDisk
) -> None:
    await left_behind(data, "a", "b")
    engine = await FileStore.at(data, Settings(), disk)
    rename = disk.hold("rename")  # into the streams, and out of them
    await put(engine, "c", b"c")
    await engine.delete(of("a"))
    await put(engine, "a", b"anew")
    await engine.delete(of("b"))
    assert await listed(engine) == ["a", "c"]
    rename.open()
    await all_in_files(engine)
    assert await listed(engine) == ["a", "c"]
    await engine.close()


async def test_what_comes_and_goes_while_all_are_found_is_what_is_listed(
    data: Path, disk: StagedDisk
) -> None:
    names = [f"{letter}/{number}" for letter in "abc" for number in range(5)]
    await left_behind(data, *names)
    engine = await FileStore.at(data, Settings(), disk, tuning=SMALL_STEPS)
    for letter in "abc":  # whichever comes first
        gate = disk.hold("each_name", f"streams/{letter}")
        listing = asyncio.create_task(listed(engine))
        await reached(gate)
        for number in range(2):
            await engine.delete(of(f"{letter}/{number}"))
            await put(engine, f"new/{letter}/{number}")
        await put(engine, f"{letter}/0")
        await all_in_files(engine)
        gate.open()
        found = await listing
        assert f"{letter}/0" in found
        assert f"{letter}/1" not in found
        assert f"new/{letter}/1" in found
        assert found == sorted(found)
        forget_paths(engine)  # and once more
    await engine.close()


async def test_random_changes_beside_many_first_lists(data: Path) -> None:
    engine = await FileStore.at(data, Settings(), tuning=SMALL_STEPS)
    for number in range(30):
        await put(engine, f"stays/{number:02}")

    async def turn_over(lane: int) -> None:
        for number in range(15):
            await put(engine, f"{lane}/{number}")
            if number % 3:
                await engine.delete(of(f"{lane}/{number}"))

    working = [asyncio.create_task(turn_over(lane)) for lane in range(6)]
    while not all(task.done() for task in working):
        forget_paths(engine)
        assert await listed(engine, "stays") == [f"stays/{number:02}" for number in range(30)]
    left = [f"{lane}/{number}" for lane in range(6) for number in range(0, 15, 3)]
    assert sorted(set(await listed(engine)) - set(await listed(engine, "stays"))) == sorted(left)
    await engine.close()


# -- out of service ------------------------------------------------------------------------


async def test_a_stream_that_cannot_be_read_hides_no_other(data: Path, disk: StagedDisk) -> None:
    await left_behind(data, "a", "b", "c", "d")
    (directory(data, "c") / "meta.json").write_text("{}")
    engine = await FileStore.at(data, Settings(), disk)
    disk.fail("open_read", errno.EIO, "b@")
    assert await listed(engine) == ["a", "d"]
    found = await unusable(engine)
    assert found["b"] == "its files cannot be read: Input/output error"
    assert found["c"].startswith("damaged: ")
    assert str(data) not in "".join(found.values())
    disk.heal()
    assert await listed(engine) == ["a", "b", "d"]
    await engine.close()


async def test_a_lack_of_descriptors_is_no_matter_of_the_streams(
    data: Path, disk: StagedDisk
) -> None:
    await left_behind(data, "a")
    engine = await FileStore.at(data, Settings(), disk)
    disk.fail("open_read", errno.EMFILE, "a@")
    with pytest.raises(OSError, match="Too many open files"):
        await page(engine)
    disk.heal()
    assert await listed(engine) == ["a"]
    await engine.close()


async def test_a_stream_out_of_service_is_listed_with_the_reason(
    data: Path, disk: StagedDisk
) -> None:
    engine = await FileStore.at(data, SMALL_JOURNAL, disk)
    await put(engine, "a", b"one")
    await put(engine, "b", b"one")
    await in_files(engine, "a", "b")
    disk.fail("pwrite", errno.EIO, "a@")
    await append(engine, "a", b"two")
    await all_in_files(engine)
    assert await listed(engine) == ["b"]
    assert set(await unusable(engine)) == {"a"}
    disk.heal()
    await back_in_service(engine, "a")
    assert await listed(engine) == ["a", "b"]
    await engine.close()


async def test_what_a_start_could_not_bring_to_its_place_is_listed_so(
    data: Path, tmp_path: Path, disk: StagedDisk
) -> None:
    engine = await FileStore.at(data, SMALL_JOURNAL, disk)
    await put(engine, "goes")
    await in_files(engine, "goes")
    gate = disk.hold("rename")
    await put(engine, "comes")
    await engine.delete(of("goes"))
    crashed = tmp_path / "crashed"
    await asyncio.to_thread(copy_live, data, crashed)
    gate.open()
    await engine.close()

    failing = StagedDisk()
    failing.fail("rename", errno.EIO, "comes@")
    failing.fail("rename", errno.EIO, "trash")
    engine = await FileStore.at(crashed, SMALL_JOURNAL, failing)
    assert await listed(engine) == []
    assert set(await unusable(engine)) == {"comes"}
    failing.heal()
    await back_in_service(engine, "comes")
    assert await listed(engine) == ["comes"]
    await engine.close()


# -- when all are found --------------------------------------------------------------------


async def test_nothing_is_looked_for_before_somebody_asks_and_then_once(
    data: Path, disk: StagedDisk
) -> None:
    await left_behind(data, "a", "b/1", "b/2")
    engine = await FileStore.at(data, Settings(), disk)
    await put(engine, "c")
    assert disk.calls["each_name"] == 0
    found = await asyncio.gather(*(listed(engine) for _ in range(5)))
    assert found == [["a", "b/1", "b/2", "c"]] * 5
    assert disk.calls["each_name"] == 2
    await put(engine, "b/3")
    assert await listed(engine) == ["a", "b/1", "b/2", "b/3", "c"]
    assert disk.calls["each_name"] == 2
    await engine.close()


async def test_who_leaves_meanwhile_harms_nobody(data: Path, disk: StagedDisk) -> None:
    await left_behind(data, "a")
    engine = await FileStore.at(data, Settings(), disk)
    gate = disk.hold("each_name")
    leaving, staying = (asyncio.create_task(listed(engine)) for _ in range(2))
    await reached(gate)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    gate.open()
    assert await staying == ["a"]
    assert disk.calls["each_name"] == 1
    await engine.close()


async def test_what_cannot_be_found_is_said_and_tried_again(
    data: Path, disk: StagedDisk, caplog: pytest.LogCaptureFixture
) -> None:
    await left_behind(data, "a/1", "b")
    engine = await FileStore.at(data, Settings(), disk)
    disk.fail("each_name", errno.EIO, "streams/a")
    with pytest.raises(Unavailable, match="cannot be listed now: Input/output error"):
        await page(engine)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    disk.heal()
    await put(engine, "c")
    assert await listed(engine) == ["a/1", "b", "c"]
    await engine.close()


async def test_what_was_found_is_there_for_who_waited_for_it(data: Path, disk: StagedDisk) -> None:
    """However soon it is looked at whether somebody still asks."""
    engine = await FileStore.at(data, Settings(), disk, tuning=Tuning(tick_s=0.0))
    await put(engine, "a")
    listing = asyncio.create_task(listed(engine))
    while not listing.done() and disk.calls["each_name"] < 2:
        await asyncio.sleep(0)
    assert disk.calls["each_name"] == 1
    assert await listing == ["a"]
    await engine.close()


async def test_a_long_page_leaves_turns_to_others(data: Path) -> None:
    engine = await FileStore.at(data, Settings(), tuning=SMALL_STEPS)
    for number in range(20):
        await put(engine, f"{number:02}")
    assert len(await listed(engine)) == 20
    listing, turns = asyncio.create_task(listed(engine)), 0
    while not listing.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 20 // SMALL_STEPS.rows_at_once
    assert len(await listing) == 20
    await engine.close()


async def test_a_first_list_does_not_hold_up_the_end(data: Path, disk: StagedDisk) -> None:
    await left_behind(data, *(f"a/{number}" for number in range(20)))
    engine = await FileStore.at(data, Settings(), disk, tuning=SMALL_STEPS)
    gate = disk.hold("each_name", "streams/a")
    listing = asyncio.create_task(page(engine))
    await reached(gate)
    closing = asyncio.create_task(engine.close())
    await asyncio.sleep(0)
    gate.open()
    with pytest.raises(Draining):
        await listing
    await closing


async def test_a_list_goes_on_while_the_store_drains(data: Path) -> None:
    engine = await FileStore.at(data, Settings())
    await put(engine, "a")
    assert await listed(engine) == ["a"]
    engine.drain()
    assert await listed(engine) == ["a"]
    await engine.close()


async def test_a_directory_that_is_away_is_not_an_empty_one(data: Path) -> None:
    await left_behind(data, "a", "b")
    engine = await FileStore.at(data, Settings())
    shutil.move(data, data.with_name("away"))
    with pytest.raises(Unavailable):
        await page(engine)
    shutil.move(data.with_name("away"), data)
    assert await listed(engine) == ["a", "b"]
    shutil.move(data, data.with_name("away"))
    with pytest.raises(Unavailable):
        await page(engine)
    shutil.move(data.with_name("away"), data)
    await engine.close()


async def test_what_somebody_else_puts_there_is_known_once_it_was_used_or_all_are_found_anew(
    data: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    await left_behind(other, "b", "c")
    tuning = replace(SMALL_STEPS, list_idle_s=0.0, tick_s=0.01)
    for keeps in (True, False):
        engine = await FileStore.at(data, Settings(), tuning=Tuning() if keeps else tuning)
        await put(engine, "a") if keeps else None
        before = await listed(engine)
        name = "b" if keeps else "c"
        shutil.copytree(directory(other, name), directory(data, name))
        if keeps:
            assert await listed(engine) == before
            assert (await engine.head(of(name))).path == of(name)
        else:
            while knows_all_paths(engine):
                await asyncio.sleep(0)
        assert await listed(engine) == [*before, name]
        await engine.close()
