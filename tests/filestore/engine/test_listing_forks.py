"""Lists of streams in files while forks come and go."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.store import FileStore
from durable_streams.settings import Settings
from tests.driving import fork, put
from tests.filestore.engine.test_listing import listed, reached
from tools.inside import all_in_files, of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.filestore.files.staged_disk import StagedDisk


@pytest.mark.parametrize("replaces", [False, True])
async def test_a_fork_that_is_built_when_all_are_found_is_listed_once_it_is_there(
    data: Path, disk: StagedDisk, replaces: bool
) -> None:
    """Also at the path of a stream that has gone, and whose directory has yet to."""
    engine = await FileStore.at(data, Settings(), disk)
    await put(engine, "source", b"some")
    if replaces:
        await put(engine, "fork")
    await all_in_files(engine)
    going, building = disk.hold("rename", "trash"), disk.hold("make_directory", "tmp")
    if replaces:
        await engine.delete(of("fork"))
    forking = asyncio.create_task(fork(engine, "fork", "source"))
    await reached(building)
    assert await listed(engine) == ["source"]
    building.open()
    going.open()
    await forking
    assert await listed(engine) == ["fork", "source"]
    await engine.close()


async def test_a_fork_that_comes_while_all_are_found_is_listed(
    data: Path, disk: StagedDisk
) -> None:
    engine = await FileStore.at(data, Settings(), disk)
    await put(engine, "source", b"some")
    await put(engine, "deep/1")
    await all_in_files(engine)
    building, finding = disk.hold("make_directory", "tmp"), disk.hold("each_name", "streams/deep")
    forking = asyncio.create_task(fork(engine, "fork", "source"))
    await reached(building)
    listing = asyncio.create_task(listed(engine))
    await reached(finding)
    building.open()
    await forking
    finding.open()
    assert await listing == ["deep/1", "fork", "source"]
    await engine.close()


async def test_forks_and_their_sources_come_and_go(data: Path) -> None:
    engine = await FileStore.at(data, Settings())
    await put(engine, "source", b"some")
    assert await listed(engine) == ["source"]
    await fork(engine, "fork", "source")
    assert await listed(engine) == ["fork", "source"]
    await engine.delete(of("source"))
    assert await listed(engine) == ["fork"]
    await engine.delete(of("fork"))
    assert await listed(engine) == []
    await engine.close()
