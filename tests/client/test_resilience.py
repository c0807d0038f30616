"""Clients of real servers that are killed, and behind networks that cut, stall and slow down."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

import durable_streams
from durable_streams import (
    Message,
    RemoteStreams,
    Retries,
    StreamNotFound,
    UnexpectedAnswer,
    Unreachable,
)
from tests.client.proxies import Proxy

if TYPE_CHECKING:
    from tests.conftest import StartServer
    from tools.server_process import ServerProcess

JSON: Final = "application/json"
OFTEN: Final = Retries(first_s=0.02, longest_s=0.1, give_up_s=60)


def client(server: ServerProcess, port: int | None = None, **options: object) -> RemoteStreams:
    url = f"http://127.0.0.1:{port or server.port}{server.prefix}"
    return durable_streams.connect(url, **{"retries": OFTEN, **options})  # type: ignore[arg-type]


async def follow(streams: RemoteStreams, path: str, seen: list[Message]) -> None:
    async for message in streams.tail(path):
        seen.append(message)  # noqa: PERF401 - each as it comes, to be looked at meanwhile


def numbers(seen: list[Message]) -> list[int]:
    return [message.json() for message in seen]


@pytest.mark.parametrize("live", ["sse", "long-poll"])
async def test_a_tail_has_each_message_once_over_kills_of_the_server(
    start_server: StartServer, live: str
) -> None:
    server = start_server()
    seen: list[Message] = []
    async with client(server, live=live) as streams:
        await streams.create("s", content_type=JSON)
        following = asyncio.create_task(follow(streams, "s", seen))
        for life in range(4):
            for number in range(10):
                await streams.append_json("s", life * 10 + number)
            if life < 3:
                await asyncio.to_thread(server.restart)
        await streams.close("s")
        await following

        assert numbers(seen) == list(range(40))
        for message in seen:  # also where it was in the middle of things
            rest = await streams.read_json("s", message.offset)
            assert rest.values == list(range(message.json() + 1, 40))


@pytest.mark.parametrize("live", ["sse", "long-poll"])
@pytest.mark.parametrize("content_type", [JSON, "application/octet-stream"])
async def test_a_tail_loses_nothing_where_answers_are_cut_off(
    start_server: StartServer, live: str, content_type: str
) -> None:
    server = start_server()
    whole = b"".join(b'"%06d",' % number for number in range(2000))
    seen: list[Message] = []
    with Proxy(server.port) as proxy:
        proxy.cut_after_bytes = 3000
        async with client(server, proxy.port, live=live) as streams, client(server) as direct:
            await direct.create("s", content_type=content_type)
            following = asyncio.create_task(follow(streams, "s", seen))
            for begin in range(0, len(whole), 900):
                piece = whole[begin : begin + 900]
                await direct.append("s", b"[%b]" % piece[:-1] if content_type == JSON else piece)
            await direct.close("s")
            proxy.cut_after_bytes = None
            await following
    between = b"," if content_type == JSON else b""
    assert between.join(message.data for message in seen) == whole.removesuffix(between)


async def test_a_network_that_swallows_everything_is_left_for_another_connection(
    start_server: StartServer,
) -> None:
    server = start_server()
    with Proxy(server.port) as proxy:
        options = {"silence_s": 0.3}
        async with client(server, proxy.port, **options) as streams, client(server) as direct:
            await direct.create("s", content_type=JSON)
            tail = streams.tail("s")
            waiting = asyncio.ensure_future(anext(tail))
            await proxy.has_seen(1)
            proxy.swallow = True
            await direct.append_json("s", 1)
            await proxy.has_seen(proxy.connections + 2)
            proxy.swallow = False
            proxy.cut_all()
            assert (await waiting).json() == 1
            await tail.aclose()


async def test_a_slow_network_is_waited_for(start_server: StartServer) -> None:
    server = start_server()
    with Proxy(server.port) as proxy:
        proxy.piece_bytes = 1
        async with client(server, proxy.port) as streams:
            await streams.create("s", content_type=JSON, data=b'["one","two"]')
            tail = streams.tail("s")
            assert [(await anext(tail)).json() for _ in range(2)] == ["one", "two"]
            waiting = asyncio.ensure_future(anext(tail))
            await streams.append_json("s", "three")
            assert (await waiting).json() == "three"
            await tail.aclose()


async def test_a_server_that_is_not_there_is_said_so_and_asked_for_a_while(
    start_server: StartServer,
) -> None:
    server = start_server()
    server.kill()
    some = Retries(first_s=0.01, longest_s=0.01, give_up_s=0.1)
    async with client(server, retries=some) as streams:
        for use in (
            streams.create("s"),
            streams.append("s", b"x", content_type="text/plain"),
            streams.read("s"),
            anext(streams.tail("s")),
        ):
            with pytest.raises(Unreachable, match=str(server.port)):
                await use
    async with client(server) as streams:
        creating = asyncio.create_task(streams.create("s"))
        server.start()
        await creating


async def test_a_tail_tells_of_what_does_not_pass(start_server: StartServer) -> None:
    server = start_server()
    async with client(server) as streams:
        await streams.create("s", content_type=JSON, data=b"1")
        tail = streams.tail("s")
        await anext(tail)
        waiting = asyncio.ensure_future(anext(tail))
        await streams.delete("s")
        with pytest.raises(StreamNotFound):
            await waiting


async def test_what_is_no_server_of_streams_is_said_so(start_server: StartServer) -> None:
    server = start_server()
    async with durable_streams.connect(f"{server.base_url}/healthz?x=1", retries=OFTEN) as streams:
        with pytest.raises((UnexpectedAnswer, StreamNotFound)):
            await streams.get_metadata("s")


async def test_an_append_that_may_have_been_stored_is_not_repeated(
    start_server: StartServer,
) -> None:
    server = start_server()
    with Proxy(server.port) as proxy:
        async with client(server, proxy.port) as streams, client(server) as direct:
            await direct.create("s", content_type=JSON)
            proxy.cut_after_bytes = 0
            with pytest.raises(Unreachable):
                await streams.append_json("s", 1)
            proxy.cut_after_bytes = None
            assert (await direct.read_json("s")).values == [1]
