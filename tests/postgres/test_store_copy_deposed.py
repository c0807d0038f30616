"""``store copy`` of a primary that was replaced, was left running, and does not know it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.transfer.target import TargetDirectory
from durable_streams.moving.copying import copy
from durable_streams.postgres.copied_streams import SourceDatabase
from durable_streams.postgres.store import PostgresStore
from durable_streams.postgres.urls import parse
from durable_streams.postgres.versions import RETIRED
from durable_streams.transfers import NotReached
from tests.postgres.test_database_verify import verify
from tests.postgres.test_hazard_deposed import cut_off
from tests.postgres.test_store_commands import run
from tests.postgres.test_store_copy import a_few, copied, in_files, not_copied
from tests.store_contract.words import append, at, content

if TYPE_CHECKING:
    from pathlib import Path

    from tools.postgres_cluster import PostgresCluster, PostgresNode


def url_of(*nodes: PostgresNode) -> str:
    """Of several hosts, in this order."""
    named = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
    return f"postgresql://postgres@{named}/postgres"


async def filled(cluster: PostgresCluster) -> None:
    """A few streams, which the standby has that is promoted next."""
    run("init", cluster.primary.url())
    node = await PostgresStore.at(cluster.primary.url())
    await a_few(node)
    await node.close()
    end = cluster.primary.query("select pg_current_wal_flush_lsn()")
    has_it = f"select pg_last_wal_replay_lsn() >= '{end}'"
    await asyncio.to_thread(cluster.standbys[0].wait_until, has_it, "t", "the heir has it")


async def test_one_that_was_replaced_before_is_not_copied(
    tmp_path: Path, own_cluster: PostgresCluster
) -> None:
    old, new = own_cluster.primary, own_cluster.standbys[0]
    await filled(own_cluster)
    cut_off(own_cluster)
    heir = await PostgresStore.at(new.url())
    await append(heir, b", and more", at("a"))
    await heir.close()
    said = await not_copied(url_of(old, new), tmp_path / "copy", 8)
    assert "no commit is acknowledged there now: if another server was promoted, name" in said
    status, (note, last) = await asyncio.to_thread(verify, url_of(old, new))
    assert (status, note["level"], last["state"]) == (0, "note", "sound")
    assert "another server was promoted, and has more" in note["meaning"]
    copied(new.url(), tmp_path / "copy")
    store = await in_files(tmp_path / "copy")
    assert await content(store, at("a")) == b"one, and more"
    await store.close()


@pytest.mark.parametrize("is_heir_first", [False, True])
async def test_one_that_is_replaced_meanwhile_is_neither_copied_nor_retired(
    tmp_path: Path, own_cluster: PostgresCluster, *, is_heir_first: bool
) -> None:
    old, new = own_cluster.primary, own_cluster.standbys[0]
    await filled(own_cluster)
    url = url_of(new, old) if is_heir_first else url_of(old, new)
    source = await SourceDatabase.open(parse(url))
    target = await TargetDirectory.open(tmp_path / "copy", source.identity)
    cut_off(own_cluster)
    said = "another server takes writes by now" if is_heir_first else "no commit is acknowledged"
    with pytest.raises(NotReached, match=said):
        await copy(source, target, lambda _: None, retires=True)
    await target.close()
    await source.close()
    assert old.query(f"select count(*) from ds.versions where version = {RETIRED}") == "0"
