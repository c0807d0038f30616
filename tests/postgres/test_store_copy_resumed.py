"""``durable-streams store copy`` that was broken off, and whose source went on meanwhile."""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING, Any, Final

import pytest

from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.store import FileStore
from durable_streams.postgres.copied_streams import DatabaseStreams
from durable_streams.postgres.store import PostgresStore
from durable_streams.settings import Settings
from durable_streams.transfers import Done
from tests.postgres.moved import AGAIN, EVENTS, LONG, TALK, seen
from tests.postgres.test_store_commands import COMMAND, environment
from tests.postgres.test_store_copy import (
    Budget,
    Crashed,
    Shown,
    copied,
    crash,
    differing,
    filled,
    in_files,
    once,
    verified,
)
from tests.store_contract.words import JSON, append, at, by, close, create, fork
from tools.postgres_cluster.processes import wait_until
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from durable_streams.filestore.files.disk import StrPath
    from durable_streams.store import Store
    from tests.postgres.conftest import Database

RUNS: Final = "select count(*) from ds.runs"
OWNERLESS: Final = (
    "select count(*) from ds.runs r"
    " where not exists(select from ds.streams s where s.id = r.stream)"
)


async def went_on(store: Store) -> None:
    """Of everything that can happen to a stream, one."""
    await append(store, b"grew", TALK, producer=by(3, epoch=3, name="ann"), stream_seq="0006")
    await append(store, b'["grew"]', at("forks/between messages"), content_type=JSON)
    await close(store, at("empty"))
    await append(store, b"last", at("mortal"), close=True)
    await store.delete(AGAIN)
    await store.delete(EVENTS)
    await store.delete(at("forks/inside"))
    await store.delete(at("dated"))
    await create(store, at("dated"), b'["another one"]', content_type=JSON)
    await store.delete(at("forks/of what is gone"))
    await create(store, at("house/gone"), b"came back")
    await fork(store, at("forks/later"), TALK, body=b"own")
    await create(store, at("later"), LONG)


async def grows(store: Store) -> None:
    await append(store, b"more", TALK)


async def changed(data: Path, change: Callable[[Store], Awaitable[Any]]) -> Shown:
    store = await in_files(data)
    await change(store)
    shown = await seen(store)
    await store.close()
    return shown


async def shown_by(name: str | Path) -> Shown:
    store = await (PostgresStore.at(name) if isinstance(name, str) else in_files(name))
    shown = await seen(store)
    await store.close()
    return shown


async def test_what_happened_to_the_source_meanwhile_is_in_the_copy(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    await filled(data)
    targets: list[str | Path] = [database.url, tmp_path / "copy"]
    for name in targets:
        with monkeypatch.context() as patch:
            patch.setattr("durable_streams.moving.copying._compare_all", crash)
            with pytest.raises(Crashed):
                await once(data, name)
    after = await changed(data, went_on)
    for name in targets:
        assert "of them there before" in copied(data, name)
        assert differing(after, await shown_by(name)) == []
        assert verified(name) == 0
    assert database.cluster.primary.query(OWNERLESS, database.name) == "0"
    copied(database.url, tmp_path / "back")
    assert differing(after, await shown_by(tmp_path / "back")) == []


async def test_a_database_went_on_meanwhile(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(tmp_path / "data")
    copied(tmp_path / "data", database.url)
    target = tmp_path / "back"

    with monkeypatch.context() as patch:
        patch.setattr("durable_streams.filestore.transfer.target.TargetDirectory.finish", crash)
        with pytest.raises(Crashed):
            await once(database.url, target)
    node = await PostgresStore.at(database.url)
    await went_on(node)
    after = await seen(node)
    await node.close()
    copied(database.url, target)
    assert differing(after, await shown_by(target)) == []
    assert verified(target) == 0


class Lives:
    """A source that something happens to between any two tries, and each step may be the last."""

    def __init__(self, data: Path, name: str | Path) -> None:
        self.shown: Shown = {}
        self.data = data
        self.name = name
        self.budget = Budget()

    async def end(self) -> int:
        """Copy until it is done, when the source was as ``shown``; how often it was broken off."""
        times = 0
        while True:
            self.budget.left = (times + 1) ** 2
            try:
                await once(self.data, self.name)
            except Crashed:
                times += 1
            except Done:  # of a try that was broken off at its last step
                return times
            else:
                self.shown = await shown_by(self.data)
                return times
            self.shown = await shown_by(self.data)
            await changed(self.data, self._happens(times))

    def _happens(self, number: int) -> Callable[[Store], Awaitable[Any]]:
        async def happens(store: Store) -> None:
            await append(store, b"%d" % number, TALK)
            await create(store, at(f"new/{number}"), LONG)
            await fork(store, at(f"new/fork of {number}"), at(f"new/{number}"), body=b"own")
            if number > 1:
                await store.delete(at(f"new/{number - 1}"))
            if number > 2:
                await store.delete(at(f"new/fork of {number - 2}"))
                await create(store, at(f"new/{number - 2}"), b"again")
            await store.delete(AGAIN)
            await store.delete(at("forks/of one that came again"))
            await create(store, AGAIN, LONG * number)
            await fork(store, at("forks/of one that came again"), AGAIN)

        return happens


async def test_into_a_database_whatever_happens_at_any_step(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(tmp_path / "data")
    lives, fetch = Lives(tmp_path / "data", database.url), DatabaseStreams.fetch

    async def may_crash(self: DatabaseStreams, sql: str, *arguments: object) -> list[Any]:
        if lives.budget.left % 2:
            lives.budget.take()
            return await fetch(self, sql, *arguments)
        found = await fetch(self, sql, *arguments)
        lives.budget.take()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(DatabaseStreams, "fetch", may_crash)
        assert await lives.end() > 10
    assert differing(lives.shown, await shown_by(database.url)) == []
    assert verified(database.url) == 0


async def test_into_a_directory_whatever_happens_at_any_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(tmp_path / "data")
    lives = Lives(tmp_path / "data", tmp_path / "copy")

    class MayCrash(Disk):
        def open_write(self, path: StrPath) -> int:
            lives.budget.take()
            return super().open_write(path)

        def rename(self, source: StrPath, target: StrPath) -> None:
            lives.budget.take()
            super().rename(source, target)
            lives.budget.take()

        def unlink(self, path: StrPath) -> None:
            lives.budget.take()
            super().unlink(path)

    with monkeypatch.context() as patch:
        patch.setattr("durable_streams.filestore.transfer.target.Disk", MayCrash)
        assert await lives.end() > 10
    assert differing(lives.shown, await shown_by(tmp_path / "copy")) == []
    assert verified(tmp_path / "copy") == 0


fetch = DatabaseStreams.fetch


async def crashes_before_rows(self: DatabaseStreams, sql: str, *given: object) -> list[Any]:
    if "insert into ds.streams" in sql:
        raise Crashed
    return await fetch(self, sql, *given)


async def test_runs_of_a_stream_that_was_begun_and_is_gone_do_not_stay(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await in_files(tmp_path / "data")
    await create(store, at("stays"), b"one")
    await create(store, at("begun"), b"two")
    await store.close()
    with monkeypatch.context() as patch:
        patch.setattr(DatabaseStreams, "fetch", crashes_before_rows)
        with pytest.raises(Crashed):
            await once(tmp_path / "data", database.url)
    primary = database.cluster.primary
    assert primary.query(OWNERLESS, database.name) == "1"
    store = await in_files(tmp_path / "data")
    for name in ("begun", "stays"):  # whichever it is
        await store.delete(at(name))
        await create(store, at(name), b"another")
    await store.close()
    copied(tmp_path / "data", database.url)
    assert primary.query(RUNS, database.name) == "2"
    assert verified(database.url) == 0


async def test_a_source_that_lost_what_was_copied_has_none_of_it_in_the_copy(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an earlier backup of it was put back."""
    data, backup = tmp_path / "data", tmp_path / "backup"
    before = await filled(data)
    shutil.copytree(data, backup)
    await changed(data, went_on)
    targets: list[str | Path] = [database.url, tmp_path / "copy"]
    for name in targets:
        with monkeypatch.context() as patch:
            patch.setattr("durable_streams.moving.copying._compare_all", crash)
            with pytest.raises(Crashed):
                await once(data, name)
        shutil.rmtree(data)
        shutil.copytree(backup, data)
        copied(data, name)
        assert differing(before, await shown_by(name)) == []
        assert verified(name) == 0
        await changed(data, went_on)
    assert database.cluster.primary.query(OWNERLESS, database.name) == "0"


async def test_runs_that_end_where_no_append_of_the_source_does_do_not_stay(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier backup of it was put back, and served, after the copy was broken off."""
    data, backup = tmp_path / "data", tmp_path / "backup"
    await changed(data, lambda store: create(store, at("s"), b"0" * 100))
    shutil.copytree(data, backup)
    await changed(data, lambda store: append(store, b"1" * 10, at("s")))
    with monkeypatch.context() as patch:
        patch.setattr(DatabaseStreams, "fetch", crashes_before_rows)
        with pytest.raises(Crashed):
            await once(data, database.url)
    shutil.rmtree(data)
    backup.rename(data)

    async def otherwise(store: Store) -> None:
        for size in (5, 10, 5):
            await append(store, b"2" * size, at("s"))

    after = await changed(data, otherwise)
    copied(data, database.url)
    assert differing(after, await shown_by(database.url)) == []
    assert verified(database.url) == 0


async def test_a_process_is_killed_again_and_again_and_the_copy_goes_on(
    tmp_path: Path, database: Database
) -> None:
    data, primary = tmp_path / "data", database.cluster.primary
    await filled(data)
    has_tables = "select to_regclass('ds.streams') is not null"
    for least in (1, 2, 5, 10, 20):
        command = [*COMMAND, "copy", str(data), database.url]
        with subprocess.Popen(command, cwd=ROOT, env=environment()) as process:

            def is_so_far(least: int = least) -> bool:
                if process.poll() is not None or primary.query(has_tables, database.name) != "t":
                    return process.poll() is not None
                number = primary.query("select count(*) from ds.streams", database.name)
                return int(number) >= least

            wait_until(is_so_far, f"{least} streams are there")
            process.send_signal(signal.SIGKILL)
        if primary.query("select to_regclass('ds.copied') is not null", database.name) == "t":
            break  # it was faster
        await changed(data, grows)
    copied(data, database.url)
    after = await shown_by(data)
    assert differing(after, await shown_by(database.url)) == []
    node = await PostgresStore.at(database.url)
    await create(node, at("new"), b"it is served")
    await node.close()


async def test_a_target_without_room_is_said_in_a_line_and_the_copy_goes_on(
    tmp_path: Path,
) -> None:
    """Files may have so many blocks and no more, which is refused as a full disk refuses."""
    data, copy = tmp_path / "data", tmp_path / "copy"
    store = await FileStore.at(data, Settings())
    await create(store, at("small"), b"one")
    await create(store, at("zzz/large"), LONG * 30_000)
    before = await seen(store)
    await store.close()
    copied(data, tmp_path / "without a journal")
    command = shlex.join([*COMMAND, "copy", str(tmp_path / "without a journal"), str(copy)])
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 8000; exec {command}"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, ""), done
    assert done.stderr.startswith(f"durable-streams: error: {copy} cannot be written: ")
    assert done.stderr.endswith("mend that, and run it again: it goes on where it was\n")
    copied(tmp_path / "without a journal", copy)
    assert differing(before, await shown_by(copy)) == []
