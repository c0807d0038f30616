"""``@durable-streams/client`` in Chromium, as ``docs/compatibility.rst`` has it: over a kill."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

import pytest
from aiohttp import web

from tools.node import COMPATIBILITY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.browser.conftest import OpenPage
    from tools.server_process import ServerProcess

COUNT: Final = 200


@pytest.fixture
async def pages() -> AsyncIterator[str]:
    """Where the page and its modules are, on loopback, whose pages may ask the server."""
    application = web.Application()
    application.router.add_static("/", COMPATIBILITY)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.mark.node
@pytest.mark.needs("chromium")
@pytest.mark.parametrize("live", ["sse", "long-poll"])
async def test_a_page_that_writes_and_follows_loses_and_doubles_nothing_over_a_kill(
    live: str, pages: str, open_page: OpenPage, server: ServerProcess
) -> None:
    """And the client's own session ends with an error, by event stream, as the document says."""
    query = urlencode({"url": server.url("page"), "live": live, "count": COUNT})
    page = await open_page(f"{pages}/page.html?{query}")
    await page.wait_for_function(f"globalThis.seen?.length >= {COUNT // 4}")
    await asyncio.to_thread(server.restart)
    await page.wait_for_function("globalThis.outcome")
    outcome = await page.evaluate("outcome")
    assert outcome["seen"] == list(range(COUNT))
    assert outcome["own"] == "TypeError" or live == "long-poll"
