"""Pages that somebody opens somewhere can do nothing to a server that runs on their machine.

They try all that pages can (``pages.ATTACK``).  What the server answered is looked at, by its
access log, as well as what the pages learned, and what is in the store afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
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

if TYPE_CHECKING:
    from tests.browser.conftest import OpenPage
    from tests.conftest import StartServer
    from tools.server_process import ServerProcess

pytestmark = pytest.mark.needs("chromium")

both_fronts = pytest.mark.parametrize(
    "options", [(), ("--no-fast-lane",)], ids=["fast lane", "no fast lane"]
)


def assert_nothing_learned(learned: dict[str, Any]) -> None:
    """No answer that succeeded was seen, and nothing of what is in the stream."""
    assert SECRET not in str(learned)
    for how, what in learned.items():
        if isinstance(what, list):
            kind, is_ok, text = what
            assert (kind == "opaque" and not text) or not is_ok, (how, what)
        elif how.startswith(("img", "video", "script", "link", "object")):
            assert what == "error", how
    assert learned["EventSource"] == "closed"
    assert learned["WebSocket"] == "error"
    assert learned["import"] == "TypeError"
    assert learned["worker that imports"] == "NetworkError"
    assert learned["worker"] in {"SecurityError", "error"}


async def assert_all_refused(server: ServerProcess) -> None:
    """The stream was made, and all that came after it was refused; nothing has changed."""
    assert server.stop() == 0
    asked = asked_since(server, seen=1)
    server.start()
    assert {each.method for each in asked} >= {"GET", "HEAD", "POST"}
    assert len(asked) > 25
    assert [each for each in asked if each.status != 403 and each.method != "OPTIONS"] == []
    await assert_untouched(server)


@both_fronts
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
async def test_a_page_of_another_origin_can_do_nothing(
    name: str, options: tuple[str, ...], start_server: StartServer, open_page: OpenPage
) -> None:
    server = start_server(*LOGGED, *options)
    await make_victim(server)

    async with serving_pages() as pages:
        page = await open_page(pages.url("evil.test"))
        learned = await attack(page, f"http://{name}:{server.port}/v1/stream")

    assert_nothing_learned(learned)
    await assert_all_refused(server)


@both_fronts
async def test_a_browser_that_asks_for_a_foreign_page_first_is_told_of_no_origin_that_may(
    options: tuple[str, ...], start_server: StartServer
) -> None:
    """It is no error: the protocol's own tests ask so of every server."""
    server = start_server(*options)
    asking = {"Origin": "https://evil.test", "Access-Control-Request-Method": "PUT"}

    async with (
        aiohttp.ClientSession(headers=asking) as session,
        session.options(server.url(VICTIM)) as answer,
    ):
        assert answer.status == 204
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert answer.headers["Vary"] == "Origin"


async def test_a_page_of_another_origin_cannot_lead_to_a_stream(
    start_server: StartServer, open_page: OpenPage
) -> None:
    server = start_server()
    await make_victim(server)

    async with serving_pages() as pages:
        page = await open_page(pages.url("evil.test"))
        async with page.expect_navigation() as leading:
            await page.evaluate("url => { location = url }", server.url(VICTIM))
        led = await leading.value
        by_itself = await page.goto(server.url(VICTIM))

    assert led is not None
    assert led.status == 403
    assert by_itself is not None
    assert by_itself.status == 200


@both_fronts
async def test_a_page_whose_name_was_made_to_lead_here_can_do_nothing(
    options: tuple[str, ...], start_server: StartServer, open_page: OpenPage
) -> None:
    async with serving_pages() as pages:
        page = await open_page(pages.url("evil.test"))
    # It is at the place of what served the page: for the browser they are of one origin.
    server = start_server("--port", str(pages.port), *LOGGED, *options)
    await make_victim(server)

    learned = await attack(page, f"{pages.origin('evil.test')}/v1/stream")

    assert_nothing_learned(learned)
    await assert_all_refused(server)


async def test_where_others_reach_the_server_by_name_pages_of_other_origins_write_and_read_nothing(
    start_server: StartServer, open_page: OpenPage
) -> None:
    """Browsers say less there: to a plain HTTP URL that is not loopback they do not tell where a
    request comes from if it has no ``Origin``."""
    server = start_server("--host", "0.0.0.0", "--insecure", *LOGGED)
    await make_victim(server)

    async with serving_pages() as pages:
        page = await open_page(pages.url("evil.test"))
        learned = await attack(page, f"http://streams.test:{server.port}/v1/stream")

    assert SECRET not in str(learned)
    assert learned["EventSource"] == "closed"
    assert server.stop() == 0
    asked = asked_since(server, seen=1)
    server.start()
    assert {each.method for each in asked if each.status != 403} <= {"GET", "HEAD", "OPTIONS"}
    await assert_untouched(server)
