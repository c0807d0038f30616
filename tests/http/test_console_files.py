"""The console's files: who gets them, by which ways, and what a browser is told about them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

import durable_streams
from durable_streams.http import console
from durable_streams.settings import KIB, HttpSettings
from durable_streams.wire.hosts import parse_host
from tests.http.asgi_driving import ask

if TYPE_CHECKING:
    from tests.http.client import Client
    from tests.http.conftest import Serve

PLACE: Final = "/v1/stream/__ds/console/"
NAVIGATES: Final = {"Sec-Fetch-Mode": "navigate"}
MOST_BYTES: Final = 150 * KIB
FILES: Final = sorted(console.FILES.iterdir())


async def served(serve: Serve, mode: str) -> Client:
    server = await serve(HttpSettings(console=mode))
    return await server.connect()


async def test_all_of_it_is_served_with_its_types_and_a_policy_that_names_its_folder(
    serve: Serve,
) -> None:
    client = await served(serve, "full")
    for path in FILES:
        name = "" if path.name == console.PAGE else path.name
        answer = await client.request("GET", PLACE + name, None, {"Sec-Fetch-Dest": "script"})
        assert answer.status == 200, path
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        policy = answer.headers["content-security-policy"]
        host = policy.partition("script-src ")[2].partition(PLACE)[0]
        assert parse_host(host) is not None
        assert f"style-src {host}{PLACE};" in policy
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        if path.name != console.PAGE:
            assert answer.body == path.read_bytes()
    assert b'data-mode="full"' in (await client.request("GET", PLACE)).body


async def test_what_a_browser_has_already_is_not_sent_again(serve: Serve) -> None:
    client = await served(serve, "full")
    tag = (await client.request("GET", PLACE + "main.js")).headers["etag"]
    again = await client.request("GET", PLACE + "main.js", None, {"If-None-Match": f'"x", {tag}'})
    assert (again.status, again.body) == (304, b"")
    other = await client.request("GET", PLACE + "main.js", None, {"If-None-Match": '"x"'})
    assert other.status == 200


async def test_nothing_else_is_there_and_nothing_is_written(serve: Serve) -> None:
    client = await served(serve, "full")
    for name in ("nothing.js", "../console.py", "%2e%2e/console.py", "main.js/"):
        assert (await client.request("GET", PLACE + name)).status == 404, name
    assert (await client.request("POST", PLACE, b"x")).status == 405
    assert (await client.request("OPTIONS", PLACE)).status == 204


async def test_a_visitor_is_led_there_from_the_root_and_a_program_is_not(serve: Serve) -> None:
    client = await served(serve, "full")
    for path, where in (
        ("/", "v1/stream/__ds/console/"),
        ("/v1/stream", "stream/__ds/console/"),
        ("/v1/stream/", "__ds/console/"),
        ("/v1/stream/__ds/console", "console/"),
    ):
        for headers in (NAVIGATES, {"Accept": "text/html,*/*"}):
            led = await client.request("GET", path, None, headers)
            assert (led.status, led.headers["location"]) == (302, where), path
    for path in ("/", "/v1/stream", "/v1/stream/"):
        for headers in ({}, {"Accept": "*/*"}, {"Sec-Fetch-Mode": "cors", "Accept": "text/html"}):
            assert (await client.request("GET", path, None, headers)).status in {400, 404}
        assert (await client.request("POST", path, b"", NAVIGATES)).status in {400, 404, 405}


async def test_it_is_below_the_prefix_of_an_application_of_asgi(tmp_path: Path) -> None:
    app = durable_streams.asgi(tmp_path / "data", http_settings=HttpSettings(console="full"))
    async with app.lifespan():
        page = await ask(app, "GET", "/streams/__ds/console/", root_path="/streams")
        assert (page.status, b'data-mode="full"' in page.body) == (200, True)
        policy = page.headers["content-security-policy"]
        assert "script-src example.test/streams/__ds/console/;" in policy
        led = await ask(app, "GET", "/streams/__ds/console", root_path="/streams")
        assert (led.status, led.headers["location"]) == (302, "console/")


async def test_it_is_below_the_prefix_of_an_application_of_aiohttp(tmp_path: Path) -> None:
    app = web.Application()
    settings = HttpSettings(console="read-only")
    durable_streams.mount(app, "/streams", data_dir=tmp_path / "data", http_settings=settings)
    async with TestClient(TestServer(app)) as client:
        page = await client.get("/streams/__ds/console/")
        assert (page.status, 'data-mode="read-only"' in await page.text()) == (200, True)
        assert "/streams/__ds/console/;" in page.headers["Content-Security-Policy"]
        led = await client.get("/streams/", headers=NAVIGATES, allow_redirects=False)
        assert (led.status, led.headers["Location"]) == (302, "__ds/console/")


@pytest.mark.parametrize("mode", ["off", "auto"])
async def test_it_is_not_there_unless_somebody_says_so(serve: Serve, mode: str) -> None:
    client = await served(serve, mode)
    assert (await client.request("GET", PLACE)).status == 400
    assert (await client.request("GET", "/", None, NAVIGATES)).status == 404


async def test_its_page_knows_that_it_may_only_read(serve: Serve) -> None:
    client = await served(serve, "read-only")
    assert b'data-mode="read-only"' in (await client.request("GET", PLACE)).body


@pytest.mark.parametrize(
    ("url", "place"),
    [
        (
            "https://streams.example/v1/stream/__ds/console",
            "streams.example/v1/stream/__ds/console/",
        ),
        (
            "http://a:80/x;script-src *,'/__ds/console",
            "a:80/x%3Bscript-src%20*%2C%27/__ds/console/",
        ),
        ("http://[::1]:4437/v1/stream/__ds/console", "'self'"),
        ("http://a;b/v1/stream/__ds/console", "'self'"),
    ],
)
def test_nothing_of_an_address_becomes_another_policy(url: str, place: str) -> None:
    assert f"; script-src {place}; " in console._policy(url)


def test_all_files_together_are_small() -> None:
    assert sum(path.stat().st_size for path in FILES) <= MOST_BYTES


def test_data_never_becomes_html_and_no_text_becomes_a_program() -> None:
    forbidden = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc"
        r"|DOMParser|createContextualFragment|setHTML|['\"`]javascript:|https?://(?!www\.w3\.org/2000/svg)"
    )
    for path in FILES:
        assert forbidden.search(path.read_text()) is None, path


def test_each_file_is_loaded_by_another() -> None:
    said = {path: path.read_text() for path in FILES}
    for path in FILES:
        others = "".join(text for other, text in said.items() if other != path)
        assert path.name == console.PAGE or path.name in others, path


def test_programs_and_styles_are_small_and_say_what_they_are() -> None:
    for path in FILES:
        lines = path.read_text().splitlines()
        assert len(lines) <= 450, path
        if path.suffix in {".js", ".css"}:
            assert lines[0].startswith(("// ", "/* ")), path
    assert Path(console.FILES / "index.html").read_text().count("<script") == 1
