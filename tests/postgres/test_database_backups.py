"""Backups of a database: dumps, and points in time, made under load, restored and served."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.model.errors import OffsetGone, ProducerGap, StreamNotFound
from durable_streams.model.offsets import Offset, Start
from durable_streams.postgres.store import PostgresStore
from durable_streams.settings import Settings
from durable_streams.wire.caching import etag
from tests.postgres.test_store_commands import environment, run
from tests.store_contract.words import append, at, by, content, create, fork
from tools.postgres_cluster import PostgresCluster, in_memory
from tools.postgres_cluster.installed import beside_postgres, give
from tools.postgres_cluster.installed import run as run_program
from tools.postgres_cluster.node import PostgresNode
from tools.postgres_cluster.processes import kill_all, wait_until
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from durable_streams.model.paths import StreamPath

ALONE: Final = Settings(store_allow_unreplicated=True)
WRITERS: Final = 8
"""Each with a stream of its own."""


def body_of(path: StreamPath, number: int) -> bytes:
    return b"%d of %s;" % (number, "/".join(path).encode())


class Load:
    """Writers that go on until they are told to stop; ``acknowledged``: how many of each."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store
        self._stopping = False
        self.acknowledged = {at(f"load/{number}"): 0 for number in range(WRITERS)}
        self._tasks: list[asyncio.Task[None]] = []
        self._more = asyncio.Condition()

    async def begin(self) -> None:
        for path in self.acknowledged:
            await create(self._store, path)
        self._tasks = [asyncio.create_task(self._write(path)) for path in self.acknowledged]
        self._tasks.append(asyncio.create_task(self._make()))

    async def _write(self, path: StreamPath) -> None:
        while not self._stopping:
            number = self.acknowledged[path]
            await append(self._store, body_of(path, number), path, producer=by(number))
            self.acknowledged[path] = number + 1
            async with self._more:
                self._more.notify_all()

    async def _make(self) -> None:
        """Streams that come, are forked and go."""
        number = 0
        while not self._stopping:
            path = at(f"made/{number}")
            await create(self._store, path, b"made")
            await fork(self._store, at(f"forked/{number}"), path, body=b", forked")
            if number % 2:
                await self._store.delete(path)
            number += 1

    async def until_each_has(self, more: int) -> None:
        """Return when each writer has written so many more."""
        wanted = {path: number + more for path, number in self.acknowledged.items()}
        async with self._more:
            await self._more.wait_for(
                lambda: all(self.acknowledged[path] >= number for path, number in wanted.items())
            )

    async def end(self) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)


@pytest.fixture
def archived() -> Iterator[PostgresCluster]:
    """A primary alone whose WAL is archived, and a database ``streams`` with tables."""
    settings = {
        "archive_mode": "on",
        "archive_command": "cp %p ../archive.part && mv ../archive.part ../archive/%f",
    }
    with PostgresCluster(0, in_memory(), settings=settings, has_links=False) as cluster:
        archive = cluster.primary.sockets / "archive"
        archive.mkdir()
        give(archive)
        cluster.primary.query("create database streams")
        assert run("init", cluster.primary.url("streams")).returncode == 0
        yield cluster


@pytest.fixture
async def node(archived: PostgresCluster) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.at(archived.primary.url("streams"), ALONE)
    yield store
    await store.close()


def connected(node: PostgresNode) -> list[str]:
    return ["--host", "127.0.0.1", "--port", str(node.port), "--username", "postgres"]


def verified(url: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "durable_streams", "verify", url],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done
    return done.stdout


async def tag(store: PostgresStore, path: StreamPath, end: Offset | None = None) -> str:
    """The ETag of the whole stream, or of what is up to an offset that a read can end at."""
    stream = await store.open(path)
    with await store.read(stream, Start.BEGINNING) as chunk:
        assert end is None or chunk.end == end
        return etag(chunk)


async def check(
    store: PostgresStore, least: dict[StreamPath, int], most: dict[StreamPath, int]
) -> dict[StreamPath, int]:
    """Each stream has whole appends from its beginning, and knows its producer as it was then."""
    ends: dict[StreamPath, int] = {}
    for path, number in most.items():
        data = await content(store, path)
        count = data.count(b";")
        assert data == b"".join(body_of(path, each) for each in range(count))
        assert least[path] <= count <= number + 1
        details = await store.details(path)
        assert [(each.epoch, each.seq) for each in details.last_producers] == [(0, count - 1)]
        assert details.row.size_bytes == len(data)
        ends[path] = count
    page = await store.list_streams(at("forked"), (), 1000)
    for row in page.rows:
        assert await content(store, row.path) == b"made, forked"
    assert page.rows
    return ends


async def clients_ahead(
    store: PostgresStore, counts: dict[StreamPath, int], tails: dict[StreamPath, Offset]
) -> None:
    """What those notice who know of more than there is, as ``docs/database-backups.rst`` says."""
    path = max(tails, key=lambda one: tails[one])
    tail, count = (await store.head(path)).tail, counts[path]
    assert tail < tails[path]
    with pytest.raises(ProducerGap) as raised:
        await append(store, b"?", path, producer=by(count + 1))
    assert raised.value.expected == count
    stream = await store.open(path)
    with await store.read(stream, tails[path]) as chunk:
        assert (chunk.size_bytes, chunk.end, chunk.at_tail) == (0, tail, True)
    repeated = await append(store, body_of(path, count - 1), path, producer=by(count - 1))
    assert repeated.duplicate
    taken = await append(store, b"other;", path, producer=by(count))
    assert taken.wrote_data


async def told_to_begin_anew(url: str, tails: dict[StreamPath, Offset]) -> None:
    """After ``store restored`` all offsets of before lead nowhere, and all else is as it was."""
    store = await PostgresStore.at(url, ALONE)
    before = {path: (await content(store, path), await tag(store, path)) for path in tails}
    await store.close()
    assert run("restored", url).returncode == 0
    store = await PostgresStore.at(url, ALONE)
    for path, (data, old_tag) in before.items():
        assert await content(store, path) == data
        assert await tag(store, path) != old_tag
        with pytest.raises(OffsetGone):
            await content(store, path, tails[path])
        end = await append(store, b"goes on;", path)
        assert await content(store, path) == data + b"goes on;"
        assert end.tail > tails[path]
        records = (await store.records(path, Start.BEGINNING, 10_000)).records
        assert sum(record.size_bytes for record in records) == len(data) + 8
        at_half = records[len(records) // 2]
        assert (
            await content(store, path, at_half.start)
            == (data + b"goes on;")[
                sum(record.size_bytes for record in records[: len(records) // 2]) :
            ]
        )
        assert (await fork(store, at(f"late/{path[-1]}"), path)).created
        assert await content(store, at(f"late/{path[-1]}")) == data + b"goes on;"
    await store.close()
    verified(url)


async def test_a_dump_under_load_is_of_one_moment_and_is_served(
    archived: PostgresCluster, node: PostgresStore, tmp_path: Path
) -> None:
    load, primary = Load(node), archived.primary
    await load.begin()
    await load.until_each_has(5)
    least = dict(load.acknowledged)
    file = primary.sockets / "streams.dump"
    dump = [beside_postgres("pg_dump"), *connected(primary)]
    dumping = asyncio.create_task(
        asyncio.to_thread(
            run_program,
            [*dump, "--format=custom", f"--file={file}", "streams"],
            primary.sockets,
        )
    )
    await load.until_each_has(5)
    await dumping
    most = dict(load.acknowledged)
    await load.until_each_has(5)
    await load.end()
    tails = {path: (await node.head(path)).tail for path in most}
    primary.query("create database again")
    restore = [beside_postgres("pg_restore"), *connected(primary), "--exit-on-error"]
    await asyncio.to_thread(run_program, [*restore, "--dbname=again", str(file)], primary.sockets)
    url = primary.url("again")
    verified(url)
    store = await PostgresStore.at(url, ALONE)
    counts = await check(store, least, most)
    await clients_ahead(store, counts, tails)
    await store.close()
    await told_to_begin_anew(url, tails)


async def test_a_point_in_time_is_served_and_whoever_is_ahead_is_told(
    archived: PostgresCluster, node: PostgresStore
) -> None:
    load, primary = Load(node), archived.primary
    await load.begin()
    await load.until_each_has(5)
    base = primary.sockets / "n9"
    command = [beside_postgres("pg_basebackup"), *connected(primary), "--checkpoint=fast"]
    command += ["--wal-method=none", "--pgdata", str(base), "--no-sync"]
    await asyncio.to_thread(run_program, command, primary.sockets)
    await load.until_each_has(5)
    least = dict(load.acknowledged)
    moment = primary.query("select clock_timestamp()")
    most = dict(load.acknowledged)
    await load.until_each_has(5)
    await create(node, at("later"), b"made after it")
    first = await node.head(at("later"))
    await load.end()
    tails = {path: (await node.head(path)).tail for path in most}
    last = primary.query("select pg_walfile_name(pg_current_wal_lsn())")
    primary.query("select pg_switch_wal()")
    archived_it = f"select last_archived_wal >= '{last}' from pg_stat_archiver"
    await asyncio.to_thread(
        wait_until, lambda: primary.query(archived_it) == "t", "all of it is archived"
    )
    recovered = PostgresNode(primary.sockets, "n9")
    recovered.prepare(
        {
            "archive_mode": "off",
            "restore_command": "cp ../archive/%f %p",
            "recovery_target_time": moment,
            "recovery_target_action": "promote",
        }
    )
    (base / "recovery.signal").touch()
    give(base)
    try:
        recovered.start()
        await asyncio.to_thread(wait_until, lambda: not recovered.is_standby, "it takes writes")
        url = recovered.url("streams")
        verified(url)
        store = await PostgresStore.at(url, ALONE)
        counts = await check(store, least, most)
        await clients_ahead(store, counts, tails)
        with pytest.raises(StreamNotFound):
            await store.head(at("later"))
        other = await create(store, at("later"), b"made after it")
        assert other.info.tail == first.tail
        assert other.info.id != first.id
        assert await tag(store, at("later")) != await tag(node, at("later"))
        await store.close()
        await told_to_begin_anew(url, tails)
    finally:
        recovered.end()
        kill_all(base)
