"""The console in a browser: a page of it, watched for whatever it must never do."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from playwright.async_api import expect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, Page

    from tools.server_process import ServerProcess

PLACE: Final = "__ds/console/"
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
