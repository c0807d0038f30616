"""Following a stream from a page in a real browser, by what the README says and without.

What is waited for happens in the page or in the proxy's log.  A browser waits some seconds before
it reconnects, which is what these tests spend their time with.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest

from tests.documents import SERVER, blocks_of
from tools.proofs.clients import Outages, Producer

if TYPE_CHECKING:
    from playwright.async_api import Page, Request

    from tests.browser.conftest import OpenPage, StartProxy
    from tests.browser.nginx import Proxy
    from tests.conftest import StartServer
    from tools.server_process import ServerProcess

pytestmark = pytest.mark.needs("chromium", "nginx")

both_ways = pytest.mark.parametrize(
    "options",
    [("--loop", "uvloop"), ("--loop", "asyncio", "--no-fast-lane")],
    ids=["uvloop, fast lane", "asyncio, no fast lane"],
)

ROOM: Final = "chat/room-1"
PATH: Final = f"/v1/stream/{ROOM}"
JSON: Final = "application/json"
SHORT_LIFE: Final = ("--sse-lifetime", "0.3")
LONG_LIFE: Final = ("--sse-lifetime", "3600")

PLAIN: Final = """
    new EventSource("http://%s%s?offset=-1&live=sse")
        .addEventListener("data", (event) => console.log(JSON.parse(event.data)));
"""


def readme_example(proxy: Proxy) -> str:
    (code,) = (b.code for b in blocks_of("README.rst") if b.language == "javascript")
    assert f"{SERVER}{PATH}" in code
    return code.replace(SERVER, proxy.authority)


async def create(server: ServerProcess, *messages: int, closed: bool = False) -> None:
    headers = {"Content-Type": JSON} | ({"Stream-Closed": "true"} if closed else {})
    body = json.dumps(messages)
    async with (
        aiohttp.ClientSession() as session,
        session.put(server.url(ROOM), data=body, headers=headers) as response,
    ):
        assert response.status == 201, await response.text()


async def append(server: ServerProcess, message: int) -> None:
    async with aiohttp.ClientSession() as session:
        await Producer(session, Outages(server), server.url(ROOM), JSON).append(b"%d" % message)


class Writer:
    """Appends 0, 1, 2 and so on all the time, each once over all outages, until told to close."""

    def __init__(self, producer: Producer) -> None:
        self.count = 0
        self.closing = False
        self._producer = producer

    async def run(self) -> None:
        is_last = False
        while not is_last:
            is_last = self.closing
            await self._producer.append(b"%d" % self.count, close=is_last)
            self.count += 1

    async def wait_for_page(self, page: Page) -> None:
        """Wait until the page has something that was sent from now on."""
        await wait_for_printed(page, self.count + 2)  # one may be on its way


def requests_begun(page: Page) -> list[str]:
    """The page's requests for the stream, noted as each begins; the proxy notes their ends."""
    begun: list[str] = []

    def note(request: Request) -> None:
        if PATH in request.url:
            begun.append(request.url)

    page.on("request", note)
    return begun


async def printed(page: Page) -> Any:
    return await page.evaluate("printed.flat()")


async def wait_for_printed(page: Page, count: int) -> None:
    await page.wait_for_function("count => printed.flat().length >= count", arg=count)


async def wait_for_closed(page: Page) -> None:
    """Wait until the last event source is closed, which it then remains by the standard."""
    await page.wait_for_function("sources.at(-1).readyState === EventSource.CLOSED")


@both_ways
async def test_the_readme_example_gives_every_message_once_whatever_ends_its_connections(
    options: tuple[str, ...],
    start_server: StartServer,
    start_proxy: StartProxy,
    open_page: OpenPage,
) -> None:
    server = start_server(*SHORT_LIFE, *options)
    await create(server)
    proxy = await start_proxy(server.port)
    page = await open_page(proxy.page_url)
    begun = requests_begun(page)
    outages = Outages(server)

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
        writer = Writer(Producer(session, outages, server.url(ROOM), JSON))
        tasks.create_task(writer.run())
        await page.add_script_tag(content=readme_example(proxy))
        await proxy.wait_for(PATH, lambda statuses: statuses.count(200) >= 3)

        async with outages.stopped():
            server.options = (*LONG_LIFE, *options)
        await writer.wait_for_page(page)

        async with outages.stopped():  # which ends an event stream that had long to live
            pass
        await writer.wait_for_page(page)

        async with outages.stopped():
            before = [seen.status for seen in proxy.requests_for(PATH)].count(502)
            await proxy.wait_for(PATH, lambda statuses: statuses.count(502) > before)
        await writer.wait_for_page(page)

        writer.closing = True
        await wait_for_closed(page)
        await page.clock.fast_forward(60_000)  # a reconnection would have waited for less

    assert await printed(page) == list(range(writer.count))
    assert await page.evaluate("sources.at(-1).readyState === EventSource.CLOSED")
    await proxy.wait_for(PATH, lambda statuses: len(statuses) == len(begun))


@both_ways
async def test_a_plain_event_source_gets_a_closed_stream_once_and_gives_up(
    options: tuple[str, ...],
    start_server: StartServer,
    start_proxy: StartProxy,
    open_page: OpenPage,
) -> None:
    server = start_server(*options)
    await create(server, 0, 1, 2, closed=True)
    proxy = await start_proxy(server.port)
    page = await open_page(proxy.page_url)
    begun = requests_begun(page)

    await page.add_script_tag(content=PLAIN % (proxy.authority, PATH))
    await wait_for_closed(page)

    await proxy.wait_for(PATH, lambda statuses: statuses == [200, 204])
    first, second = proxy.requests_for(PATH)
    assert await printed(page) == [0, 1, 2]
    assert first.last_event_id == ""
    assert second.last_event_id.endswith("_0000000000000006")
    assert len(begun) == 2


@both_ways
async def test_a_page_of_another_origin_reconnects_where_it_was(
    options: tuple[str, ...],
    start_server: StartServer,
    start_proxy: StartProxy,
    open_page: OpenPage,
) -> None:
    server = start_server(*SHORT_LIFE, *options)
    await create(server, 0)
    proxy = await start_proxy(server.port)
    page = await open_page(proxy.other_page_url)

    await page.add_script_tag(content=PLAIN % (proxy.authority, PATH))
    await proxy.wait_for(PATH, lambda statuses: statuses == [200])
    await append(server, 1)
    await proxy.wait_for(PATH, lambda statuses: statuses[1:] == [200])
    await wait_for_printed(page, 2)

    first, second = proxy.requests_for(PATH)
    assert await printed(page) == [0, 1]
    assert {(each.method, each.origin) for each in (first, second)} == {("GET", proxy.other_origin)}
    assert first.last_event_id == ""
    assert second.last_event_id.endswith("_0000000000000002")


async def test_who_follows_from_now_on_gets_what_is_written_while_the_connection_is_lost(
    start_server: StartServer, start_proxy: StartProxy, open_page: OpenPage
) -> None:
    server = start_server(*LONG_LIFE)
    await create(server, 0)
    proxy = await start_proxy(server.port)
    page = await open_page(proxy.page_url)
    code = readme_example(proxy).removesuffix(");") + ', "now");'  # the call's last argument

    await page.add_script_tag(content=code)
    await page.wait_for_function("controls > 0")
    await page.clock.pause_at("2100-01-01")  # no reopening before there is a message to miss
    async with Outages(server).stopped():
        await wait_for_closed(page)  # by a 502
    await append(server, 1)
    await page.clock.run_for(1_000)
    await wait_for_printed(page, 1)

    assert await printed(page) == [1]
