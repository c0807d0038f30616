"""Clients that end their side of a connection: answered, or gone, on both event loops."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

import pytest
import uvloop

from durable_streams.filestore.store import FileStore
from durable_streams.http.presence import MAX_BEHIND_BYTES
from durable_streams.settings import HttpSettings, Settings
from tests.filestore.files.staged_disk import StagedDisk
from tests.http.conftest import RunningServer
from tests.http.lanes import connections
from tools.descriptors import leaked_files, open_now, sockets
from tools.inside import data_directory

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.http.client import Client

    Scenario = Callable[[RunningServer], Awaitable[None]]
    Play = Callable[[Scenario], None]

HOUR_S: Final = 3600.0
HEAD: Final = b"POST /v1/stream/a HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n"
READ: Final = b"GET /v1/stream/a HTTP/1.1\r\nHost: a\r\n\r\n"
POLL: Final = b"GET /v1/stream/a?offset=now&live=long-poll HTTP/1.1\r\nHost: a\r\n\r\n"
EVENTS: Final = b"GET /v1/stream/a?offset=now&live=sse HTTP/1.1\r\nHost: a\r\n\r\n"
TEXT: Final = {"Content-Type": "text/plain"}


def append(body: bytes) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


@pytest.fixture(params=["uvloop lane", "uvloop aiohttp", "asyncio lane", "asyncio aiohttp"])
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Play:
    """Play a scenario with a server that has an empty stream."""
    loop, way = request.param.split()
    settings = HttpSettings(fast_lane=way == "lane", long_poll_timeout_s=HOUR_S)

    async def whole(scenario: Scenario) -> None:
        engine = await FileStore.at(tmp_path / "data", Settings(), StagedDisk())
        server = RunningServer(engine, settings)
        await server.start()
        await server.create("a", "text/plain")
        try:
            await scenario(server)
        finally:
            await server.finish()

    def run(scenario: Scenario) -> None:
        factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(whole(scenario))

    return run


async def said(server: RunningServer, *pieces: bytes) -> bytes:
    """All that a client gets that sends these pieces and then no more."""
    client = await server.connect()
    for piece in pieces:
        client.send(piece)
        await client.writer.drain()
        await asyncio.sleep(0)
    client.writer.write_eof()
    return await client.reader.read(-1)


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", answers)]


async def stored(server: RunningServer) -> bytes:
    client = await server.connect()
    answer = await client.request("GET", "a")
    await client.close()
    return answer.body


async def at_rest(server: RunningServer) -> None:
    """Wait until no connection is left."""
    while connections(server):
        await asyncio.sleep(0)


async def polling(server: RunningServer, data: bytes = POLL) -> Client:
    """A client that waits for news."""
    client = await server.connect()
    waiting = len([found for found in connections(server) if found._waits])
    client.send(data)
    while len([found for found in connections(server) if found._waits]) == waiting:
        await asyncio.sleep(0)
    return client


def test_what_came_whole_is_carried_out_and_answered_and_the_connection_ends(play: Play) -> None:
    async def scenario(server: RunningServer) -> None:
        assert statuses(await said(server, append(b"one,"))) == [204]
        assert (await said(server, READ)).endswith(b"one,")
        both = append(b"two,") + append(b"three,") + READ
        answers = await said(server, both)
        assert statuses(answers) == [204, 204, 200]
        assert answers.endswith(b"one,two,three,")
        large = b"x" * 300_000
        assert statuses(await said(server, append(large))) == [204]
        assert (await said(server, READ)).endswith(b"three," + large)
        await at_rest(server)

    play(scenario)


def test_wherever_the_pieces_end_the_answers_are_the_same(play: Play) -> None:
    async def scenario(server: RunningServer) -> None:
        requests = append(b"one,") + READ + append(b"two,")
        for at in range(1, len(requests), 7):
            answers = await said(server, requests[:at], requests[at:])
            assert statuses(answers) == [204, 200, 204], requests[:at]
        await at_rest(server)

    play(scenario)


def test_an_append_on_its_way_to_the_disk_is_answered(play: Play) -> None:
    async def scenario(server: RunningServer) -> None:
        disk = data_directory(server.engine).disk
        assert isinstance(disk, StagedDisk)
        gate = disk.hold("sync", "journal")
        client = await server.connect()
        client.send(append(b"one,"))
        await asyncio.to_thread(gate.reached.wait)
        client.send(READ)
        client.writer.write_eof()
        while not all(found.sends_no_more for found in connections(server)):
            await asyncio.sleep(0)
        gate.open()
        answers = await client.reader.read(-1)
        assert statuses(answers) == [204, 200]
        assert answers.endswith(b"one,")
        await at_rest(server)

    play(scenario)


CUT_BODIES: Final = (
    HEAD + b"Content-Length: 10\r\n\r\nhalf",
    HEAD + b"Content-Length: 10\r\n\r\n",
    HEAD + b"Content-Length: 300000\r\n\r\n" + b"x" * 200_000,
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
)


def test_a_body_that_is_cut_off_is_refused_and_nothing_of_it_is_stored(play: Play) -> None:
    async def scenario(server: RunningServer) -> None:
        for cut in CUT_BODIES:
            head, end, body = cut.partition(b"\r\n\r\n")
            for pieces in ([cut], [head + end, body], [HEAD, cut[len(HEAD) :]]):
                answer = await said(server, *pieces)
                assert statuses(answer) == [400], pieces
                assert b"the client ended it early" in answer
        assert await stored(server) == b""
        for cut in CUT_BODIES:
            assert statuses(await said(server, append(b"whole,") + cut)) == [204, 400]
        assert await stored(server) == b"whole," * len(CUT_BODIES)
        await at_rest(server)

    play(scenario)


def test_the_rest_of_a_refused_body_may_end_early(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(server: RunningServer) -> None:
        for refused in (b"999999999", b"300000\r\nStream-Seq: " + b"x" * 300):
            client = await server.connect()
            client.send(HEAD + b"Content-Length: %b\r\n\r\nhalf" % refused)
            assert (await client.answer("POST")).status in {400, 413}
            client.writer.write_eof()
            assert await client.ended()
        await at_rest(server)

    play(scenario)
    assert not caplog.records


def test_half_a_head_is_dropped_and_what_came_before_it_answered(play: Play) -> None:
    async def scenario(server: RunningServer) -> None:
        for half in (b"", b"G", HEAD):
            assert await said(server, half) == b""
        for half in (b"G", HEAD):
            assert statuses(await said(server, READ + half)) == [200]
        await at_rest(server)

    play(scenario)


def test_who_waits_for_news_and_sends_no_more_has_gone_whatever_came_behind(play: Play) -> None:
    async def scenario(server: RunningServer) -> None:
        for wait in (POLL, EVENTS):
            for behind in (b"", append(b"x"), READ * 2000):
                client = await polling(server, wait)
                client.send(behind)
                await client.writer.drain()
                client.writer.write_eof()
                assert statuses(await client.reader.read(-1)) == ([200] if wait == EVENTS else [])
                await at_rest(server)
        assert await stored(server) == b""
        assert not server.handler.live.polls
        assert not server.handler.live.readers

    play(scenario)


def test_fifty_clients_that_pipelined_much_and_left_are_noticed_at_once(play: Play) -> None:
    async def scenario(server: RunningServer) -> None:
        behind = POLL + READ * 1700
        for wait in (POLL, EVENTS, POLL + READ * 40):
            clients = [await polling(server, wait) for _ in range(50)]
            for client in clients:
                client.send(behind)
                await client.writer.drain()
            for client in clients:
                await client.close()
            await at_rest(server)  # or else for an hour

    play(scenario)


def test_a_poll_that_needs_no_waiting_is_answered_and_one_that_does_is_not(play: Play) -> None:
    async def scenario(server: RunningServer) -> None:
        assert statuses(await said(server, append(b"x") + POLL)) == [204]
        answer = await said(server, POLL.replace(b"now", b"-1"))
        assert statuses(answer) == [200]
        assert answer.endswith(b"x")
        assert await said(server, POLL) == b""
        await at_rest(server)

    play(scenario)


def test_too_much_behind_a_poll_ends_the_connection_with_its_answer(play: Play) -> None:
    async def scenario(server: RunningServer) -> None:
        writer = await server.connect()
        for behind, wanted in ((READ, [200, 200]), (READ * (MAX_BEHIND_BYTES // 20), [200])):
            client = await polling(server)
            (connection,) = (found for found in connections(server) if found._waits)
            client.send(behind)
            await client.writer.drain()
            while not (connection._behind if len(wanted) > 1 else connection._dropped):
                await asyncio.sleep(0)
            assert (await writer.request("POST", "a", b"x", TEXT)).status == 204
            for status in wanted:
                assert (await client.answer()).status == status
            client.writer.write_eof()
            assert await client.ended()

    play(scenario)


def test_hundreds_of_them_leave_no_descriptor_and_no_task_behind(play: Play) -> None:
    async def scenario(server: RunningServer) -> None:
        await said(server, append(b"x" * 100_000))
        await said(server, READ)
        await at_rest(server)
        before, tasks = sockets(open_now()), len(asyncio.all_tasks())
        for data in (READ, append(b"x"), POLL, EVENTS, CUT_BODIES[0], HEAD, READ + POLL, b""):
            await asyncio.gather(*(said(server, data) for _ in range(50)))
        for client in server._clients:
            await client.close()
        await at_rest(server)
        while len(asyncio.all_tasks()) > tasks:
            await asyncio.sleep(0)
        assert sockets(open_now()) <= before
        assert leaked_files(open_now()) == {}

    play(scenario)
