"""The applications of docs/runs.rst, as the page says to run them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.documents import blocks_of
from tests.runs.applications import ANSWER, PAGE, end, serve

if TYPE_CHECKING:
    from pathlib import Path

    from tests.asgi.servers import AsgiServer


def test_every_program_of_the_page_is_run_here() -> None:
    """Or by ``test_documents`` (the first, without a name), and the other files beside this."""
    programs = {block.name for block in blocks_of(PAGE) if block.language == "python"}
    served = {"answers.py", "chat_api.py", "site_runs.py", "completions.py", "ask.py"}
    mcp = {"mcp_app.py", "counting.py", "counting_mcp.py", "fastmcp_app.py"}
    assert programs == {"", *served, *mcp}


async def events(
    session: aiohttp.ClientSession, url: str, last_id: str = ""
) -> list[dict[str, str]]:
    """All events of an answer, as an EventSource has them."""
    async with session.get(url, headers={"Last-Event-ID": last_id} if last_id else {}) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        blocks = (await response.text()).split("\n\n")[:-1]
    lines = [block.splitlines() for block in blocks if not block.startswith(":")]
    return [dict(line.split(": ", 1) for line in block) for block in lines]


@pytest.mark.parametrize(
    ("program", "app"), [("answers.py", "app"), ("site_runs.py", "application")]
)
async def test_an_answer_is_begun_once_resumed_and_stopped(
    program: str, app: str, tmp_path: Path
) -> None:
    server = serve(tmp_path, program, app)
    try:
        async with aiohttp.ClientSession() as session:
            await follow(session, server)
            await stop(session, server)
        end(server)
    finally:
        server.close()


async def follow(session: aiohttp.ClientSession, server: AsgiServer) -> None:
    url = f"{server.base_url}/answers/one"
    for is_new in (True, False):
        async with session.post(url, data="What is it?") as response:
            assert await response.json() == {"is_new": is_new}
    *found, last = await events(session, url)
    words = [json.loads(event["data"]) for event in found]
    assert "".join(words) == ANSWER
    assert (last["event"], json.loads(last["data"])["state"]) == ("end", "done")

    rest: list[Any] = await events(session, url, found[0]["id"])
    assert rest == [*found[1:], last]
    async with session.get(url, headers={"Last-Event-ID": last["id"]}) as response:
        assert response.status == 204
    for ask in (session.get, session.delete):
        async with ask(f"{server.base_url}/answers/none") as response:
            assert response.status == 404


async def stop(session: aiohttp.ClientSession, server: AsgiServer) -> None:
    url = f"{server.base_url}/answers/two"
    async with session.post(url, data="Something endless") as response:
        assert await response.json() == {"is_new": True}
    async with session.get(url) as response:
        await response.content.readuntil(b"\n\n")
        async with session.delete(url) as stopped:
            assert await stopped.json() == {"state": "stopped"}
        assert b"event: end\nid: " in await response.content.read()
    *found, last = await events(session, url)
    words = "".join(json.loads(event["data"]) for event in found).split()
    assert words == [f"word-{number}" for number in range(len(words))]
    assert json.loads(last["data"]) == {"state": "stopped", "reason": "it was stopped"}
