"""Readers of a stream cost the server no memory in proportion to the stream."""

from __future__ import annotations

import asyncio
import http.client
import io
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest

from durable_streams.settings import MIB
from tools.proofs.big_stream import MAX_GROWTH_BYTES, read_all

if TYPE_CHECKING:
    from tools.server_process import ServerProcess

STREAM_BYTES: Final = 256 * MIB
APPEND_BYTES: Final = 8 * MIB
READERS: Final = 4


@pytest.mark.slow
async def test_reading_a_big_stream_takes_at_most_32_mib(server: ServerProcess) -> None:
    url = server.url("big")
    headers = {"Content-Type": "application/octet-stream"}
    async with aiohttp.ClientSession() as session:
        await session.put(url, headers=headers)
        for number in range(STREAM_BYTES // APPEND_BYTES):
            body = io.BytesIO(number.to_bytes(8, "big") * (APPEND_BYTES // 8))
            async with session.post(url, data=body, headers=headers) as response:
                assert response.status == 204
    assert server.stop() == 0
    server.start()
    async with aiohttp.ClientSession() as session:
        async with session.head(url) as response:
            assert response.status == 200
        before = server.rss_bytes()
        server.reset_peak_rss()
        sizes = await asyncio.gather(*(read_all(session, url) for _ in range(READERS)))

    assert sizes == [STREAM_BYTES] * READERS
    assert server.peak_rss_bytes() - before <= MAX_GROWTH_BYTES


SLOW_READERS: Final = 200
LARGEST_BYTES: Final = 16 * MIB
READER_BYTES: Final = MIB // 4
WRITES_BYTES: Final = 160 * MIB
"""Of the queue between the journal and the files, and the bodies that wait for it."""


@pytest.mark.slow
@pytest.mark.parametrize("content_type", ["application/octet-stream", "text/plain"])
def test_slow_readers_of_events_of_any_size_cost_a_bounded_buffer_each(
    server: ServerProcess, content_type: str
) -> None:
    """All follow a stream whose every append is as large as can be, and take nothing of it."""

    def write(method: str, body: bytes | None) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request(method, "/v1/stream/a", body, {"Content-Type": content_type})
        status = connection.getresponse().status
        connection.close()
        return status

    assert write("PUT", None) == 201
    request = b"GET /v1/stream/a?offset=-1&live=sse HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with ExitStack() as readers:
        for _ in range(SLOW_READERS):
            reader = readers.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect(("127.0.0.1", server.port))
            reader.sendall(request)
            assert reader.recv(4096)
        before = server.rss_bytes()
        server.reset_peak_rss()
        for _ in range(3):
            assert write("POST", bytes(LARGEST_BYTES)) == 204
        assert write("HEAD", None) == 200
        growth = server.peak_rss_bytes() - before
    assert growth <= SLOW_READERS * READER_BYTES + WRITES_BYTES
