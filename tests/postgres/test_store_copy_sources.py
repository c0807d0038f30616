"""``durable-streams store copy`` of a directory that is not as a server leaves it."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.transfer.source import SourceDirectory
from durable_streams.maintenance.repair import repair
from durable_streams.model.offsets import Start
from durable_streams.transfers import Damaged
from tests.copying import copy_live
from tests.postgres.test_store_copy import copied, in_files, not_copied
from tests.store_contract.words import append, at, content, create

if TYPE_CHECKING:
    from pathlib import Path

    from durable_streams.filestore.files.disk import StrPath


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
