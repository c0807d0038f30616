"""The tasks of docs/console.rst: each is done, with as many clicks as the page says."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Final

import pytest
from playwright.async_api import expect

from tests.browser.consoles import console
from tools.screenshots import fill
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from playwright.async_api import Browser, Locator, Page

    from tests.conftest import StartServer

pytestmark = pytest.mark.needs("chromium")

MOST: Final = 4
_ROW: Final = re.compile(r"   \* - (.+)\n     - (\d+)\n", re.MULTILINE)
TASKS: Final = dict(_ROW.findall((ROOT / "docs" / "console.rst").read_text()))


class Hand:
    """Somebody at a page, whose clicks are counted."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.clicks = 0

    async def click(self, place: Locator) -> None:
        self.clicks += 1
        await place.click()

    async def button(self, name: str) -> None:
        await self.click(self.page.get_by_role("button", name=name, exact=True).last)

    async def link(self, name: str) -> None:
        await self.click(self.page.get_by_role("link", name=name, exact=True))

    async def message(self, text: str) -> None:
        await self.click(self.page.get_by_role("option").filter(has_text=text).last)
        await expect(self.page.locator("pre.content")).to_be_visible()

    async def type(self, label: str, text: str) -> None:
        await self.click(self.page.get_by_label(label))
        await self.page.keyboard.type(text)


async def growing(hand: Hand) -> None:
    await hand.link("Streams")
    hand.clicks += 1
    await hand.page.get_by_label("Sort by").select_option("write")
    await expect(hand.page.locator("td.path").first).to_have_text("try/hello")


async def last_error(hand: Hand) -> None:
    await hand.link("orders/eu/shop-1")
    await hand.type("Filter", "error\n")
    await hand.message("payment.error")
    await expect(hand.page.locator("pre.content")).to_contain_text("declined")


async def replay(hand: Hand) -> None:
    await hand.link("orders/eu/shop-1")
    await hand.type("Jump to a time or an offset", "yesterday 14:00\n")
    await expect(hand.page.get_by_role("option").first).to_contain_text("0:0")
    assert "since=" in hand.page.url


async def fork(hand: Hand) -> None:
    await hand.message("payment.error")
    await hand.button("Fork before it")
    await hand.button("Fork")
    await expect(hand.page.get_by_role("heading", level=1)).to_have_text("shop-1-fork")


async def link(hand: Hand) -> None:
    await hand.message("payment.error")
    await hand.button("Copy link")
    await expect(hand.page.locator(".toast")).to_have_text("Copied a link to this message")
    assert "dst_" not in hand.page.url


async def watch(hand: Hand) -> None:
    await hand.link("orders/eu/shop-1")
    await expect(hand.page.locator(".follow-state")).to_contain_text("live")


async def by_hand(hand: Hand) -> None:
    await hand.type("What is appended", '{"by": "hand"}')
    await hand.button("Append")
    await expect(hand.page.get_by_role("option").last).to_contain_text('{"by": "hand"}')


async def details(hand: Hand) -> None:
    await hand.click(hand.page.get_by_role("tab", name="Details"))
    await expect(hand.page.get_by_role("cell", name="checkout-1")).to_be_visible()


async def copy(hand: Hand) -> None:
    async with hand.page.expect_download() as saving:
        await hand.button("Download")
    assert (await saving.value).suggested_filename == "shop-1.json"


async def revoke(hand: Hand) -> None:
    await hand.link("Access")
    await hand.button("Revoke guest")
    await hand.button("Revoke it")
    await expect(hand.page.get_by_role("button", name="Revoke guest")).to_have_count(0)


DONE: Final[dict[str, tuple[str, Callable[[Hand], Awaitable[None]]]]] = {
    "Find the stream that grows": ("#/overview", growing),
    "See the last error": ("#/streams", last_error),
    "Replay from yesterday 14:00": ("#/streams", replay),
    "Fork before the bad message": ("#/stream/orders/eu/shop-1", fork),
    "Make a link for a colleague": ("#/stream/orders/eu/shop-1", link),
    "Watch what arrives": ("#/streams", watch),
    "Append by hand": ("#/stream/orders/eu/shop-1", by_hand),
    "See who writes and who reads": ("#/stream/orders/eu/shop-1", details),
    "Keep a copy": ("#/stream/orders/eu/shop-1", copy),
    "Take a token away": ("#/overview", revoke),
}
"""Where each begins, and how it is done."""


async def test_each_task_takes_as_many_clicks_as_the_page_says(
    start_server: StartServer, chromium: Browser, tmp_path: Path
) -> None:
    assert TASKS.keys() == DONE.keys()
    assert max(map(int, TASKS.values())) <= MOST
    tokens = str(tmp_path / "tokens.toml")
    granting = start_server()  # which has the command as well
    ops = ["--id", "ops", "--scope", "read,append,create,delete,fork,list,admin", "--prefix", ""]
    guest = ["--id", "guest", "--scope", "read", "--prefix", "chat"]
    texts = []
    for granted in (ops, guest):
        new = [*granting.program, "token", "new", "--tokens", tokens, *granted]
        made = subprocess.run(new, check=True, capture_output=True, text=True)
        texts.append(made.stdout.strip())
    server = start_server("--tokens", tokens, data_dir=tmp_path / "other")
    await fill(server, texts[0])
    async with console(chromium, server) as page:
        keep = "text => sessionStorage.setItem('durable-streams-token', text)"
        await page.evaluate(keep, texts[0])
        took = {}
        for task, (place, done) in DONE.items():
            await page.goto("about:blank")
            await page.goto(server.url("__ds/console/") + place)
            hand = Hand(page)
            await done(hand)
            took[task] = str(hand.clicks)
    assert took == TASKS
