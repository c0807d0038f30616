"""``GET __ds/records/<path>``: who asks gets what was appended, page by page, as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import durable_streams
from durable_streams.model.commands import Last, Records, Since
from durable_streams.model.errors import StreamError
from durable_streams.model.offsets import Start
from durable_streams.wire.inspections import parse_inspection
from tests.http.lanes import JSON, TEXT
from tests.http.test_mounting import running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.http.client import Answer, Client
    from tests.http.conftest import RunningServer

PRODUCER = {**TEXT, "Producer-Id": "p", "Producer-Epoch": "2", "Producer-Seq": "0"}


async def page(client: Client, target: str) -> Any:
    answer = await client.request("GET", f"__ds/records/{target}")
    assert answer.status == 200, answer
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    return json.loads(answer.body)


def sizes(found: Any) -> list[int]:
    return [record["size"] for record in found["records"]]


async def test_each_append_is_told_with_its_producer(either: RunningServer) -> None:
    client = await either.connect()
    await either.create("a/b", "text/plain", b"one")
    first = await client.request("POST", "a/b", b"three", PRODUCER)
    last = await client.request("POST", "a/b", b"", {"Stream-Closed": "true"})
    found = await page(client, "a/b")
    one, two, three = found.pop("records")
    assert found == {
        "path": "a/b",
        "next": last.headers["stream-next-offset"],
        "up_to_date": True,
        "closed": True,
    }
    assert one.pop("time").endswith("Z")
    assert one == {
        "start": "0000000000000000_0000000000000000",
        "end": "0000000000000000_0000000000000003",
        "size": 3,
        "producer": None,
        "closed": False,
    }
    assert two["end"] == first.headers["stream-next-offset"]
    assert two["producer"] == {"id": "p", "epoch": 2, "seq": 0}
    assert (three["size"], three["closed"], three["start"]) == (0, True, two["end"])


async def test_pages_lead_from_one_to_the_next(either: RunningServer) -> None:
    client = await either.connect()
    await either.create("j", "application/json", b"[1,22,333]")
    await client.request("POST", "j", b"[4444,55555]", JSON)
    found, target = [], "j?limit=2"
    while True:
        one = await page(client, target)
        found += sizes(one)
        if one["up_to_date"]:
            break
        target = f"j?limit=2&offset={one['next']}"
    assert found == [1, 2, 3, 4, 5]
    assert sizes(await page(client, "j?last=2")) == [4, 5]
    assert sizes(await page(client, "j?last=4&limit=2")) == [2, 3]
    assert sizes(await page(client, "j?since=1970-01-01T00:00:00+02:00&limit=1")) == [1]
    assert sizes(await page(client, "j?since=2970-01-01T00:00:00Z")) == []
    assert sizes(await page(client, "j?offset=now")) == []


async def test_head_has_no_body(either: RunningServer) -> None:
    client = await either.connect()
    await either.create("a", "text/plain", b"one")
    answer = await client.request("HEAD", "__ds/records/a")
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=-1",
        "limit=",
        "limit=1&limit=2",
        "last=0",
        "last=1001",
        "last=x",
        "since=yesterday",
        "since=",
        "since=2026-13-01T00:00:00Z",
        "offset=12",
        "offset=",
        "offset=0000000000000000_0000000000000009&last=3",
        "since=2026-01-01T00:00:00Z&last=3",
    ],
)
async def test_bad_values_are_refused_and_said(query: str, either: RunningServer) -> None:
    client = await either.connect()
    await either.create("a", "text/plain", b"one")
    answer = await client.request("GET", f"__ds/records/a?{query}")
    assert answer.status == 400
    assert any(name in answer.body for name in (b"limit", b"last", b"since", b"offset"))


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=ten", "last=0", "last="])
async def test_a_bad_number_is_told_its_bounds(query: str, either: RunningServer) -> None:
    client = await either.connect()
    name = query.partition("=")[0]
    answer = await client.request("GET", f"__ds/records/a?{query}")
    assert f"{name} must be an integer from 1 to 1000" in answer.body.decode()


async def test_what_is_not_there(either: RunningServer) -> None:
    client = await either.connect()

    async def status(target: str, method: str = "GET") -> int:
        answer: Answer = await client.request(method, target)
        return answer.status

    assert await status("__ds/records/never") == 404
    assert await status("__ds/records/") == 400
    assert await status("__ds/records/a/../b") == 400
    assert await status("__ds/records/__ds") == 400
    assert await status("__ds/records/a", "POST") == 405
    assert await status("__ds/records/a", "DELETE") == 405
    assert await status("__ds/records/a", "OPTIONS") == 204


async def test_offsets_of_a_removed_stream_are_gone(either: RunningServer) -> None:
    client = await either.connect()
    await either.create("a", "text/plain", b"old")
    tail = (await page(client, "a"))["next"]
    await client.request("DELETE", "a")
    await either.create("a", "text/plain", b"new one")
    answer = await client.request("GET", f"__ds/records/a?offset={tail}")
    read = await client.request("GET", f"a?offset={tail}")
    assert (answer.status, answer.body) == (read.status, read.body)
    assert answer.status == 410
    assert sizes(await page(client, "a?offset=-1")) == [7]


async def test_no_other_page_is_told(either: RunningServer) -> None:
    client = await either.connect()
    await either.create("a", "text/plain", b"one")
    answer = await client.request("GET", "__ds/records/a", headers={"Origin": "https://evil.test"})
    assert answer.status == 403
    assert "access-control-allow-origin" not in answer.headers


async def test_it_is_there_in_an_application(data_dir: Path) -> None:
    app = web.Application()
    durable_streams.mount(app, "/streams", data_dir=data_dir)
    async with running(app) as client:
        await client.request("PUT", "/streams/a%2Fb", b"one", TEXT)
        answer = await client.request("GET", "/streams/__ds/records/a%2Fb")
        assert answer.status == 200
        assert json.loads(answer.body)["path"] == "a%2Fb"


@given(query=st.text(st.characters(max_codepoint=300), max_size=60))
def test_any_query_is_read_or_refused(query: str) -> None:
    try:
        command = parse_inspection("GET", "__ds/records/a", query)
    except StreamError:
        return
    assert isinstance(command, Records)


_NAMES = st.sampled_from(["offset", "since", "last", "limit", "li%6Dit", "signed", "x"])
_VALUES = st.one_of(
    st.integers().map(str),
    st.datetimes().map(lambda at: f"{at.isoformat()}Z"),
    st.sampled_from(["-1", "now", "0000000000000000_0000000000000001", "", "1e3", "%31", "+1"]),
)


@given(st.lists(st.tuples(_NAMES, _VALUES), max_size=3))
def test_what_is_read_is_within_its_bounds(pairs: list[tuple[str, str]]) -> None:
    query = "&".join([f"{name}={value}" for name, value in pairs])
    try:
        command = parse_inspection("GET", "__ds/records/a", query)
    except StreamError:
        return
    assert isinstance(command, Records)
    assert 1 <= command.limit <= 1000
    match command.place:
        case Last(count):
            assert 1 <= count <= 1000
        case Since(time_ms):
            assert isinstance(time_ms, int)
        case Start():
            pass
        case segment, position:
            assert (segment, position) == (0, 1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(raw_path=st.text(st.characters(max_codepoint=300), max_size=40))
def test_any_path_is_read_or_refused(raw_path: str) -> None:
    try:
        command = parse_inspection("GET", f"__ds/records/{raw_path}", "")
    except StreamError:
        return
    assert isinstance(command, Records)
    assert command.path[0] != "__ds"
