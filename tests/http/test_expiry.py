"""Streams that expire, over HTTP: who holds them, and how long caches may."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest

from durable_streams.settings import HttpSettings, Settings
from tests.http.event_client import CLOSE, TEXT, append, open_events
from tools.inside import now_ms, set_clock

if TYPE_CHECKING:
    from tests.http.client import Client
    from tests.http.conftest import RunningServer, Serve

TTL_S = 4


class Clock:
    """The wall clock of a server, which a test moves on."""

    def __init__(self, server: RunningServer, patch: pytest.MonkeyPatch) -> None:
        self._now_ms = now_ms(server.engine)
        set_clock(server.engine, lambda: self._now_ms, patch.setattr)

    def passes(self, seconds: float) -> None:
        self._now_ms += round(seconds * 1000)


async def create(client: Client, path: str, body: bytes, **headers: str) -> None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = await client.request("PUT", path, body, TEXT | named)
    assert answer.status == 201, answer


@pytest.mark.parametrize("mode", ["sse", "long-poll"])
async def test_a_stream_with_a_live_reader_does_not_expire_and_then_lives_its_ttl(
    either: RunningServer, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    clock = Clock(either, monkeypatch)
    reader, writer = await either.connect(), await either.connect()
    await create(writer, "a", b"", Stream_TTL=str(TTL_S))
    stream = await either.engine._find(("a",))
    if mode == "sse":
        await open_events(reader, "a?offset=now&live=sse")
    else:
        reader.ask("GET", "a?offset=now&live=long-poll")
    while not stream.followers:
        await asyncio.sleep(0)
    clock.passes(10 * TTL_S)
    assert (await writer.request("HEAD", "a")).status == 200
    if mode == "sse":  # it would end a long-poll
        await append(writer, "a", b"still here")
        clock.passes(10 * TTL_S)
    await reader.close()
    while stream.followers:
        await asyncio.sleep(0)
    clock.passes(TTL_S - 1)
    assert (await writer.request("HEAD", "a")).status == 200
    clock.passes(1)
    assert (await writer.request("HEAD", "a")).status == 404


async def test_an_expiry_time_ends_the_event_stream_of_a_reader_that_follows(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(server, monkeypatch)
    reader, writer = await server.connect(), await server.connect()
    await create(writer, "a", b"", Stream_Expires_At="2100-01-01T00:00:00Z")
    await open_events(reader, "a?offset=now&live=sse")
    await reader.events_until(b"upToDate")
    clock.passes(100 * 365 * 86_400)
    assert await reader.chunk() == b""
    assert await reader.ended()


def lifetimes(value: str) -> list[int]:
    return [int(number) for number in re.findall(r"=([0-9]+)", value)]


@pytest.mark.parametrize("live", ["", "&live=long-poll"])
async def test_no_cache_may_keep_a_piece_for_longer_than_its_stream_lives(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, live: str
) -> None:
    server = await serve(engine_settings=Settings(max_read_bytes=4))
    clock = Clock(server, monkeypatch)
    client = await server.connect()
    await create(client, "ttl", b"1234", Stream_TTL="100")
    await create(client, "expiry", b"1234", Stream_Expires_At="2100-01-01T00:00:00Z")
    await create(client, "neither", b"1234")
    for path in ("ttl", "expiry", "neither"):
        await append(client, path, b"5678")
    end_ms = (await server.engine._find(("expiry",))).ends_at_ms(0)
    assert end_ms is not None
    clock.passes((end_ms - now_ms(server.engine)) / 1000 - 60.5)
    await create(client, "ttl", b"1234", Stream_TTL="100")  # the one before has expired
    await append(client, "ttl", b"5678")
    wanted = {"ttl": [60, 38], "expiry": [58, 0], "neither": [60, 300]}
    for path, kept in wanted.items():
        answer = await client.request("GET", f"{path}?offset=-1{live}")
        assert answer.body == b"1234"
        assert lifetimes(answer.headers["cache-control"]) == kept
    clock.passes(59)
    answer = await client.request("GET", f"expiry?offset=-1{live}")
    assert answer.headers["cache-control"] == "no-cache"
    clock.passes(2)
    assert (await client.request("GET", f"expiry?offset=-1{live}")).status == 404


@pytest.mark.parametrize("private", [True, False])
async def test_a_piece_that_is_kept_is_the_same_for_ever(serve: Serve, private: bool) -> None:
    settings = HttpSettings(private_caching=private)
    server = await serve(settings, Settings(max_read_bytes=10, segment_bytes=50))
    client = await server.connect()
    await create(client, "a", b"")
    seen: dict[str, tuple[bytes, str]] = {}
    for number in range(40):
        await append(client, "a", b"%d:xx" % number)
        offset, at_tail = "-1", False
        while not at_tail:
            answer = await client.request("GET", f"a?offset={offset}")
            at_tail = "stream-up-to-date" in answer.headers
            if not at_tail:
                assert answer.headers["cache-control"].split(",")[0] == (
                    "private" if private else "public"
                )
                known = (answer.body, answer.headers["etag"])
                assert seen.setdefault(offset, known) == known
            offset = answer.headers["stream-next-offset"]
    await append(client, "a", b"", CLOSE)
    for offset, (body, etag) in seen.items():
        answer = await client.request("GET", f"a?offset={offset}")
        assert (answer.body, answer.headers["etag"]) == (body, etag)
