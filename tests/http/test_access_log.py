"""The access log: a line for each exchange, the same whichever way it was answered."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, Final

import pytest

from durable_streams.http.access_log import CLIENT_LEFT, AccessLog, Exchanged
from durable_streams.http.logs import JsonFormatter, TextFormatter
from durable_streams.http.peers import Peers
from durable_streams.settings import HttpSettings
from tests.access.guarded import PREFIX, Held, ask, guarded, on
from tests.http.lanes import TEXT, applied, idle, watch

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.http.client import Client
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
    names = (
        "client",
        "method",
        "path",
        "status",
        "kind",
        "received_bytes",
        "sent_bytes",
        "principal",
        "levelname",
        "message",
    )
    return [(*(line.get(name) for name in names), line.get("error")) for line in lines(caplog)]


async def test_both_ways_log_the_same(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", LOG)
    both = []
    for fast_lane in (True, False):
        caplog.clear()
        settings = HttpSettings(access_log=True, fast_lane=fast_lane, long_poll_timeout_s=0.05)
        both.append(await logged(await serve(settings), caplog))
    assert both[0] == both[1]
    assert both[0][1][:8] == (
        "127.0.0.1",
        "POST",
        "/v1/stream/b%20c",
        204,
        "append",
        4,
        0,
        "anybody",
    )
    assert both[0][2][3:7] == (200, "read", 0, len(b"firstmore"))


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
        assert (line["path"], line["status"], line["sent_bytes"]) == (target, CLIENT_LEFT, 0)


WAYS: Final = ("lane", "aiohttp", "mount")
WHO: Final = Held("who", (on("room"),))
MAY: Final = f"Authorization: {WHO.bearer}"
TYPE: Final = "Content-Type: text/plain"
TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
NAMES: Final = (
    "client",
    "method",
    "path",
    "status",
    "kind",
    "received_bytes",
    "sent_bytes",
    "request_id",
    "principal",
    "producer",
    "error",
)
CLAIM: Final = ("Producer-Id: a b", "Producer-Epoch: 0", "Producer-Seq: 0")
SAID: Final[list[tuple[str, str, tuple[str, ...], bytes | None]]] = [
    ("PUT", "room/a", (MAY, TYPE, "X-Request-Id: one"), b"12345"),
    ("POST", "room/a", (MAY, TYPE, *CLAIM, "X-Forwarded-For: 192.0.2.1, 10.0.0.1"), b"67"),
    ("POST", "room/a", (MAY, TYPE, *CLAIM, "X-Request-Id: two"), b"67"),
    ("GET", "room/a?offset=-1&token=x", (MAY, f"traceparent: 00-{TRACE}-{'1' * 16}-01"), None),
    ("GET", "room/a", (MAY, "Forwarded: for=192.0.2.7;proto=https"), None),
    ("GET", "room/a?offset=now&live=long-poll", (MAY, "X-Request-Id: bad one"), None),
    ("GET", "room/a?offset=-1&live=long-poll", (MAY,), None),
    ("GET", "room/a", ("X-Request-Id: three",), None),
    ("GET", "room/a", ("Authorization: Bearer unknown",), None),
    ("GET", "elsewhere", (MAY,), None),
    ("GET", "room/none", (MAY,), None),
    ("GET", "room/a?offset=bad", (MAY,), None),
    ("POST", "room/a", (MAY, "Content-Type: image/png"), b"678"),
    ("HEAD", "room/a", (MAY,), None),
    ("DELETE", "room/a", (MAY, "X-Request-Id: four"), None),
    ("OPTIONS", "room/a", (), None),
    ("PATCH", "room/a", (MAY,), None),
]


def fields(line: dict[str, Any]) -> dict[str, Any]:
    """What a line says, but for the time; an id that was made stands for all of them."""
    told: dict[str, Any] = {name: line[name] for name in NAMES if name in line}
    if re.fullmatch("[0-9a-f]{16}", told["request_id"]):
        told["request_id"] = "made"
    if told["status"] == 401:  # an application has a text of its own
        del told["sent_bytes"]
    return told


async def next_line(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    """The line that comes next, and none but it."""
    while not lines(caplog):
        await asyncio.sleep(0)
    (line,) = lines(caplog)
    caplog.clear()
    return line


async def told_of(
    way: str, directory: Path, caplog: pytest.LogCaptureFixture
) -> tuple[list[dict[str, Any]], list[str | None]]:
    """What is told of all that is said, and what the answers say of its name."""
    directory.mkdir()
    networks = ("10.0.0.0/8",)
    settings = HttpSettings(
        fast_lane=way == "lane", access_log=True, long_poll_timeout_s=0.05, trusted_proxy=networks
    )
    told: list[dict[str, Any]] = []
    answered: list[str | None] = []
    async with guarded(directory, [WHO], way, settings=settings) as server:
        client = await server.client()
        for method, path, said, body in SAID:
            ask(client, method, f"{PREFIX}/{path}", said, body)
            answered.append((await client.answer(method)).headers.get("x-request-id"))
            told.append(fields(await next_line(caplog)))
        assert server.through_aiohttp < len(SAID) or way != "lane"
    return told, answered


async def test_all_ways_tell_the_same_of_who_asked_what(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", LOG)
    told = {way: await told_of(way, tmp_path / way, caplog) for way in WAYS}
    assert told["lane"][0] == told["aiohttp"][0] == told["mount"][0]
    for _, answered in told.values():
        assert answered[:5] == ["one", None, "two", TRACE, None]
        assert re.fullmatch("[0-9a-f]{16}", answered[5] or "")
        assert answered[6:8] == [None, "three"]
    (created, first, again, read, forwarded, polled, *_), _ = told["lane"]
    assert created == {
        "client": "127.0.0.1",
        "method": "PUT",
        "path": "/v1/stream/room/a",
        "status": 201,
        "kind": "create",
        "received_bytes": 5,
        "sent_bytes": 0,
        "request_id": "one",
        "principal": "token:who",
    }
    assert (first["client"], first["producer"], first["status"]) == ("192.0.2.1", "a b", 200)
    assert (again["producer"], again["status"], again["request_id"]) == ("a b", 204, "two")
    assert (read["path"], read["sent_bytes"]) == ("/v1/stream/room/a?offset=-1&[hidden]", 7)
    assert (forwarded["client"], forwarded["kind"]) == ("192.0.2.7", "read")
    assert (polled["kind"], polled["status"], polled["request_id"]) == ("long-poll", 204, "made")
    refused = [(line["status"], line.get("error"), "principal" in line) for line in told["lane"][0]]
    assert refused[7:10] == [
        (401, "Unauthenticated", False),
        (401, "Unauthenticated", False),
        (403, "Forbidden", True),
    ]


async def ends_by_leaving(client: Client, caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    await client.close()
    return await next_line(caplog)


@pytest.mark.parametrize("way", WAYS)
async def test_readers_that_leave_have_a_line_with_what_they_were_sent(
    way: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", LOG)
    settings = HttpSettings(fast_lane=way == "lane", access_log=True)
    async with guarded(tmp_path, [WHO], way, settings=settings) as server:
        await server.create("room/a", b"first")
        client = await server.client()
        ask(client, "GET", f"{PREFIX}/room/a?offset=-1&live=sse", (MAY, "X-Request-Id: seen"))
        assert (await client.head()).headers["x-request-id"] == "seen"
        first = await client.chunk()
        writer = await server.client()
        ask(writer, "POST", f"{PREFIX}/room/a", (MAY, TYPE), b"second")
        await writer.answer()
        assert (await next_line(caplog))["kind"] == "append"
        second = await client.chunk()
        assert (b"first" in first, b"second" in second) == (True, True)
        sent_bytes = sum(
            len(f"{len(chunk):x}\r\n{chunk}\r\n") for chunk in map(bytes.decode, (first, second))
        )
        line = await ends_by_leaving(client, caplog)
        assert (line["kind"], line["status"], line["request_id"]) == ("sse", 200, "seen")
        assert line["sent_bytes"] == sent_bytes
        assert line["principal"] == "token:who"

        client = await server.client()
        ask(client, "GET", f"{PREFIX}/room/a?offset=now&live=long-poll", (MAY,))
        assert server.handler is not None
        while not server.handler.live.polls:
            await asyncio.sleep(0)
        line = await ends_by_leaving(client, caplog)
        assert (line["kind"], line["status"]) == ("long-poll", CLIENT_LEFT)
        assert (line["sent_bytes"], line["principal"]) == (0, "token:who")


@pytest.mark.parametrize("way", WAYS)
async def test_nothing_that_a_client_sends_can_begin_a_line_or_a_field(
    way: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", LOG)
    settings = HttpSettings(fast_lane=way == "lane", access_log=True)
    hostile: list[tuple[str, tuple[str, ...]]] = [
        ("room/a%0a%0d%1b%5b2J", (MAY,)),
        ("room/a?offset=\x85\xa0status=200", (MAY,)),
        ("room/a", (MAY, "X-Request-Id: a status=200")),
        ("room/a", (MAY, "X-Request-Id: a\x85status=200")),
        ("room/a", (MAY, "X-Forwarded-For: 192.0.2.1 status=200")),
        ("room/a", (MAY, "X-Forwarded-For: 192.0.2.1\u2028")),
        ("room/a", (MAY, 'Forwarded: for="192.0.2.1 status=200"')),
        ("room/a", ("Authorization: Bearer a status=200",)),
    ]
    if way == "mount":
        del hostile[1]  # which aiohttp refuses by itself
    async with guarded(tmp_path, [WHO], way, settings=settings) as server:
        for path, said in hostile:
            client = await server.client()
            ask(client, "GET", f"{PREFIX}/{path}", said)
            await client.answer()
            while not lines(caplog):
                await asyncio.sleep(0)
            for record in caplog.records:
                text = TextFormatter().format(record)
                assert text.isprintable(), text
                assert " status=200" not in re.sub("'[^']*'", "", text)
                assert JsonFormatter().format(record).isascii()
            caplog.clear()


def exchanged(status: int) -> Exchanged:
    asked = Exchanged("GET", "/v1/stream/a", ("192.0.2.1", 1), "", "", 0.0)
    asked.over(status, 0, 1.0)
    return asked


def statuses(log: AccessLog, caplog: pytest.LogCaptureFixture, told: Iterable[int]) -> list[int]:
    caplog.set_level("INFO", LOG)
    caplog.clear()
    for status in told:
        log(exchanged(status))
    return [line["status"] for line in lines(caplog)]


def test_of_the_exchanges_a_share_is_told_and_what_went_wrong_always(
    caplog: pytest.LogCaptureFixture,
) -> None:
    chances = iter([0.0, 0.099, 0.1, 0.5, 0.999])
    log = AccessLog(Peers(), 0.1, lambda: next(chances))
    told = [200, 201, 204, 500, 404, 401, 403, 429, 503, 499]
    assert statuses(log, caplog, told) == [200, 201, 500, 401, 403, 429, 503]
    assert next(chances, None) is None


@pytest.mark.parametrize(("share", "told"), [(1.0, [200, 403]), (0.0, [403])])
def test_all_of_them_or_none(
    share: float, told: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    log = AccessLog(Peers(), share, lambda: 0.0 if share else 0.999)
    assert statuses(log, caplog, [200, 403]) == told
