"""Pages that are welcome can do everything, each by what makes it so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.browser.pages import (
    LOGGED,
    SECRET,
    VICTIM,
    asked_since,
    assert_untouched,
    attack,
    make_victim,
    serving_pages,
)
from tests.programs import run_verb

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Page

    from tests.browser.conftest import OpenPage
    from tests.conftest import StartServer

pytestmark = pytest.mark.needs("chromium")

USE: Final = """
async ({url, headers}) => {
    const text = {"Content-Type": "text/plain", ...headers};
    const statuses = {};
    const ask = async (method, options = {}) => {
        const response = await fetch(url, {method, ...options});
        statuses[method] = response.status;
        return response;
    };
    const made = await ask("PUT", {headers: text, body: "one"});
    await ask("POST", {headers: {...text, "Producer-Id": "p", "Producer-Epoch": "0",
        "Producer-Seq": "0"}, body: "two"});
    const read = await ask("GET", {headers});
    const content = await read.text();
    await ask("HEAD", {headers});
    await ask("DELETE", {headers});
    return {statuses, content, next: read.headers.get("Stream-Next-Offset") !== null,
        location: made.headers.get("Location")};
}
"""
"""All verbs, on a stream of the page's own; what it learned."""

FOLLOW: Final = """
(url) => new Promise((resolve) => {
    const events = new EventSource(`${url}?offset=-1&live=sse`);
    events.addEventListener("data", (event) => { events.close(); resolve(event.data); });
    events.onerror = () => { if (events.readyState === EventSource.CLOSED) resolve("refused"); };
})
"""


async def use(page: Page, url: str, headers: dict[str, str] | None = None) -> Any:
    return await page.evaluate(USE, {"url": url, "headers": headers or {}})


def assert_used(used: Any, url: str) -> None:
    assert used == {
        "statuses": {"PUT": 201, "POST": 200, "GET": 200, "HEAD": 200, "DELETE": 204},
        "content": "onetwo",
        "next": True,
        "location": url,
    }


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "app.localhost"])
@pytest.mark.parametrize("to", ["localhost", "127.0.0.1"])
async def test_a_page_of_this_machine_can_do_everything_whatever_its_port(
    name: str, to: str, start_server: StartServer, open_page: OpenPage
) -> None:
    server = start_server()
    await make_victim(server)
    base = f"http://{to}:{server.port}/v1/stream"

    async with serving_pages() as pages:
        page = await open_page(pages.url(name))
        used = await use(page, f"{base}/a")
        followed = await page.evaluate(FOLLOW, f"{base}/{VICTIM}")

    assert_used(used, f"{base}/a")
    assert followed == SECRET


async def test_a_page_of_the_servers_own_origin_can_do_everything_by_the_name_that_is_allowed(
    start_server: StartServer, open_page: OpenPage
) -> None:
    async with serving_pages() as pages:
        page = await open_page(pages.url("streams.test"))
    start_server("--port", str(pages.port), "--allowed-host", "streams.test")
    url = f"{pages.origin('streams.test')}/v1/stream/a"

    assert_used(await use(page, url), url)


async def test_a_page_of_a_named_origin_can_do_everything_and_no_other_can(
    start_server: StartServer, open_page: OpenPage
) -> None:
    async with serving_pages() as pages:
        server = start_server("--cors-origin", pages.origin("app.test"), *LOGGED)
        await make_victim(server)

        page = await open_page(pages.url("app.test"))
        used = await use(page, server.url("a"))
        followed = await page.evaluate(FOLLOW, server.url(VICTIM))
        assert server.stop() == 0
        seen = len(asked_since(server))
        server.start()
        learned = await attack(await open_page(pages.url("evil.test")), server.url().rstrip("/"))

    assert_used(used, server.url("a"))
    assert followed == SECRET
    assert SECRET not in str(learned)
    assert server.stop() == 0
    answers = {(asked.method, asked.status) for asked in asked_since(server, seen)}
    assert {status for method, status in answers if method != "OPTIONS"} == {403}
    server.start()
    await assert_untouched(server)


async def test_with_tokens_a_page_of_any_origin_can_do_what_its_token_may_and_nothing_without(
    start_server: StartServer, open_page: OpenPage, tmp_path: Path
) -> None:
    tokens = str(tmp_path / "tokens.toml")
    scopes = "read,append,create,delete"
    token = run_verb("token", "new", "--tokens", tokens, "--scope", scopes, "--prefix", "")
    reader = run_verb("token", "new", "--tokens", tokens, "--scope=read", "--prefix", "")
    may_all, may_read = ({"Authorization": f"Bearer {text}"} for text in (token, reader))
    server = start_server("--tokens", tokens, *LOGGED)
    await make_victim(server, may_all)

    async with serving_pages() as pages:
        page = await open_page(pages.url("app.test"))
        used = await use(page, server.url("a"), may_all)
        refused = await use(page, server.url("a"), may_read)
        unknown = await use(page, server.url("a"))
        assert server.stop() == 0
        seen = len(asked_since(server))
        server.start()
        learned = await attack(page, server.url().rstrip("/"))

    assert_used(used, server.url("a"))
    verbs = {"PUT", "POST", "GET", "HEAD", "DELETE"}
    assert refused["statuses"] == {"PUT": 403, "POST": 401, "GET": 404, "HEAD": 404, "DELETE": 403}
    assert unknown["statuses"] == dict.fromkeys(verbs, 401)
    assert SECRET not in str(learned)
    assert learned["EventSource"] == "closed"
    assert server.stop() == 0
    answers = {(asked.method, asked.status) for asked in asked_since(server, seen)}
    assert {status for method, status in answers if method != "OPTIONS"} == {401, 403}
    server.start()
    await assert_untouched(server, may_all)
