"""``store copy`` and ``restored`` of databases that nodes begin to serve meanwhile."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.transfer.target import TargetDirectory
from durable_streams.model.errors import Unavailable
from durable_streams.moving.copying import check_same, copy
from durable_streams.postgres.connecting import NoDatabase
from durable_streams.postgres.copied_streams import SourceDatabase, need_no_nodes
from durable_streams.postgres.copy_target import TargetDatabase
from durable_streams.postgres.restored import renumber
from durable_streams.postgres.store import PostgresStore
from durable_streams.postgres.urls import parse
from durable_streams.postgres.versions import REINSTATE, RETIRED
from durable_streams.shell.moving import _copy
from durable_streams.transfers import InUse, Occupied
from tests.postgres.test_store_commands import run
from tests.postgres.test_store_copy import a_few, copied, filled, once
from tests.store_contract.words import at, content, create

if TYPE_CHECKING:
    from pathlib import Path

    from durable_streams.postgres.sessions import Session
    from durable_streams.postgres.urls import DatabaseUrl
    from durable_streams.transfers import Done, Source
    from tests.postgres.conftest import Database


async def served(database: Database) -> None:
    """A few streams in it, and no node any more."""
    run("init", database.url)
    node = await PostgresStore.at(database.url)
    await a_few(node)
    await node.close()


def is_retired(database: Database) -> bool:
    count = f"select count(*) from ds.versions where version = {RETIRED}"
    return database.cluster.primary.query(count, database.name) == "1"


async def test_a_source_that_is_served_again_meanwhile_is_not_retired(
    tmp_path: Path, database: Database
) -> None:
    await served(database)
    source = await SourceDatabase.open(parse(database.url))
    target = await TargetDirectory.open(tmp_path / "copy", source.identity)
    late = await PostgresStore.at(database.url)
    with pytest.raises(InUse, match=r"a node was started meanwhile \(.*\): stop it$"):
        await copy(source, target, lambda _: None, retires=True)
    await target.close()
    await source.close()
    assert not is_retired(database)
    await create(late, at("new"), b"it is served")
    await late.close()


async def test_a_node_that_starts_a_moment_before_the_mark_is_told_of_and_so_is_the_mark(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await served(database)
    source = await SourceDatabase.open(parse(database.url))
    target = await TargetDirectory.open(tmp_path / "copy", source.identity)
    retire, late = source.retire, list[PostgresStore]()

    async def a_moment_later(successor: str) -> str:
        late.append(await PostgresStore.at(database.url))
        return await retire(successor)

    monkeypatch.setattr(source, "retire", a_moment_later)
    said = f"stop it; nobody serves {database.url} by now, until somebody runs psql with: "
    with pytest.raises(InUse, match=re.escape(said + REINSTATE)):
        await copy(source, target, lambda _: None, retires=True)
    await target.close()
    await source.close()
    await late[0].close()


async def test_a_source_of_a_copy_that_is_done_is_not_retired_while_it_is_served(
    database: Database, other_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await served(database)
    copied(database.url, other_database.url)
    late = list[PostgresStore]()

    async def a_moment_later(source: Source, done: Done) -> None:
        await check_same(source, done)
        late.append(await PostgresStore.at(database.url))

    monkeypatch.setattr("durable_streams.shell.moving.check_same", a_moment_later)
    with pytest.raises(InUse, match="a node was started meanwhile"):
        await _copy(database.url, other_database.url, retires=True)
    assert not is_retired(database)
    await create(late[0], at("new"), b"it is served")
    await late[0].close()


# -- numbers of its own --------------------------------------------------------------------


async def test_segments_get_no_other_numbers_under_a_node_that_has_just_started(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await served(database)
    late = list[PostgresStore]()

    async def a_moment_later(session: Session, url: DatabaseUrl) -> None:
        await need_no_nodes(session, url)
        late.append(await PostgresStore.at(database.url))

    monkeypatch.setattr("durable_streams.postgres.restored.need_no_nodes", a_moment_later)
    with pytest.raises(NoDatabase, match="a node was started meanwhile"):
        await renumber(parse(database.url))
    assert (await late[0].head(at("a"))).tail.segment == 0
    await late[0].close()


# -- a target ------------------------------------------------------------------------------


async def test_a_stream_that_somebody_makes_in_the_target_and_leaves_is_not_copied_over(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(tmp_path / "data", a_few)
    run("init", database.url)

    async def a_moment_later(session: Session, url: DatabaseUrl) -> None:
        await need_no_nodes(session, url)
        node = await PostgresStore.at(database.url)
        await create(node, at("theirs"), b"acknowledged")
        await node.close()

    monkeypatch.setattr("durable_streams.postgres.copy_marks.need_no_nodes", a_moment_later)
    with pytest.raises(Occupied, match="has streams already"):
        await once(tmp_path / "data", database.url)
    node = await PostgresStore.at(database.url)
    assert await content(node, at("theirs")) == b"acknowledged"
    await node.close()


async def test_who_could_write_before_writes_nothing_into_a_target_that_is_begun(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even in the second in which it has not heard of the copy."""
    run("init", database.url)
    node = await PostgresStore.at(database.url)
    await create(node, at("a"))
    await node.delete(at("a"))

    async def sees_none(_: Session, __: DatabaseUrl) -> None:
        pass

    monkeypatch.setattr("durable_streams.postgres.copy_marks.need_no_nodes", sees_none)
    target = await TargetDatabase.open(parse(database.url), "1/2")
    with pytest.raises(Unavailable):
        await create(node, at("a"), b"one")  # by the same worker, which has a lane
    assert database.cluster.primary.query("select count(*) from ds.streams", database.name) == "0"
    await target.close()
    await node.close()
