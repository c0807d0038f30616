"""``durable-streams store copy`` of a directory that is not as a server leaves it."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from typing import TYPE_CHECKING, Final

import msgspec
import pytest

from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.format.sidecar import pack, unpack
from durable_streams.filestore.transfer.source import SourceDirectory
from durable_streams.maintenance.repair import repair
from durable_streams.model.offsets import Offset, Start
from durable_streams.transfers import Damaged
from tests.copying import copy_live
from tests.postgres.test_store_copy import (
    copied,
    differing,
    in_files,
    not_copied,
    verified,
)
from tests.postgres.test_store_copy_resumed import shown_by
from tests.store_contract.words import append, at, content, create, fork

if TYPE_CHECKING:
    from pathlib import Path

    from durable_streams.filestore.files.disk import StrPath
    from tests.postgres.conftest import Database
    from tests.postgres.test_store_copy import Shown


# -- journals ------------------------------------------------------------------------------


async def killed(data: Path, served: Path) -> None:
    """A directory whose server was killed: what was written last is in its journal only."""
    store = await in_files(served)
    await create(store, at("a"), b"one")
    await create(store, at("b"), b"one")
    await asyncio.to_thread(copy_live, served, data)
    await append(store, b", in the journal", at("a"))
    await append(store, b", behind it", at("b"))
    shutil.rmtree(data / "journal")
    await asyncio.to_thread(shutil.copytree, served / "journal", data / "journal")
    await store.close()


def tree(data: Path, name: str) -> dict[str, bytes]:
    files = [path for path in (data / name).rglob("*") if path.is_file()]
    return {str(path.relative_to(data)): path.read_bytes() for path in files}


async def has(data: Path, name: str) -> bytes:
    store = await in_files(data)
    found = await content(store, at(name), Start.BEGINNING)
    await store.close()
    return found


async def test_a_damaged_journal_is_refused_each_time_until_it_is_repaired(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy"
    await killed(data, tmp_path / "served")
    (journal,) = (data / "journal").iterdir()
    journal.write_bytes(journal.read_bytes().replace(b", in the journal", b", bits are gone "))
    before = {name: tree(data, name) for name in ("journal", "aside", "streams")}
    for _ in range(2):
        said = await not_copied(data, copy, 1)
        assert "its journal is damaged, and may have acknowledged writes" in said
        assert "is unreadable: nothing was copied, nor changed; durable-streams repair" in said
        assert {name: tree(data, name) for name in before} == before
        assert not copy.exists()
    await asyncio.to_thread(repair, data, lambda _: None, apply=True)
    copied(data, copy)
    assert await has(copy, "a") == b"one"
    assert await has(copy, "b") == b"one, behind it"


async def test_what_the_journal_has_for_files_that_cannot_be_written_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy"
    await killed(data, tmp_path / "served")

    class Refuses(Disk):
        def open_write(self, path: StrPath) -> int:
            if "/a@/" in str(path):
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
            return super().open_write(path)

    before = tree(data, "journal")
    with monkeypatch.context() as patch:
        patch.setattr("durable_streams.filestore.transfer.source.Disk", Refuses)
        for _ in range(2):
            with pytest.raises(Damaged, match=r"stream a: .*: its last writes are in the journal"):
                await SourceDirectory.open(data)
            assert tree(data, "journal") == before
    copied(data, copy)
    assert await has(copy, "a") == b"one, in the journal"


# -- forks ---------------------------------------------------------------------------------

SOURCE: Final = at("source")


async def forked(data: Path) -> None:
    """A stream of two segments, whose backups are beside it, and forks made at several places."""
    store = await in_files(data)
    await create(store, SOURCE, b"a" * 400)
    await store.close()
    await asyncio.to_thread(shutil.copytree, data / "streams/source@", data.parent / "first")
    store = await in_files(data)
    await append(store, b"b" * 500, SOURCE)
    await append(store, b"c" * 300, SOURCE)
    await store.close()
    await asyncio.to_thread(shutil.copytree, data / "streams/source@", data.parent / "second")
    store = await in_files(data)
    await append(store, b"d" * 200, SOURCE)
    for name, offset, inside in PLACES:
        await fork(store, at(name), SOURCE, offset=offset, sub_offset=inside)
    await append(store, b"own" * 50, at("at-a-border"))  # begins a segment
    await append(store, b"own", at("at-the-tail"))
    await fork(store, at("of-a-fork"), at("at-the-tail"))
    await store.close()


PLACES: Final = (
    ("after-one", Offset(0, 400), 0),
    ("in-the-second", Offset(0, 400), 7),
    ("at-a-border", Offset(0, 900), 0),
    ("after-three", Offset(1, 300), 0),
    ("in-the-fourth", Offset(1, 300), 7),
    ("at-the-tail", Offset(1, 500), 0),
)


async def goes_back(data: Path, backup: Path, then: bytes) -> None:
    """The source is as it was, and is served."""
    home = data / "streams/source@"
    for path in [*home.glob("*.seg"), *home.glob("*.idx")]:
        path.unlink()
    await asyncio.to_thread(shutil.copytree, backup, home, dirs_exist_ok=True)
    store = await in_files(data)
    if then:
        await append(store, then, SOURCE)
    await store.close()


def is_linked(data: Path, name: str) -> bool:
    """Whether a fork has the first segment of its source, and not another one like it."""
    one, other = (next((data / f"streams/{each}@").glob("0*0-*.seg")) for each in (name, "source"))
    return one.samefile(other)


@pytest.mark.parametrize("then", [b"", b"e" * 20, b"e" * 600, b"e" * 3000])
@pytest.mark.parametrize("backup", ["first", "second"])
async def test_a_fork_keeps_what_its_source_has_lost(
    tmp_path: Path, database: Database, backup: str, then: bytes
) -> None:
    """An earlier backup of one stream was put back, as ``docs/backup.rst`` says."""
    data, copy = tmp_path / "data", tmp_path / "copy"
    await forked(data)
    begins_a_segment(data, "at-a-border")
    await goes_back(data, tmp_path / backup, then)
    before = await shown_by(data)
    lost = {"in-the-fourth", "at-the-tail"}
    if backup == "first":
        lost |= {"in-the-second", "at-a-border", "after-three"}
    for name in (database.url, copy):
        copied(data, name)
        told = differing_in(before, await shown_by(name))
        assert told == {(at(name), "fork") for name in lost}  # where they were made
        assert verified(name) == 0
    assert is_linked(copy, "after-three") == (backup == "second")
    assert not is_linked(copy, "at-the-tail")


def differing_in(one: Shown, other: Shown) -> set[tuple[tuple[str, ...], str]]:
    return {(path, what) for path, what, _, _ in differing(one, other)}


def begins_a_segment(data: Path, name: str) -> None:
    """Have a fork's place be the beginning of a segment, as it may be of one from a database."""
    path = data / f"streams/{name}@/meta.json"
    sidecar = unpack(path.read_bytes())
    assert sidecar.fork is not None
    assert sidecar.fork.point == Offset(0, 900).token
    origin = msgspec.structs.replace(sidecar.fork, point=Offset(1, 0).token)
    path.write_bytes(pack(msgspec.structs.replace(sidecar, fork=origin)))


async def test_a_fork_that_was_repaired_has_no_more_than_that(
    tmp_path: Path, database: Database
) -> None:
    """It was damaged in what it has of its source."""
    data = tmp_path / "data"
    await forked(data)
    (segment,) = (data / "streams/at-the-tail@").glob("0*1-*.seg")
    segment.write_bytes(segment.read_bytes().replace(b"d", b"D"))
    await asyncio.to_thread(repair, data, lambda _: None, apply=True)
    before = await shown_by(data)
    assert before[at("at-the-tail")]["tail"] == Offset(1, 300)
    for name in (database.url, tmp_path / "copy"):
        copied(data, name)
        told = differing_in(before, await shown_by(name))
        assert told == {(at("at-the-tail"), "fork"), (at("of-a-fork"), "fork")}
        assert verified(name) == 0
