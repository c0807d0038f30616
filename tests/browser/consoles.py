"""The console in a browser: a page of it, watched for whatever it must never do."""

from __future__ import annotations

import json
import subprocess
from contextlib import asynccontextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from playwright.async_api import expect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Browser, Page

    from tools.server_process import ServerProcess

PLACE: Final = "__ds/console/"
JSON: Final = {"Content-Type": "application/json"}
ALL_SCOPES: Final = "read,append,create,delete,fork,list,admin"
MOST_ROWS: Final = 120
"""Of a list, in the page at any time: what is seen, and a little beyond."""

_HANGS_MS: Final = 60_000
"""Not a judgement on speed: a page in which nothing happens any more fails the test."""

expect.set_options(timeout=_HANGS_MS)


@asynccontextmanager
async def console(
    chromium: Browser,
    server: ServerProcess,
    place: str = "",
    *,
    dark: bool = False,
    is_examined: bool = False,
) -> AsyncIterator[Page]:
    """Open the console at a place (what is behind the ``#``).

    ``is_examined``: programs are put into the page that its policy would not let in.

    At the end it fails if a script of the page has failed, something was kept from running by the
    page's policy, or anything was asked of another origin than the server's.
    """
    trouble: list[str] = []
    context = await chromium.new_context(
        color_scheme="dark" if dark else "light",
        viewport={"width": 1200, "height": 800},
        bypass_csp=is_examined,
    )
    page = await context.new_page()
    page.set_default_timeout(_HANGS_MS)
    page.on("pageerror", lambda error: trouble.append(f"failed: {error}"))
    page.on(
        "console",
        lambda said: trouble.append(said.text) if "Content Security" in said.text else None,
    )
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((f"{server.base_url}/", "blob:"))
            else trouble.append(f"asked of another: {request.url}")
        ),
    )
    await page.goto(server.url(PLACE) + place)
    try:
        yield page
    finally:
        await context.close()
    assert trouble == []


async def put(
    server: ServerProcess, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> None:
    """Create a stream, or append if it is there; ``body``: JSON unless it is bytes or text."""
    text = body if isinstance(body, str | bytes) else json.dumps(body, ensure_ascii=False)
    data = BytesIO(text if isinstance(text, bytes) else text.encode())
    async with aiohttp.ClientSession(headers={**JSON, **(headers or {})}) as session:
        async with session.put(server.url(path)) as made:
            assert made.status in {200, 201}, await made.text()
        if body is not None:
            async with session.post(server.url(path), data=data) as appended:
                assert appended.status == 204, await appended.text()


async def read(server: ServerProcess, path: str, headers: dict[str, str] | None = None) -> str:
    """All of a stream, as it is sent."""
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(server.url(path)) as found,
    ):
        assert found.status == 200, await found.text()
        return await found.text()


async def status_of(server: ServerProcess, path: str) -> int:
    """What is said to whoever asks for a stream."""
    async with aiohttp.ClientSession() as session, session.head(server.url(path)) as found:
        return found.status


async def open_message(page: Page, text: str) -> None:
    """Open the message that shows a text, and wait for all of it."""
    await page.get_by_role("option").filter(has_text=text).last.click()
    await expect(page.locator("pre.content")).to_be_visible()


def new_token(server: ServerProcess, file: Path, name: str, scopes: str, prefix: str = "") -> str:
    """Make a token by the command that a server has as well; its text."""
    words = ["token", "new", "--tokens", str(file), "--id", name, "--scope", scopes]
    made = subprocess.run(
        [*server.program, *words, "--prefix", prefix], check=True, capture_output=True, text=True
    )
    return made.stdout.strip()


async def use_token(page: Page, text: str) -> None:
    """Have the page use a token from its next opening on."""
    await page.evaluate("text => sessionStorage.setItem('durable-streams-token', text)", text)
