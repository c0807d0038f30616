"""The console, as people use it: from the first visit to the last deletion."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.browser.consoles import console

if TYPE_CHECKING:
    from playwright.async_api import Browser

    from tests.conftest import StartServer

pytestmark = pytest.mark.needs("chromium", "curl")


async def test_a_newcomer_opens_the_address_and_sees_their_own_curl_arrive(
    start_server: StartServer, chromium: Browser
) -> None:
    server = start_server()
    announced = server.announcement.rstrip("\n").rpartition(" ")[2]
    async with console(chromium, server) as page:
        await page.goto(f"{server.base_url}/")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Watch your first stream")
        assert page.url.startswith(announced)
        await expect(page.get_by_text("No messages yet")).to_be_visible()
        command = await page.locator(".steps pre").first.text_content()
        assert command is not None
        subprocess.run(["sh", "-c", command], check=True, capture_output=True)
        row = page.get_by_role("option")
        await expect(row).to_have_count(1)
        await expect(row).to_contain_text('{"from": "curl"}')
        await page.get_by_role("link", name="Overview").click()
        await expect(page.get_by_text("All is well")).to_be_visible()
