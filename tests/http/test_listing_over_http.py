"""``GET __ds/streams``: page by page, in order, as JSON; bad values are refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from aiohttp import web

import durable_streams
from durable_streams.access.grants import Grant
from durable_streams.access.principals import Principal
from tests.http.test_mounting import running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.http.client import Client
    from tests.http.conftest import RunningServer


async def page(client: Client, **query: str | int) -> Any:
    answer = await client.request("GET", f"__ds/streams?{urlencode(query)}")
    assert answer.status == 200, answer
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in answer.headers
    return json.loads(answer.body)


async def listed(client: Client, **query: str | int) -> list[str]:
    """The paths of all pages."""
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        some = await page(client, after=after, **query)
        found += [row["path"] for row in some["streams"]]
        after = some["next"]
    return found


async def test_a_row_says_what_is_known_of_a_stream(either: RunningServer) -> None:
    client = await either.connect()
    await either.create("a/b", "text/plain", b"one")
    (row,) = (await page(client))["streams"]
    for name in ("created", "last_write"):
        assert row.pop(name).startswith("20")
    assert row == {
        "path": "a/b",
        "content_type": "text/plain",
        "tail": "0000000000000000_0000000000000003",
        "size_bytes": 3,
        "closed": False,
        "ttl_s": None,
        "expires_at": None,
        "ends_at": None,
        "fork": None,
    }
    fork = {"Stream-Forked-From": "/v1/stream/a/b", "Stream-TTL": "60", "Stream-Closed": "true"}
    assert (await client.request("PUT", "c", b"", fork)).status == 201
    row = (await page(client, prefix="c"))["streams"][0]
    assert row["fork"] == {"source": "a/b", "offset": "0000000000000000_0000000000000003"}
    assert (row["ttl_s"], row["closed"], row["ends_at"][-1]) == (60, True, "Z")


async def test_paths_are_text_and_pages_follow_each_other(either: RunningServer) -> None:
    client = await either.connect()
    for raw in ("b", "a%2Fb", "a/b", "a/b/c", "%C3%A9", "a%20b", "a-b", "a%252Fb"):
        assert (await client.request("PUT", raw)).status == 201
    expected = ["a/b", "a/b/c", "a b", "a%252Fb", "a-b", "a%2Fb", "b", "é"]
    for limit in (1, 2, 3, 100):
        assert await listed(client, limit=limit) == expected
    assert await listed(client, prefix="a") == ["a/b", "a/b/c"]
    assert await listed(client, prefix="a%2Fb") == ["a%2Fb"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        *[
            (f"limit={text}", "limit must be an integer from 1 to 1000")
            for text in ("0", "1001", "", "ten", "-1", "01", "9007199254740993")
        ],
        ("limit=1&limit=2", "more than once"),
        ("prefix=a/", "leave out the slash"),
        ("prefix=/a", "prefix: "),
        ("prefix=__ds", "prefix: "),
        ("prefix=%FF", "prefix is not UTF-8"),
        ("after=a/../b", "after: "),
        ("after=//nobody-gave-this", "begin without one"),
    ],
)
async def test_values_that_cannot_be_are_refused(
    either: RunningServer, query: str, said: str
) -> None:
    client = await either.connect()
    answer = await client.request("GET", f"__ds/streams?{query}")
    assert answer.status == 400
    assert said in answer.body.decode()


async def test_only_reading_is_taken_and_below_it_is_nothing(either: RunningServer) -> None:
    client = await either.connect()
    for method in ("POST", "PUT", "DELETE"):
        assert (await client.request(method, "__ds/streams")).status == 405
    head = await client.request("HEAD", "__ds/streams")
    assert (head.status, head.body) == (200, b"")


async def test_a_page_of_another_origin_is_told_nothing(server: RunningServer) -> None:
    client = await server.connect()
    answer = await client.request("GET", "__ds/streams", b"", {"Origin": "https://evil.test"})
    assert answer.status == 403
    assert "access-control-allow-origin" not in answer.headers


def someone(_: web.BaseRequest) -> Principal:
    return Principal("app:someone", (Grant.on_prefix("a", ["list"]),))


async def test_an_application_tells_those_whom_it_knows(data_dir: Path) -> None:
    app = web.Application()
    mounted = durable_streams.mount(app, "/v1/stream", data_dir=data_dir, authorize=someone)
    async with running(app) as client:
        streams = durable_streams.Streams(mounted.store)
        for path in ("a", "a/b", "b"):
            await streams.create(path)
        answer = await client.request("GET", "/v1/stream/__ds/streams")
        assert [row["path"] for row in json.loads(answer.body)["streams"]] == ["a", "a/b"]


async def test_an_application_that_knows_nobody_tells_nobody(data_dir: Path) -> None:
    app = web.Application()
    durable_streams.mount(app, "/v1/stream", data_dir=data_dir)
    async with running(app) as client:
        assert (await client.request("GET", "/v1/stream/__ds/streams")).status == 400
