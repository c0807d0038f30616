"""MCP sessions that resume, with the SDK's client: over kills, in two processes, by session."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest
from mcp import Client, MCPError

from tests.asgi.servers import AsgiServer
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import StartServer
    from tools.server_process import ServerProcess

    StartMcp = Callable[..., AsgiServer]

PROGRAM: Final = Path(__file__).parent / "mcp_application.py"
ACCEPT: Final = {"Accept": "application/json, text/event-stream"}
VERSION: Final = "2025-11-25"
NOTIFICATIONS: Final = 200


@pytest.fixture
def streams_server(start_server: StartServer) -> ServerProcess:
    return start_server()


@pytest.fixture
def start_mcp(streams_server: ServerProcess, tmp_path: Path) -> Iterator[StartMcp]:
    """Start MCP servers on the same streams."""
    servers: list[AsgiServer] = []

    def start(**more: str) -> AsgiServer:
        environment = {"STREAMS_URL": streams_server.url(), "PYTHONPATH": str(ROOT), **more}
        log = tmp_path / f"mcp-{len(servers)}.log"
        servers.append(
            AsgiServer("uvicorn", "app", tmp_path, log, program=PROGRAM, environment=environment)
        )
        return servers[-1]

    yield start
    for server in servers:
        server.close()


class Watched:
    """One call of the tool, and what it notifies of."""

    def __init__(self, server: AsgiServer) -> None:
        self._url = f"{server.base_url}/mcp"
        self.seen: list[float] = []
        self._more = asyncio.Condition()
        self._is_over = False

    async def note(self, progress: float, total: float | None, message: str | None) -> None:
        async with self._more:
            self.seen.append(progress)
            self._more.notify_all()

    async def has(self, seen: int) -> None:
        async with self._more:
            await self._more.wait_for(lambda: self._is_over or len(self.seen) >= seen)

    async def call(self, notifications: int, cuts: int) -> Any:
        async with Client(self._url, mode="legacy") as client:
            arguments = {"notifications": notifications, "cuts": cuts}
            try:
                return await client.call_tool("count", arguments, progress_callback=self.note)
            except MCPError as error:  # its end would make a group of it
                return error
            finally:
                async with self._more:
                    self._is_over = True
                    self._more.notify_all()


async def test_a_call_that_notifies_loses_and_doubles_nothing_while_its_streams_are_killed(
    start_mcp: StartMcp, streams_server: ServerProcess
) -> None:
    watched = Watched(start_mcp())
    calling = asyncio.ensure_future(watched.call(NOTIFICATIONS, cuts=3))
    for kills in range(1, 4):
        await watched.has(kills * NOTIFICATIONS // 4)
        await asyncio.to_thread(streams_server.kill)
        await asyncio.to_thread(streams_server.start)
    result = await calling
    assert watched.seen == list(range(NOTIFICATIONS))
    assert result.content[0].text == f"{NOTIFICATIONS} notifications"


async def test_a_call_whose_process_is_killed_is_answered_with_a_reason_by_the_next(
    start_mcp: StartMcp,
) -> None:
    server = start_mcp()
    watched = Watched(server)
    calling = asyncio.ensure_future(watched.call(100_000, cuts=0))
    await watched.has(20)
    await asyncio.to_thread(server.kill_and_restart)
    error = await calling
    assert isinstance(error, MCPError)
    assert error.message.startswith("the process that carried this request is gone")
    assert watched.seen == list(range(len(watched.seen)))


class Raw:
    """A client without the SDK, which keeps the ids of events."""

    def __init__(self, session: aiohttp.ClientSession, server: AsgiServer) -> None:
        self._session = session
        self.server = server
        self.url = f"{server.base_url}/mcp"
        self.id = ""

    @property
    def _headers(self) -> dict[str, str]:
        known = {"Mcp-Session-Id": self.id} if self.id else {}
        return ACCEPT | {"Mcp-Protocol-Version": VERSION} | known

    async def ask(self, method: str, **params: Any) -> list[dict[str, str]]:
        """Make request 1; the events that answer it."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        async with self._session.post(self.url, json=body, headers=self._headers) as response:
            assert response.status == 200, await response.text()
            self.id = response.headers.get("Mcp-Session-Id", self.id)
            return events_in(await response.text())

    async def status(self) -> int:
        """What a request is answered with now."""
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        async with self._session.post(self.url, json=body, headers=self._headers) as response:
            return response.status

    async def begin(self) -> None:
        await self.ask(
            "initialize",
            protocolVersion=VERSION,
            capabilities={},
            clientInfo={"name": "raw", "version": "1"},
        )
        body = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        async with self._session.post(self.url, json=body, headers=self._headers) as response:
            assert response.status == 202

    async def count(self, notifications: int) -> list[dict[str, str]]:
        return await self.call("count", {"notifications": notifications, "cuts": 0})

    async def call(self, tool: str, arguments: dict[str, int]) -> list[dict[str, str]]:
        meta = {"progressToken": 1}
        return await self.ask("tools/call", name=tool, arguments=arguments, _meta=meta)

    async def replay(self, last_event_id: str, url: str = "") -> tuple[int, list[dict[str, str]]]:
        headers = self._headers | {"Last-Event-ID": last_event_id}
        async with self._session.get(url or self.url, headers=headers) as response:
            return response.status, events_in(await response.text())


def events_in(text: str) -> list[dict[str, str]]:
    blocks = [block.splitlines() for block in text.replace("\r\n", "\n").split("\n\n")]
    found = [dict(line.split(": ", 1) for line in b if ": " in line) for b in blocks if b]
    return [event for event in found if "id" in event]


def told(events: list[dict[str, str]]) -> list[Any]:
    return [json.loads(event["data"]) for event in events if event.get("data")]


async def test_an_event_is_replayed_to_its_own_session_alone_in_any_process(
    start_mcp: StartMcp,
) -> None:
    """Two users whose requests have the same ids; with one store the SDK would mix them up."""
    first, second = start_mcp(), start_mcp()
    async with aiohttp.ClientSession() as session:
        ann, bob = Raw(session, first), Raw(session, first)
        await ann.begin()
        await bob.begin()
        of_ann, of_bob = await asyncio.gather(ann.count(5), bob.count(3))
        assert [len(told(events)) for events in (of_ann, of_bob)] == [6, 4]

        for url in (ann.url, f"{second.base_url}/mcp"):  # the other process, too
            status, again = await ann.replay(of_ann[0]["id"], url)
            assert (status, told(again)) == (200, told(of_ann))
            _, rest = await ann.replay(of_ann[3]["id"], url)
            assert told(rest) == told(of_ann)[3:]

        forged = of_ann[0]["id"].replace(of_ann[0]["id"][:32], "0" * 32)
        for foreign in (
            of_bob[0]["id"],
            forged,
            "1",
            "no.such.event.id",
            "",
            of_ann[0]["id"] + "0",
        ):
            _, none = await ann.replay(foreign) if foreign else (200, [])
            assert told(none) == []
            if foreign:
                status, none = await ann.replay(foreign, f"{second.base_url}/mcp")
                assert status in {200, 404}
                assert told(none) == []


async def test_a_session_keeps_so_many_events_and_no_more(start_mcp: StartMcp) -> None:
    async with aiohttp.ClientSession() as session:
        ann = Raw(session, start_mcp(KEEP="40"))
        await ann.begin()
        events = await ann.count(150)
        assert len(told(events)) == 151
        _, rest = await ann.replay(events[-30]["id"])
        assert told(rest) == told(events)[-29:]
        _, gone = await ann.replay(events[0]["id"])  # what is kept, and with it the answer
        assert told(gone) == told(events)[-len(gone) :]
        assert 40 <= len(gone) <= 80


async def test_a_client_whose_session_had_to_make_room_begins_another(
    start_mcp: StartMcp,
) -> None:
    async with aiohttp.ClientSession() as session:
        ann = Raw(session, start_mcp(SESSIONS="1"))
        bob = Raw(session, ann.server)
        await ann.begin()
        await bob.begin()
        assert await ann.status() == 404
        assert len(told(await bob.count(3))) == 4
        ann.id = ""
        await ann.begin()
        assert len(told(await ann.count(3))) == 4
