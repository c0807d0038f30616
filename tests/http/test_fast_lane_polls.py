"""Long-polls in the fast lane: none is lost, mixed up or left behind on its way to aiohttp."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from durable_streams.http import presence
from durable_streams.settings import HttpSettings
from tests.http.lanes import HEAD, JSON, TEXT, applied, connections, idle, watch

if TYPE_CHECKING:
    import pytest

    from durable_streams.http.fast_lane import LaneConnection
    from tests.http.client import Client
    from tests.http.conftest import RunningServer, Serve

BEGIN: Final = f"{0:016d}_{0:016d}"
BEYOND: Final = f"{9:016d}_{0:016d}"
TAIL: Final = f"{0:016d}_{300_000:016d}"


async def test_a_long_poll_whose_answer_is_in_a_file_goes_on_to_aiohttp(
    server: RunningServer,
) -> None:
    await server.create("a", "text/plain", b"x" * 300_000)
    await applied(server, "a")
    reader, writer = await server.connect(), await server.connect()
    await idle(reader)
    await idle(writer)
    seen = watch(server)
    answer = await reader.request("GET", "a?offset=-1&live=long-poll")
    assert answer.body == b"x" * 300_000
    assert seen == ["GET a?offset=-1&live=long-poll"]
    await idle(reader)
    seen.clear()
    tail = answer.headers["stream-next-offset"]
    reader.ask("GET", f"a?offset={tail}&live=long-poll")
    while not server.handler.live.polls:
        await asyncio.sleep(0)
    assert (await writer.request("POST", "a", b"y", TEXT)).status == 204
    assert (await reader.answer()).body == b"y"
    assert seen == []


def hold_polls(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Hold long-polls behind their first read until the event."""
    gate, wait_for_data = asyncio.Event(), server.handler.live.wait_for_data

    async def held(*arguments: Any) -> Any:
        await gate.wait()
        return await wait_for_data(*arguments)

    monkeypatch.setattr(server.handler.live, "wait_for_data", held)
    return gate


def hold_reads(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Hold what is read for answers until the event."""
    gate, read = asyncio.Event(), server.engine.read

    async def held(*arguments: Any, **named: Any) -> Any:
        chunk = await read(*arguments, **named)
        await gate.wait()
        return chunk

    monkeypatch.setattr(server.engine, "read", held)
    return gate


async def test_what_a_long_poll_found_in_files_is_let_go_if_the_client_has_left(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await server.create("a", "text/plain", b"x" * 300_000)
    await applied(server, "a")
    reader = await server.connect()
    await idle(reader)
    (connection,) = connections(server)
    read, found = server.engine.read, []

    async def read_for_nobody(*arguments: Any, **named: Any) -> Any:
        found.append(await read(*arguments, **named))
        assert found[0]._held
        connection.force_close()  # as aiohttp does while nobody else has a turn
        return found[0]

    monkeypatch.setattr(server.engine, "read", read_for_nobody)
    reader.ask("GET", "a?offset=-1&live=long-poll")
    assert await reader.ended()
    assert len(found) == 1
    assert not found[0]._held
    assert connection.handed is None


async def test_a_long_poll_from_the_tail_on_gets_what_came_while_it_waited(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    for offset in ("now", BEYOND):
        server = await serve(HttpSettings(long_poll_timeout_s=0.2))
        await server.create("a", "text/plain", b"x")
        reader, writer = await server.connect(), await server.connect()
        await idle(reader)
        gate = hold_polls(server, monkeypatch)
        reader.ask("GET", f"a?offset={offset}&live=long-poll")
        while not gate._waiters:
            await asyncio.sleep(0)
        assert (await writer.request("POST", "a", b"y" * 300_000, TEXT)).status == 204
        await applied(server, "a")  # so that the answer is in a file
        gate.set()
        assert (await reader.answer()).body == b"y" * 300_000


async def polling(server: RunningServer) -> tuple[Client, LaneConnection]:
    """The only client, which waits for an empty stream in the lane, and its connection."""
    await server.create("a", "application/json")
    client = await server.connect()
    await idle(client)
    (connection,) = connections(server)
    client.ask("GET", f"a?offset={BEGIN}&live=long-poll")
    while not server.handler.live.polls:
        await asyncio.sleep(0)
    return client, connection


async def test_a_client_that_leaves_is_noticed_though_it_sent_more(serve: Serve) -> None:
    server = await serve(HttpSettings(long_poll_timeout_s=3600))
    reader, connection = await polling(server)
    reader.send(b"G")
    while not connection._behind:
        await asyncio.sleep(0)
    await reader.close()
    while server.handler.live.polls or connections(server):  # or else for an hour
        await asyncio.sleep(0)


async def test_no_more_is_read_behind_a_request_than_has_to_be(server: RunningServer) -> None:
    _, connection = await polling(server)
    assert connection.transport is not None
    connection.data_received(b"G" * presence.MAX_BEHIND_BYTES)
    assert len(connection._behind) == presence.MAX_BEHIND_BYTES
    connection.data_received(b"G")
    assert connection._behind == b""
    assert connection.transport.is_reading()


async def test_a_stop_waits_for_a_long_poll_that_goes_on_to_aiohttp(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = b"x" * 12_000_000
    server = await serve(HttpSettings(shutdown_grace_s=600))
    cleanup, cut_off = web.ServerRunner.cleanup, asyncio.Event()

    async def noted(runner: web.ServerRunner) -> None:
        cut_off.set()
        await cleanup(runner)

    monkeypatch.setattr(web.ServerRunner, "cleanup", noted)
    await server.create("a", "text/plain", body)
    await applied(server, "a")
    reader = await server.connect(receive_buffer_bytes=4096)
    await idle(reader)
    gate = hold_reads(server, monkeypatch)
    reader.ask("GET", "a?offset=-1&live=long-poll")
    while not gate._waiters:
        await asyncio.sleep(0)
    stopping = asyncio.ensure_future(server.stop())
    await asyncio.sleep(0)
    gate.set()
    assert (await reader.head()).status == 200
    assert not cut_off.is_set()
    assert await reader.reader.readexactly(len(body)) == body
    await stopping


async def test_requests_behind_a_long_poll_are_answered_in_order(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = b"x" * 300_000
    await server.create("a", "text/plain", body)
    await applied(server, "a")
    gate = hold_reads(server, monkeypatch)
    writer = await server.connect()
    for offset, answered in (("-1", body), (TAIL, b"y")):
        gate.clear()
        reader = await server.connect()
        await idle(reader)
        reader.ask("GET", f"a?offset={offset}&live=long-poll")
        while not any(connection._outcome for connection in connections(server)):
            await asyncio.sleep(0)
        (connection,) = (found for found in connections(server) if found._outcome)
        reader.ask("HEAD", "a")
        while not (connection._pieces or connection._behind):
            await asyncio.sleep(0)
        gate.set()
        if answered == b"y":
            assert (await writer.request("POST", "a", b"y", TEXT)).status == 204
        assert (await reader.answer()).body == answered
        assert (await reader.answer("HEAD")).status == 200


def run_out(connection: LaneConnection) -> None:
    """Let the time run out for which a connection may be idle."""
    connection._next_keepalive_close_time = 0
    connection._process_keepalive()


async def test_a_connection_that_polls_is_not_idle(server: RunningServer) -> None:
    client, connection = await polling(server)
    writer = await server.connect()
    run_out(connection)
    connection._next_keepalive_close_time = 0
    assert (await writer.request("POST", "a", b"1", JSON)).status == 204
    assert (await client.answer()).body == b"[1]"
    assert connection._next_keepalive_close_time > 0
    assert (await client.request("GET", "a")).body == b"[1]"
    run_out(connection)
    assert await client.ended()


async def test_a_connection_whose_request_is_half_here_is_not_idle(server: RunningServer) -> None:
    await server.create("a", "application/json")
    client = await server.connect()
    await idle(client)
    (connection,) = connections(server)
    client.send(HEAD)
    while not connection._pieces:
        await asyncio.sleep(0)
    run_out(connection)
    client.send(b"1234")
    assert (await client.answer("POST")).status == 204
