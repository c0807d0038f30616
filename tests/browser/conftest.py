"""Fixtures: a real Chromium, pages that tell what happens in them, a real proxy."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, Protocol

import pytest
from playwright.async_api import async_playwright

from tests.browser import nginx
from tests.programs import find_program

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Browser, Page

_FLAGS: Final = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--host-resolver-rules=MAP *.test 127.0.0.1, MAP *.example 127.0.0.1",  # as DNS would have it
    "--no-first-run",
)

_WATCH: Final = """
    globalThis.sources = [];
    globalThis.controls = 0;
    globalThis.EventSource = class extends EventSource {
        constructor(...values) {
            super(...values);
            sources.push(this);
            this.addEventListener("control", () => controls++);
        }
    };
    globalThis.printed = [];
    console.log = (...values) => printed.push(...values);
"""
"""Before any script of a page: keep its event sources and what it prints, count control events."""

_HANGS_MS: Final = 60_000
"""Not a judgement on speed: a page in which nothing happens any more fails the test."""


class OpenPage(Protocol):
    """Open a page at this URL; an exception that none of its scripts catches fails the test."""

    async def __call__(self, url: str) -> Page: ...


class StartProxy(Protocol):
    """Start a proxy in front of a server at this port."""

    async def __call__(self, server_port: int) -> nginx.Proxy: ...


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    """Start the system's Chromium, with a profile of its own."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=find_program("chromium"), args=_FLAGS
        )
        yield browser
        await browser.close()


@pytest.fixture
async def open_page(chromium: Browser) -> AsyncIterator[OpenPage]:
    """Open pages that are watched, and whose timers a test may turn forward."""
    uncaught: list[Exception] = []

    def note(error: Exception) -> None:
        uncaught.append(error)

    async def open_page(url: str) -> Page:
        page = await chromium.new_page()
        page.set_default_timeout(_HANGS_MS)
        page.on("pageerror", note)
        await page.clock.install()
        await page.add_init_script(_WATCH)
        await page.goto(url)
        return page

    yield open_page
    assert uncaught == []


@pytest.fixture
async def start_proxy(tmp_path: Path) -> AsyncIterator[StartProxy]:
    """Start proxies; each notes what it answers."""
    async with AsyncExitStack() as stack:

        async def start(server_port: int) -> nginx.Proxy:
            return await stack.enter_async_context(nginx.running(server_port, tmp_path))

        yield start
