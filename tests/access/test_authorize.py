"""An application says who asks: every way in which it can, and cannot."""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, cast

import pytest
from aiohttp import web

import durable_streams
from durable_streams.access.grants import Scope
from durable_streams.access.principals import Principal
from durable_streams.model.errors import Overloaded, Unauthenticated
from durable_streams.settings import HttpSettings
from tests.access.guarded import PREFIX, ask, on
from tests.http.client import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from durable_streams.library import Streams
    from tests.http.client import Answer

ALICE: Final = Principal("app:alice", (on("room", Scope.READ, Scope.APPEND),))
ROOM: Final = f"{PREFIX}/room/there"
TEXT: Final = "Content-Type: text/plain"


class SecretError(Exception):
    pass


class Session:
    """What an application may return by mistake."""

    def __repr__(self) -> str:
        return "Session(password='swordfish')"


@asynccontextmanager
async def application(
    data_dir: Path, authorize: Any, settings: HttpSettings | None = None
) -> AsyncIterator[tuple[Client, Streams]]:
    app = web.Application()
    async with durable_streams.open(data_dir) as streams:
        await streams.create("room/there", content_type="text/plain", data=b"data")
        durable_streams.mount(app, streams=streams, authorize=authorize, http_settings=settings)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        client = await Client.connect(site.port)
        try:
            yield client, streams
        finally:
            await client.close()
            await runner.cleanup()


async def answer(client: Client, method: str = "GET", *lines: str, body: bytes = b"") -> Answer:
    ask(client, method, ROOM, lines, body or None)
    return await client.answer(method)


async def test_a_function_and_a_coroutine_function_are_asked_alike(data_dir: Path) -> None:
    def plain(request: web.Request) -> Principal | None:
        return ALICE if request.headers.get("Cookie") == "who=alice" else None

    async def later(request: web.Request) -> Principal | None:
        await asyncio.sleep(0)
        return plain(request)

    for authorize in (plain, later):
        async with application(data_dir / authorize.__name__, authorize) as (client, streams):
            cookie = "Cookie: who=alice"
            assert (await answer(client)).status == 401
            assert (await answer(client, "GET", cookie)).body == b"data"
            assert (await answer(client, "POST", cookie, TEXT, body=b"x")).status == 204
            assert (await answer(client, "DELETE", cookie)).status == 403
            assert (await answer(client, "OPTIONS")).status == 204
            assert (await answer(client, "POST", TEXT, body=b"x")).status == 401
            assert (await streams.read("room/there")).data == b"datax"


WRONG: Final[list[Any]] = [True, "app:alice", 1, {"name": "alice"}, (), Session(), Principal, ...]


@pytest.mark.parametrize("found", WRONG, ids=lambda found: type(found).__name__ + str(found)[:4])
async def test_what_is_no_principal_is_a_bug_that_tells_no_secret(
    data_dir: Path, found: object, caplog: pytest.LogCaptureFixture
) -> None:
    async with application(data_dir, lambda _: found) as (client, streams):
        for method in ("GET", "POST", "DELETE", "PUT"):
            failed = await answer(client, method, TEXT, body=b"" if method == "GET" else b"x")
            assert (failed.status, failed.body) == (500, b"internal server error\n")
        assert (await streams.read("room/there")).data == b"data"
    assert "not a " in caplog.text
    assert "swordfish" not in caplog.text


async def test_what_the_application_raises_admits_nobody(
    data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raised: list[Exception] = [
        SecretError(),
        web.HTTPOk(),
        Unauthenticated("who are you?"),
        Overloaded("the users' database"),
    ]

    def authorize(_: web.Request) -> Principal:
        raise raised[0]

    async with application(data_dir, authorize) as (client, streams):
        for status in (500, 500, 401, 503):
            assert (await answer(client, "POST", TEXT, body=b"x")).status == status
            raised.pop(0)
        assert (await streams.read("room/there")).data == b"data"
    assert "SecretError" in caplog.text


@pytest.mark.parametrize("expires_at_s", [0.0, 1.0, -math.inf, math.nan])
async def test_whom_the_application_knows_no_more_is_nobody(
    data_dir: Path, expires_at_s: float
) -> None:
    over = Principal("app:alice", (on(""),), expires_at_s)
    async with application(data_dir, lambda _: over) as (client, streams):
        for method in ("GET", "HEAD", "POST", "DELETE"):
            body = b"x" if method == "POST" else b""
            refused = await answer(client, method, TEXT, body=body)
            assert refused.status == 401
            assert 'error="invalid_token"' in refused.headers["www-authenticate"]
        assert (await streams.read("room/there")).data == b"data"


PAGES: Final = [
    # The application's own page, named ones, and others; whether it gets in, and with cookies.
    ("http://example.test", (), True, False),
    ("https://app.example", ("https://app.example",), True, True),
    ("https://app.example", (), False, False),
    ("https://evil.test", ("https://app.example",), False, False),
    ("http://localhost:5173", (), False, False),
    ("null", (), False, False),
]


@pytest.mark.parametrize(("origin", "named", "is_welcome", "with_cookies"), PAGES)
async def test_cookies_of_foreign_pages_count_for_nothing(
    data_dir: Path, origin: str, named: tuple[str, ...], is_welcome: bool, with_cookies: bool
) -> None:
    asked: list[str] = []

    def authorize(request: web.Request) -> Principal | None:
        asked.append(request.method)
        return ALICE if request.headers.get("Cookie") == "who=alice" else None

    settings = HttpSettings(cors_origin=named)
    async with application(data_dir, authorize, settings) as (client, streams):
        lines = ("Cookie: who=alice", f"Origin: {origin}", "Sec-Fetch-Site: cross-site", TEXT)
        told = await answer(client, "POST", *lines, body=b"x")
        assert told.status == (204 if is_welcome else 403)
        allowed = told.headers.get("access-control-allow-origin")
        assert allowed == (origin if is_welcome else None)
        assert ("access-control-allow-credentials" in told.headers) is with_cookies
        read = (await streams.read("room/there")).data
        assert read == (b"datax" if is_welcome else b"data")
        assert bool(asked) is is_welcome
        preflight = await answer(client, "OPTIONS", f"Origin: {origin}")
        assert preflight.status == 204
        allowed = preflight.headers.get("access-control-allow-origin")
        assert allowed == (origin if is_welcome else None)
        before = len(asked)
        image = await answer(client, "GET", "Cookie: who=alice", "Sec-Fetch-Site: cross-site")
        assert (image.status, len(asked)) == (403, before)


async def test_an_application_is_asked_before_the_body_and_once(data_dir: Path) -> None:
    asked: list[int] = []

    async def authorize(request: web.Request) -> Principal | None:
        asked.append(request.content.total_bytes)
        return None

    async with application(data_dir, authorize) as (client, _):
        ask(client, "POST", ROOM, [TEXT, "Expect: 100-continue", "Content-Length: 5"])
        assert (await client.answer()).status == 401
        assert asked == [0]


def test_authorize_has_to_be_a_function() -> None:
    for wrong in (ALICE, "alice", 1):
        with pytest.raises(TypeError, match="authorize must be a function"):
            durable_streams.mount(
                web.Application(), data_dir="unused", authorize=cast("Any", wrong)
            )
