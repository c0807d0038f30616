"""A deletion that was acknowledged holds, whatever of the stream is somewhere else meanwhile.

The stream's directory goes as a whole, so what is put back afterwards finds no place.  Only who
makes the directory anew brings a stream back, as is done from a backup.
"""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.store import FileStore
from durable_streams.model.commands import Append
from durable_streams.model.errors import StreamClosed, StreamNotFound
from tests.copying import copy_live
from tests.driving import append, content, directory, put
from tests.filestore.engine.faulty import SMALL_JOURNAL, written
from tools.inside import all_in_files, begin_checkpoint, checkpoint, checkpoints_finished, in_files

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SIDECAR = "meta.json"


@pytest.fixture
async def engine(data: Path) -> AsyncIterator[FileStore]:
    """Two streams with the same bytes, whose files are open for writing."""
    engine = await written(data, paths=("s", "twin"))
    yield engine
    if not engine.closing:
        await engine.close()


def take_away(data: Path, patterns: list[str]) -> Path:
    """Somebody moves files of the stream somewhere else; where to."""
    away = data.parent / "away"
    away.mkdir()
    for pattern in patterns:
        for file in directory(data, "s").glob(pattern):
            file.rename(away / file.name)
    return away


def put_back(away: Path, data: Path) -> None:
    """The same one puts them where they were, if there is such a place and nothing in it."""
    for file in away.iterdir():
        place = directory(data, "s") / file.name
        with suppress(FileNotFoundError):
            if not place.exists():
                file.rename(place)


async def is_missing(data: Path) -> bool:
    """Whether the next server knows of no stream, and the one beside is as it was."""
    engine = await FileStore.at(data, SMALL_JOURNAL)
    assert await content(engine, "twin") == b"one.two."
    with pytest.raises(StreamNotFound):
        await content(engine, "s")
    await engine.close()
    return True


SOME = ([SIDECAR], [SIDECAR, "*.seg"], ["*.seg"], ["*.idx"])
AWAY = [(files, strangers) for files in SOME for strangers in (False, True)]
AWAY.append((["*"], False))


@pytest.mark.parametrize(("files", "strangers"), AWAY)
@pytest.mark.parametrize("when", ["running", "killed", "ended"])
async def test_a_deleted_stream_stays_deleted_whatever_of_it_was_away_and_is_put_back(
    engine: FileStore, data: Path, files: list[str], when: str, *, strangers: bool
) -> None:
    """Also where an earlier version made it among files that another stream had left."""
    if strangers:
        for file in directory(data, "twin").glob("*-*"):
            shutil.copy(file, directory(data, "s"))
    away = take_away(data, files)
    await engine.delete(("s",))
    await all_in_files(engine)
    if when == "killed":
        data = copy_live(data, data.parent / "image")
    elif when == "ended":
        await engine.close()
    put_back(away, data)
    if when == "running":
        with pytest.raises(StreamNotFound):
            await content(engine, "s")
        await checkpoint(engine)
    if not engine.closing:
        await engine.close()
    assert await is_missing(data)


async def test_a_stream_that_was_away_as_a_whole_is_deleted_and_its_path_is_free(
    engine: FileStore, data: Path
) -> None:
    """What its open files have that were not synced yet is nobody's any more."""
    await append(engine, "s", b"three.")
    await in_files(engine, "s")
    directory(data, "s").rename(data.parent / "away")
    await engine.delete(("s",))
    await all_in_files(engine)
    begin_checkpoint(engine)
    await asyncio.wait_for(checkpoints_finished(engine), 60)
    assert engine.out_of_service() == []
    assert list((data / "aside").iterdir()) == []
    await put(engine, "s", b"another")
    await engine.close()
    again = await FileStore.at(data, SMALL_JOURNAL)
    assert await content(again, "s") == b"another"
    await again.close()


async def test_another_stream_at_the_path_lives_whatever_of_the_first_is_put_back(
    engine: FileStore, data: Path
) -> None:
    away = take_away(data, ["*"])
    await engine.delete(("s",))
    await put(engine, "s", b"another.")
    await in_files(engine, "s")
    put_back(away, data)
    await append(engine, "s", b"stream.")
    await engine.close()
    again = await FileStore.at(data, SMALL_JOURNAL)
    assert await content(again, "s") == b"another.stream."
    await again.delete(("s",))
    await again.close()
    assert await is_missing(data)


@pytest.mark.parametrize("when", ["running", "killed", "ended"])
async def test_a_closed_stream_stays_closed_though_its_sidecar_was_away(
    engine: FileStore, data: Path, when: str
) -> None:
    away = take_away(data, [SIDECAR])
    await engine.append(Append(("s",), close=True), b"")
    await all_in_files(engine)
    if when == "killed":
        data = copy_live(data, data.parent / "image")
    if when != "running":
        await engine.close()
    put_back(away, data)
    if when == "running":
        await engine.close()
    again = await FileStore.at(data, SMALL_JOURNAL)
    assert (await again.head(("s",))).closed
    with pytest.raises(StreamClosed):
        await append(again, "s", b"more.")
    await again.close()


async def test_what_is_left_of_a_stream_without_a_sidecar_is_kept_when_another_is_made_there(
    engine: FileStore, data: Path
) -> None:
    await engine.close()
    away = take_away(data, [SIDECAR])
    again = await FileStore.at(data, SMALL_JOURNAL)
    await put(again, "s", b"another.")
    await in_files(again, "s")
    [kept] = (data / "aside").iterdir()
    left = {file.name for file in kept.iterdir()}
    assert len(left) == 2
    assert left.isdisjoint(file.name for file in directory(data, "s").iterdir())
    put_back(away, data)
    await again.delete(("s",))
    await again.close()
    assert {file.name for file in kept.iterdir()} == left
    assert await is_missing(data)
