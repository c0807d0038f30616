"""Calls of MCP tools that runs answer: the same messages, whichever process gives them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from mcp_types import JSONRPCError, JSONRPCNotification, JSONRPCResponse

import durable_streams
from durable_streams import StreamNotFound
from durable_streams.runs import JSON, RunFailed, Runs
from durable_streams.runs.mcp import DurableEvents
from tests.runs.resumed import resumed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mcp.server.streamable_http import EventMessage
    from mcp_types import CallToolResult, JSONRPCMessage

    from durable_streams import Streams
    from tests.runs.resumed import Told


class Served:
    """An application behind ``around`` that answers as the SDK does: by ``follow``."""

    def __init__(self, streams: Streams, runs: Runs, **more: Any) -> None:
        self.events = DurableEvents(streams, runs=runs, **more)
        self._application = self.events.around(self._answer)
        self.told: list[tuple[str, JSONRPCMessage]] = []
        self.result: CallToolResult | None = None

    async def call(self, session: str, run: str, token: int | None = 7) -> None:
        """Request 1 of a session, which a run answers."""
        scope: dict[str, Any] = {"type": "http", "method": "POST", "headers": [], "run": run}
        await asyncio.ensure_future(
            self._application(scope | {"session": session, "token": token}, None, _nowhere)
        )

    async def replay(self, session: str, after: str) -> list[Told]:
        """What a session gets behind an event."""
        named = [(b"mcp-session-id", session.encode()), (b"last-event-id", after.encode())]
        return await resumed(self._application, named)

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "GET":
            last = dict(scope["headers"])[b"last-event-id"].decode()
            await self.events.replay_events_after(last, _nothing)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        id_ = scope["session"].encode()
        primed = await self.events.store_event("1", None)
        head = {"type": "http.response.start", "status": 200}
        await send(head | {"headers": [(b"mcp-session-id", id_)]})
        self.told = [(primed, JSONRPCNotification(jsonrpc="2.0", method="primed"))]
        self.result = await self.events.follow(self._context(scope["token"]), scope["run"])
        dumped = self.result.model_dump(by_alias=True, mode="json", exclude_none=True)
        await self._tell(JSONRPCResponse(jsonrpc="2.0", id=1, result=dumped))

    def _context(self, token: int | None) -> Any:
        async def report_progress(
            progress: float, total: float | None = None, message: str | None = None
        ) -> None:
            given = {"progress": progress, "total": total, "message": message}
            params = {"progressToken": token, **{k: v for k, v in given.items() if v is not None}}
            method = "notifications/progress"
            await self._tell(JSONRPCNotification(jsonrpc="2.0", method=method, params=params))

        request = SimpleNamespace(request_id=1, meta={"progress_token": token})
        return SimpleNamespace(request_context=request, report_progress=report_progress)

    async def _tell(self, message: JSONRPCMessage) -> None:
        self.told.append((await self.events.store_event("1", message), message))


async def _nowhere(message: Any) -> None:
    return


async def _nothing(event: EventMessage) -> None:
    raise AssertionError(event)


def texts_of(result: CallToolResult) -> list[str]:
    return [block.text for block in result.content if block.type == "text"]


@pytest.fixture
async def streams(tmp_path: Path) -> AsyncIterator[Streams]:
    async with durable_streams.open(tmp_path / "data") as opened:
        yield opened


@pytest.fixture
async def runs(streams: Streams) -> AsyncIterator[Runs]:
    async with Runs(streams, drain_s=0) as opened:
        yield opened


async def counting() -> AsyncIterator[object]:
    for number in range(4):
        yield {"progress": number, "total": 4}
    yield "that is "
    yield {"all": 4}


async def test_a_call_is_the_same_from_any_event_on_in_any_process(
    streams: Streams, runs: Runs
) -> None:
    await runs.start("r", counting, format=JSON)
    served, elsewhere = Served(streams, runs), Served(streams, runs)
    async with served.events, elsewhere.events:
        await served.call("ann", "r")
        assert served.result is not None
        assert texts_of(served.result) == ["that is ", '{"all":4}']
        assert not served.result.is_error
        assert len(served.told) == 1 + 4 + 1
        for number, (id_, _) in enumerate(served.told[:-1]):
            for process in (served, elsewhere):
                assert await process.replay("ann", id_) == served.told[number + 1 :]


async def test_who_wants_no_notifications_gets_the_answer_alone(
    streams: Streams, runs: Runs
) -> None:
    await runs.start("r", counting, format=JSON)
    served = Served(streams, runs)
    async with served.events:
        await served.call("ann", "r", token=None)
        (primed, _), (_, answer) = served.told
        assert [message for _, message in await served.replay("ann", primed)] == [answer]


async def test_a_run_that_fails_is_a_result_that_says_so(streams: Streams, runs: Runs) -> None:
    async def failing() -> AsyncIterator[object]:
        yield "half"
        raise RunFailed("the model is busy")

    await runs.start("r", failing, format=JSON)
    served = Served(streams, runs)
    async with served.events:
        await served.call("ann", "r")
        assert served.result is not None
        assert served.result.is_error
        assert texts_of(served.result) == ["half", "the model is busy"]


async def test_another_session_gets_nothing_of_a_run(streams: Streams, runs: Runs) -> None:
    await runs.start("r", counting, format=JSON)
    served = Served(streams, runs)
    async with served.events:
        await served.call("bob", "r")
        of_bob = [id_ for id_, _ in served.told]
        await served.call("ann", "r")
        for id_ in of_bob:
            assert await served.replay("ann", id_) == []
        of_ann = served.told[1][0]
        forged = of_ann.replace(".1.", ".2.")
        assert forged != of_ann
        (lost,) = [message for _, message in await served.replay("ann", forged)]
        assert isinstance(lost, JSONRPCError)
        assert await served.replay("ann", of_ann + "0") == []


async def test_a_call_under_way_is_known_when_its_part_is_kept_no_longer(
    streams: Streams, runs: Runs
) -> None:
    go_on = asyncio.Event()

    async def held() -> AsyncIterator[object]:
        yield {"progress": 1}
        await go_on.wait()
        yield {"progress": 2}

    await runs.start("r", held, format=JSON)
    served = Served(streams, runs, keep=4)
    async with served.events:
        calling = asyncio.create_task(served.call("ann", "r"))
        async for piece in runs.read("r"):
            assert piece.value == {"progress": 1}
            break
        while len(served.told) < 2:
            await asyncio.sleep(0)
        session = served.events._sessions["ann"]
        for _ in range(12):
            await session.store("another", b'{"jsonrpc":"2.0","method":"m"}')
        go_on.set()
        await calling
        for number in (1, 2):
            told = await served.replay("ann", served.told[number][0])
            assert [m for _, m in told] == [m for _, m in served.told[number + 1 :]]


async def test_a_run_that_does_not_begin_is_an_error(streams: Streams, runs: Runs) -> None:
    served = Served(streams, runs, begin_s=0)
    async with served.events:
        with pytest.raises(StreamNotFound):
            await served.call("ann", "r")


async def test_a_run_that_begins_later_is_waited_for(streams: Streams, runs: Runs) -> None:
    served = Served(streams, runs)
    async with served.events:
        calling = asyncio.create_task(served.call("ann", "r"))
        while not served.events._sessions or not served.events._sessions["ann"].calls:
            await asyncio.sleep(0)
        await runs.start("r", counting, format=JSON)
        await calling
        assert len(served.told) == 1 + 4 + 1
