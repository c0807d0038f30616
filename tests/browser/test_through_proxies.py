"""A page follows a stream through each proxy of ``docs/proxies.rst``: TLS, HTTP/2, a real browser.

The times are the server's own, so this waits for a minute: until the first event stream has ended.
The server is the wheel's, as in ``tests/deploy``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from tests.deploy.conftest import (  # noqa: F401 - fixtures
    distributions,
    made_once,
    programs,
    served_by,
    wheel,
)
from tests.deploy.proxies import NAME, PROGRAMS, running

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Browser, Page, Route

    from tests.conftest import StartServer
    from tests.deploy.proxies import Proxy

pytestmark = [pytest.mark.slow, pytest.mark.needs("chromium", "curl", *PROGRAMS)]

TEXT: Final = {"Content-Type": "text/plain"}
FOLLOW: Final = """(url) => {
    globalThis.got = [];
    globalThis.opened = 0;
    const events = new EventSource(url);
    events.addEventListener("open", () => opened++);
    events.addEventListener("data", (event) => got.push(event.data));
}"""
VERSIONS: Final = """() => performance.getEntriesByType("resource")
    .filter((entry) => entry.name.includes("live=sse")).map((entry) => entry.nextHopProtocol)"""
_HANGS_MS: Final = 300_000
"""Not a judgement on speed: a page in which nothing happens any more fails the test."""


async def page_of(browser: Browser, proxy: Proxy) -> Page:
    """An empty one of the streams' own origin, that takes the proxy's certificate."""

    async def answer(route: Route) -> None:
        await route.fulfill(body="<!doctype html>", content_type="text/html")

    page = await browser.new_page(ignore_https_errors=True)
    page.set_default_timeout(_HANGS_MS)
    await page.route("**/page", answer)
    await page.goto(f"{proxy.url}/page")
    return page


async def test_a_page_follows_over_the_end_of_an_event_stream(
    start_server: StartServer, chromium: Browser, tmp_path: Path
) -> None:
    server = start_server("--allowed-host", NAME)

    async def follow(program: str) -> None:
        with running(program, tmp_path / program, server.port) as proxy:
            path = f"/v1/stream/{program}"
            proxy.ask("PUT", path, b"first", TEXT)
            page = await page_of(chromium, proxy)
            await page.evaluate(FOLLOW, f"{path}?offset=-1&live=sse")
            await page.wait_for_function("got.length === 1 && opened === 1")
            await page.wait_for_function("opened === 2")
            proxy.ask("POST", path, b"second", TEXT)
            await page.wait_for_function("got.length === 2")
            assert await page.evaluate("got") == ["first", "second"]
            assert set(await page.evaluate(VERSIONS)) == {"h2"}
            await page.close()

    await asyncio.gather(*map(follow, PROGRAMS))
