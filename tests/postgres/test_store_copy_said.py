"""What ``durable-streams store copy`` checks, says, and leaves behind."""

from __future__ import annotations

import asyncio
import io
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.filestore.transfer.source import SourceDirectory
from durable_streams.filestore.transfer.target import TargetDirectory
from durable_streams.model.errors import DataDirectoryError
from durable_streams.moving.copying import Phase, Progress, copy
from durable_streams.postgres.copy_target import TargetDatabase
from durable_streams.postgres.store import PostgresStore
from durable_streams.postgres.urls import parse
from durable_streams.postgres.versions import REINSTATE
from durable_streams.shell.moving import LINE_S, REDRAW_S, Shown
from durable_streams.transfers import Damaged
from tests.command_line import environment
from tests.postgres.moved import TALK, seen
from tests.postgres.test_store_commands import here, run
from tests.postgres.test_store_copy import (
    a_few,
    copied,
    differing,
    filled,
    in_files,
    not_copied,
    once,
    opened,
    verified,
)
from tests.store_contract.words import append, at, by, create
from tools.server_process import ROOT

if TYPE_CHECKING:
    from durable_streams.transfers import Removed
    from tests.postgres.conftest import Database


# -- a source that is retired --------------------------------------------------------------


async def test_a_source_may_go_its_own_way_and_the_last_line_says_so(tmp_path: Path) -> None:
    await filled(tmp_path / "data", a_few)
    last = copied(tmp_path / "data", tmp_path / "copy").splitlines()[-1]
    assert last == (
        f"{tmp_path}/data may still be served, and would go its own way: see to it that nobody "
        "starts that, or copy with --retire"
    )
    await (await in_files(tmp_path / "data")).close()


async def test_a_directory_that_is_retired_is_not_served(
    tmp_path: Path, database: Database
) -> None:
    data = tmp_path / "data"
    before = await filled(data, a_few)
    said = copied(data, database.url, "--retire").splitlines()[-1]
    assert said == f"{data} is served by nobody now, until {data}/RETIRED.json is removed"
    with pytest.raises(DataDirectoryError, match="is retired"):
        await in_files(data)
    command = [sys.executable, "-m", "durable_streams", "serve", "--data-dir", str(data)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert f"its streams were copied to {database.url}" in done.stderr
    assert f"to serve this one again, remove {data}/RETIRED.json" in done.stderr
    assert verified(data) == 0
    copied(data, tmp_path / "another")  # as nobody writes there
    (data / "RETIRED.json").write_bytes(b"\xff")
    with pytest.raises(DataDirectoryError, match="copied to another store"):
        await in_files(data)
    (data / "RETIRED.json").unlink()
    store = await in_files(data)
    assert differing(before, await seen(store)) == []
    await store.close()


async def test_a_database_that_is_retired_is_not_served(tmp_path: Path, database: Database) -> None:
    await filled(tmp_path / "data", a_few)
    copied(tmp_path / "data", database.url)
    said = copied(database.url, tmp_path / "back", "--retire").splitlines()[-1]
    assert said.endswith(f"is served by nobody now, until somebody runs psql with: {REINSTATE}")
    with pytest.raises(DataDirectoryError, match="to serve this one again, run psql with"):
        await PostgresStore.at(database.url)
    assert "retired" in await not_copied(tmp_path / "back", database.url, 2)
    for verb in ("migrate", "restored"):
        assert "retired" in run(verb, database.url).stderr
    assert "is retired" in run("check", database.url).stdout
    assert verified(database.url) == 0
    copied(database.url, tmp_path / "another", "--retire")
    database.cluster.primary.query(REINSTATE, database.name)
    await (await PostgresStore.at(database.url)).close()


def test_it_is_retired_before_the_copy_may_be_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy"
    asyncio.run(filled(data, a_few))
    there: list[bool] = []
    finish = TargetDirectory.finish

    async def looks(self: TargetDirectory, removed: Removed, state: str) -> None:
        there.append(await asyncio.to_thread((data / "RETIRED.json").exists))
        await finish(self, removed, state)

    monkeypatch.setattr(TargetDirectory, "finish", looks)
    assert here("copy", str(data), str(copy), "--retire").returncode == 0
    assert there == [True]


async def test_a_copy_that_is_done_has_its_source_retired_later(
    tmp_path: Path, database: Database
) -> None:
    data = tmp_path / "data"
    await filled(data, a_few)
    copied(data, database.url)
    said = copied(data, database.url, "--retire").splitlines()
    assert said[0].endswith(f"until {data}/RETIRED.json is removed")
    assert said[1].endswith("nothing was done")
    assert (data / "RETIRED.json").exists()


async def test_how_a_source_that_changed_since_is_retired_without_copying_is_said(
    tmp_path: Path, database: Database, other_database: Database
) -> None:
    """Emptying the target, to copy again, would lose what nodes acknowledged since."""
    data = tmp_path / "data"
    await filled(data, a_few)
    copied(data, database.url)
    copied(database.url, other_database.url)
    for name in (data, database.url):
        store = await opened(name)
        await append(store, b", and more", at("a"))
        await store.close()
    said = await not_copied(data, database.url, 5, "--retire")
    assert f"to {database.url}, which may have been written to as well" in said
    assert f"If {database.url} is what is served, do not copy again" in said
    assert "empty it, which loses all that was written to it since, and copy again" in said
    Path(by_hand(said, "make an empty file ")).touch()
    said = await not_copied(database.url, other_database.url, 5, "--retire")
    database.cluster.primary.query(by_hand(said, "run psql with: "), database.name)
    for name in (data, database.url):
        with pytest.raises(DataDirectoryError, match="is retired"):
            await opened(name)


async def test_a_source_with_other_bytes_of_the_same_length_has_changed_since(
    tmp_path: Path, database: Database
) -> None:
    """An earlier backup of it was put back, and served: it is not retired for the copy."""
    data = tmp_path / "data"
    await filled(data, a_few)
    await asyncio.to_thread(shutil.copytree, data, tmp_path / "backup")
    for other in (b", copied", b", other."):
        store = await in_files(data)
        await append(store, other, at("a"))
        await store.close()
        if other == b", copied":
            copied(data, database.url)
            shutil.rmtree(data)
            (tmp_path / "backup").rename(data)
    said = await not_copied(data, database.url, 5, "--retire")
    assert "has changed since it was copied" in said
    assert not (data / "RETIRED.json").exists()


def by_hand(said: str, what: str) -> str:
    """What somebody is told to do."""
    return said.partition(what)[2].partition(". If it is not,")[0]


# -- what is not copied --------------------------------------------------------------------


async def test_tokens_and_keys_that_are_not_copied_are_told(
    tmp_path: Path, database: Database
) -> None:
    await filled(tmp_path / "data", a_few)
    assert "not copied" not in copied(tmp_path / "data", database.url)
    token = ["token", "new", "--store", database.url, "--id", "web", "--scope", "read"]
    for command in ([*token, "--prefix", ""], ["signing-key", "new", "--store", database.url]):
        made = [sys.executable, "-m", "durable_streams", *command]
        subprocess.run(made, cwd=ROOT, env=environment(), check=True, capture_output=True)
    said = copied(database.url, tmp_path / "back")
    assert "not copied: 1 token and 1 key of signed URLs, which are to be made anew in" in said


async def test_a_text_that_a_database_cannot_hold_is_told_before_anything_is_copied(
    tmp_path: Path, database: Database
) -> None:
    """As the store takes what HTTP and the library refuse; versions before may have, too."""
    data = tmp_path / "data"
    store = await in_files(data)
    await create(store, at("good"), b"one")
    await create(store, at("zzz/sequence"))
    await append(store, b"one", at("zzz/sequence"), stream_seq="a\0b")
    await create(store, at("zzz/producer"))
    await append(store, b"one", at("zzz/producer"), producer=by(0, name="a\0b"))
    for number in range(4):
        await create(store, at(f"zzz/type {number}"), content_type="text/\0")
    before = await seen(store)
    await store.close()
    said = await not_copied(data, database.url, 1)
    assert "zzz/producer (Producer-Id must not hold a NUL: 'a\\x00b')" in said
    assert "zzz/sequence (Stream-Seq must not hold a NUL: 'a\\x00b')" in said
    assert "and 3 others: nothing was copied; write what they hold to new streams" in said
    primary = database.cluster.primary
    assert primary.query("select count(*) from ds.runs", database.name) == "0"
    again = await not_copied(data, database.url, 1)
    assert again.endswith("or somebody runs psql with: drop schema ds cascade\n")
    primary.query(said.partition("runs psql with: ")[2], database.name)
    await (await PostgresStore.at(database.url)).close()
    copied(data, tmp_path / "copy")
    copy = await in_files(tmp_path / "copy")
    assert differing(before, await seen(copy)) == []
    await copy.close()


# -- what is compared ----------------------------------------------------------------------

WRONG: Final = {
    "content_type": "content_type = 'text/html'",
    "created_ms": "created_ms = created_ms + 1",
    "deadline_ms": "deadline_ms = 1",
    "lifetime": "ttl_s = 5",
    "lifetime of a date": "expires_at = '2999-01-01T00:00:00Z'",
    "requested": """requested = '{"ttl_s":1}'""",
    "soft_deleted": "soft_deleted = true",
    "closed": "closed = true",
    "closed_by": """closed_by = '["a",1,1]'""",
    "stream_seq": "stream_seq = '9'",
    "first_segment": "first_segment = first_segment + 1",
    "tail": "position = position + 1",
    "sort_key": r"sort_key = '\x00'",
    "size_bytes": "size_bytes = size_bytes + 1",
    "last_write_ms": "last_write_ms = last_write_ms + 1",
    "checksum": r"chain = '\x00'",
}


@pytest.mark.parametrize("column", WRONG)
async def test_whatever_differs_in_a_row_is_found(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    await filled(tmp_path / "data")
    await found_wrong(
        tmp_path, database, monkeypatch, f"update ds.streams set {WRONG[column]} where path = $1"
    )


@pytest.mark.parametrize(
    "change",
    [
        "update ds.producers set seen_ms = seen_ms + 1",
        "update ds.producers set seq = seq + 1",
        "delete from ds.producers",
        "update ds.runs set times[1] = times[1] + 1",
        "update ds.runs set claims = null",
    ],
)
async def test_whatever_differs_in_producers_and_runs_is_found(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    await filled(tmp_path / "data")
    which = "where stream = (select id from ds.streams where path = $1)"
    await found_wrong(tmp_path, database, monkeypatch, f"{change} {which}")


async def found_wrong(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    settle = TargetDatabase.settle

    async def settles_otherwise(self: TargetDatabase) -> None:
        await settle(self)
        await self.fetch(change, "/".join(TALK))

    monkeypatch.setattr(TargetDatabase, "settle", settles_otherwise)
    with pytest.raises(Damaged, match=r"chat/talk|forks/at"):
        await once(tmp_path / "data", database.url)


async def test_what_is_damaged_in_a_target_is_to_be_copied_again_and_not_repaired(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, into_files, into_rows = tmp_path / "data", TargetDirectory.settle, TargetDatabase.settle
    await filled(data, a_few)

    async def flips(self: TargetDirectory) -> None:
        await into_files(self)
        await asyncio.to_thread(flip)

    def flip() -> None:
        (segment,) = (tmp_path / "copy/streams/a@").glob("*.seg")
        segment.write_bytes(b"0ne")

    async def changes(self: TargetDatabase) -> None:
        await into_rows(self)
        await self.fetch(r"update ds.runs set data = '\x00' || substring(data from 2)")

    monkeypatch.setattr(TargetDirectory, "settle", flips)
    monkeypatch.setattr(TargetDatabase, "settle", changes)
    for name in (tmp_path / "copy", database.url):
        with pytest.raises(Damaged) as raised:
            await once(data, name)
        assert str(raised.value).endswith(": empty the target and copy again")
        assert "repair" not in str(raised.value)


async def test_verify_finds_a_path_that_is_sorted_elsewhere(
    tmp_path: Path, database: Database
) -> None:
    await filled(tmp_path / "data", a_few)
    copied(tmp_path / "data", database.url)
    assert verified(database.url) == 0
    database.cluster.primary.query(
        r"update ds.streams set sort_key = '\x00' where path = 'a'", database.name
    )
    assert verified(database.url) == 1
    assert "its sort_key is not that of its path" in await not_copied(
        database.url, tmp_path / "b", 1
    )


# -- how far it is -------------------------------------------------------------------------


class Clock:
    """That says what it is told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_where_there_is_no_terminal_a_line_comes_now_and_then() -> None:
    to, clock = io.StringIO(), Clock()
    shown = Shown(to, clock, is_terminal=False)
    shown(Progress(Phase.LOOKING, streams=1))
    assert to.getvalue() == ""
    clock.now_s += LINE_S
    shown(Progress(Phase.LOOKING, streams=700))
    shown(Progress(Phase.LOOKING, streams=800))
    clock.now_s += LINE_S - 1
    shown(Progress(Phase.COPYING, of=1000, streams=12, data_bytes=5_123_000))
    clock.now_s += 1
    shown(Progress(Phase.COPYING, of=1000, streams=13, data_bytes=6_123_000))
    shown.clear()
    assert to.getvalue() == (
        "durable-streams: looked at: 700 streams\n"
        "durable-streams: copied: 13 streams of 1000, 6.1 MB\n"
    )


def test_on_a_terminal_a_line_is_drawn_anew() -> None:
    to, clock = io.StringIO(), Clock()
    shown = Shown(to, clock, is_terminal=True)
    clock.now_s += REDRAW_S
    shown(Progress(Phase.COMPARING, of=1, streams=1))
    shown(Progress(Phase.COMPARING, of=1, streams=1))
    shown.clear()
    assert to.getvalue() == "\r\x1b[Kcompared: 1 stream of 1\r\x1b[K"


async def test_a_copy_tells_how_far_it_is(tmp_path: Path, database: Database) -> None:
    await filled(tmp_path / "data", a_few)
    to, clock = io.StringIO(), Clock()
    shown = Shown(to, clock, is_terminal=False)

    def in_half_a_minute(progress: Progress) -> None:
        clock.now_s += LINE_S
        shown(progress)

    source = await SourceDirectory.open(tmp_path / "data")
    target = await TargetDatabase.open(parse(database.url), source.identity)
    await copy(source, target, in_half_a_minute)
    await target.close()
    await source.close()
    lines = to.getvalue().splitlines()
    assert lines[0] == "durable-streams: looked at: 2 streams"
    assert "durable-streams: copied: 2 streams of 2, 0.0 MB" in lines
    assert lines[-1] == "durable-streams: compared: 2 streams of 2, 0.0 MB"
