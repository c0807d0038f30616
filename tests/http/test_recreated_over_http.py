"""A stream where another one was deleted: nobody gets something of both, caches included."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.http.handler import StreamsHandler
from durable_streams.model.offsets import ZERO, Offset
from durable_streams.settings import HttpSettings, Settings
from durable_streams.wire import caching
from tests.http.lanes import TEXT, idle, watch

if TYPE_CHECKING:
    from tests.http.client import Answer, Client
    from tests.http.conftest import RunningServer, Serve

BEGIN: Final = Offset(1, 0).token
OLD: Final = [Offset(0, 3).token, Offset(0, 1).token, Offset(0, 999).token]


@pytest.fixture
async def client(either: RunningServer) -> Client:
    """At ``s`` was a stream of three bytes, and another one is there now."""
    client = await either.connect()
    await idle(client)
    assert (await client.request("PUT", "s", b"old", TEXT)).status == 201
    assert (await client.request("DELETE", "s")).status == 204
    created = await client.request("PUT", "s", b"", TEXT)
    assert (created.status, created.headers["stream-next-offset"]) == (201, BEGIN)
    return client


async def append(client: Client, body: bytes) -> None:
    answer = await client.request("POST", "s", body, TEXT)
    assert answer.status == 204


def says_so(answer: Answer, offset: str) -> bool:
    """Whether it says that an offset is of another stream, and what to do."""
    told = answer.body.decode()
    return (
        answer.status == 410
        and answer.headers["cache-control"] == "no-store"
        and answer.headers["stream-next-offset"] == BEGIN
        and all(text in told for text in (offset, f"use {BEGIN} to begin anew"))
    )


@pytest.mark.parametrize("live", ["", "&live=long-poll", "&live=sse"])
@pytest.mark.parametrize("offset", OLD)
async def test_an_offset_of_the_stream_before_is_gone(
    client: Client, live: str, offset: str
) -> None:
    await append(client, b"new")
    assert says_so(await client.request("GET", f"s?offset={offset}{live}"), offset)


async def test_the_last_event_of_the_stream_before_is_gone(client: Client) -> None:
    last = {"Last-Event-ID": OLD[0]}
    answer = await client.request("GET", "s?offset=-1&live=sse", headers=last)
    assert says_so(answer, OLD[0])


@pytest.mark.parametrize("live", ["", "&live=long-poll"])
@pytest.mark.parametrize("query", ["-1", ZERO.token, BEGIN])
async def test_the_beginning_has_three_names(client: Client, query: str, live: str) -> None:
    await append(client, b"new")
    answer = await client.request("GET", f"s?offset={query}{live}")
    assert (answer.status, answer.body) == (200, b"new")
    assert answer.headers["stream-next-offset"] == Offset(1, 3).token
    assert f":{BEGIN}:" in answer.headers["etag"]


@pytest.mark.parametrize("query", ["-1", ZERO.token, BEGIN])
async def test_events_begin_there_as_well(client: Client, query: str) -> None:
    await append(client, b"new")
    assert (await client.request("POST", "s", headers={"Stream-Closed": "true"})).status == 204
    answer = await client.request("GET", f"s?offset={query}&live=sse")
    assert b"data:new\n" in answer.body
    control = answer.body.partition(b"event: control\ndata:")[2].partition(b"\n")[0]
    assert json.loads(control)["streamNextOffset"] == Offset(1, 3).token


@pytest.mark.parametrize("query", ["-1", ZERO.token, BEGIN, "now"])
async def test_a_long_poll_at_the_beginning_of_an_empty_one_waits(
    either: RunningServer, client: Client, query: str
) -> None:
    seen = watch(either)
    reader = await either.connect()
    await idle(reader)
    reader.ask("GET", f"s?offset={query}&live=long-poll")
    while not either.handler.live.polls:
        await idle(client)
    await append(client, b"new")
    assert (await reader.answer()).body == b"new"
    if either.handler.settings.fast_lane and query in {"-1", BEGIN}:
        assert f"GET s?offset={query}&live=long-poll" not in seen


async def test_heads_and_appends_tell_its_own_offsets(client: Client) -> None:
    head = await client.request("HEAD", "s")
    assert head.headers["stream-next-offset"] == BEGIN
    answer = await client.request("POST", "s", b"new", TEXT)
    assert answer.headers["stream-next-offset"] == Offset(1, 3).token


@pytest.mark.parametrize(("offset", "end"), [("-1", BEGIN), (ZERO.token, BEGIN), (BEGIN, BEGIN)])
async def test_a_fork_begins_at_each_of_the_names(client: Client, offset: str, end: str) -> None:
    await append(client, b"new")
    asked = {"Stream-Forked-From": "/v1/stream/s", "Stream-Fork-Offset": offset}
    answer = await client.request("PUT", "f", b"", asked)
    assert (answer.status, answer.headers["stream-next-offset"]) == (201, end)
    more = asked | {"Stream-Fork-Sub-Offset": "2"}
    assert (await client.request("PUT", "g", b"", more)).status == 201
    assert (await client.request("GET", "g?offset=-1")).body == b"ne"


async def test_a_fork_at_an_offset_of_the_stream_before_is_gone(client: Client) -> None:
    asked = {"Stream-Forked-From": "/v1/stream/s", "Stream-Fork-Offset": OLD[0]}
    assert says_so(await client.request("PUT", "f", b"", asked), OLD[0])


async def test_what_was_answered_before_is_never_the_answer_to_the_same_question(
    serve: Serve,
) -> None:
    """All that a cache may keep of the old stream, and all that the new one answers, by URL."""
    server = await serve(engine_settings=Settings(segment_bytes=100, max_read_bytes=40))
    client = await server.connect()

    async def walk() -> dict[str, Answer]:
        found: dict[str, Answer] = {}
        offset = "-1"
        while True:
            answer = await client.request("GET", f"s?offset={offset}")
            found[offset] = answer
            offset = answer.headers["stream-next-offset"]
            if "stream-up-to-date" in answer.headers:
                return found

    async def make(letter: bytes) -> dict[str, Answer]:
        await client.request("PUT", "s", None, TEXT)
        for _ in range(25):
            await append(client, letter * 10)
        return await walk()

    old = await make(b"o")
    await client.request("DELETE", "s")
    new = await make(b"n")
    assert old.keys() & new.keys() == {"-1"}
    assert "public" in old["-1"].headers["cache-control"]
    for offset in old.keys() - {"-1"}:
        assert (await client.request("GET", f"s?offset={offset}")).status == 410


@pytest.mark.parametrize("max_age_s", [0, 60, 600])
def test_so_long_is_a_piece_kept_and_while_it_is_asked_for_again(max_age_s: int) -> None:
    kept_s = caching.kept_s(max_age_s)
    header = caching.cache_control(sealed=True, from_now=False, max_age_s=max_age_s)
    told = [int(part.partition("=")[2]) for part in header.split(", ") if "=" in part]
    assert kept_s == (sum(told) + caching.LAST_ANSWERS_S if told else 0)


async def test_caches_are_not_promised_more_than_the_streams_remember(serve: Serve) -> None:
    engine_settings = Settings(remember_removed_s=400.0)
    server = await serve(HttpSettings(immutable_max_age_s=40), engine_settings)
    with pytest.raises(ValueError, match=r"Settings\(remember_removed_s=401\)"):
        StreamsHandler(server.engine, HttpSettings(immutable_max_age_s=41))
    StreamsHandler(server.engine, HttpSettings(immutable_max_age_s=0))


def test_the_defaults_go_together() -> None:
    kept_s = caching.kept_s(HttpSettings().immutable_max_age_s)
    assert kept_s == Settings().remember_removed_s
