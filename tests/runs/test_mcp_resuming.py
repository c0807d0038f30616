"""What one connection of an MCP client that resumes is sent, and when."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from mcp.server.streamable_http import EventMessage
from mcp_types import JSONRPCNotification

from durable_streams.runs.mcp_ids import EventId
from durable_streams.runs.mcp_resuming import Connections, in_one_piece, joined, linger_s

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class Source:
    """Events that a test gives; None is the end, and an error one that it raises."""

    def __init__(self, *given: str | Exception | None) -> None:
        self.given: asyncio.Queue[str | Exception | None] = asyncio.Queue()
        for each in given:
            self.given.put_nowait(each)
        self.is_closed = False

    async def events(self) -> AsyncGenerator[EventMessage, None]:
        try:
            while (given := await self.given.get()) is not None:
                if isinstance(given, Exception):
                    raise given
                yield EventMessage(JSONRPCNotification(jsonrpc="2.0", method=given))
        finally:
            self.is_closed = True

    async def piece(self, linger_s: float = 0.1) -> list[str]:
        """The methods in what one connection is sent."""
        messages = [event.message async for event in in_one_piece(self.events(), linger_s)]
        return [m.method for m in messages if isinstance(m, JSONRPCNotification)]


async def test_who_resumes_gets_what_is_there_and_the_connection_ends() -> None:
    source = Source("a", "b")
    assert await source.piece() == ["a", "b"]
    assert source.is_closed


async def test_who_resumes_when_nothing_is_there_waits_for_the_first_event() -> None:
    source = Source()
    waiting = asyncio.create_task(source.piece())
    await asyncio.sleep(0)
    assert not waiting.done()
    source.given.put_nowait("a")
    assert await waiting == ["a"]


async def test_a_connection_ends_with_the_events() -> None:
    source = Source("a", None)
    assert await source.piece() == ["a"]
    assert await Source(None).piece() == []


async def test_a_later_connection_waits_for_more_events_but_not_behind_the_answer() -> None:
    source = Source("a")
    waiting = asyncio.create_task(source.piece(linger_s=10_000))
    while not source.given.empty():
        await asyncio.sleep(0)
    source.given.put_nowait("b")
    source.given.put_nowait(None)
    assert await waiting == ["a", "b"]


def test_a_call_of_hours_has_fewer_connections_than_the_client_bears() -> None:
    """It awaits each within the last; Python allows 1000 calls within each other."""
    assert linger_s(0) == pytest.approx(0.1)
    assert linger_s(10**6) == linger_s(10**3)
    assert sum(linger_s(before) for before in range(900)) > 5 * 60 * 60


def test_the_connections_of_a_call_are_counted() -> None:
    connections = Connections()
    ann, bob = EventId("0" * 32, 0, "1", "-1"), EventId("1" * 32, 0, "1", "-1")
    assert [connections.one_more(each) for each in (ann, ann, bob, ann)] == [0, 1, 0, 2]
    assert connections.one_more(ann._replace(part=3, offset="x", is_of_run=True)) == 3


async def test_a_connection_that_is_left_lets_go_of_the_events() -> None:
    source = Source()
    waiting = asyncio.create_task(source.piece())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert source.is_closed


async def test_what_goes_wrong_is_raised() -> None:
    source = Source("a", ValueError("wrong"))
    with pytest.raises(ValueError, match="wrong"):
        await source.piece()
    assert source.is_closed


async def test_events_are_sent_with_the_end_and_comments_at_once() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    joining = joined(send)
    head = {"type": "http.response.start", "status": 200}
    body = {"type": "http.response.body"}
    await joining(head)
    await joining(body | {"body": b": ping\r\n\r\n", "more_body": True})
    assert sent == [head, body | {"body": b": ping\r\n\r\n", "more_body": True}]
    await joining(body | {"body": b"id: 1\r\ndata: a\r\n\r\n", "more_body": True})
    await joining(body | {"body": b"id: 2\r\ndata: b\r\n\r\n", "more_body": True})
    await joining(body | {"body": b": ping\r\n\r\n", "more_body": True})
    assert len(sent) == 3
    await joining(body | {"body": b"", "more_body": False})
    whole = b"id: 1\r\ndata: a\r\n\r\nid: 2\r\ndata: b\r\n\r\n"
    assert sent[3:] == [body | {"body": whole, "more_body": False}]
