"""The console, as people use it: from the first visit to the last deletion.

Nothing here waits for a time: each step waits for what the page shows.
"""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Final

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import expect

from tests.browser.consoles import MOST_ROWS, console, open_message, put, status_of

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Browser, Page

    from tests.conftest import StartServer

pytestmark = pytest.mark.needs("chromium", "curl")

BYTES: Final = {"Content-Type": "application/octet-stream"}
MANY: Final = 100_000

EVIL: Final = "<img src=x onerror=globalThis.ran=1><script>globalThis.ran=1</script>"


async def fork_before_it(page: Page) -> None:
    """Fork a stream before the second message, which is open; and go back to its source."""
    await page.get_by_role("button", name="Fork before it").click()
    await page.get_by_label("Path of the fork").fill("by/fork")
    await page.get_by_role("button", name="Fork", exact=True).last.click()
    await expect(page.get_by_role("heading", name="fork")).to_be_visible()
    await expect(page.get_by_role("option")).to_have_count(1)
    await page.get_by_role("tab", name="Details").click()
    await page.get_by_role("link", name="by/hand").click()


async def close_and_delete(page: Page) -> None:
    """Close a stream, and delete it by typing its path."""
    await page.get_by_role("button", name="Close", exact=True).click()
    await page.get_by_role("button", name="Close it").click()
    await expect(page.locator(".follow-state")).to_have_text("closed")
    await page.get_by_role("button", name="Delete").click()
    really = page.get_by_role("button", name="Delete it")
    await expect(really).to_be_disabled()
    await page.get_by_label("Type its path").fill("by/hand")
    await really.click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Streams")


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
        await expect(page.get_by_text("fsync: on disk before it is acknowledged")).to_be_visible()


async def test_a_stream_is_created_appended_to_forked_closed_and_deleted_by_hand(
    start_server: StartServer, chromium: Browser, tmp_path: Path
) -> None:
    server = start_server()
    dropped = tmp_path / "dropped.json"
    dropped.write_text('[{"n": 2}, {"n": 3}]')
    async with console(chromium, server, "#/streams") as page:
        await page.get_by_role("button", name="New stream").first.click()
        await page.get_by_label("Path", exact=True).fill("by/hand")
        await page.get_by_label("First content").fill('{"n": 1}')
        await page.get_by_role("button", name="Create").click()
        await expect(page.get_by_role("option")).to_have_count(1)
        # Appended: what is no JSON is not sent; what is dropped is.
        await page.get_by_label("What is appended").fill("{no")
        await page.get_by_role("button", name="Append").click()
        await expect(page.get_by_text("This is no JSON")).to_be_visible()
        await page.get_by_label("What is appended").fill('{"n": 12345678901234567890}')
        await page.get_by_label("What is appended").press("Control+Enter")
        await expect(page.get_by_role("option")).to_have_count(2)
        await page.locator("input[type=file]").set_input_files(dropped)
        await expect(page.get_by_role("option")).to_have_count(4)
        # One of them, in all forms; the last digits are as they were sent.
        await open_message(page, "12345678901234567890")
        await expect(page.locator("pre.content")).to_have_text('{\n  "n": 12345678901234567890\n}')
        for form, shown in (("Hex", "7b 22 6e 22"), ("Base64", "eyJuIj"), ("Text", '{"n": 1')):
            await page.get_by_role("button", name=form, exact=True).click()
            await expect(page.locator("pre.content")).to_contain_text(shown)
        assert "open=" in page.url
        async with page.expect_download() as saving:
            await page.locator(".detail").get_by_role("button", name="Download").click()
        message = await (await saving.value).path()
        assert message.read_text() == '{"n": 12345678901234567890}'
        await fork_before_it(page)
        # All of it as a file, and how programs use it.
        await expect(page.get_by_role("option")).to_have_count(4)
        async with page.expect_download() as saving:
            await page.get_by_role("button", name="Download").click()
        stored = await (await saving.value).path()
        assert [row["n"] for row in json.loads(stored.read_text())] == [
            1,
            12345678901234567890,
            2,
            3,
        ]
        await page.get_by_role("button", name="Use from a program").click()
        for language in ("Python", "JavaScript", "curl"):
            await page.get_by_role("button", name=language, exact=True).click()
            await expect(page.locator("dialog pre").first).to_contain_text("by/hand")
        await page.get_by_role("button", name="Close", exact=True).last.click()
        await close_and_delete(page)
    assert await status_of(server, "by/hand") == 410  # its fork needs it
    assert await status_of(server, "by/fork") == 200


async def test_streams_are_found_by_what_they_begin_with_as_a_tree_and_by_size(
    start_server: StartServer, chromium: Browser
) -> None:
    server = start_server()
    for path in ("chat", "chat/room-1", "chat/room-2", "chat-old/x", "logs/2026/a", "logs/2026/b"):
        await put(server, path, {"n": path})
    await put(server, "logs/2026/b", {"n": "x" * 999})
    async with console(chromium, server, "#/streams") as page:
        paths = page.locator("td.path")
        await expect(paths).to_have_count(6)
        search = page.get_by_label("Paths that begin with")
        await search.fill("chat/ro")
        await expect(paths).to_have_text(["chat/room-1", "chat/room-2"])
        await search.fill("chat")
        await expect(paths).to_have_text(["chat", "chat/room-1", "chat/room-2", "chat-old/x"])
        assert "prefix=chat" in page.url
        await search.fill("nowhere")
        await expect(page.get_by_text("Nothing begins with that")).to_be_visible()
        await search.fill("")
        await page.get_by_label("Sort by").select_option("size")
        await expect(paths.first).to_have_text("logs/2026/b")
        await put(server, "chat", {"n": "y" * 5000})
        await expect(page.locator(".grown")).to_contain_text("+4.9 KiB")
        await expect(paths.first).to_have_text("chat")
        await page.get_by_role("button", name="Tree").click()
        await page.locator("summary").filter(has_text="logs").click()
        await page.locator("summary").filter(has_text="2026").click()
        await expect(page.get_by_role("link", name="b", exact=True)).to_be_visible()


async def test_what_is_hostile_is_shown_and_nothing_of_it_happens(
    start_server: StartServer, chromium: Browser
) -> None:
    server = start_server()
    huge = "line " * 1_000_000
    await put(server, "evil", {"html": EVIL})
    await put(server, "evil", {"turned": "abc\u202e\u2066gpj.exe\u200b"})
    await put(server, "evil", {"huge": huge})
    await put(server, "bytes", b"\xff\xfe\x00<b>" + bytes(range(256)), BYTES)
    await put(server, "%3Cimg%20src=x%20onerror=alert(1)%3E", EVIL, {"Content-Type": "text/html"})
    async with console(chromium, server, "#/stream/evil") as page:
        await expect(page.get_by_role("option")).to_have_count(3)
        await open_message(page, "html")
        await expect(page.locator("pre.content")).to_contain_text("<img src=x")
        await open_message(page, "turned")
        await expect(page.locator("pre.content")).to_contain_text("⟨202E⟩⟨2066⟩gpj.exe⟨200B⟩")
        await open_message(page, "huge")
        await expect(page.get_by_text("% of it is shown")).to_be_visible()
        shown = await page.locator("pre.content").evaluate("node => node.textContent.length")
        assert shown < 100_000
        await page.get_by_role("button", name="Show more").click()
        await page.wait_for_function(
            "least => document.querySelector('pre.content').textContent.length > least", arg=shown
        )
        await page.goto(f"{server.url('__ds/console/')}#/stream/bytes")
        await page.get_by_role("option").click()
        await expect(page.get_by_text("These bytes are no UTF-8")).to_be_visible()
        await expect(page.locator("pre.content")).to_contain_text("ff fe 00 3c 62 3e")
        await page.goto(f"{server.url('__ds/console/')}#/streams")
        await page.get_by_role("link", name="<img src=x onerror=alert(1)>").click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("<img src=x")
        await expect(page.get_by_role("option")).to_contain_text("<script>")
        assert await page.evaluate("globalThis.ran") is None
        assert await page.locator("main img, main script").count() == 0
        # What is not the console's own is no style of its page; of this one, which is not watched.
        other = await page.context.new_page()
        await other.goto(server.url("__ds/console/"))
        refused = await other.evaluate(
            """(url) => new Promise((resolve) => {
            addEventListener("securitypolicyviolation", (event) => resolve(event.blockedURI));
            const made = document.createElement("link");
            Object.assign(made, { rel: "stylesheet", href: url });
            document.head.append(made);
        })""",
            "https://elsewhere.example/style.css",
        )
        assert refused == "https://elsewhere.example/style.css"


async def test_a_hundred_thousand_messages_are_moved_through_and_followed(
    start_server: StartServer, chromium: Browser
) -> None:
    server = start_server()
    for begin in range(0, MANY, MANY // 10):
        made: list[dict[str, object]] = [{"n": n} for n in range(begin, begin + MANY // 10)]
        made[5] = {"n": begin + 5, "level": "ERROR"}
        await put(server, "many", made)
    async with console(chromium, server, "#/stream/many") as page:
        rows = page.get_by_role("option")
        await expect(rows.last).to_contain_text(f'{{"n": {MANY - 1}}}')
        # A text, newest first; the scan goes through all of it and says so.
        await page.get_by_label("Filter").fill("error")
        await page.get_by_label("Filter").press("Enter")
        await expect(page.locator(".scan-text")).to_contain_text("Looked through all of it: 10")
        await expect(rows.first).to_contain_text(f'"n": {MANY - MANY // 10 + 5}')
        await page.get_by_label("Filter").fill("/nothing is so/")
        await page.get_by_label("Filter").press("Enter")
        await page.get_by_role("button", name="Stop").click()
        await expect(page.locator(".scan-text")).to_contain_text("Stopped")
        # From the beginning on, page by page, and back.
        await page.get_by_role("button", name="Beginning").click()
        await expect(rows.first).to_contain_text('{"n": 0}')
        listed = page.get_by_role("listbox")
        await listed.focus()
        for _ in range(6):
            length = await rows.first.get_attribute("aria-setsize")
            await listed.press("End")
            await expect(rows.first).not_to_have_attribute("aria-setsize", str(length))
            assert await rows.count() <= MOST_ROWS
        # To an offset in the middle, with what is before it.
        jump = page.get_by_label("Jump to a time or an offset")
        await jump.fill("0_500000")
        await jump.press("Enter")
        await expect(page.locator("[role=option][aria-selected=true]")).to_contain_text("0:49999")
        await listed.press("Home")
        await expect(rows.first).not_to_contain_text("…")
        await jump.fill("-1h")
        await jump.press("Enter")
        await expect(rows.first).to_contain_text('{"n": 0}')
        assert "since=" in page.url
        # As fast as it comes: the list is bounded, and has the last of it.
        await page.get_by_role("button", name="End", exact=True).click()
        await expect(page.locator(".follow-state")).to_contain_text("live")
        for begin in range(MANY, MANY + 20_000, 1000):
            await put(server, "many", [{"n": n} for n in range(begin, begin + 1000)])
        await expect(rows.last).to_contain_text(f'{{"n": {MANY + 20_000 - 1}}}')
        assert await rows.count() <= MOST_ROWS


async def test_tokens_are_asked_for_kept_for_the_tab_made_and_revoked(
    start_server: StartServer, chromium: Browser, tmp_path: Path
) -> None:
    tokens, keys = str(tmp_path / "tokens.toml"), str(tmp_path / "keys.toml")
    granting = start_server()  # which has the commands as well
    scopes = "read,append,create,delete,fork,list,admin"
    new = ["token", "new", "--tokens", tokens, "--id", "ops", "--scope", scopes, "--prefix", ""]
    made = subprocess.run([*granting.program, *new], check=True, capture_output=True, text=True)
    key = ["signing-key", "new", "--signing-keys", keys]
    subprocess.run([*granting.program, *key], check=True, capture_output=True)
    server = start_server("--tokens", tokens, "--signing-keys", keys, data_dir=tmp_path / "other")
    async with console(chromium, server, "#/access") as page:
        await expect(page.get_by_text("Who are you?")).to_be_visible()
        await page.get_by_role("link", name="Streams").last.click()
        await expect(page.get_by_text("The server wants to know who you are.")).to_be_visible()
        await page.get_by_role("button", name="Use a token").click()
        await page.locator("dialog input").fill(made.stdout.strip())
        await page.get_by_role("button", name="Use it").click()
        await expect(page.get_by_text("No streams yet")).to_be_visible()
        assert await page.evaluate("[sessionStorage.length, document.cookie]") == [1, ""]
        await page.get_by_role("link", name="Access").click()
        await page.get_by_role("button", name="New token").click()
        await page.get_by_label("Name").fill("guest")
        await page.get_by_label("Which").fill("chat")
        await page.get_by_role("button", name="Make it").click()
        guest = await page.locator("dialog pre").text_content()
        assert guest is not None
        assert guest.startswith("dst_guest_")
        await page.get_by_role("button", name="Close").click()
        await expect(page.get_by_text("read on chat/…")).to_be_visible()
        await page.get_by_label("Path").fill("chat/room-1")
        await page.get_by_role("button", name="Sign it").click()
        await expect(page.locator(".copyable pre")).to_contain_text("chat/room-1?signed=")
        await page.get_by_role("button", name="Revoke guest").click()
        await page.get_by_role("button", name="Revoke it").click()
        await expect(page.get_by_text("read on chat/…")).to_have_count(0)
        await page.get_by_role("button", name="Forget the token").click()
        await expect(page.get_by_text("Who are you?")).to_be_visible()
        assert await page.evaluate("sessionStorage.length") == 0


async def test_it_goes_on_over_a_restart_and_says_so_while_nobody_answers(
    start_server: StartServer, chromium: Browser
) -> None:
    server = start_server()
    await put(server, "kept", {"n": 1})
    async with console(chromium, server, "#/stream/kept") as page:
        await expect(page.get_by_role("option")).to_have_count(1)
        server.kill()
        await expect(page.get_by_text("The server does not answer.").first).to_be_visible()
        server.start()
        await put(server, "kept", {"n": 2})
        await expect(page.get_by_role("option")).to_have_count(2)
        await expect(page.locator(".down")).to_be_hidden()
        await page.context.set_offline(True)
        await page.get_by_role("button", name="Beginning").click()
        await expect(page.get_by_text("It may be restarting").first).to_be_visible()
        await page.context.set_offline(False)
        await page.get_by_role("button", name="Try again").first.click()
        await expect(page.get_by_role("option")).to_have_count(2)


async def test_where_one_may_only_read_nothing_is_offered_that_changes_anything(
    start_server: StartServer, chromium: Browser
) -> None:
    server = start_server("--console", "read-only")
    await put(server, "a", {"n": 1})
    async with console(chromium, server) as page:
        await expect(page.get_by_text("All is well")).to_be_visible()
        await expect(page.get_by_role("link", name="Try it")).to_have_count(0)
        await page.get_by_role("link", name="Streams", exact=True).click()
        await page.get_by_role("link", name="a", exact=True).click()
        await open_message(page, '{"n": 1}')
        for name in ("New", "Append", "Fork", "Close$", "Delete", "Revoke"):
            assert await page.get_by_role("button", name=re.compile(f"^{name}")).count() == 0, name


SCREENS: Final = {
    "#/try": "Pause",
    "#/overview": "All is well",
    "#/streams": "2 streams.",
    "#/streams?view=tree": "chat",
    "#/stream/chat/room-1": "hello",
    "#/stream/chat/room-1?tab=about": "Readers",
    "#/access": "Everybody may do everything",
}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_whoever_does_not_see_it_can_use_it_too(
    start_server: StartServer, chromium: Browser, dark: bool
) -> None:
    server = start_server()
    await put(server, "chat/room-1", [{"text": "hello"}, {"text": "bye"}])
    rules = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
    found: dict[str, list[str]] = {}
    async with console(chromium, server, dark=dark, is_examined=True) as page:
        for place, shown in SCREENS.items():
            await page.goto("about:blank")
            await page.goto(server.url("__ds/console/") + place)
            await expect(page.locator("main").get_by_text(shown).first).to_be_visible()
            if shown == "hello":
                await open_message(page, "hello")
            results = await Axe().run(page, options=rules)
            found[place] = [
                f"{one['id']}: {one['nodes'][0]['html']}" for one in results.response["violations"]
            ]
        await page.goto(server.url("__ds/console/") + "#/streams")
        await page.get_by_role("button", name="New stream").click()
        results = await Axe().run(page, options=rules)
        found["dialog"] = [one["id"] for one in results.response["violations"]]
    assert not any(found.values()), found


async def test_it_is_used_by_keyboard_alone(start_server: StartServer, chromium: Browser) -> None:
    server = start_server()
    await put(server, "a", [{"n": 1}, {"n": 2}, {"n": 3}])
    async with console(chromium, server, "#/streams") as page:
        await expect(page.locator("td.path")).to_have_count(1)
        link = page.get_by_role("link", name="a", exact=True)
        await link.focus()
        await put(server, "a", {"n": 4})  # the row is drawn anew, and keeps the focus
        await expect(page.locator(".grown")).to_be_visible()
        await expect(link).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("option")).to_have_count(4)
        await page.get_by_role("listbox").focus()
        await page.keyboard.press("Home")
        await expect(page.locator("pre.content")).to_contain_text('"n": 1')
        await page.keyboard.press("ArrowDown")
        await expect(page.locator("pre.content")).to_contain_text('"n": 2')
        await page.keyboard.press("Escape")
        await expect(page.locator(".detail")).to_be_hidden()
        await page.get_by_role("tab", name="Messages").focus()
        await page.keyboard.press("ArrowRight")
        await expect(page.get_by_role("heading", name="Readers")).to_be_visible()


async def test_nobody_is_asked_for_anything_beyond_the_server(
    start_server: StartServer, chromium: Browser
) -> None:
    """Each screen is opened; ``console`` fails for any request that leaves the server's origin."""
    server = start_server()
    await put(server, "chat/room-1", {"text": "hello"})
    async with console(chromium, server) as page:
        for place, shown in SCREENS.items():
            await page.goto(server.url("__ds/console/") + place)
            await expect(page.locator("main").get_by_text(shown).first).to_be_visible()
        other = await page.context.new_page()  # which is not watched
        await other.goto(server.url("__ds/console/"))
        outside = "fetch('https://elsewhere.example/').catch((error) => error.name)"
        assert await other.evaluate(outside) == "TypeError"
