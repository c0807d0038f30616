"""The server inside an application: opened, served and closed with it."""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

import durable_streams
from durable_streams.model.errors import DataDirectoryError, NotOpen
from tests.http.client import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aiohttp.typedefs import Handler

    from durable_streams.http import Mount

TEXT = {"Content-Type": "text/plain"}


@asynccontextmanager
async def running(app: web.Application, *, cancellation: bool = False) -> AsyncIterator[Client]:
    """Run the application and connect to it."""
    runner = web.AppRunner(
        app, handler_cancellation=cancellation, access_log=None, shutdown_timeout=5
    )
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    client = await Client.connect(site.port)
    try:
        yield client
    finally:
        await runner.cleanup()
        await client.close()


def handlers_of_signals() -> list[object]:
    return [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]


async def free(mounted: Mount) -> None:
    """Wait until no request is under way."""
    assert mounted._handler is not None
    while mounted._handler.active:
        await asyncio.sleep(0)


async def test_all_methods_work_below_any_prefix(data_dir: Path) -> None:
    app = web.Application()
    durable_streams.mount(app, "/my/streams/", data_dir=data_dir)
    signals = handlers_of_signals()
    async with running(app) as client:
        created = await client.request("PUT", "/my/streams/a/b", b"one", TEXT)
        assert created.status == 201
        assert created.headers["location"] == "http://example.test/my/streams/a/b"
        assert (await client.request("POST", "/my/streams/a/b", b"two", TEXT)).status == 204
        assert (await client.request("GET", "/my/streams/a/b")).body == b"onetwo"
        assert (await client.request("HEAD", "/my/streams/a/b")).status == 200
        assert (await client.request("OPTIONS", "/my/streams/a/b")).status == 204
        fork = {"Stream-Forked-From": "/my/streams/a/b"}
        assert (await client.request("PUT", "/my/streams/f", b"", fork)).status == 201
        assert (await client.request("DELETE", "/my/streams/f")).status == 204
        assert (await client.request("PATCH", "/my/streams/f")).status == 405
        missing = await client.request("GET", "/my/streams/none")
        assert missing.headers["x-content-type-options"] == "nosniff"
        assert (await client.request("GET", "/v1/stream/a/b")).status == 404
        assert handlers_of_signals() == signals


async def test_what_was_written_is_there_in_the_next_life(data_dir: Path) -> None:
    for expected in (201, 200):
        app = web.Application()
        durable_streams.mount(app, data_dir=data_dir)
        async with running(app) as client:
            answer = await client.request("PUT", "/v1/stream/a", b"x", TEXT)
            assert answer.status == expected


async def test_sub_applications_count_with_their_prefix(data_dir: Path) -> None:
    inner, middle, outer = web.Application(), web.Application(), web.Application()
    durable_streams.mount(inner, "/streams", data_dir=data_dir)
    middle.add_subapp("/v2", inner)
    outer.add_subapp("/api", middle)
    async with running(outer) as client:
        created = await client.request("PUT", "/api/v2/streams/a%20b/c", b"x", TEXT)
        assert created.headers["location"] == "http://example.test/api/v2/streams/a%20b/c"
        fork = {"Stream-Forked-From": "/api/v2/streams/a%20b/c"}
        assert (await client.request("PUT", "/api/v2/streams/f", b"", fork)).status == 201
        assert (await client.request("GET", "/api/v2/streams/f")).body == b"x"


async def test_behind_a_proxy_that_takes_a_prefix_away_paths_are_as_its_client_sees_them(
    data_dir: Path,
) -> None:
    app = web.Application()
    durable_streams.mount(app, "/streams", data_dir=data_dir)
    said = {"X-Forwarded-Prefix": "/api"}
    async with running(app) as client:
        created = await client.request("PUT", "/streams/a", b"x", TEXT | said)
        assert created.headers["location"] == "http://example.test/api/streams/a"
        fork = {"Stream-Forked-From": "/api/streams/a"} | said
        forked = await client.request("PUT", "/streams/f", b"", fork)
        assert forked.headers["location"] == "http://example.test/api/streams/f"
        assert (await client.request("GET", "/streams/f", headers=said)).body == b"x"
        inside = {"Stream-Forked-From": "/streams/a"} | said
        refused = await client.request("PUT", "/streams/g", b"", inside)
        assert refused.status == 400
        assert b"below '/api/streams/'" in refused.body


async def test_two_mounts_live_beside_each_other_and_beside_other_routes(tmp_path: Path) -> None:
    async def hello(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_get("/v1/stream/hello", hello)
    durable_streams.mount(app, data_dir=tmp_path / "one")
    durable_streams.mount(app, "/other", data_dir=tmp_path / "two")
    async with running(app) as client:
        assert (await client.request("GET", "/v1/stream/hello")).body == b"hello"
        await client.request("PUT", "/v1/stream/a", b"1", TEXT)
        await client.request("PUT", "/other/a", b"2", TEXT)
        assert (await client.request("GET", "/v1/stream/a")).body == b"1"
        assert (await client.request("GET", "/other/a")).body == b"2"


async def test_the_application_uses_what_is_mounted_in_it(data_dir: Path) -> None:
    app = web.Application()
    mounted = durable_streams.mount(app, data_dir=data_dir)
    with pytest.raises(RuntimeError, match="the application is not running"):
        mounted.streams  # noqa: B018
    async with running(app) as client:
        await mounted.streams.create("a", content_type="text/plain", data=b"x")
        assert (await client.request("GET", "/v1/stream/a")).body == b"x"
        streams = mounted.streams
    with pytest.raises(RuntimeError, match="the application is not running"):
        mounted.streams  # noqa: B018
    with pytest.raises(NotOpen):
        await streams.append("a", b"y")


async def test_open_streams_can_be_mounted_and_stay_open(data_dir: Path) -> None:
    async with durable_streams.open(data_dir) as streams:
        for _ in range(2):
            app = web.Application()
            mounted = durable_streams.mount(app, streams=streams)
            async with running(app) as client:
                assert mounted.store is mounted.engine is streams.engine
                assert mounted.streams is streams
                await client.request("PUT", "/v1/stream/a", b"x", TEXT)
                client.ask("GET", "/v1/stream/a?offset=now&live=sse")
                await client.head()
                await client.events_until(b"upToDate")
            assert await client.chunk() == b""
        await streams.append("a", b"y")
        assert (await streams.read("a")).data == b"xy"


async def test_stopping_the_application_ends_live_reads(data_dir: Path) -> None:
    app = web.Application()
    mounted = durable_streams.mount(app, data_dir=data_dir)
    async with running(app) as client:
        await client.request("PUT", "/v1/stream/a", b"x", TEXT)
        await free(mounted)
        client.ask("GET", "/v1/stream/a?offset=now&live=long-poll")
        assert mounted._handler is not None
        while not mounted._handler.active:
            await asyncio.sleep(0)
    answer = await client.answer()
    assert (answer.status, answer.headers["connection"]) == (204, "close")


@pytest.mark.parametrize("cancellation", [False, True])
@pytest.mark.parametrize("live", ["long-poll", "sse"])
async def test_a_reader_whose_client_leaves_is_freed_whatever_the_server_cancels(
    data_dir: Path, caplog: pytest.LogCaptureFixture, live: str, *, cancellation: bool
) -> None:
    app = web.Application()
    mounted = durable_streams.mount(app, data_dir=data_dir)
    async with running(app, cancellation=cancellation) as client:
        await client.request("PUT", "/v1/stream/a", b"", TEXT)
        await free(mounted)
        client.ask("GET", f"/v1/stream/a?offset=now&live={live}")
        if live == "sse":
            await client.head()
            await client.events_until(b"upToDate")
        assert mounted._handler is not None
        while not mounted._handler.active:
            await asyncio.sleep(0)
        client.writer.transport.abort()
        await free(mounted)
    assert not caplog.records


async def test_middlewares_and_signals_of_the_application_see_our_answers(data_dir: Path) -> None:
    @web.middleware
    async def add_one(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        response.headers["X-One"] = str(response.status)
        return response

    async def add_two(_: web.Request, response: web.StreamResponse) -> None:
        response.headers["X-Two"] = "2"

    app = web.Application(middlewares=[add_one])
    app.on_response_prepare.append(add_two)
    durable_streams.mount(app, data_dir=data_dir)
    async with running(app) as client:
        answer = await client.request("PUT", "/v1/stream/a", b"x", TEXT)
        assert (answer.headers["x-one"], answer.headers["x-two"]) == ("201", "2")
        client.ask("GET", "/v1/stream/a?offset=-1&live=sse")
        assert (await client.head()).headers["x-two"] == "2"


async def test_a_body_may_be_larger_than_the_applications_own_limit(data_dir: Path) -> None:
    app = web.Application(client_max_size=10)
    durable_streams.mount(app, data_dir=data_dir)
    body = b"x" * 2_000_000
    async with running(app) as client:
        assert (await client.request("PUT", "/v1/stream/a", body, TEXT)).status == 201
        assert (await client.request("GET", "/v1/stream/a")).body == body


async def test_expect_100_continue_is_answered_by_us_once(data_dir: Path) -> None:
    app = web.Application()
    durable_streams.mount(app, data_dir=data_dir)
    async with running(app) as client:
        client.send(
            b"PUT /v1/stream/a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
            b"Content-Length: 3\r\n\r\n"
        )
        assert (await client.answer()).status == 100
        client.send(b"abc")
        assert (await client.answer()).status == 201


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/v1/stre%61m/a", 404),
        ("/v1/stream/../a", 400),
        ("/v1/stream/a%0Ab", 404),
        ("/v1/stream/a%2Fb", 404),
        ("/v1/stream//a", 400),
        ("/v1/stream/", 400),
    ],
)
async def test_paths_are_taken_as_they_were_sent(data_dir: Path, target: str, status: int) -> None:
    app = web.Application()
    durable_streams.mount(app, data_dir=data_dir)
    async with running(app) as client:
        answer = await client.request("GET", target)
        assert answer.status == status
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_directory_in_use_keeps_the_application_from_starting(data_dir: Path) -> None:
    async with durable_streams.open(data_dir):
        app = web.Application()
        durable_streams.mount(app, data_dir=data_dir)
        with pytest.raises(DataDirectoryError):
            async with running(app):
                pass


async def test_mount_says_what_it_cannot_take(data_dir: Path) -> None:
    app = web.Application()
    with pytest.raises(TypeError, match="either data_dir or streams"):
        durable_streams.mount(app)
    async with durable_streams.open(data_dir) as streams:
        with pytest.raises(TypeError, match="with data_dir only"):
            durable_streams.mount(app, streams=streams, settings=durable_streams.Settings())
    for prefix in ("streams", "/{a}"):
        with pytest.raises(ValueError, match="no URL path"):
            durable_streams.mount(app, prefix, data_dir=data_dir)
    proxies = durable_streams.HttpSettings(trusted_proxy=("nonsense",))
    with pytest.raises(ValueError, match="is no address or network"):
        durable_streams.mount(app, data_dir=data_dir, http_settings=proxies)
    mounted = durable_streams.mount(app, data_dir=data_dir)
    with pytest.raises(RuntimeError, match="not running"):
        _ = mounted.store
