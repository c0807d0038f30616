"""A signed URL is what a browser's event source can have: it can send no token in a header.

It ends when the URL expires, or the token in whose name it was signed is revoked, and it does not
ask again and again: by the standard a 401 ends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import aiohttp
import pytest

from tests.browser.pages import (
    LOGGED,
    SECRET,
    VICTIM,
    Asked,
    asked_since,
    make_victim,
    serving_pages,
)
from tests.programs import run_verb

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Page

    from tests.browser.conftest import OpenPage
    from tests.conftest import StartServer
    from tools.server_process import ServerProcess

pytestmark = pytest.mark.needs("chromium")

LISTEN: Final = """
(url) => {
    globalThis.errors = 0;
    const events = new EventSource(url);
    events.addEventListener("data", (event) => console.log(event.data));
    events.addEventListener("error", () => errors++);
}
"""


class Signing(NamedTuple):
    """A server that takes signed URLs, and the files by which it does."""

    server: ServerProcess
    files: tuple[str, ...]
    admin: dict[str, str]

    def events_url(self, expires: str) -> str:
        """A URL by which anybody may follow the stream until it expires."""
        signing = ("--token", "web", "--expires", expires, *self.files)
        return f"{run_verb('sign-url', self.server.url(VICTIM), *signing)}&offset=-1&live=sse"

    async def closed(self, page: Page) -> list[Asked]:
        """Wait until the event source has given up; what it has asked the server, which stops."""
        await page.wait_for_function("sources.at(-1).readyState === EventSource.CLOSED")
        assert self.server.stop() == 0
        asked = asked_since(self.server)
        return [each for each in asked if "live=sse" in each.path]


async def listening(page: Page, url: str) -> None:
    """Listen, and wait for what there is."""
    await page.evaluate(LISTEN, url)
    await page.wait_for_function("printed.length > 0")
    assert await page.evaluate("printed") == [SECRET]


@pytest.fixture
async def signing(start_server: StartServer, tmp_path: Path) -> Signing:
    tokens = ("--tokens", str(tmp_path / "tokens.toml"))
    keys = ("--signing-keys", str(tmp_path / "keys.toml"))
    scopes = ("--scope", "read,create,admin", "--prefix", "")
    admin = {"Authorization": f"Bearer {run_verb('token', 'new', *tokens, *scopes)}"}
    run_verb("token", "new", *tokens, "--id", "web", "--scope", "read", "--path", VICTIM)
    run_verb("signing-key", "new", *keys)
    server = start_server(*tokens, *keys, "--sse-lifetime", "3600", *LOGGED)
    await make_victim(server, admin)
    return Signing(server, (*tokens, *keys), admin)


async def test_it_reads_from_a_page_of_any_origin_until_it_expires_and_gives_up_then(
    signing: Signing, open_page: OpenPage
) -> None:
    async with serving_pages() as pages:
        page = await open_page(pages.url("app.test"))
        await listening(page, signing.events_url("6s"))
        asked = await signing.closed(page)

    assert [each.status for each in asked] == [200, 401]


async def test_it_ends_when_its_token_is_revoked_over_http_and_gives_up(
    signing: Signing, open_page: OpenPage
) -> None:
    async with serving_pages() as pages, aiohttp.ClientSession(headers=signing.admin) as session:
        page = await open_page(pages.url("app.test"))
        await listening(page, signing.events_url("1h"))

        async with session.delete(signing.server.url("__ds/tokens/web")) as revoked:
            assert revoked.status == 204
        asked = await signing.closed(page)

    assert [each.status for each in asked] == [200, 401]


async def test_it_ends_when_its_token_is_removed_from_the_file_and_gives_up(
    signing: Signing, open_page: OpenPage
) -> None:
    async with serving_pages() as pages:
        page = await open_page(pages.url("app.test"))
        await listening(page, signing.events_url("1h"))

        run_verb("token", "revoke", "web", *signing.files[:2])
        asked = await signing.closed(page)

    assert [each.status for each in asked] == [200, 401]


async def test_no_log_has_a_signature(signing: Signing, open_page: OpenPage) -> None:
    url = signing.events_url("1h")
    signature = url.partition("signed=")[2].partition("&")[0].rpartition(".")[2]
    assert len(signature) > 40

    async with serving_pages() as pages:
        page = await open_page(pages.url("app.test"))
        await listening(page, url)
        await page.evaluate(LISTEN, url.replace(VICTIM, "another"))
        await page.wait_for_function("sources.at(-1).readyState === EventSource.CLOSED")
    assert signing.server.stop() == 0

    assert {each.status for each in asked_since(signing.server)} == {200, 201, 401}
    assert signature not in signing.server.stderr
