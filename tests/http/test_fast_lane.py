"""The fast lane: what goes through it, and that none of its connections is forgotten."""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from durable_streams.filestore.store import FileStore
from durable_streams.filestore.tuning import Tuning
from durable_streams.settings import HttpSettings, Settings
from tests.filestore.files.staged_disk import StagedDisk
from tests.http.conftest import RunningServer
from tests.http.lanes import HEAD, JSON, TEXT, applied, connections, idle, watch
from tools.inside import all_in_files, in_files, unload, writers_in_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import pytest

    from tests.http.client import Client
    from tests.http.conftest import Serve


async def test_plain_requests_do_not_go_through_aiohttp(server: RunningServer) -> None:
    await server.create("a", "application/json", b"[1]")
    await in_files(server.engine, "a")
    client = await server.connect()
    await client.request("GET", "a")  # its file is open: a read finds all, wherever it is by then
    await idle(client)
    seen = watch(server)
    assert (await client.request("POST", "a", b"2", JSON)).status == 204
    assert (await client.request("GET", "a?offset=-1")).body == b"[1,2]"
    assert (await client.request("POST", "a", b"{", JSON)).status == 400
    claim = {"Producer-Id": "p", "Producer-Epoch": "0", "Producer-Seq": "0"}
    assert (await client.request("POST", "a", b"3", JSON | claim)).status == 200
    assert (await client.request("POST", "a", b"4", JSON | claim)).status == 204
    assert (await client.request("GET", "a", None, {"Accept": "*/*"})).body == b"[1,2,3]"
    client.send(HEAD)
    (connection,) = connections(server)
    while not connection._pieces:
        await asyncio.sleep(0)
    client.send(b"1234")
    assert (await client.answer("POST")).status == 204
    assert (await client.request("PUT", "b", b"[1]", JSON)).status == 201
    assert (await client.request("PUT", "b", b"", JSON)).status == 200
    assert (await client.request("PUT", "b", b"", TEXT)).status == 409
    assert (await client.request("GET", "b?offset=-1&live=long-poll")).body == b"[1]"
    assert seen == []


async def test_after_a_request_for_aiohttp_the_lane_is_open_again(server: RunningServer) -> None:
    await server.create("a", "text/plain")
    client = await server.connect()
    await client.request("PUT", "b", b"x" * 300_000, TEXT)
    await idle(client)
    seen = watch(server)
    assert (await client.request("POST", "a", b"x", TEXT)).status == 204
    assert seen == []


async def test_a_request_waits_a_moment_until_aiohttp_is_done_with_the_last(
    server: RunningServer,
) -> None:
    await server.create("a", "text/plain", b"x")
    client = await server.connect()
    await idle(client)
    seen = watch(server)
    (connection,) = connections(server)
    waiter, connection._waiter = connection._waiter, None  # as between answering and waiting
    connection.data_received(b"GET /v1/stream/a HTTP/1.1\r\nHost: a\r\n\r\n")
    connection._waiter = waiter
    assert (await client.answer()).body == b"x"
    assert seen == []


async def test_without_the_lane_all_goes_through_aiohttp(serve: Serve) -> None:
    server = await serve(HttpSettings(fast_lane=False))
    await server.create("a", "text/plain")
    client = await server.connect()
    await idle(client)
    seen = watch(server)
    await client.request("POST", "a", b"x", TEXT)
    assert seen == ["POST a?"]


async def test_a_body_that_takes_its_time_gets_the_timeout_of_all_bodies(
    serve: Serve,
) -> None:
    server = await serve(HttpSettings(body_timeout_s=0.05))
    lane = server._server._server.lane
    assert lane is not None
    lane.patience_s = 0.01
    await server.create("a", "text/plain")
    client = await server.connect()
    await idle(client)
    client.send(HEAD.replace(b"application/json", b"text/plain") + b"da")
    answer = await client.answer("POST")
    assert answer.status == 408
    assert await client.ended()


async def test_a_body_in_many_pieces_goes_through_aiohttp(server: RunningServer) -> None:
    await server.create("a", "application/json")
    client = await server.connect()
    await idle(client)
    seen = watch(server)
    (connection,) = connections(server)
    client.send(HEAD)
    while not connection._pieces:
        await asyncio.sleep(0)
    client.send(b"1")
    while not seen:
        await asyncio.sleep(0)
    client.send(b"234")
    assert (await client.answer("POST")).status == 204
    assert (await client.request("GET", "a")).body == b"[1234]"


async def test_an_idle_connection_is_closed_after_its_last_plain_request(serve: Serve) -> None:
    server = await serve(HttpSettings(keepalive_timeout_s=0.2))
    await server.create("a", "text/plain")
    client = await server.connect()
    await idle(client)
    assert (await client.request("POST", "a", b"x", TEXT)).status == 204
    assert await client.ended()


async def test_a_client_that_takes_no_answers_is_dropped(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await serve(HttpSettings(stall_timeout_s=0.2))
    await server.create("a", "text/plain", b"x" * 60_000)
    client = await server.connect(receive_buffer_bytes=4096)
    await idle(client)
    await applied(server, "a")
    assert (await client.request("GET", "a")).status == 200  # the file is open now
    await idle(client)
    seen = watch(server)
    answered = asyncio.Event()
    describe = server.handler.exchange.described

    def noted(*arguments: Any, **named: Any) -> Any:
        answered.set()
        return describe(*arguments, **named)

    monkeypatch.setattr(server.handler.exchange, "described", noted)
    (connection,) = connections(server)
    while not connection.writing_paused:  # until the buffers of both kernels are full
        answered.clear()
        client.ask("GET", "a?offset=-1")
        await answered.wait()
    assert seen == []
    while connection.transport is not None:
        await asyncio.sleep(0)
    with suppress(ConnectionResetError):  # if it did not end, neither would this test
        while await client.reader.read(65_536):
            pass


class Held:
    """A server whose appends wait at a gate of its disk."""

    def __init__(self, server: RunningServer, disk: StagedDisk) -> None:
        self.server = server
        self.disk = disk

    async def client(self) -> Client:
        client = await self.server.connect()
        await idle(client)
        return client


@asynccontextmanager
async def held(data_dir: Path, tuning: Tuning = Tuning()) -> AsyncIterator[Held]:
    disk, settings = StagedDisk(), Settings(held_up_s=math.inf)
    engine = await FileStore.at(data_dir, settings, disk, tuning=tuning)
    server = RunningServer(engine, HttpSettings())
    await server.start()
    await server.create("a", "text/plain")
    try:
        yield Held(server, disk)
    finally:
        disk.heal()
        await server.finish()


async def test_an_answer_waits_for_the_disk(tmp_path: Path) -> None:
    async with held(tmp_path / "data") as staged:
        client = await staged.client()
        gate = staged.disk.hold("sync", "journal")
        client.ask("POST", "a", b"x", TEXT)
        await asyncio.to_thread(gate.reached.wait)
        waiting = asyncio.ensure_future(client.answer("POST"))
        await asyncio.sleep(0)
        assert not waiting.done()
        gate.open()
        assert (await waiting).status == 204


async def test_requests_behind_an_append_under_way_are_answered_in_order(tmp_path: Path) -> None:
    async with held(tmp_path / "data") as staged:
        client = await staged.client()
        gate = staged.disk.hold("sync", "journal")
        client.ask("POST", "a", b"one,", TEXT)
        await asyncio.to_thread(gate.reached.wait)
        client.ask("POST", "a", b"two", TEXT)
        client.ask("GET", "a")
        client.ask("HEAD", "a")
        gate.open()
        assert [(await client.answer("POST")).status for _ in "12"] == [204, 204]
        assert (await client.answer()).body == b"one,two"
        assert (await client.answer("HEAD")).status == 200


async def test_appends_that_have_to_wait_their_turn_are_answered(tmp_path: Path) -> None:
    async with held(tmp_path / "data") as staged:
        await staged.server.create("b", "text/plain")
        engine = staged.server.engine
        client, seen = await staged.client(), watch(staged.server)
        await all_in_files(engine)
        gate = staged.disk.hold("pwrite", ".idx")
        await client.request("POST", "a", b"one,", TEXT)
        await asyncio.to_thread(gate.reached.wait)
        while not engine.writes_wait():
            await asyncio.sleep(0)
        client.ask("POST", "a", b"two", TEXT)
        while not writers_in_line(engine):
            await asyncio.sleep(0)
        gate.open()
        assert (await client.answer("POST")).status == 204
        await unload(engine, "b")  # as if nobody had used it
        assert (await client.request("POST", "b", b"x", TEXT)).status == 204
        assert (await client.request("POST", "none", b"x", TEXT)).status == 404
        assert seen == []
        assert (await client.request("GET", "a?offset=-1")).body == b"one,two"


@asynccontextmanager
async def held_up(data_dir: Path, tuning: Tuning = Tuning()) -> AsyncIterator[Held]:
    """A server whose files lag behind until its disk heals."""
    async with held(data_dir, tuning) as staged:
        client = await staged.client()
        await all_in_files(staged.server.engine)
        gate = staged.disk.hold("pwrite", ".idx")
        await client.request("POST", "a", b"one,", TEXT)
        await asyncio.to_thread(gate.reached.wait)
        while not staged.server.engine.writes_wait():
            await asyncio.sleep(0)
        yield staged


async def test_writes_that_wait_for_their_turn_are_not_made_when_their_client_leaves(
    tmp_path: Path,
) -> None:
    for method, path in (("POST", "a"), ("PUT", "b")):
        async with held_up(tmp_path / method) as staged:
            lane = staged.server._server._server.lane
            assert lane is not None
            client = await staged.client()
            client.ask(method, path, b"two", TEXT)
            while not lane.answering:
                await asyncio.sleep(0)
            await client.close()
            while lane.answering:  # or else for ever
                await asyncio.sleep(0)
            staged.disk.heal()
            other = await staged.client()
            assert (await other.request("GET", "a")).body == b"one,"
            assert (await other.request("HEAD", "b")).status == 404


async def test_writes_that_wait_for_their_turn_are_refused_when_the_server_stops(
    tmp_path: Path,
) -> None:
    for method, path in (("POST", "a"), ("PUT", "b")):
        async with held_up(tmp_path / method, Tuning(tick_s=3600)) as staged:
            client = await staged.client()
            client.ask(method, path, b"two", TEXT)
            while not writers_in_line(staged.server.engine):
                await asyncio.sleep(0)
            stopping = asyncio.ensure_future(staged.server.stop())
            answer = await client.answer(method)
            assert (answer.status, answer.headers["connection"]) == (503, "close")
            staged.disk.heal()
            await stopping


async def test_a_write_whose_client_left_is_kept(tmp_path: Path) -> None:
    for method, path in (("POST", "a"), ("PUT", "b")):
        async with held(tmp_path / method) as staged:
            client = await staged.client()
            gate = staged.disk.hold("sync", "journal")
            client.ask(method, path, b"kept", TEXT)
            await asyncio.to_thread(gate.reached.wait)
            await client.close()
            gate.open()
            other = await staged.client()
            assert (await other.request("POST", path, b".", TEXT)).status == 204
            assert (await other.request("GET", path)).body == b"kept."


async def test_a_stop_waits_for_writes_under_way_and_ends_their_connections(
    tmp_path: Path,
) -> None:
    for method, path, status in (("POST", "a", 204), ("PUT", "b", 201)):
        async with held(tmp_path / method) as staged:
            client = await staged.client()
            gate = staged.disk.hold("sync", "journal")
            client.ask(method, path, b"x", TEXT)
            await asyncio.to_thread(gate.reached.wait)
            stopping = asyncio.ensure_future(staged.server.stop())
            await asyncio.sleep(0)
            gate.open()
            answer = await client.answer(method)
            assert (answer.status, answer.headers["connection"]) == (status, "close")
            assert await client.ended()
            await stopping


async def test_a_failed_sync_is_answered_503(tmp_path: Path) -> None:
    for method, path in (("POST", "a"), ("PUT", "b")):
        async with held(tmp_path / method) as staged:
            client = await staged.client()
            staged.disk.fail("sync", 5, "journal")
            assert (await client.request(method, path, b"x", TEXT)).status == 503
            assert (await client.request("GET", "a")).body == b""
