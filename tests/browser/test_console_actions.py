"""Each button of the console, pressed: what it does is looked for at the server, or done again.

Nothing here waits for a time: each step waits for what the page shows.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.async_api import Error, expect

from durable_streams.http.console import FILES
from tests.browser.consoles import (
    ALL_SCOPES,
    PLACE,
    console,
    new_token,
    open_message,
    put,
    read,
    status_of,
    use_token,
)

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page, Route

    from tests.conftest import StartServer

pytestmark = pytest.mark.needs("chromium", "curl")

TEXT: Final = {"Content-Type": "text/plain"}
_LABELS: Final = re.compile(r"""(?:button\(|action: )"([^"]+)\"""")


def test_each_button_is_pressed_by_a_test() -> None:
    labels = {label for path in FILES.glob("*.js") for label in _LABELS.findall(path.read_text())}
    assert len(labels) > 30, "they are made in another way by now"
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_console*.py"))
    assert {label for label in labels if f'"{label}"' not in tests} == set()


# -- files that are dropped ----------------------------------------------------------------


async def drag(page: Page, *files: Path, is_dropped: bool = True) -> None:
    """Drag files from outside of the browser to the composer, as the window system does.

    ``is_dropped``: there; else they are drawn away again.
    """
    box = await page.locator(".composer").bounding_box()
    assert box is not None
    session = await page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
    place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2, "data": data}
    for kind in ("dragEnter", "dragOver"):
        await session.send("Input.dispatchDragEvent", {"type": kind, **place})
    await expect(page.locator(".composer.dropping")).to_be_visible()
    end = {"type": "drop"} if is_dropped else {"type": "dragOver", "x": 5, "y": 5}
    await session.send("Input.dispatchDragEvent", {**place, **end})
    await expect(page.locator(".composer.dropping")).to_have_count(0)


async def test_files_that_are_dropped_are_appended_in_their_order(
    start_server: StartServer, chromium: Browser, tmp_path: Path
) -> None:
    server = start_server()
    names = ("one.json", "two.json", "broken.json", "after.json")
    texts = ('[{"n": 1}, {"n": 2}]', '{"n": 3}', '{"n": ', '{"n": 4}')
    one, two, broken, after = (tmp_path / name for name in names)
    for file, text in zip((one, two, broken, after), texts, strict=True):
        file.write_text(text)
    await put(server, "json")
    await put(server, "text", headers=TEXT)
    async with console(chromium, server, "#/stream/json") as page:
        await expect(page.get_by_text("No messages yet")).to_be_visible()
        await drag(page, one, is_dropped=False)
        await drag(page, one, two)
        await expect(page.get_by_role("option")).to_have_count(3)
        await expect(page.locator(".toast")).to_have_text(
            ["Appended one.json, 20 B", "Appended two.json, 8 B"]
        )
        await drag(page, broken, after)  # what follows the one that is refused is not sent
        await expect(page.locator(".composer .fault .said")).to_contain_text("JSON")
        assert json.loads(await read(server, "json")) == [{"n": 1}, {"n": 2}, {"n": 3}]
        await page.goto(server.url(PLACE) + "#/stream/text")
        await drag(page, broken)
        await expect(page.get_by_role("option")).to_contain_text('{"n":')
        async with page.expect_file_chooser() as choosing:
            await page.get_by_role("button", name="File…").click()
        await (await choosing.value).set_files(two)
        await expect(page.get_by_role("option")).to_have_count(2)
    assert await read(server, "text") == texts[2] + texts[1]


# -- commands that are copied --------------------------------------------------------------


async def copied(page: Page, language: str) -> list[str]:
    """What the buttons of a language put on the clipboard."""
    dialog = page.locator("dialog")
    await dialog.get_by_role("button", name=language, exact=True).click()
    found = []
    for place in await dialog.locator(".copyable").all():
        await place.get_by_role("button", name="Copy").click()
        await expect(place.get_by_role("button")).to_have_text("Copied")
        found.append(await page.evaluate("navigator.clipboard.readText()"))
    return found


async def run_until(text: str, *command: str, token: str) -> asyncio.subprocess.Process:
    """Start a program, and return once it has printed a text."""
    run = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, env={**os.environ, "TOKEN": token}
    )
    assert run.stdout is not None
    seen = b""
    while text.encode() not in seen:
        more = await run.stdout.read(4096)
        assert more, (command, seen)
        seen += more
    return run


@pytest.mark.node
@pytest.mark.parametrize("is_guarded", [False, True], ids=["", "tokens"])
async def test_what_is_copied_as_curl_python_and_javascript_runs(
    start_server: StartServer, chromium: Browser, tmp_path: Path, is_guarded: bool
) -> None:
    file = tmp_path / "tokens.toml"
    server = start_server()
    token = new_token(server, file, "ops", ALL_SCOPES)
    if is_guarded:
        server = start_server("--tokens", str(file), data_dir=tmp_path / "other")
    said = {"Authorization": f"Bearer {token}"} if is_guarded else {}
    await put(server, "it's/a b", headers=said)
    async with console(chromium, server) as page:
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        if is_guarded:
            await use_token(page, token)
        await page.goto("about:blank")
        await page.goto(server.url(PLACE) + "#/stream/it's/a%20b")
        await page.get_by_role("button", name="Use from a program").click()
        curl = await copied(page, "curl")
        (python,), (javascript,) = await copied(page, "Python"), await copied(page, "JavaScript")
        assert not any("dst_" in text for text in (*curl, python, javascript))
        await page.get_by_role("button", name="Close", exact=True).last.click()
        append, reading, follow = curl
        program = tmp_path / "program.mjs"
        program.write_text(javascript.replace("…", token))
        following = await run_until('"control"'[1:-1], "sh", "-c", f"exec {follow}", token=token)
        await run_until("", "sh", "-c", append, token=token)
        await expect(page.get_by_role("option")).to_have_count(1)
        await (await run_until('{"hello": "world"}', "sh", "-c", reading, token=token)).wait()
        run = python.replace("…", token)
        programs = [
            await run_until('{"hello": "world"}', sys.executable, "-u", "-c", run, token=token),
            await run_until('{"hello": "world"}', "node", str(program), token=token),
        ]
        await expect(page.get_by_role("option")).to_have_count(3)
        # They read to the end of the stream, which the page makes.
        await page.get_by_role("button", name="Close", exact=True).click()
        await page.get_by_role("button", name="Close it").click()
        for one in (*programs, following):
            out, _ = await one.communicate()
            assert one.returncode == 0, out
        assert json.loads(await read(server, "it's/a b", said)) == [{"hello": "world"}] * 3


# -- streams -------------------------------------------------------------------------------


async def test_forks_begin_where_they_are_made_and_a_dialog_is_left_without_a_trace(
    start_server: StartServer, chromium: Browser
) -> None:
    server = start_server()
    await put(server, "a", [{"n": 1}, {"n": 2}, {"n": 3}])
    async with console(chromium, server, "#/stream/a") as page:
        fork = page.get_by_role("button", name="Fork", exact=True)
        path = page.get_by_label("Path of the fork")
        await fork.click()
        await path.fill("given-up")
        await page.get_by_role("button", name="Cancel").click()
        await fork.click()
        await path.fill("given-up")
        await page.keyboard.press("Escape")
        await expect(page.locator("dialog")).to_have_count(0)
        await fork.click()  # here: where it ends now
        await path.fill("no//path")
        await fork.last.click()
        assert await path.evaluate("field => field.validationMessage") != ""
        await path.fill("at/the-end")
        await fork.last.click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("the-end")
        await expect(page.get_by_role("option")).to_have_count(3)
        await page.go_back()
        await open_message(page, '"n": 2')
        await page.get_by_role("button", name="Fork after it").click()
        await path.fill("after/it")
        await fork.last.click()
        await expect(page.get_by_role("option")).to_have_count(2)
        await page.go_back()
        await open_message(page, '"n": 2')
        await page.get_by_role("button", name="Fork before it").click()
        await path.fill("a")  # which is there already, and no fork
        await fork.last.click()
        await expect(page.locator("dialog .fault")).to_contain_text("does not fit")
    assert json.loads(await read(server, "after/it")) == [{"n": 1}, {"n": 2}]
    assert await status_of(server, "given-up") == 404


async def test_a_message_is_copied_linked_to_and_put_away(
    start_server: StartServer, chromium: Browser
) -> None:
    server = start_server()
    await put(server, "a", '[{"n":12345678901234567890},{"n":2}]')
    async with console(chromium, server, "#/stream/a") as page:
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await open_message(page, "1234567890")
        await page.locator(".detail").get_by_role("button", name="Copy", exact=True).click()
        await expect(page.locator(".toast").last).to_have_text("Copied the message")
        assert await page.evaluate("navigator.clipboard.readText()") == '{"n":12345678901234567890}'
        await page.get_by_role("button", name="Copy link").click()
        link = await page.evaluate("navigator.clipboard.readText()")
        await page.get_by_role("button", name="Close the message").click()
        await expect(page.locator(".detail")).to_be_hidden()
        await page.goto("about:blank")
        await page.goto(link)
        await expect(page.locator("pre.content")).to_contain_text("12345678901234567890")


async def test_one_goes_to_times_offsets_and_the_end_and_follows_or_not(
    start_server: StartServer, chromium: Browser
) -> None:
    server = start_server()
    await put(server, "a", [{"n": n} for n in range(200)])
    async with console(chromium, server, "#/stream/a") as page:
        rows, state = page.get_by_role("option"), page.locator(".follow-state")
        chosen = page.locator("[role=option][aria-selected=true]")
        jump = page.get_by_label("Jump to a time or an offset")
        await expect(state).to_contain_text("live")
        for text, shown in (("-1h", '{"n": 0}'), ("today 00:00", '{"n": 0}'), ("0_9", '{"n": 1}')):
            await jump.fill(text)
            await jump.press("Enter")
            await expect(chosen).to_contain_text(shown)
        await expect(state).to_have_text("paused")
        await jump.fill("soon")
        await jump.press("Enter")
        wrong = await jump.evaluate("field => field.validationMessage")
        assert "yesterday 14:00" in wrong
        await expect(chosen).to_contain_text('{"n": 1}')
        await jump.fill("now")
        await jump.press("Enter")
        await expect(state).to_contain_text("live")
        await page.get_by_role("button", name="Pause").click()
        await expect(state).to_have_text("paused")
        await put(server, "a", {"n": 200})
        await page.get_by_role("button", name="Beginning").click()
        await expect(rows.first).to_contain_text('{"n": 0}')
        await page.get_by_role("button", name="End", exact=True).click()
        await expect(rows.last).to_contain_text('{"n": 200}')
        await page.get_by_role("listbox").hover()
        await page.mouse.wheel(0, -400)
        await expect(state).to_have_text("paused")
        await page.get_by_role("button", name="Follow").click()
        await put(server, "a", {"n": 201})
        await expect(rows.last).to_contain_text('{"n": 201}')


async def test_a_filter_is_stopped_and_goes_on_where_it_was(
    start_server: StartServer, chromium: Browser
) -> None:
    server = start_server()
    for begin in (0, 10_000):
        kinds = ("rare" if n % 400 == 0 else "often" for n in range(begin, begin + 10_000))
        await put(server, "a", [{"kind": kind} for kind in kinds])
    async with console(chromium, server, "#/stream/a") as page:
        await expect(page.get_by_role("option").last).to_contain_text("often")
        asked: list[str] = []
        begins = ["~"]  # of the pages that it looks through, each before the last one
        holds, goes_on = asyncio.Event(), asyncio.Event()

        async def hold(route: Route) -> None:
            offset = parse_qs(urlsplit(route.request.url).query).get("offset", ["~"])[0]
            asked.append(offset)
            if offset < begins[-1]:
                begins.append(offset)
            if len(begins) == 4 and not holds.is_set():  # two were looked through
                holds.set()
                await goes_on.wait()
            with suppress(Error):  # which the page has given up by then
                await route.continue_()

        await page.route("**/__ds/records/a?*", hold)
        told, filtering = page.locator(".scan-text"), page.get_by_label("Filter")
        await filtering.fill("rare")
        await filtering.press("Enter")
        await holds.wait()
        await page.get_by_role("button", name="Stop").click()
        await expect(told).to_contain_text("Stopped: ")
        goes_on.set()
        asked.clear()
        before = await page.get_by_role("option").first.get_attribute("aria-setsize")
        assert before is not None
        assert 0 < int(before) < 50
        await page.get_by_role("button", name="Go on").click()
        await expect(told).to_have_text(re.compile("^Looked through all of it: 50 messages of "))
        assert max(asked) < begins[2]
        # Of more than a thousand it shows the next thousand, as often as somebody wants.
        await filtering.fill("often")
        await filtering.press("Enter")
        await expect(told).to_contain_text("Stopped: 1,000 messages")
        await page.get_by_role("button", name="Go on").click()
        await expect(told).to_contain_text("Stopped: 2,000 messages")
        await expect(page.get_by_role("option").first).to_have_attribute("aria-setsize", "2000")
        await filtering.fill("/(/")
        await filtering.press("Enter")
        wrong = await filtering.evaluate("field => field.validationMessage")
        assert wrong == "That is no regular expression."
        await page.get_by_role("button", name="Show all messages").click()
        await expect(page.locator(".follow-state")).to_contain_text("live")


# -- around all screens --------------------------------------------------------------------


async def test_the_theme_is_kept_and_the_keyboard_skips_to_the_content(
    start_server: StartServer, chromium: Browser
) -> None:
    server = start_server()
    await put(server, "a", {"n": 1})
    async with console(chromium, server, "#/streams") as page:
        root = page.locator("html")
        await expect(root).to_have_attribute("data-theme", "light")
        await page.get_by_role("button", name="Light or dark").click()
        await expect(root).to_have_attribute("data-theme", "dark")
        await page.reload()
        await expect(root).to_have_attribute("data-theme", "dark")
        await expect(page.locator("td.path")).to_have_count(1)
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        await page.keyboard.press("Enter")
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("button", name="New stream")).to_be_focused()


async def test_graphs_go_on_while_another_screen_is_open(
    start_server: StartServer, chromium: Browser
) -> None:
    server = start_server()
    await put(server, "a", {"n": 1})
    async with console(chromium, server) as page:
        await page.clock.install()
        await page.goto("about:blank")
        await page.goto(server.url(PLACE) + "#/streams")
        await expect(page.locator("td.path")).to_have_count(1)
        for _ in range(4):
            async with page.expect_response("**/__ds/metrics"):
                await page.clock.fast_forward(10_000)
        await page.get_by_role("link", name="Overview").click()
        line = page.locator(".graph-line").last
        await expect(line).to_have_attribute("points", re.compile(r"^0\.0,\S+( \S+){3}"))
