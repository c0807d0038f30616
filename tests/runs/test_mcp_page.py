"""The MCP servers of docs/runs.rst, as the page has them: of the SDK, of fastmcp, and with runs."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import aiohttp
import fastmcp
import pytest

import durable_streams
from durable_streams import StreamNotFound
from tests.asgi.servers import AsgiServer
from tests.documents import named_blocks_of
from tests.runs.applications import PAGE
from tests.runs.test_mcp import Raw, told
from tools.proofs.prove_mcp import Caller
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import StartServer
    from tools.server_process import ServerProcess

    Serve = Callable[..., AsgiServer]

UP_TO: Final = 40


def written(directory: Path, name: str, **changes: str) -> Path:
    """A program of the page, with other words in places."""
    code = named_blocks_of(PAGE)[name].code
    for before, after in changes.items():
        assert before in code
        code = code.replace(before, after)
    program = directory / name
    program.write_text(code + "\n")
    return program


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Serve a program of the page."""
    servers: list[AsgiServer] = []

    def serve(program: Path, streams_url: str = "") -> AsgiServer:
        environment = {"PYTHONPATH": str(ROOT), "STREAMS_URL": streams_url}
        log = tmp_path / f"{program.stem}.log"
        servers.append(
            AsgiServer("uvicorn", "app", tmp_path, log, program=program, environment=environment)
        )
        return servers[-1]

    yield serve
    for server in servers:
        server.close()


@pytest.mark.parametrize("name", ["mcp_app.py", "fastmcp_app.py"])
async def test_the_application_of_the_page_resumes(name: str, serve: Serve, tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as session:
        client = Raw(session, serve(written(tmp_path, name)))
        await client.begin()
        events = await client.call("count", {"up_to": 5})
        assert len(told(events)) == 6
        for number, event in enumerate(events[:-1]):
            assert told((await client.replay(event["id"]))[1]) == told(events[number + 1 :])


async def test_fastmcps_own_client_goes_on_when_its_connection_is_cut(
    serve: Serve, tmp_path: Path
) -> None:
    cut = "await ctx.report_progress(number, up_to)"
    and_cuts = f"{cut}\n        if number in (3, 20):\n            await ctx.close_sse_stream()"
    server = serve(written(tmp_path, "fastmcp_app.py", **{cut: and_cuts}))
    seen: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        assert (total, message) == (UP_TO, None)
        seen.append(progress)

    async with fastmcp.Client(f"{server.base_url}/mcp", mode="legacy") as client:
        result = await client.call_tool("count", {"up_to": UP_TO}, progress_handler=note)
    assert seen == list(range(UP_TO))
    assert result.data == "that is all"


@pytest.fixture
def carrier(start_server: StartServer, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of streams, and the process of the page that carries runs on it."""
    server = start_server()
    program = written(tmp_path, "counting.py")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "STREAMS_URL": server.url()}
    with subprocess.Popen([sys.executable, str(program)], env=environment) as process:
        yield server
        process.kill()


async def until_it_listens(url: str) -> None:
    """Return when whoever carries runs has made the stream of jobs."""
    async with durable_streams.connect(url) as streams:
        while True:
            try:
                await streams.get_metadata("jobs")
            except StreamNotFound:
                await asyncio.sleep(0)
            else:
                return


@pytest.mark.parametrize("framework", ["mcp", "fastmcp"])
async def test_a_call_that_follows_a_run_outlives_the_server_of_the_page(
    framework: str, carrier: ServerProcess, serve: Serve, tmp_path: Path
) -> None:
    changes = {
        "mcp": {},
        "fastmcp": {
            "mcp.server.mcpserver import Context, MCPServer": "fastmcp import Context, FastMCP",
            "MCPServer(": "FastMCP(",
            "@server.tool()": "@server.tool",
            "server.streamable_http_app": "server.http_app",
        },
    }
    server = serve(written(tmp_path, "counting_mcp.py", **changes[framework]), carrier.url())
    await until_it_listens(carrier.url())
    caller = Caller()
    calling = asyncio.create_task(caller.call(f"{server.base_url}/mcp", UP_TO))
    await caller.has(UP_TO // 4)
    await asyncio.to_thread(server.kill_and_restart)
    assert await calling == ["that is all"]
    assert caller.seen == list(range(UP_TO))
