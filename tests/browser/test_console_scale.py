"""The console where there is very much: twenty thousand streams, and events as fast as they come.

Nothing here judges how long something takes: a page that is frozen takes no input, and the test
does not go on.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest
from playwright.async_api import Error, expect

from tests.browser.consoles import JSON, MOST_ROWS, console, put
from tools.proofs import prove_console
from tools.proofs.make_streams import make_streams, path_of

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Browser, Page, Route

    from tests.conftest import StartServer
    from tools.server_process import ServerProcess

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.slow]

STREAMS: Final = 20_000
TOGETHER: Final = 100
"""In each of 200 namespaces."""

AT_ONCE: Final = 1000
MOST_FOLLOWED: Final = 20_000
"""Messages that a list has which is followed (``feed.js``)."""

COUNT: Final = """
    globalThis.seen = { frames: 0, rows: 0, longest: 0 };
    let before = performance.now();
    const frame = (now) => {
        seen.frames++;
        seen.longest = Math.max(seen.longest, now - before);
        before = now;
        requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
    new MutationObserver(() => seen.rows++).observe(
        document.querySelector(".list-space"), { childList: true, subtree: true });
"""
"""Count the frames of a page, and how often the rows of its list are others."""


def place_of(number: int) -> str:
    return "/".join(path_of(number, TOGETHER))


async def page_by_page(page: Page) -> None:
    """Forth and back, with the focus where it was, and over a reload."""
    first = page.locator("td.path").first
    forth = page.get_by_role("button", name="Next page")
    back = page.get_by_role("button", name="Previous page")
    for number in (100, 200):
        await forth.click()
        await expect(first).to_have_text(place_of(number))
        await expect(forth).to_be_focused()
    await page.reload()
    await expect(first).to_have_text(place_of(200))
    await forth.click()
    await back.click()
    await expect(first).to_have_text(place_of(200))
    await back.click()
    await expect(first).to_have_text(place_of(0))
    await expect(back).to_be_hidden()


async def by_what_they_begin_with(page: Page) -> None:
    search, paths = page.get_by_label("Paths that begin with"), page.locator("td.path")
    await search.press_sequentially("rooms/00199/stream-001999")
    await expect(paths).to_have_text([place_of(number) for number in range(19_990, 20_000)])
    await expect(page.get_by_text("10 streams.")).to_be_visible()
    await search.fill("rooms/00003")
    await expect(paths).to_have_count(100)
    await expect(paths.last).to_have_text(place_of(399))
    await search.fill("")
    await expect(paths.first).to_have_text(place_of(0))


async def sorted_among_all(page: Page) -> None:
    """Among some thousands at first, and it says so; among all if somebody asks, until stopped."""
    first = page.locator("td.path").first
    every = page.get_by_role("button", name="Sort all of them")
    await page.get_by_label("Sort by").select_option("size")
    some = "The first 200 of 5,000 streams, the first by path that there are."
    await expect(page.get_by_text(some)).to_be_visible()
    await expect(first).to_have_text(place_of(0))
    holds, goes_on, asked = asyncio.Event(), asyncio.Event(), itertools.count(1)

    async def hold(route: Route) -> None:
        if next(asked) == 3:
            holds.set()
            await goes_on.wait()
        with suppress(Error):  # which the page has given up by then
            await route.continue_()

    await page.route("**/__ds/streams?*", hold)
    await every.click()
    await holds.wait()
    await page.get_by_role("button", name="Stop").click()
    await expect(every).to_be_visible()
    goes_on.set()
    await every.click()
    text = re.compile(r"^The first 200 of 20,000 streams, as they were at \d\d:\d\d:\d\d\.$")
    await expect(page.get_by_text(text)).to_be_visible()
    await expect(first).to_have_text(place_of(STREAMS - 1))
    assert await page.locator("td.path").count() == 200


async def as_a_tree(page: Page) -> None:
    branches = page.locator(".tree .tree > li, .tree ul > li").filter(has=page.locator("summary"))
    await page.get_by_role("button", name="Tree").click()
    await page.locator("summary").filter(has_text="rooms").click()
    await expect(branches).to_have_count(100)
    await page.get_by_role("button", name="Show more").click()
    await expect(branches).to_have_count(200)
    await page.get_by_label("Paths that begin with").fill("rooms/0015")
    below = page.locator(".tree > li > details > summary")
    await expect(below).to_have_text([f"{number:05}/" for number in range(150, 160)])
    await page.get_by_label("Paths that begin with").fill("rooms/00150/stream-0015000")
    await expect(page.get_by_role("link", name="stream-0015000")).to_be_visible()


async def test_twenty_thousand_streams_are_gone_through_searched_and_sorted(
    start_server: StartServer, chromium: Browser, data_dir: Path
) -> None:
    await asyncio.to_thread(make_streams, data_dir, STREAMS, TOGETHER)
    server = start_server()
    body = {"Content-Type": "application/octet-stream"}
    await put(server, place_of(STREAMS - 1), b"x" * 10_000, body)
    await put(server, place_of(0), b"x" * 1000, body)
    async with console(chromium, server, "#/streams") as page:
        await expect(page.get_by_text("100 streams, and more.")).to_be_visible()
        await page_by_page(page)
        await by_what_they_begin_with(page)
        await sorted_among_all(page)
        await as_a_tree(page)


async def write(server: ServerProcess, path: str, end: asyncio.Event) -> int:
    """Append as fast as that is acknowledged, a thousand at once; how many those were."""
    written = 0
    async with aiohttp.ClientSession(headers=JSON) as session:
        while not end.is_set():
            body = ",".join(f'{{"n":{n}}}' for n in range(written, written + AT_ONCE))
            async with session.post(server.url(path), data=f"[{body}]") as appended:
                assert appended.status == 204, await appended.text()
            written += AT_ONCE
    return written


async def test_a_page_takes_input_while_more_comes_than_anybody_can_read(
    start_server: StartServer, chromium: Browser
) -> None:
    server = start_server()
    await put(server, "fast")
    end = asyncio.Event()
    async with console(chromium, server, "#/stream/fast") as page:
        await expect(page.locator(".follow-state")).to_contain_text("live")
        await page.evaluate(COUNT)
        writing = asyncio.create_task(write(server, "fast", end))
        try:
            jump = page.get_by_label("Jump to a time or an offset")
            await jump.focus()
            text = ""
            for letter in "yesterday 14:00":
                before = await page.evaluate("seen")
                await page.keyboard.press(letter)
                text += letter
                await expect(jump).to_have_value(text)
                # Other messages are there by now, and were drawn in frames of their own.
                changed = "({ rows, frames }) => seen.rows > rows && seen.frames > frames"
                await page.wait_for_function(changed, arg=before)
                assert await page.get_by_role("option").count() <= MOST_ROWS
        finally:
            end.set()
        written = await writing
        await put(server, "fast", {"last": "one"})
        last = page.get_by_role("option").last
        await expect(last).to_contain_text('{"last": "one"}')
        await expect(page.locator(".follow-state")).to_contain_text("live")
        assert written > MOST_FOLLOWED
        # Also of what comes so slowly that all of it is shown no more is kept.
        for number in range(MOST_FOLLOWED // AT_ONCE + 2):
            await put(server, "fast", [{"batch": number}] * (AT_ONCE - 1))
            await expect(last).to_contain_text(f'{{"batch": {number}}}')
        await expect(last).to_have_attribute("aria-setsize", str(MOST_FOLLOWED))


async def test_what_following_costs_the_server_is_measured() -> None:
    found = await prove_console.rounds(1, 0.2, 200, 1, print)
    assert all(took[0] > 0 for took in found.values())
    assert "ratio" in prove_console.summary(found)
