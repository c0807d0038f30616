"""A database opened by its URL: by programs, in an application, by the command line; or not."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientSession, web

import durable_streams
from durable_streams import DataDirectoryError, Settings
from durable_streams.postgres import versions
from durable_streams.postgres.store import PostgresStore
from durable_streams.postgres.urls import parse
from tests.http.asgi_driving import ask
from tests.postgres.stores import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.postgres.conftest import Database

TEXT = {"Content-Type": "text/plain"}


@pytest.fixture
async def url(database: Database) -> str:
    await versions.initialise(parse(database.url))
    return database.url


async def test_programs_share_the_streams_of_a_database(url: str) -> None:
    async with durable_streams.open(url) as one, durable_streams.open(url) as two:
        await one.create("s", content_type="text/plain", data=b"one")
        await two.append("s", b"two")
        assert (await one.read("s")).data == b"onetwo"
        assert [each.data async for each in follow(one, two)] == [b"one", b"two", b"three"]
    async with durable_streams.open(url) as again:
        assert (await again.read("s")).data == b"onetwothree"


async def follow(
    one: durable_streams.Streams, two: durable_streams.Streams
) -> AsyncIterator[durable_streams.Message]:
    async for message in one.tail("s"):
        yield message
        if message.data == b"two":
            await two.close("s", b"three")


async def test_a_program_without_an_event_loop_has_them_as_well(url: str) -> None:
    def use() -> list[bytes]:
        with durable_streams.open_sync(url) as one, durable_streams.open_sync(url) as two:
            one.create("s", content_type="text/plain", data=b"one")
            with ThreadPoolExecutor(1) as pool:
                tail = one.tail("s")
                followed = pool.submit(lambda: [message.data for message in tail])
                two.append("s", b"two")
                two.close("s", b"three")
                return followed.result()

    assert await asyncio.to_thread(use) == [b"one", b"two", b"three"]


async def test_an_application_serves_them(url: str) -> None:
    app = web.Application()
    durable_streams.mount(app, "/streams", data_dir=url)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with ClientSession(f"http://127.0.0.1:{site.port}") as client:
            async with client.put("/streams/s", data=b"one", headers=TEXT) as answer:
                assert answer.status == 201
            async with client.get("/streams/s") as answer:
                assert await answer.read() == b"one"
    finally:
        await runner.cleanup()
    async with durable_streams.open(url) as streams:
        assert (await streams.read("s")).data == b"one"


async def test_any_number_of_asgi_applications_serve_them(url: str) -> None:
    one, other = durable_streams.asgi(url), durable_streams.asgi(url)
    text = [(b"content-type", b"text/plain")]
    async with one.lifespan(), other.lifespan():
        assert (await ask(one, "PUT", "/s", b"one", headers=text)).status == 201
        assert (await ask(other, "POST", "/s", b"two", headers=text)).status == 204
        assert (await ask(one, "GET", "/s")).body == b"onetwo"


async def test_what_is_no_database_of_streams_is_not_opened(database: Database) -> None:
    with pytest.raises(DataDirectoryError, match="store init"):
        async with durable_streams.open(database.url):
            pass
    with pytest.raises(DataDirectoryError, match="no such database"):
        async with durable_streams.open(database.cluster.primary.url("nowhere")):
            pass


async def test_commits_that_wait_for_nobody_are_refused_unless_told_otherwise(
    url: str, database: Database
) -> None:
    primary = database.cluster.primary
    primary.configure(synchronous_standby_names="")
    try:
        with pytest.raises(DataDirectoryError, match="no standby"):
            async with durable_streams.open(url):
                pass
        settings = Settings(store_allow_unreplicated=True)
        async with durable_streams.open(url, settings) as streams:
            await streams.create("s")
    finally:
        primary.configure(synchronous_standby_names=database.cluster.quorum)
        database.cluster.wait_for_standbys()


def of_a_node() -> list[str]:
    """The tasks of nodes in this loop."""
    names = [task.get_name() for task in asyncio.all_tasks()]
    return [name for name in names if name.startswith("durable-streams")]


async def test_nothing_is_left_of_a_start_that_fails(database: Database) -> None:
    with pytest.raises(DataDirectoryError):
        await PostgresStore.at(database.url)
    assert of_a_node() == []


async def test_nothing_is_left_of_a_start_that_nobody_waits_for_any_more(
    url: str, database: Database
) -> None:
    cluster = database.cluster
    for node in cluster.standbys:
        node.pause()
    starting = asyncio.ensure_future(PostgresStore.at(url))
    waits = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'"
    await until(lambda: cluster.primary.query(waits) == "1", "its first heartbeat waits")
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert of_a_node() == []
    cluster.mend()
    sessions = "select count(*) from pg_stat_activity where application_name = 'durable-streams'"
    await until(lambda: cluster.primary.query(sessions) == "0", "its sessions are ended")


def test_a_password_among_the_flags_is_refused() -> None:
    command = [sys.executable, "-m", "durable_streams", "serve", "--store"]
    run = subprocess.run(
        [*command, "postgresql://ds:secret@db/streams"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert "PGPASSWORD" in run.stderr
    assert "secret" not in run.stderr + run.stdout
