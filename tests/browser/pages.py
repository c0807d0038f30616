"""Pages of any name that ends in ``.test``, and all that a page can do to a server.

The browser takes these names for addresses of this machine (``conftest``), as it would after DNS
said so: a page of ``evil.test`` is of a foreign origin, though it comes from here.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import aiohttp
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Page, Response

    from tools.server_process import ServerProcess

SECRET: Final = "what nobody else may read"
VICTIM: Final = "victim"
MADE: Final = "made"
LOGGED: Final = ("--access-log", "--log-format", "json")
"""Options of a server whose access log is looked at."""

ATTACK: Final = """
async (base) => {
    const victim = `${base}/victim`, made = `${base}/made`;
    const text = {"Content-Type": "text/plain"};
    const learned = {};
    const from = async (how, attempt) => {
        try {
            learned[how] = await attempt();
        } catch (error) {
            learned[how] = error.name;
        }
    };
    const told = async (response) => [response.type, response.ok, await response.text()];
    for (const mode of ["cors", "no-cors", "same-origin"]) {
        for (const method of ["GET", "HEAD", "OPTIONS"]) {
            await from(`${method} ${mode}`, async () => told(await fetch(victim, {method, mode})));
        }
        for (const method of ["POST", "PUT", "DELETE"]) {
            for (const url of [victim, made]) {
                const options = {method, mode, body: "evil", headers: text};
                await from(`${method} ${mode} ${url}`, async () =>
                    told(await fetch(url, options)));
            }
        }
    }
    const last = {method: "POST", mode: "no-cors", body: "evil", keepalive: true};
    await from("fetch that lives on", async () => told(await fetch(victim, last)));

    const element = (tag, attributes) => from(`${tag} ${JSON.stringify(attributes)}`, () =>
        new Promise((resolve) => {
            const made = Object.assign(document.createElement(tag), attributes);
            made.onload = () => resolve("loaded");
            made.onerror = () => resolve("error");
            document.body.append(made);
        }));
    await element("img", {src: victim});
    await element("video", {src: victim});
    await element("script", {src: victim});
    await element("script", {src: victim, type: "module"});
    await element("link", {href: victim, rel: "stylesheet"});
    await element("object", {data: victim});
    const frame = (how, open) => from(how, () => new Promise((resolve) => {
        const made = document.createElement("iframe");
        made.name = how;
        document.body.append(made);
        made.onload = () => {
            let text = "not readable";
            try {
                text = made.contentDocument.body.innerText;
            } catch {}
            if (made.contentDocument?.URL !== "about:blank") resolve(text);
        };
        open(made);
    }));
    await frame("iframe", (made) => { made.src = victim; });
    const urlencoded = "application/x-www-form-urlencoded";
    for (const enctype of ["text/plain", urlencoded, "multipart/form-data"]) {
        await frame(`form ${enctype}`, (made) => {
            const form = document.createElement("form");
            Object.assign(form, {method: "post", action: victim, enctype, target: made.name});
            const field = document.createElement("input");
            form.append(Object.assign(field, {name: "evil", value: "1"}));
            document.body.append(form);
            form.submit();
        });
    }
    await frame("sandboxed iframe, whose origin is null", (made) => {
        made.sandbox = "allow-scripts allow-forms";
        made.srcdoc = `<form method=post action="${victim}"><input name=evil></form>
            <script>document.forms[0].submit()</script>`;
    });

    await from("EventSource", () => new Promise((resolve) => {
        const events = new EventSource(`${victim}?offset=-1&live=sse`);
        events.addEventListener("data", (event) => resolve(event.data));
        events.onerror = () =>
            resolve(events.readyState === EventSource.CLOSED ? "closed" : "again");
    }));
    await from("WebSocket", () => new Promise((resolve) => {
        const socket = new WebSocket(victim.replace("http", "ws"));
        socket.onopen = () => resolve("open");
        socket.onerror = () => resolve("error");
    }));
    const worker = (how, make) => from(how, () => new Promise((resolve) => {
        const made = make();
        const port = made.port ?? made;
        port.onmessage = (event) => resolve(event.data);
        made.onerror = () => resolve("error");
    }));
    await worker("worker", () => new Worker(victim));
    await worker("module worker", () => new Worker(victim, {type: "module"}));
    // Of one that was refused, Chromium does not always say so: what it tells is taken if it comes.
    worker("shared worker", () => new SharedWorker(victim));
    const importing = `try { importScripts("${victim}"); postMessage("imported") }
        catch (error) { postMessage(error.name) }`;
    const blob = URL.createObjectURL(new Blob([importing]));
    await worker("worker that imports", () => new Worker(blob));
    await from("import", async () => String(await import(victim)));
    await from("beacon", async () => navigator.sendBeacon(`${victim}?beacon`, "evil"));
    return learned;
}
"""
"""All that a page can do to a server whose streams are below ``base``; returns what it learns."""


class Asked(NamedTuple):
    """A request as the server's access log has it."""

    method: str
    path: str
    status: int


def asked_since(server: ServerProcess, seen: int = 0) -> list[Asked]:
    """What a stopped server with ``LOGGED`` was asked, but for the first so many requests."""
    lines = [json.loads(line) for line in server.stderr.splitlines()]
    asked = [
        Asked(line["method"], line["path"], line["status"])
        for line in lines
        if line["logger"] == "durable_streams.access"
    ]
    return asked[seen:]


async def attack(page: Page, base: str) -> dict[str, Any]:
    """Have a page do all it can; returns what it learned once its last request was answered."""

    def is_last(response: Response) -> bool:
        return response.url.endswith("?beacon")

    async with page.context.expect_event("response", is_last):
        learned: dict[str, Any] = await page.evaluate(ATTACK, base)
    return learned


async def make_victim(server: ServerProcess, headers: dict[str, str] | None = None) -> None:
    """Make the stream that is to be left alone."""
    text = {"Content-Type": "text/plain"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.put(server.url(VICTIM), data=SECRET, headers=text) as made,
    ):
        assert made.status == 201, await made.text()


async def assert_untouched(server: ServerProcess, headers: dict[str, str] | None = None) -> None:
    """Nothing was written, made or deleted."""
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.get(server.url(VICTIM)) as found:
            assert await found.text() == SECRET
        async with session.get(server.url(MADE)) as found:
            assert found.status == 404


class PageServer(NamedTuple):
    """Serves an empty page by whatever name it is asked."""

    port: int

    def origin(self, name: str) -> str:
        """The origin of its pages by a name."""
        return f"http://{name}:{self.port}"

    def url(self, name: str) -> str:
        """The page by a name."""
        return f"{self.origin(name)}/page"


@asynccontextmanager
async def serving_pages(port: int = 0) -> AsyncIterator[PageServer]:
    """Serve the empty page on loopback."""

    async def page(_: web.BaseRequest) -> web.Response:
        return web.Response(
            text="<!doctype html><title>a page</title><body>", content_type="text/html"
        )

    runner = web.ServerRunner(web.Server(page))
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        yield PageServer(runner.addresses[0][1])
    finally:
        await runner.cleanup()
