"""What the official Python client of the protocol gets wrong, and ours does not.

That event streams are begun again is in ``test_resilience`` and ``test_sync``, that producers
repeat in ``test_producer``, and that the end of a producer raises what it could not store there
and in ``test_sync``.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

import durable_streams
from durable_streams.client.options import SILENCE_S
from durable_streams.settings import HttpSettings
from tests.client.proxies import Proxy

if TYPE_CHECKING:
    from durable_streams import Message
    from tests.conftest import StartServer

JSON = "application/json"


@pytest.mark.parametrize("live", ["sse", "long-poll"])
@pytest.mark.parametrize("content_type", [JSON, "text/plain", "application/octet-stream"])
def test_a_live_read_of_a_stream_that_is_closed_ends(
    start_server: StartServer, content_type: str, live: str
) -> None:
    server = start_server()
    url = f"{server.base_url}{server.prefix}"

    async def all_from(offset: str) -> list[Message]:
        async with durable_streams.connect(url, live=live) as streams:
            assert (await streams.read("s", offset, live=True, timeout_s=1e6)).closed
            return [message async for message in streams.tail("s", offset)]

    with durable_streams.connect_sync(url, live=live) as streams:
        streams.create("s", content_type=content_type, data=b"[1]")
        streams.close("s")
        tail = streams.get_metadata("s").next_offset
        for offset in ("-1", tail, "now"):
            assert streams.read("s", offset, live=True, timeout_s=1e6).closed
            found = list(streams.tail("s", offset))
            assert found == asyncio.run(all_from(offset))
            assert len(found) == (offset == "-1")


def test_a_connection_may_be_silent_for_longer_than_a_server_lets_a_reader_wait() -> None:
    assert SILENCE_S > 60  # the longest of any server
    assert 2 * HttpSettings().long_poll_timeout_s < SILENCE_S


@pytest.mark.parametrize("shell", ["async", "sync"])
def test_a_read_waits_over_any_number_of_the_servers_polls(
    start_server: StartServer, shell: str
) -> None:
    server = start_server("--long-poll-timeout", "0.05")
    with (
        Proxy(server.port) as proxy,
        ThreadPoolExecutor() as pool,
        durable_streams.connect_sync(f"{server.base_url}{server.prefix}") as direct,
    ):
        url = f"http://127.0.0.1:{proxy.port}{server.prefix}"
        direct.create("s", content_type=JSON)

        async def wait() -> list[object]:
            async with durable_streams.connect(url) as streams:
                return (await streams.read_json("s", live=True, timeout_s=1e6)).values

        def wait_in_a_thread() -> list[object]:
            with durable_streams.connect_sync(url) as streams:
                return streams.read_json("s", live=True, timeout_s=1e6).values

        waiting = pool.submit(wait_in_a_thread if shell == "sync" else lambda: asyncio.run(wait()))
        proxy.wait_for_bytes_often(b"live=long-poll", 3)
        direct.append_json("s", 1)
        assert waiting.result() == [1]
