"""What a sceptical review proved against the engine, each as the smallest case of its kind."""

import shutil
from pathlib import Path

import pytest

from durable_streams.filestore.store import FileStore
from durable_streams.model.commands import Create, ForkRequest
from durable_streams.model.errors import StreamExists
from durable_streams.settings import Durability, Settings
from tests.copying import copy_live
from tests.driving import append, content, directory, put
from tests.tags import tags
from tools.inside import in_files

SETTINGS = Settings()


def copied(source: Path, target: Path) -> Path:
    """What a killed process leaves."""
    return copy_live(source, target)


async def test_a_copy_under_another_path_has_writes_of_its_own(tmp_path: Path) -> None:
    engine = await FileStore.at(tmp_path / "data", SETTINGS)
    await put(engine, "a", b"base.")
    await in_files(engine, "a")
    copied(directory(tmp_path / "data", "a"), directory(tmp_path / "data", "b"))
    await append(engine, "a", b"for-a")
    await append(engine, "b", b"for-b")
    await engine.close()
    engine = await FileStore.at(tmp_path / "data", SETTINGS)
    assert await content(engine, "a") == b"base.for-a"
    assert await content(engine, "b") == b"base.for-b"
    await engine.close()


async def test_a_stream_put_back_after_its_deletion_survives_a_crash(tmp_path: Path) -> None:
    data = tmp_path / "data"
    engine = await FileStore.at(data, SETTINGS)
    await put(engine, "a", b"one")
    await in_files(engine, "a")
    backup = copied(directory(data, "a"), tmp_path / "backup")
    await engine.delete(("a",))
    await put(engine, "fence")
    await append(engine, "fence", b"x")
    await in_files(engine, "fence")
    copied(backup, directory(data, "a"))
    await append(engine, "a", b"two")
    await in_files(engine, "a")
    image = copied(data, tmp_path / "image")
    await engine.close()
    engine = await FileStore.at(image, SETTINGS)
    assert await content(engine, "a") == b"onetwo"
    await engine.close()


async def test_an_index_longer_than_its_segment_does_not_damage_later_appends(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    engine = await FileStore.at(data, SETTINGS)
    await put(engine, "s")
    for number in range(10):
        await append(engine, "s", b"%d." % number)
    await engine.close()
    shutil.rmtree(data / "journal")  # a backup whose segment was copied before its index
    segment = next(directory(data, "s").glob("*.seg"))
    segment.write_bytes(segment.read_bytes()[:10])
    torn = copied(directory(data, "s"), tmp_path / "torn")
    engine = await FileStore.at(data, SETTINGS)
    await append(engine, "s", b"acknowledged after the restore")
    image = copied(data, tmp_path / "image")
    await engine.close()
    shutil.rmtree(directory(image, "s"))  # killed before any of it was applied
    copied(torn, directory(image, "s"))
    engine = await FileStore.at(image, SETTINGS)
    assert await content(engine, "s") == b"0.1.2.3.4.acknowledged after the restore"
    await engine.close()


async def test_a_deleted_source_whose_last_fork_ended_in_a_crash_frees_its_path(
    tmp_path: Path,
) -> None:
    engine = await FileStore.at(tmp_path / "data", SETTINGS)
    await put(engine, "source", b"old")
    await engine.create(Create(("fork",), None, fork=ForkRequest(("source",))), b"")
    await engine.delete(("source",))
    with pytest.raises(StreamExists):
        await put(engine, "source", b"new")
    fork = await engine._find(("fork",))
    await engine._endings._delete(fork)[1].wait()  # killed before the source was told
    await engine.close()
    engine = await FileStore.at(tmp_path / "data", SETTINGS)
    await put(engine, "source", b"new")
    assert await content(engine, "source") == b"new"
    await engine.close()


async def test_a_fork_is_born_with_its_first_body(tmp_path: Path) -> None:
    engine = await FileStore.at(tmp_path / "data", SETTINGS)
    await put(engine, "source", b"shared.")
    created = await engine.create(
        Create(("fork",), None, closed=True, fork=ForkRequest(("source",))), b"own"
    )
    assert created.info.closed
    assert created.info.tail.position == len(b"shared.own")
    await engine.close()
    engine = await FileStore.at(tmp_path / "data", SETTINGS)
    assert await content(engine, "fork") == b"shared.own"
    assert (await engine.head(("fork",))).closed
    await engine.close()


@pytest.mark.parametrize("durability", [Durability.INTERVAL, Durability.NONE])
async def test_unsynced_bytes_that_were_lost_are_cut_and_change_the_etag(
    tmp_path: Path, durability: Durability
) -> None:
    data = tmp_path / "data"
    settings = Settings(durability=durability, sync_interval_s=3600)
    engine = await FileStore.at(data, settings)
    await put(engine, "s", b"AAAA")
    await append(engine, "s", b"BBBB")
    await in_files(engine, "s")
    image = copied(data, tmp_path / "image")
    before = await tags(engine, "s")
    await engine.close()
    shutil.rmtree(image / "journal")  # the power went before any of it was synced
    segment = next(directory(image, "s").glob("*.seg"))
    segment.write_bytes(b"AAAA" + bytes(4))
    engine = await FileStore.at(image, settings)
    assert await content(engine, "s") == b"AAAA"
    await append(engine, "s", b"CCCC")
    assert not before.keys() & (await tags(engine, "s")).keys()
    await engine.close()
