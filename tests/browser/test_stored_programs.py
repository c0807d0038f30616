"""A stream that holds a program is none anywhere, though whoever may append can store one.

The page that tries is of the streams' own origin, which is the most that a page can be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import aiohttp
import pytest

if TYPE_CHECKING:
    from tests.browser.conftest import OpenPage, StartProxy
    from tests.conftest import StartServer
    from tools.server_process import ServerProcess

pytestmark = pytest.mark.needs("chromium", "nginx")

PROGRAM: Final = """
    fetch("/v1/stream/ran", {method: "PUT", keepalive: true});
    globalThis.onconnect = (event) => event.ports[0].postMessage("ran");
    globalThis.postMessage?.("ran");
"""
STORED: Final = {
    "html": ("text/html", f"<script>{PROGRAM}</script><img src=x onerror='{PROGRAM}'>"),
    "svg": (
        "image/svg+xml",
        f"<svg xmlns='http://www.w3.org/2000/svg'><script>{PROGRAM}</script></svg>",
    ),
    "js": ("text/javascript", PROGRAM),
}

RUN: Final = """
async (url) => {
    const became = {};
    const element = (how, attributes) => new Promise((resolve) => {
        const made = Object.assign(document.createElement(how.split(" ")[0]), attributes);
        made.onload = () => { became[how] = "loaded"; resolve(); };
        made.onerror = () => { became[how] = "error"; resolve(); };
        document.body.append(made);
    });
    await element("script", {src: url});
    await element("script module", {src: url, type: "module"});
    await element("link", {href: url, rel: "stylesheet"});
    await element("object", {data: url});
    await element("iframe", {src: url});
    await element("img", {src: url});
    const worker = (how, make) => new Promise((resolve) => {
        const becameOf = (what) => () => { became[how] = what; resolve(); };
        const made = make();
        made.onerror = becameOf("error");
        (made.port ?? made).onmessage = becameOf("ran");
    });
    await worker("worker", () => new Worker(url));
    await worker("worker module", () => new Worker(url, {type: "module"}));
    // Of one that was refused, Chromium does not always say so: what it tells is taken if it comes.
    worker("shared worker", () => new SharedWorker(url));
    const registering = navigator.serviceWorker.register(url);
    await registering.catch(() => { became["service worker"] = "error"; });
    await import(url).catch(() => { became["import"] = "error"; });
    return became;
}
"""
"""Have a stream run in each way that there is; whoever runs nothing of it says so."""


async def store(server: ServerProcess, name: str) -> None:
    content_type, content = STORED[name]
    async with (
        aiohttp.ClientSession() as session,
        session.put(
            server.url(name), data=content, headers={"Content-Type": content_type}
        ) as stored,
    ):
        assert stored.status == 201


async def has_run(server: ServerProcess) -> bool:
    async with aiohttp.ClientSession() as session, session.head(server.url("ran")) as found:
        return found.status == 200


async def test_the_program_would_do_something_if_it_ran(
    start_server: StartServer, start_proxy: StartProxy, open_page: OpenPage
) -> None:
    server = start_server()
    proxy = await start_proxy(server.port)
    page = await open_page(proxy.page_url)

    async with page.expect_response(lambda response: response.url.endswith("/ran")):
        await page.add_script_tag(content=PROGRAM)

    assert await has_run(server)


@pytest.mark.parametrize("name", STORED)
async def test_a_stored_program_does_not_run_in_a_page_of_its_own_origin(
    name: str, start_server: StartServer, start_proxy: StartProxy, open_page: OpenPage
) -> None:
    server = start_server()
    await store(server, name)
    proxy = await start_proxy(server.port)
    page = await open_page(proxy.page_url)

    became = await page.evaluate(RUN, f"/v1/stream/{name}")
    await page.goto(f"http://{proxy.authority}/healthz")  # behind all that the page asked for

    assert became.pop("iframe") == "loaded"  # in a sandbox
    assert became.pop("img") == ("loaded" if name == "svg" else "error")  # where no script runs
    assert became.pop("shared worker", "error") == "error"
    assert became == dict.fromkeys(became, "error")
    assert len(became) == 8
    assert not await has_run(server)


@pytest.mark.parametrize("name", STORED)
async def test_a_stored_program_does_not_run_when_somebody_opens_it(
    name: str, start_server: StartServer, start_proxy: StartProxy, open_page: OpenPage
) -> None:
    server = start_server()
    await store(server, name)
    proxy = await start_proxy(server.port)
    page = await open_page(proxy.page_url)

    opened = await page.goto(f"http://{proxy.authority}/v1/stream/{name}")
    await page.goto(f"http://{proxy.authority}/healthz")

    assert opened is not None
    assert opened.status == 200
    assert not await has_run(server)
