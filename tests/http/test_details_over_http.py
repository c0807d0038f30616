"""``GET __ds/streams/<path>``: who may list and read a stream is told how it is kept and used."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

import durable_streams
from durable_streams.access.grants import Scope
from durable_streams.access.principals import Principal
from durable_streams.library import Streams
from durable_streams.model.commands import Details
from durable_streams.model.errors import StreamError
from durable_streams.wire.inspections import parse_inspection
from tests.access.guarded import PREFIX, Held, ask, guarded, on
from tests.driving import directory
from tests.http.lanes import TEXT
from tests.http.test_mounting import running
from tools.inside import in_files, unload

if TYPE_CHECKING:
    from pathlib import Path

    from tests.http.client import Client
    from tests.http.conftest import RunningServer

PRODUCER = {**TEXT, "Producer-Id": "p", "Producer-Epoch": "2", "Producer-Seq": "0"}


async def details(client: Client, path: str = "a") -> Any:
    answer = await client.request("GET", f"__ds/streams/{path}")
    assert answer.status == 200, answer
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    return json.loads(answer.body)


async def test_all_is_told_of_one_stream(either: RunningServer) -> None:
    client = await either.connect()
    await client.request("PUT", "a", b"one", {**TEXT, "Stream-TTL": "60"})
    await client.request("POST", "a", b"two", PRODUCER)
    await client.request("PUT", "f", b"", {"Stream-Forked-From": "/v1/stream/a"})
    found = await details(client)
    listed = json.loads((await client.request("GET", "__ds/streams?limit=1")).body)
    assert {name: found[name] for name in listed["streams"][0]} == listed["streams"][0]
    assert found["size_bytes"] == 6
    assert found["begin"] == "0000000000000000_0000000000000000"
    assert 0 < found["left_s"] <= 60
    assert found["segments"] == {"first": 0, "count": 1, "last_sizes": [6]}
    (producer,) = found["producers"]["last"]
    assert producer.pop("last_seen").endswith("Z")
    assert producer == {"id": "p", "epoch": 2, "seq": 0}
    assert found["producers"]["count"] == 1
    assert found["forks"] == {"paths": ["f"], "more": False}
    assert found["readers"] == {"following": 0, "long_polls": 0, "event_streams": 0}


async def test_live_readers_are_counted(either: RunningServer) -> None:
    client = await either.connect()
    await either.create("a", "text/plain", b"one")
    poll, events = await either.connect(), await either.connect()
    poll.ask("GET", "a?offset=now&live=long-poll")
    events.ask("GET", "a?offset=now&live=sse")
    wanted = {"following": 2, "long_polls": 1, "event_streams": 1}
    while (await details(client))["readers"] != wanted:
        await asyncio.sleep(0)
    await poll.close()
    await events.close()
    while any((await details(client))["readers"].values()):
        await asyncio.sleep(0)


async def test_of_a_damaged_stream_the_reason_is_told(either: RunningServer) -> None:
    client = await either.connect()
    await either.create("a", "text/plain", b"one")
    await in_files(either.engine, "a")
    await unload(either.engine, "a")
    (directory(either.engine.root, "a") / "meta.json").write_bytes(b"{}")
    found = await details(client)
    assert found.keys() == {"path", "error"}
    assert found["path"] == "a"
    assert "damaged" in found["error"]
    assert str(either.engine.root) not in found["error"]
    refused = await client.request("GET", "a")
    assert refused.status == 500
    assert str(either.engine.root) not in refused.body.decode()


async def test_who_has_ended_their_side_is_answered(either: RunningServer) -> None:
    await either.create("a", "text/plain", b"one")
    for what in ("records", "streams"):
        client = await either.connect()
        client.ask("GET", f"__ds/{what}/a")
        client.writer.write_eof()
        answer = await client.answer()
        assert (answer.status, json.loads(answer.body)["path"]) == (200, "a")


async def test_what_is_not_there(either: RunningServer) -> None:
    client = await either.connect()
    for method, path, status in (
        ("GET", "never", 404),
        ("HEAD", "never", 404),
        ("GET", "", 400),
        ("GET", "a//b", 400),
        ("GET", "__ds", 400),
        ("POST", "a", 405),
        ("DELETE", "a", 405),
        ("OPTIONS", "a", 204),
    ):
        answer = await client.request(method, f"__ds/streams/{path}")
        assert answer.status == status, (method, path)


async def test_it_is_there_in_an_application(data_dir: Path) -> None:
    app = web.Application()
    everything = Principal("somebody", (on("", *Scope),))
    durable_streams.mount(app, "/streams", data_dir=data_dir, authorize=lambda _: everything)
    async with running(app) as client:
        await client.request("PUT", "/streams/a%2Fb", b"one", TEXT)
        answer = await client.request("GET", "/streams/__ds/streams/a%2Fb")
        assert answer.status == 200
        assert json.loads(answer.body)["path"] == "a%2Fb"


async def test_an_application_that_knows_nobody_tells_records_only(data_dir: Path) -> None:
    app = web.Application()
    durable_streams.mount(app, "/streams", data_dir=data_dir)
    async with running(app) as client:
        await client.request("PUT", "/streams/a", b"one", TEXT)
        assert (await client.request("GET", "/streams/__ds/streams/a")).status == 400
        assert (await client.request("GET", "/streams/__ds/records/a")).status == 200


async def test_a_source_is_told_to_who_may_list_it(tmp_path: Path) -> None:
    some = Held("some", (on("open", Scope.LIST, Scope.READ),))
    every = Held("every", (on("", Scope.LIST, Scope.READ),))
    async with guarded(tmp_path, [some, every], "lane") as server:
        await server.create("secret/a")
        await Streams(server.store).fork("open/f", "secret/a")
        for who, source in ((some, None), (every, "secret/a")):
            for what in ("streams?prefix=open", "streams/open/f"):
                client = await server.client()
                ask(client, "GET", f"{PREFIX}/__ds/{what}", [f"Authorization: {who.bearer}"])
                told = json.loads((await client.answer("GET")).body)
                fork = (told["streams"][0] if "streams" in told else told)["fork"]
                assert fork["source"] == source
                assert fork["offset"]


async def test_forks_are_told_to_who_may_list_them(tmp_path: Path) -> None:
    some = Held("some", (on("room", Scope.LIST, Scope.READ), on("open", Scope.LIST)))
    every = Held("every", (on("", Scope.LIST, Scope.READ),))
    async with guarded(tmp_path, [some, every], "lane") as server:
        await server.create("room/a")
        for place in ("open/f", "secret/f"):
            await Streams(server.store).fork(place, "room/a")
        for who, forks in ((some, ["open/f"]), (every, ["open/f", "secret/f"])):
            client = await server.client()
            ask(client, "GET", f"{PREFIX}/__ds/streams/room/a", [f"Authorization: {who.bearer}"])
            answer = await client.answer("GET")
            assert json.loads(answer.body)["forks"]["paths"] == forks


@given(raw_path=st.text(st.characters(max_codepoint=300), max_size=40), query=st.text(max_size=9))
def test_any_path_is_read_or_refused(raw_path: str, query: str) -> None:
    try:
        command = parse_inspection("GET", f"__ds/streams/{raw_path}", query)
    except StreamError:
        return
    assert isinstance(command, Details)
    assert command.path[0] != "__ds"
