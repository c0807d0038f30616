"""Long-polls, over HTTP: at once, when there is data, and when there is none."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from durable_streams.settings import HttpSettings
from durable_streams.wire.cursor import next_cursor
from tests.http.event_client import (
    CLOSE,
    TEXT,
    append,
)

if TYPE_CHECKING:
    import pytest

    from tests.http.conftest import RunningServer, Serve


async def no_reader_left(server: RunningServer) -> None:
    """Wait until every live read has been freed."""
    live = server.handler.live
    lane = server._server._server.lane
    while server.handler.active or live.readers or live.polls or (lane and lane.answering):
        await asyncio.sleep(0)


async def test_a_long_poll_with_data_is_answered_at_once(either: RunningServer) -> None:
    await either.create("a", "text/plain", b"hello")
    client = await either.connect()
    answer = await client.request("GET", "a?offset=-1&live=long-poll")
    assert (answer.status, answer.body) == (200, b"hello")
    assert answer.headers["stream-cursor"].isdigit()
    assert answer.headers["stream-up-to-date"] == "true"


async def test_a_long_poll_waits_for_data(either: RunningServer) -> None:
    await either.create("a", "text/plain", b"hello")
    reader, writer = await either.connect(), await either.connect()
    reader.ask("GET", "a?offset=now&live=true")
    while not either.handler.live.polls:
        await asyncio.sleep(0)
    await append(writer, "a", b" world")
    answer = await reader.answer()
    assert (answer.status, answer.body) == (200, b" world")


async def test_a_long_poll_without_data_ends_in_204(serve: Serve) -> None:
    for fast_lane in (True, False):
        server = await serve(HttpSettings(long_poll_timeout_s=0.05, fast_lane=fast_lane))
        await server.create("a", "text/plain", b"hello")
        client = await server.connect()
        tail = "0000000000000000_0000000000000005"
        answer = await client.request("GET", f"a?offset={tail}&live=long-poll")
        assert answer.status == 204
        assert answer.headers["stream-next-offset"] == tail
        assert answer.headers["stream-up-to-date"] == "true"
        assert answer.headers["stream-cursor"].isdigit()


async def test_a_closed_stream_ends_a_long_poll_at_once(either: RunningServer) -> None:
    await either.create("a", "text/plain")
    reader, writer = await either.connect(), await either.connect()
    reader.ask("GET", "a?offset=-1&live=long-poll")
    while not either.handler.live.polls:
        await asyncio.sleep(0)
    await append(writer, "a", b"", CLOSE)
    for _ in range(2):
        answer = await reader.answer()
        assert (answer.status, answer.headers["stream-closed"]) == (204, "true")
        assert "stream-cursor" not in answer.headers
        reader.ask("GET", "a?offset=-1&live=long-poll")


async def test_a_last_append_reaches_a_long_poll_with_the_close(either: RunningServer) -> None:
    await either.create("a", "text/plain")
    reader, writer = await either.connect(), await either.connect()
    reader.ask("GET", "a?offset=-1&live=long-poll")
    while not either.handler.live.polls:
        await asyncio.sleep(0)
    await append(writer, "a", b"last", CLOSE | TEXT)
    answer = await reader.answer()
    assert (answer.status, answer.body) == (200, b"last")
    assert answer.headers["stream-closed"] == "true"


async def test_a_deleted_stream_ends_a_long_poll_with_404(either: RunningServer) -> None:
    await either.create("a", "text/plain")
    reader, writer = await either.connect(), await either.connect()
    reader.ask("GET", "a?offset=-1&live=long-poll")
    while not either.handler.live.polls:
        await asyncio.sleep(0)
    assert (await writer.request("DELETE", "a")).status == 204
    assert (await reader.answer()).status == 404


async def test_a_client_with_a_future_cursor_gets_a_greater_one(either: RunningServer) -> None:
    await either.create("a", "text/plain", b"x")
    client = await either.connect()
    ahead = next_cursor(None, either.handler.live.clock(), 1) + 1000
    answer = await client.request("GET", f"a?offset=-1&live=long-poll&cursor={ahead}")
    assert int(answer.headers["stream-cursor"]) > ahead


async def test_a_long_poll_whose_client_leaves_is_freed_at_once(
    either: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    await either.create("a", "text/plain")
    reader = await either.connect()
    reader.ask("GET", "a?offset=-1&live=long-poll")
    while not either.handler.live.polls:
        await asyncio.sleep(0)
    reader.writer.transport.abort()
    await no_reader_left(either)
    assert not caplog.records
