"""Who may see metrics, and what strangers are told; what it may cost to be asked."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final

import pytest
from aiohttp import web

import durable_streams
from durable_streams.access.grants import Scope
from durable_streams.http.peers import is_of_this_machine
from tests.access.guarded import Held, ask, guarded, on
from tests.http.client import Client
from tests.http.scraping import parsed

if TYPE_CHECKING:
    from pathlib import Path

    from durable_streams.measuring import Family
    from tests.http.client import Answer
    from tests.http.conftest import RunningServer

PLACES: Final = ("/metrics", "/v1/stream/__ds/metrics")
FORWARDING: Final = (
    "Forwarded: for=192.0.2.1",
    "Via: 1.1 proxy",
    "X-Forwarded-For: 127.0.0.1",
    "X-Forwarded-Host: localhost",
    "X-Forwarded-Proto: https",
    "x-real-ip: 127.0.0.1",
    "CF-Connecting-IP: 127.0.0.1",
    "True-Client-IP: 127.0.0.1",
)


async def asked(client: Client, path: str, *lines: str, host: str = "localhost") -> Answer:
    said = "".join(f"{line}\r\n" for line in lines)
    client.send(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{said}\r\n".encode())
    return await client.answer()


@pytest.mark.parametrize("path", PLACES)
async def test_somebody_on_this_machine_sees_them(either: RunningServer, path: str) -> None:
    client = await either.connect()
    for host in ("localhost", f"localhost:{either.port}", f"127.0.0.1:{either.port}", "[::1]"):
        answer = await asked(client, path, host=host)
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert answer.headers["cache-control"] == "no-store"
        assert parsed(answer.body.decode())["store_bug"] == 0
    head = await client.request("HEAD", path, headers={"X": "y"})
    assert head.status == 403
    assert (await client.request("OPTIONS", path)).status == 204


@pytest.mark.parametrize("path", PLACES)
async def test_whoever_comes_through_a_proxy_or_from_a_page_does_not(
    either: RunningServer, path: str
) -> None:
    for line in FORWARDING:
        client = await either.connect()
        answer = await asked(client, path, line)
        assert (answer.status, b"durable_streams_" in answer.body) == (403, False), line
        assert b"--metrics-listen" in answer.body
    client = await either.connect()
    assert (await asked(client, path, host="streams.example")).status == 403
    client = await either.connect()
    foreign = await asked(client, path, "Origin: https://evil.example")
    assert foreign.status == 403
    assert "access-control-allow-origin" not in foreign.headers


@pytest.mark.parametrize("path", PLACES)
async def test_metrics_are_only_read(either: RunningServer, path: str) -> None:
    client = await either.connect()
    client.send(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode())
    assert (await client.answer()).status == 405


@pytest.mark.parametrize(
    ("peername", "is_here"),
    [
        (("127.0.0.1", 1), True),
        (("127.9.9.9", 1), True),
        (("::1", 1, 0, 0), True),
        (("::ffff:127.0.0.1", 1, 0, 0), True),
        ("", True),
        (b"\0name", True),
        (("10.0.0.1", 1), False),
        (("::ffff:10.0.0.1", 1, 0, 0), False),
        (("fe80::1%eth0", 1, 0, 2), False),
        (None, False),
    ],
)
def test_this_machine_is_known_by_its_addresses_and_its_sockets(
    peername: object, is_here: bool
) -> None:
    assert is_of_this_machine(peername, {"Host": "localhost"}) is is_here
    assert not is_of_this_machine(peername, {"Host": "localhost", "X-FORWARDED-FOR": "::1"})


HELD: Final = [
    Held("watcher", (on("some", Scope.ADMIN),)),
    Held("reader", (on("", Scope.READ),)),
]


async def test_from_elsewhere_it_takes_the_scope_admin(tmp_path: Path) -> None:
    watcher, reader = HELD
    async with guarded(tmp_path, HELD) as server:
        for held, status in ((watcher, 200), (reader, 403), (None, 401)):
            lines = [] if held is None else [f"Authorization: {held.bearer}"]
            for path in PLACES:
                client = await server.client()
                ask(client, "GET", path, lines)
                assert (await client.answer()).status == status, (held, path)
        client = await server.client()
        server.store.drain()
        ask(client, "GET", "/readyz", [f"Authorization: {watcher.bearer}"])
        assert b"shutting down" in (await client.answer()).body
        for lines in ([], [f"Authorization: {reader.bearer}"], ["Authorization: Bearer unknown"]):
            ask(client, "GET", "/readyz", lines)
            answer = await client.answer()
            assert (answer.status, answer.body) == (503, b"not ready: draining\n")


async def test_however_many_ask_it_is_written_down_once_a_second(server: RunningServer) -> None:
    calls: list[None] = []

    def counted() -> list[Family]:
        calls.append(None)
        return []

    server.handler.metrics.sources.append(counted)
    server.handler.metrics.fresh_s = math.inf  # a second, however slow this machine is
    clients = [await server.connect() for _ in range(20)]
    answers = await asyncio.gather(*[asked(client, "/metrics") for client in clients])
    assert len({answer.body for answer in answers}) == len(calls) == 1
    server.handler.metrics.fresh_s = 0.0
    await asked(clients[0], "/metrics")
    assert len(calls) == 2


async def test_what_goes_wrong_in_writing_them_down_is_tried_again(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def buggy() -> list[Family]:
        raise KeyError("a bug")

    client = await server.connect()
    server.handler.metrics.sources.append(buggy)
    assert (await asked(client, "/metrics")).status == 500
    server.handler.metrics.sources.remove(buggy)
    assert (await asked(client, "/metrics")).status == 200


async def test_in_an_application_they_are_below_the_prefix(tmp_path: Path) -> None:
    app = web.Application()
    durable_streams.mount(app, "/my/streams", data_dir=tmp_path / "data")
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    client = await Client.connect(site.port)
    try:
        headers = {"Content-Type": "text/plain"}
        await client.request("PUT", "/my/streams/a", b"hello", headers)
        await client.request("GET", "/my/streams/a")
        await client.request("GET", "/my/streams/none")
        answer = await asked(client, "/my/streams/__ds/metrics")
        samples = parsed(answer.body.decode())
        assert samples['http_requests_total{method="PUT",status="2xx"}'] == 1
        assert samples['http_requests_total{method="GET",status="2xx"}'] == 1
        assert samples['http_requests_total{method="GET",status="4xx"}'] == 1
        assert samples["http_received_bytes_total"] == len(b"hello")
        assert samples["http_sent_bytes_total"] > len(b"hello")
        assert "http_connections" not in samples  # those are the application's
        assert (await asked(client, "/my/streams/__ds/metrics", FORWARDING[0])).status == 403
        assert (await asked(client, "/metrics")).status == 404
    finally:
        await client.close()
        await runner.cleanup()


async def test_in_an_application_that_says_who_asks_it_takes_the_scope(tmp_path: Path) -> None:
    def authorize(request: web.BaseRequest) -> durable_streams.Principal | None:
        name = request.headers.get("X-User", "")
        scopes = [Scope.ADMIN] if name == "admin" else [Scope.READ]
        grants = (on("", *scopes),)
        return durable_streams.Principal(name, grants) if name else None

    app = web.Application()
    durable_streams.mount(app, "/s", data_dir=tmp_path / "data", authorize=authorize)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    client = await Client.connect(site.port)
    try:
        for lines, status in (
            (["X-User: admin"], 200),
            (["X-User: reader"], 403),
            ([], 401),
        ):
            answer = await asked(client, "/s/__ds/metrics", *lines, host="streams.example")
            assert answer.status == status
    finally:
        await client.close()
        await runner.cleanup()
