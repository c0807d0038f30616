"""Limits of streams and of their producers, as clients meet them: 429, and when to try again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from durable_streams.settings import HttpSettings, Settings
from tests.http.lanes import TEXT, idle, watch

if TYPE_CHECKING:
    from tests.http.client import Answer, Client
    from tests.http.conftest import RunningServer, Serve

LIMITED = Settings(max_streams=("a=1",), max_producers=1)


@pytest.fixture(params=[True, False], ids=["lane", "aiohttp"])
async def server(serve: Serve, request: pytest.FixtureRequest) -> RunningServer:
    return await serve(HttpSettings(fast_lane=request.param), LIMITED)


@pytest.fixture
async def client(server: RunningServer) -> Client:
    """There is a stream below the prefix, and the connection is the lane's where there is one."""
    client = await server.connect()
    assert (await client.request("PUT", "a/1", b"", TEXT)).status == 201
    await idle(client)
    return client


def by(name: str, seq: int = 0) -> dict[str, str]:
    return {**TEXT, "Producer-Id": name, "Producer-Epoch": "0", "Producer-Seq": str(seq)}


def says(answer: Answer, *texts: str) -> bool:
    """Whether it refuses for a while, in so many words, and may not be kept."""
    told = answer.body.decode()
    return (
        answer.status == 429
        and answer.headers["retry-after"] == "60"
        and answer.headers["cache-control"] == "no-store"
        and all(text in told for text in texts)
    )


async def test_one_stream_too_many_is_answered_429_and_what_is_there_200(
    server: RunningServer, client: Client
) -> None:
    seen = watch(server)
    for path in ("a", "a/2", "a/b/c"):
        answer = await client.request("PUT", path, b"", TEXT)
        assert says(answer, "1 streams at and below 'a'", "delete some")
    fork = {"Stream-Forked-From": "/v1/stream/a/1"}
    assert says(await client.request("PUT", "a/fork", b"", fork), "at and below 'a'")
    assert (await client.request("PUT", "a/1", b"", TEXT)).status == 200
    assert (await client.request("PUT", "b", b"", TEXT)).status == 201
    assert ("PUT a/2?" in seen) is not server.handler.settings.fast_lane
    assert (await client.request("DELETE", "a/1")).status == 204
    assert (await client.request("PUT", "a/2", b"", TEXT)).status == 201


async def test_one_producer_too_many_is_answered_429_and_one_that_is_known_as_ever(
    server: RunningServer, client: Client
) -> None:
    seen = watch(server)
    assert (await client.request("POST", "a/1", b"x", by("p"))).status == 200
    answer = await client.request("POST", "a/1", b"y", by("q"))
    assert says(answer, "1 producers, and may have 1", "keep the id and raise the epoch")
    assert (await client.request("POST", "a/1", b"x", by("p"))).status == 204
    assert (await client.request("POST", "a/1", b"z", by("p", 1))).status == 200
    assert (await client.request("GET", "a/1")).body == b"xz"
    assert ("POST a/1?" in seen) is not server.handler.settings.fast_lane
