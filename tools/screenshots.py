"""Pictures of the console's screens, light and dark, of a server with streams as people have them.

To be looked at: what no test sees is whether a page is pleasant.  Those that the documentation
shows are in docs/console, of 40 colours, so that they are small.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import aiohttp
from playwright.async_api import async_playwright

from tools.server_process import ServerProcess

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

_JSON: Final = {"Content-Type": "application/json"}
_TEXT: Final = {"Content-Type": "text/plain"}
_SIZE: Final = (1120, 720)
_PHONE: Final = (390, 780)


_GRAPHS_ARE_LONG: Final = """
    () => document.querySelector(".graph-line").getAttribute("points").split(" ").length > 20
"""


class Screen(NamedTuple):
    """A place in the console, what is there once it is drawn, and what is clicked then."""

    name: str
    place: str
    drawn: str
    clicked: str = ""
    then: str = ""


SCREENS: Final = (
    Screen("try", "#/try", ".list-row >> text=curl"),
    Screen("overview", "#/overview", ".graph-line[points*=' ']"),
    Screen("streams", "#/streams", "td.path"),
    Screen(
        "tree", "#/streams?view=tree", "summary", "summary >> text=orders", ".tree .tree, ul ul li"
    ),
    Screen(
        "stream",
        "#/stream/orders/eu/shop-1",
        ".list-row >> text=payment.error",
        ".list-row >> text=payment.error",
        "pre.content",
    ),
    Screen("filter", "#/stream/orders/eu/shop-1?filter=payment.error", "text=Looked through all"),
    Screen("details", "#/stream/orders/eu/shop-1?tab=about", "text=Segments"),
    Screen("access", "#/access", "text=worker"),
    Screen("new-token", "#/access", "text=worker", "text=New token", "dialog"),
    Screen("delete", "#/stream/chat/room-1", ".list-row", "text=Delete", "dialog"),
)


async def fill(server: ServerProcess, token: str) -> None:
    """Make streams as people have them; the same each time, but for the clock."""
    chance = random.Random(7)
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:

        async def put(path: str, body: object = None, **headers: str) -> None:
            data = body if isinstance(body, str) else json.dumps(body) if body else ""
            said = {name.replace("_", "-"): value for name, value in headers.items()} or _JSON
            async with session.put(server.url(path), data=data, headers={**_JSON, **said}) as made:
                assert made.ok, await made.text()

        async def post(path: str, body: object, headers: dict[str, str] = _JSON) -> None:
            data = body if isinstance(body, str) else json.dumps(body)
            async with session.post(server.url(path), data=data, headers=headers) as appended:
                assert appended.ok, await appended.text()

        for name in ("eu/shop-1", "eu/shop-2", "us/shop-1", "us/shop-2", "us/shop-3"):
            await put(f"orders/{name}")
        for number in range(60):
            producer = {"Producer-Id": "checkout-1", "Producer-Epoch": "2"}
            numbered = {**_JSON, **producer, "Producer-Seq": str(number)}
            await post("orders/eu/shop-1", [_order(chance) for _ in range(9)], numbered)
            await post("orders/eu/shop-2", _order(chance))
        await post("orders/eu/shop-1", _error(chance))
        await post("orders/eu/shop-1", [_order(chance) for _ in range(4)])
        await put("orders/eu/shop-1-replay", Stream_Forked_From="/v1/stream/orders/eu/shop-1")
        await put("chat/room-1")
        for text in ("hello", "did it ship?", "yes, this morning", "thanks!"):
            await post("chat/room-1", {"user": chance.choice(["ada", "bob"]), "text": text})
        await put("chat/room-2", Stream_TTL="3600")
        await put("agents/run-7f3a", [{"role": "user", "text": "Plan a trip to Oslo"}])
        await put("logs/api-1", Content_Type="text/plain")
        for number in range(40):
            await post(
                "logs/api-1", f"INFO request {number} took {chance.randint(2, 90)} ms\n", _TEXT
            )
        await put("try/hello")
        await post("try/hello", {"from": "curl"})


def _order(chance: random.Random) -> dict[str, object]:
    kind = chance.choice(["order.placed", "order.paid", "order.packed", "order.shipped"])
    amount = round(chance.uniform(5, 400), 2)
    return {"type": kind, "order": f"A-{chance.randint(10_000, 99_999)}", "amount": amount}


def _error(chance: random.Random) -> dict[str, object]:
    return {**_order(chance), "type": "payment.error", "error": {"code": 51, "text": "declined"}}


async def picture(browser: Browser, server: ServerProcess, token: str, where: Path) -> None:
    """Make all pictures."""
    for theme, size in (("light", _SIZE), ("dark", _SIZE), ("phone", _PHONE)):
        context = await browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if theme == "dark" else "light",
        )
        page = await context.new_page()
        await page.goto(server.url("__ds/console/"))
        await page.evaluate("text => sessionStorage.setItem('durable-streams-token', text)", token)
        for screen in SCREENS:
            await _open(page, server, screen)
            name = f"{screen.name}-{theme}"
            await page.screenshot(path=where / f"{name}.png")
        await context.close()


async def _open(page: Page, server: ServerProcess, screen: Screen) -> None:
    await page.goto("about:blank")
    await page.goto(server.url("__ds/console/") + screen.place)
    await page.locator(screen.drawn).first.wait_for(state="attached")
    if screen.name == "overview":
        await page.wait_for_function(_GRAPHS_ARE_LONG, timeout=120_000)
    if screen.clicked:
        await page.locator(screen.clicked).last.click()
        await page.locator(screen.then).first.wait_for()


async def make(where: Path) -> None:
    """Fill a server, and make its pictures in a directory."""
    where.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        tokens = str(place / "tokens.toml")
        server = ServerProcess(place / "data", "--tokens", tokens, "--console", "full")
        token = await _token(server, tokens, "ops", "read,append,create,delete,fork,list,admin", "")
        await _token(server, tokens, "worker", "read,append", "orders")
        server.start()
        try:
            await fill(server, token)
            busy = asyncio.create_task(_keep_busy(server, token))
            async with async_playwright() as playwright:
                browser = await playwright.chromium.launch(
                    executable_path=shutil.which("chromium"), args=["--disable-gpu"]
                )
                await picture(browser, server, token, where)
                await browser.close()
            busy.cancel()
        finally:
            server.finish()


async def _keep_busy(server: ServerProcess, token: str) -> None:
    """Append to a stream now and then, more and less."""
    chance = random.Random(9)
    headers = {**_JSON, "Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        while True:
            for _ in range(chance.randint(1, 30)):
                data = json.dumps(_order(chance))
                async with session.post(server.url("orders/us/shop-2"), data=data) as appended:
                    assert appended.ok
            await asyncio.sleep(chance.uniform(0.2, 1))


async def _token(server: ServerProcess, file: str, name: str, scopes: str, prefix: str) -> str:
    words = ["token", "new", "--tokens", file, "--id", name, "--scope", scopes, "--prefix", prefix]
    made = await asyncio.create_subprocess_exec(
        *server.program, *words, stdout=asyncio.subprocess.PIPE
    )
    text, _ = await made.communicate()
    return text.decode().strip()


def main() -> None:
    """Make them where they are wanted."""
    parser = argparse.ArgumentParser(prog="screenshots", description=__doc__)
    parser.add_argument("directory", nargs="?", default=".screenshots", type=Path)
    given = parser.parse_args()
    asyncio.run(make(given.directory))
    print(f"{len(list(given.directory.glob('*.png')))} pictures are in {given.directory}")


if __name__ == "__main__":
    main()
