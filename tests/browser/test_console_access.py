"""Who may do what in the console: tokens, signed URLs, and refusals, which are the server's."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING

import aiohttp
import pytest
from playwright.async_api import expect

from tests.browser.consoles import ALL_SCOPES, PLACE, console, new_token, put, read, use_token

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Browser

    from tests.conftest import StartServer

pytestmark = pytest.mark.needs("chromium")


async def test_a_url_that_is_signed_reads_and_does_nothing_else(
    start_server: StartServer, chromium: Browser, tmp_path: Path
) -> None:
    tokens, keys = tmp_path / "tokens.toml", tmp_path / "keys.toml"
    granting = start_server()  # which has the commands as well
    token = new_token(granting, tokens, "ops", ALL_SCOPES)
    key = ["signing-key", "new", "--signing-keys", str(keys)]
    subprocess.run([*granting.program, *key], check=True, capture_output=True)
    guards = ("--tokens", str(tokens), "--signing-keys", str(keys))
    server = start_server(*guards, data_dir=tmp_path / "other")
    said = {"Authorization": f"Bearer {token}"}
    await put(server, "chat/room-1", {"n": 1}, said)
    await put(server, "other", {"n": 2}, said)
    async with console(chromium, server) as page, aiohttp.ClientSession() as nobody:
        await use_token(page, token)
        await page.goto(server.url(PLACE) + "#/access")
        made = page.locator(".signer + div pre")
        for kind, where in (("one path", "chat/room-1"), ("all below a prefix", "chat")):
            await page.get_by_label("To read").select_option(kind)
            await page.get_by_label("Path").fill(where)
            await page.get_by_role("button", name="Sign it").click()
            await expect(made).to_contain_text(f"/{where}?signed=")
            url = await made.text_content()
            assert url is not None
            signed = url.replace(f"/{where}?", "/chat/room-1?")
            async with nobody.get(signed) as found:
                assert await found.json() == [{"n": 1}]
            async with nobody.post(signed, json={"n": 3}) as refused:
                assert refused.status == 403
            async with nobody.get(url.replace(f"/{where}?", "/other?")) as refused:
                assert refused.status == 401
        await page.get_by_label("Path").fill("no//path")
        await page.get_by_role("button", name="Sign it").click()
        await expect(page.locator(".signer + div .fault")).to_be_visible()


async def test_tokens_are_made_for_what_is_chosen_and_revoked_at_once(
    start_server: StartServer, chromium: Browser, tmp_path: Path
) -> None:
    file = tmp_path / "tokens.toml"
    token = new_token(start_server(), file, "ops", ALL_SCOPES)
    server = start_server("--tokens", str(file), data_dir=tmp_path / "other")
    await put(server, "chat/room-1", {"n": 1}, {"Authorization": f"Bearer {token}"})
    async with console(chromium, server) as page:
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await use_token(page, token)
        await page.goto(server.url(PLACE) + "#/access")
        dialog, refused = page.locator("dialog"), page.locator("dialog .fault")
        await page.get_by_role("button", name="New token").click()
        await dialog.get_by_label("Name").fill("no name")
        await dialog.get_by_role("button", name="Make it").click()
        await expect(refused).to_contain_text("id")
        await dialog.get_by_label("Name").fill("guest")
        await dialog.get_by_label("Note").fill("of a test")
        await dialog.get_by_label("append").check()
        await dialog.get_by_label("On").select_option("one path")
        await dialog.get_by_label("Which").fill("chat/room-1")
        await dialog.get_by_label("Expires after").select_option("a day")
        await dialog.get_by_role("button", name="Make it").click()
        await dialog.get_by_role("button", name="Copy").click()
        guest = await page.evaluate("navigator.clipboard.readText()")
        await dialog.get_by_role("button", name="Close").click()
        row = page.get_by_role("row").filter(has_text="guest")
        await expect(row).to_contain_text("of a test")
        await expect(row).to_contain_text("read, append on chat/room-1")
        await expect(row).not_to_contain_text("never")
        said = {"Authorization": f"Bearer {guest}"}
        assert json.loads(await read(server, "chat/room-1", said)) == [{"n": 1}]
        await page.get_by_role("button", name="Revoke guest").click()
        await page.get_by_role("button", name="Cancel").click()
        await page.get_by_role("button", name="Revoke guest").click()
        await page.get_by_role("button", name="Revoke it").click()
        await expect(row).to_have_count(0)
        async with (
            aiohttp.ClientSession(headers=said) as session,
            session.get(server.url("chat/room-1")) as found,
        ):
            assert found.status == 401


@pytest.mark.parametrize("mode", ["read-only", "full"])
async def test_who_may_only_read_is_refused_by_the_server_whatever_the_page_offers(
    start_server: StartServer, chromium: Browser, tmp_path: Path, mode: str
) -> None:
    file = tmp_path / "tokens.toml"
    granting = start_server()
    ops = new_token(granting, file, "ops", ALL_SCOPES)
    reader = new_token(granting, file, "reader", "read,list")
    server = start_server("--tokens", str(file), "--console", mode, data_dir=tmp_path / "other")
    await put(server, "a", {"n": 1}, {"Authorization": f"Bearer {ops}"})
    async with console(chromium, server) as page:
        await use_token(page, reader)
        await page.goto(server.url(PLACE) + "#/stream/a")
        await expect(page.get_by_role("option")).to_have_count(1)
        changes = page.get_by_role("button", name=re.compile("^(Append|Fork|Close|Delete|File)"))
        if mode == "read-only":
            await expect(changes).to_have_count(0)
            # As a program in the page would do it, which is the console's own or none.
            change = """([path, method, token]) => fetch(path, { method, body: "{}", headers: {
                "Authorization": `Bearer ${token}`, "Content-Type": "application/json",
            } }).then((answer) => answer.status)"""
            for path, method in (("a", "POST"), ("a", "DELETE"), ("b", "PUT")):
                target = [server.url(path), method, reader]
                assert await page.evaluate(change, target) == 403, method
        else:
            assert await changes.count() == 5
            await page.get_by_label("What is appended").fill("{}")
            await page.get_by_role("button", name="Append").click()
            await expect(page.locator(".composer .fault")).to_contain_text("You may not do that.")
            await page.get_by_role("button", name="Delete").click()
            await page.get_by_label("Type its path").fill("a")
            await page.get_by_role("button", name="Delete it").click()
            await expect(page.locator("dialog .fault")).to_contain_text("has the scope")
        await page.goto(server.url(PLACE) + "#/access")
        await expect(page.get_by_text("That takes the scope admin")).to_be_visible()
        await page.get_by_role("button", name="Use another token").click()
        await page.locator("dialog input").fill(ops)
        await page.get_by_role("button", name="Use it").click()
        await expect(page.get_by_role("cell", name="reader", exact=True)).to_be_visible()
    assert json.loads(await read(server, "a", {"Authorization": f"Bearer {ops}"})) == [{"n": 1}]
