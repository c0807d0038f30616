"""The page of docs/runs.rst in Chromium: two tabs, a reload amid the answer, a stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.runs.applications import ANSWER, end, serve

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Page

    from tests.browser.conftest import OpenPage

pytestmark = pytest.mark.needs("chromium")

_HAS_SOME = "document.getElementById('answer').textContent.includes('word-2 ')"
_HAS_ENDED = "document.getElementById('end').textContent"


async def seen(page: Page) -> tuple[str | None, str | None]:
    """The answer that a page shows, and how it ended, once it has."""
    await page.wait_for_function(_HAS_ENDED)
    return await page.text_content("#answer"), await page.text_content("#end")


async def test_two_tabs_and_a_reload_show_one_answer_and_either_stops_it(
    open_page: OpenPage, tmp_path: Path
) -> None:
    server = serve(tmp_path, "answers.py", "app", pace_s=0.03)
    try:
        first = await open_page(f"{server.base_url}/")
        await first.click("#ask")
        await first.wait_for_function(_HAS_SOME)
        second = await open_page(first.url)
        await second.wait_for_function(_HAS_SOME)
        await first.reload()
        assert await seen(first) == (ANSWER, "done")
        assert await seen(second) == (ANSWER, "done")

        await first.fill("#question", "Something endless")
        await first.click("#ask")
        await first.wait_for_function(f"{_HAS_ENDED} === ''")  # it shows the new one
        await first.wait_for_function(_HAS_SOME)
        third = await open_page(first.url)
        await third.wait_for_function(_HAS_SOME)
        await third.click("#stop")
        text, state = await seen(first)
        assert state == "stopped"
        assert await seen(third) == (text, state)
        assert text is not None
        words = text.split()
        assert words == [f"word-{number}" for number in range(len(words))]
        for page in (first, second, third):
            await page.close()
        end(server)
    finally:
        server.close()
