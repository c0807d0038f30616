"""The access log: a line for each exchange, the same whichever way it was answered."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from durable_streams.http.logs import CLIENT_LEFT
from durable_streams.settings import HttpSettings
from tests.http.lanes import TEXT, applied, idle, watch

if TYPE_CHECKING:
    import pytest

    from tests.http.conftest import RunningServer, Serve

LOG: Final = "durable_streams.access"
REQUESTS: Final[list[tuple[str, str, bytes | None, dict[str, str]]]] = [
    ("PUT", "b%20c", b"first", TEXT),
    ("POST", "b%20c", b"more", TEXT | {"Authorization": "Bearer secret"}),
    ("GET", "b%20c?offset=-1", None, {}),
    ("GET", "b%20c?offset=-1", None, {"If-None-Match": "*"}),
    ("GET", "b%20c?offset=-1&live=long-poll", None, {}),
    ("GET", "b%20c?offset=now&live=long-poll", None, {}),
    ("POST", "b%20c", b"more", {"Content-Type": "image/png"}),
    ("POST", "none", b"x", TEXT),
    ("GET", "none", None, {}),
    ("GET", "large", None, {}),
    ("HEAD", "b%20c", None, {}),
    ("DELETE", "b%20c", None, {}),
]


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if record.name == LOG]


async def logged(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> list[tuple[object, ...]]:
    """What a server logs of the requests."""
    await server.create("large", "text/plain", b"x" * 300_000)
    await applied(server, "large")
    client = await server.connect()
    await idle(client)
    while len(lines(caplog)) < 2:  # of what came before
        await asyncio.sleep(0)
    caplog.clear()
    for method, target, body, headers in REQUESTS:
        await client.request(method, target, body, headers)
    client.send(b"\r\nGET /v1/stream/large?offset=now HTTP/1.1\r\nHost: a\r\n\r\n")
    await client.answer()
    while len(lines(caplog)) < len(REQUESTS) + 1:  # it may be written after the answer
        await asyncio.sleep(0)
    assert all(type(line["duration_s"]) is float for line in lines(caplog))
    names = ("peer", "method", "path", "status", "size_bytes", "levelname", "message")
    return [tuple(line[name] for name in names) for line in lines(caplog)]


async def test_both_ways_log_the_same(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", LOG)
    both = []
    for fast_lane in (True, False):
        caplog.clear()
        settings = HttpSettings(access_log=True, fast_lane=fast_lane, long_poll_timeout_s=0.05)
        both.append(await logged(await serve(settings), caplog))
    assert both[0] == both[1]
    assert both[0][1] == ("127.0.0.1", "POST", "/v1/stream/b%20c", 204, 0, "INFO", "request")
    assert both[0][2][3:5] == (200, len(b"firstmore"))


async def test_the_access_log_leaves_the_fast_lane_open(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", LOG)
    server = await serve(HttpSettings(access_log=True))
    await server.create("a", "text/plain")
    client = await server.connect()
    await idle(client)
    seen = watch(server)
    before = len(lines(caplog))
    assert (await client.request("POST", "a", b"x", TEXT)).status == 204
    assert (await client.request("GET", "a")).body == b"x"
    assert seen == []
    assert [line["method"] for line in lines(caplog)[before:]] == ["POST", "GET"]


async def test_a_request_that_goes_on_to_aiohttp_is_logged_once(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", LOG)
    server = await serve(HttpSettings(access_log=True))
    await server.create("large", "text/plain", b"x" * 300_000)
    await applied(server, "large")
    client = await server.connect()
    await idle(client)
    before = len(lines(caplog))
    for target in ("large?offset=-1&live=long-poll", "large"):
        assert len((await client.request("GET", target)).body) == 300_000
        await idle(client)
    methods = [line["method"] for line in lines(caplog)[before:]]
    assert methods == ["GET", "OPTIONS"] * 2


async def test_a_client_that_left_before_its_answer_is_logged_so_by_both_ways(
    serve: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: object) -> None:
        raise ConnectionResetError

    caplog.set_level("INFO", LOG)
    for fast_lane in (True, False):
        server = await serve(HttpSettings(access_log=True, fast_lane=fast_lane))
        await server.create("a", "text/plain", b"x")
        client = await server.connect()
        await idle(client)
        monkeypatch.setattr(server.handler.live, "wait_for_data", gone)
        caplog.clear()
        target = f"/v1/stream/a?offset={0:016d}_{1:016d}&live=long-poll"
        client.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        while not lines(caplog):
            await asyncio.sleep(0)
        (line,) = lines(caplog)
        assert (line["path"], line["status"], line["size_bytes"]) == (target, CLIENT_LEFT, 0)
