"""``durable-streams store copy``: all streams into another store, as they were.

It is long because every way in which a copy ends is tried.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.format.removed import Removed, pack
from durable_streams.filestore.store import FileStore
from durable_streams.filestore.transfer.source import SourceDirectory
from durable_streams.filestore.transfer.target import TargetDirectory
from durable_streams.model.errors import DataDirectoryError
from durable_streams.model.offsets import Offset
from durable_streams.moving.copying import copy
from durable_streams.postgres import copy_marks
from durable_streams.postgres.connecting import Hosts
from durable_streams.postgres.copied_streams import DatabaseStreams, SourceDatabase, open_session
from durable_streams.postgres.copy_target import TargetDatabase
from durable_streams.postgres.store import PostgresStore
from durable_streams.postgres.urls import parse
from durable_streams.postgres.versions import ALONE
from durable_streams.settings import Settings
from durable_streams.transfers import Done, InUse, NotReached
from tests.postgres.moved import fill, goes_on, seen
from tests.postgres.stores import until
from tests.postgres.test_store_commands import COMMAND, configured, environment, run
from tests.store_contract.words import append, at, create, fork
from tools.postgres_cluster.processes import wait_until
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from durable_streams.filestore.files.disk import StrPath
    from durable_streams.store import Store
    from durable_streams.transfers import Source, Target
    from tests.postgres.conftest import Database

Shown = dict[tuple[str, ...], Any]

SHORT: Final = Settings(segment_bytes=1000)
"""So that streams have several segments, and forks lie at their borders."""


async def in_files(path: Path) -> FileStore:
    return await FileStore.at(path, SHORT)


def copied(source: object, target: object, *options: str) -> str:
    """What is said of a copy that succeeded."""
    done = run("copy", str(source), str(target), *options)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


async def not_copied(source: object, target: object, status: int, *options: str) -> str:
    """What is said in one line of one that did not, while stores of this process go on."""
    done = await asyncio.to_thread(run, "copy", str(source), str(target), *options)
    assert done.returncode == status, done
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


async def a_few(store: Store) -> None:
    """Where it does not matter which."""
    await create(store, at("a"), b"one")
    await create(store, at("chat/events"), b"one and two")


async def filled(path: Path, fill: Callable[[Store], Awaitable[None]] = fill) -> Shown:
    store = await in_files(path)
    await fill(store)
    shown = await seen(store)
    await store.close()
    return shown


def differing(one: Shown, other: Shown) -> list[tuple[tuple[str, ...], str, Any, Any]]:
    """Which streams differ, and in what, short enough to be read."""
    assert one.keys() == other.keys()
    return [
        (path, name, told[name], other[path][name])
        for path, told in one.items()
        for name in told
        if told[name] != other[path][name]
    ]


async def test_everything_goes_into_a_database_and_back(tmp_path: Path, database: Database) -> None:
    before = await filled(tmp_path / "data")
    said = copied(tmp_path / "data", database.url)
    assert "and found the same\n" in said
    store = await PostgresStore.at(database.url)
    assert differing(before, await seen(store)) == []
    await store.close()
    copied(database.url, tmp_path / "back")
    again = await in_files(tmp_path / "back")
    assert differing(before, await seen(again)) == []
    await goes_on(again)
    await again.close()
    node = await PostgresStore.at(database.url)
    await goes_on(node)
    await node.close()
    first = await in_files(tmp_path / "data")  # of which nothing changed
    assert differing(before, await seen(first)) == []
    await first.close()


async def test_a_database_goes_into_another_and_a_directory_too(
    tmp_path: Path, database: Database, other_database: Database
) -> None:
    before = await filled(tmp_path / "data")
    copied(tmp_path / "data", tmp_path / "second")
    copied(tmp_path / "second", database.url)
    copied(database.url, other_database.url)
    store = await PostgresStore.at(other_database.url)
    assert differing(before, await seen(store)) == []
    await goes_on(store)
    await store.close()


async def test_a_second_one_of_a_stream_goes_along(tmp_path: Path, database: Database) -> None:
    """Which somebody made by hand, as ``docs/backup.rst`` says: it has the id of the first."""
    store = await in_files(tmp_path / "data")
    await create(store, at("a/first"), b"one")
    await fork(store, at("fork"), at("a/first"), body=b" of it")
    await store.close()
    streams = tmp_path / "data/streams"
    shutil.copytree(streams / "a/first@", streams / "a/second@")
    shutil.copytree(streams / "a/first@", streams / "b/third@")
    shutil.rmtree(streams / "a/first@")
    store = await in_files(tmp_path / "data")
    before = await seen(store)
    assert len(before) == 3
    await store.close()
    copied(tmp_path / "data", database.url)
    copied(database.url, tmp_path / "back")
    store = await in_files(tmp_path / "back")
    after = await seen(store)
    # Where the first one was, there is none: nobody knows its forks, nor where they were made.
    told = {(path, name) for path, name, _, _ in differing(before, after)}
    assert told <= {(at("a/second"), "forks"), (at("b/third"), "forks"), (at("fork"), "fork")}
    assert [after[path]["content"][0] for path in sorted(after)] == [b"one", b"one", b"one of it"]
    await store.close()


async def test_what_was_written_to_a_database_goes_into_files(
    tmp_path: Path, database: Database
) -> None:
    run("init", database.url)
    node = await PostgresStore.at(database.url)
    await fill(node)
    before = await seen(node)
    await node.close()
    copied(database.url, tmp_path / "data")
    store = await FileStore.at(tmp_path / "data", Settings())
    assert differing(before, await seen(store)) == []
    await goes_on(store)
    await store.close()
    assert verified(tmp_path / "data") == 0


def verified(name: object) -> int:
    command = [sys.executable, "-m", "durable_streams", "verify", str(name)]
    return subprocess.run(command, cwd=ROOT, env=environment(), check=False).returncode


# -- what is refused -----------------------------------------------------------------------


async def test_what_cannot_be_copied_is_said_in_a_line(tmp_path: Path, database: Database) -> None:
    data, empty = tmp_path / "data", tmp_path / "empty"
    empty.mkdir()
    assert "no data directory" in await not_copied(tmp_path / "nothing", database.url, 2)
    assert "no data directory" in await not_copied(empty, database.url, 2)
    assert not (tmp_path / "nothing").exists()
    store = await in_files(data)
    await create(store, at("a"), b"one")
    assert "in use" in await not_copied(data, database.url, 9)
    await store.close()
    assert "can see in the list" in await not_copied(data, database.url.replace("@", ":secret@"), 2)
    assert "not reached" in await not_copied(data, "postgresql://ds@127.0.0.1:1/streams", 8)
    assert "no tables" in await not_copied(database.url, tmp_path / "new", 2)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert "is not empty" in await not_copied(data, tmp_path / "full", 5)
    assert "a data directory already" in await not_copied(data, data, 5)


async def test_nobody_serves_either_of_both(tmp_path: Path, database: Database) -> None:
    await filled(tmp_path / "data", a_few)
    run("init", database.url)
    node = await PostgresStore.at(database.url)
    assert "nodes serve it" in await not_copied(tmp_path / "data", database.url, 9)
    await create(node, at("a"), b"one")
    assert "nodes serve it" in await not_copied(database.url, tmp_path / "back", 9)
    await node.close()
    assert "has streams already" in await not_copied(tmp_path / "data", database.url, 5)


async def test_a_source_with_damage_is_not_copied(tmp_path: Path, database: Database) -> None:
    await filled(tmp_path / "data", a_few)
    segment = next((tmp_path / "data/streams/chat/events@").glob("*.seg"))
    data = bytearray(segment.read_bytes())
    data[7] ^= 1
    segment.write_bytes(data)
    assert "are not what they were" in await not_copied(tmp_path / "data", database.url, 1)
    assert "begun and has not ended" in run("migrate", database.url).stderr
    data[7] ^= 1
    segment.write_bytes(data)
    copied(tmp_path / "data", database.url)


async def test_a_source_with_a_stream_that_lost_its_sidecar_is_not_copied(tmp_path: Path) -> None:
    await filled(tmp_path / "data", a_few)
    (tmp_path / "data/streams/a@/meta.json").unlink()
    done = run("copy", str(tmp_path / "data"), str(tmp_path / "copy"))
    assert done.returncode == 1
    assert "segments are there: see durable-streams verify" in done.stderr


async def test_what_is_nearly_a_url_is_no_directory(tmp_path: Path) -> None:
    await filled(tmp_path / "data", a_few)
    said = await not_copied(tmp_path / "data", "mysql://user:secret@127.0.0.1/streams", 2)
    assert "secret" not in said


async def test_a_second_time_nothing_is_done(tmp_path: Path, database: Database) -> None:
    """As who was not told of the end cannot know that it was the end."""
    await filled(tmp_path / "data", a_few)
    copied(tmp_path / "data", database.url)
    assert copied(tmp_path / "data", database.url).endswith("found the same: nothing was done\n")
    store = await in_files(tmp_path / "data")
    await append(store, b", and more", at("a"))
    await store.close()
    said = await not_copied(tmp_path / "data", database.url, 5)
    assert f"has changed since it was copied to {database.url}, which may have been written" in said


async def test_a_directory_that_was_broken_off_at_its_last_step_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(tmp_path / "data", a_few)

    class CrashesAtTheEnd(Disk):
        def unlink(self, path: StrPath) -> None:
            if str(path).endswith("COPYING.json"):
                raise Crashed
            super().unlink(path)

    with monkeypatch.context() as patch:
        patch.setattr("durable_streams.filestore.transfer.target.Disk", CrashesAtTheEnd)
        with pytest.raises(Crashed):
            await once(tmp_path / "data", tmp_path / "copy")
    assert copied(tmp_path / "data", tmp_path / "copy").endswith("nothing was done\n")
    assert not (tmp_path / "copy/COPYING.json").exists()


async def test_where_many_were_removed_all_begin_above_them(
    tmp_path: Path, database: Database, other_database: Database
) -> None:
    await filled(tmp_path / "data", a_few)
    (tmp_path / "data/REMOVED.json").write_bytes(pack(Removed(9, {"gone": 4, "far": 12})))
    copied(tmp_path / "data", database.url)
    copied(database.url, other_database.url)
    copied(other_database.url, tmp_path / "copy")
    for name in (database.url, other_database.url, tmp_path / "copy"):
        store = await opened(name)
        begins = [(await create(store, at(path))).info.tail for path in ("another", "gone", "far")]
        assert begins == [Offset(9, 0), Offset(9, 0), Offset(12, 0)]
        await store.close()


async def test_a_source_that_is_written_to_meanwhile_is_no_copy(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("init", database.url)
    node = await PostgresStore.at(database.url)
    await create(node, at("a"), b"one")
    await node.close()
    source = await SourceDatabase.open(parse(database.url))
    target = await TargetDirectory.open(tmp_path / "back", source.identity)
    late = await PostgresStore.at(database.url)
    with pytest.raises(InUse, match="a node was started meanwhile"):
        await copy(source, target, lambda _: None)
    await source.close()
    await target.close()
    await late.close()
    assert "COPYING.json" in {path.name for path in (tmp_path / "back").iterdir()}


# -- not known to be whole ------------------------------------------------------------------


async def begun(data: Path, url: str) -> tuple[SourceDirectory, TargetDatabase]:
    source = await SourceDirectory.open(data)
    return source, await TargetDatabase.open(parse(url), source.identity)


async def test_a_copy_is_not_whole_for_sure_where_its_last_commit_waited_for_none(
    tmp_path: Path, database: Database
) -> None:
    await filled(tmp_path / "data", a_few)
    source, target = await begun(tmp_path / "data", database.url)
    cluster, primary = database.cluster, database.cluster.primary
    other = await database.connect()
    await other.execute(f"begin; {ALONE}")
    waits = "select count(*) from pg_stat_activity where wait_event = '{}'"
    with configured(cluster, synchronous_standby_names=cluster.quorum):
        copying = asyncio.ensure_future(copy(source, target, lambda _: None))
        await until(lambda: primary.query(waits.format("advisory")) == "1", "it is at its end")
        for node in cluster.standbys:
            node.pause()
        await other.execute("rollback")
        await until(lambda: primary.query(waits.format("SyncRep")) == "1", "its commit waits")
        await asyncio.to_thread(primary.configure, synchronous_standby_names="")
        with pytest.raises(NotReached, match=r"whether the copy is whole .* not known .* again"):
            await copying
    cluster.mend()
    other.terminate()
    await source.close()
    await target.close()
    assert copied(tmp_path / "data", database.url).endswith("found the same: nothing was done\n")


async def test_a_copy_is_not_whole_for_sure_where_commits_wait_for_none_any_more(
    tmp_path: Path, database: Database
) -> None:
    await filled(tmp_path / "data", a_few)
    source, target = await begun(tmp_path / "data", database.url)
    cluster = database.cluster
    with configured(cluster, synchronous_standby_names=cluster.quorum):
        cluster.primary.configure(synchronous_standby_names="")
        is_retired = r"not known.*nobody serves .*/data by now, until .*/RETIRED\.json is removed"
        with pytest.raises(NotReached, match=is_retired):
            await copy(source, target, lambda _: None, retires=True)
    await source.close()
    await target.close()


async def test_a_copy_is_not_said_to_be_there_before_a_standby_has_it(
    tmp_path: Path, database: Database
) -> None:
    await filled(tmp_path / "data", a_few)
    copied(tmp_path / "data", database.url)
    source = await SourceDirectory.open(tmp_path / "data")
    session = await open_session(Hosts(parse(database.url)))
    cluster = database.cluster
    for node in cluster.standbys:
        node.pause()
    again = asyncio.ensure_future(copy_marks.begin(session, parse(database.url), source.identity))
    waits = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'"
    await until(lambda: again.done() or cluster.primary.query(waits) == "1", "it waits")
    assert not again.done()
    cluster.mend()
    with pytest.raises(Done):
        await again
    session.terminate()
    await source.close()


# -- broken off ----------------------------------------------------------------------------


class Crashed(BaseException):
    """The process ends here."""


class Budget:
    """So many steps until the process ends."""

    def __init__(self) -> None:
        self.left = 0

    def take(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Crashed


async def once(data: str | Path, name: str | Path) -> None:
    source: Source
    if isinstance(data, str):
        source = await SourceDatabase.open(parse(data))
    else:
        source = await SourceDirectory.open(data)
    target: Target
    try:
        if isinstance(name, str):
            target = await TargetDatabase.open(parse(name), source.identity)
        else:
            target = await TargetDirectory.open(name, source.identity)
        try:
            await copy(source, target, lambda _: None)
        finally:
            await target.close()
    finally:
        await source.close()


async def broken_off(data: Path, name: str | Path, budget: Budget) -> int:
    """Copy, with more steps each time; how often it was broken off."""
    times = 0
    while True:
        budget.left = 1 + 5 * times
        try:
            await once(data, name)
        except Crashed:
            times += 1
        else:
            return times


async def test_into_a_database_it_goes_on_wherever_it_was_broken_off(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await filled(tmp_path / "data")
    budget, fetch = Budget(), DatabaseStreams.fetch

    async def may_crash(self: DatabaseStreams, sql: str, *arguments: object) -> list[Any]:
        if budget.left % 2:
            budget.take()
            return await fetch(self, sql, *arguments)
        found = await fetch(self, sql, *arguments)
        budget.take()  # it is done, and nobody was told
        return found

    monkeypatch.setattr(DatabaseStreams, "fetch", may_crash)
    assert await broken_off(tmp_path / "data", database.url, budget) > 10
    store = await PostgresStore.at(database.url)
    assert differing(before, await seen(store)) == []
    await store.close()


async def test_into_a_directory_it_goes_on_wherever_it_was_broken_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await filled(tmp_path / "data")
    budget = Budget()

    class MayCrash(Disk):
        def open_write(self, path: StrPath) -> int:
            budget.take()
            return super().open_write(path)

        def rename(self, source: StrPath, target: StrPath) -> None:
            budget.take()
            super().rename(source, target)
            budget.take()

        def unlink(self, path: StrPath) -> None:
            budget.take()
            super().unlink(path)

    monkeypatch.setattr("durable_streams.filestore.transfer.target.Disk", MayCrash)
    assert await broken_off(tmp_path / "data", tmp_path / "copy", budget) > 10
    store = await in_files(tmp_path / "copy")
    assert differing(before, await seen(store)) == []
    await store.close()


async def test_what_was_broken_off_is_served_by_nobody_and_taken_for_nothing_else(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(tmp_path / "data", a_few)
    await filled(tmp_path / "other", a_few)
    names: list[str | Path] = [database.url, tmp_path / "copy"]
    for name in names:
        with monkeypatch.context() as patch:
            for target in (TargetDatabase, TargetDirectory):
                patch.setattr(target, "finish", crash)
            with pytest.raises(Crashed):
                await once(tmp_path / "data", name)
        with pytest.raises(DataDirectoryError, match=r"begun and has not ended|COPYING\.json"):
            await opened(name)
        assert "a copy of something else" in await not_copied(tmp_path / "other", name, 5)
        assert "of them there before" in copied(tmp_path / "data", name)


async def opened(name: str | Path) -> PostgresStore | FileStore:
    if isinstance(name, str):
        return await PostgresStore.at(name)
    return await FileStore.at(name, Settings())


async def crash(*_: object) -> None:
    raise Crashed


def test_a_killed_copy_goes_on(tmp_path: Path, database: Database) -> None:
    """By a real process, killed while it copies."""
    before = asyncio.run(filled(tmp_path / "data"))
    primary = database.cluster.primary
    name = [str(tmp_path / "data"), database.url]
    primary_says = (
        "select coalesce(to_regclass('ds.copying'), to_regclass('ds.copied')) is not null"
    )
    with subprocess.Popen([*COMMAND, "copy", *name], cwd=ROOT, env=environment()) as process:
        wait_until(lambda: primary.query(primary_says, database.name) == "t", "it has begun")
        process.send_signal(signal.SIGKILL)
    again = run("copy", *name)
    assert again.returncode == 0, again
    store_shown = asyncio.run(shown_by(database.url))
    assert differing(before, store_shown) == []


async def shown_by(url: str) -> Shown:
    store = await PostgresStore.at(url)
    shown = await seen(store)
    await store.close()
    return shown
