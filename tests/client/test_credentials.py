"""What a client shows: tokens, asked for again when they end, signed URLs, headers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

import durable_streams
from durable_streams import Forbidden, ProducerClaim, Retries, Scope, StaleEpoch, Unauthenticated
from durable_streams.access.grants import Kind
from durable_streams.client.address import split_url
from tests.access.guarded import PREFIX, Held, guarded, on

if TYPE_CHECKING:
    from pathlib import Path

    from tests.access.guarded import Guarded

ALL: Final = Held("all", (on("a"),))
READ: Final = Held("read", (on("a", Scope.READ),))
OFTEN: Final = Retries(first_s=0.01, longest_s=0.02, give_up_s=60)


def url(server: Guarded) -> str:
    return f"http://127.0.0.1:{server.port}{PREFIX}"


async def test_a_token_is_shown_and_its_scopes_count(tmp_path: Path) -> None:
    async with guarded(tmp_path, [ALL, READ]) as server:
        async with durable_streams.connect(url(server), token=ALL.text) as streams:
            await streams.create("a/s", content_type="text/plain", data=b"x")
            await streams.append("a/s", b"y", producer=ProducerClaim("p", 5, 0))
            with pytest.raises(StaleEpoch):
                await streams.append("a/s", b"y", producer=ProducerClaim("p", 4, 0))
            with pytest.raises(Forbidden):
                await streams.create("b/s")
        async with durable_streams.connect(url(server), token=READ.text) as streams:
            assert (await streams.read("a/s")).data == b"xy"
            with pytest.raises(Forbidden):
                await streams.append("a/s", b"z", content_type="text/plain")
            with pytest.raises(Unauthenticated):  # a producer, who takes 403 for a stale epoch
                await streams.append("a/s", b"z", producer=ProducerClaim("q", 0, 0))
        async with durable_streams.connect(url(server)) as streams:
            with pytest.raises(Unauthenticated):
                await streams.read("a/s")


async def test_a_token_that_has_ended_is_asked_for_again(tmp_path: Path) -> None:
    async with guarded(tmp_path, [ALL]) as server:
        given = iter(["none-of-its-tokens", ALL.text])
        asked = []

        async def token() -> str:
            await asyncio.sleep(0)
            asked.append(next(given))
            return asked[-1]

        async with durable_streams.connect(url(server), token=token, retries=OFTEN) as streams:
            await streams.create("a/s", content_type="text/plain")
            await streams.append("a/s", b"x")
            async with streams.producer("a/s", "p") as producer:
                await producer.append(b"y")
            tail = streams.tail("a/s")
            assert (await anext(tail)).data == b"xy"
            await tail.aclose()
        assert asked == ["none-of-its-tokens", ALL.text]


async def test_many_that_need_a_token_at_once_wait_for_the_same(tmp_path: Path) -> None:
    async with guarded(tmp_path, [ALL]) as server:
        await server.create("a/s")
        asked = []

        async def token() -> str:
            asked.append(1)
            await asyncio.sleep(0)
            return ALL.text

        async with durable_streams.connect(url(server), token=token) as streams:
            reads = await asyncio.gather(*[streams.read("a/s") for _ in range(20)])
        assert {read.data for read in reads} == {b"data"}
        assert len(asked) == 1


async def test_the_client_that_blocks_asks_for_a_token_likewise(tmp_path: Path) -> None:
    async with guarded(tmp_path, [ALL]) as server:
        await server.create("a/s")
        given = iter(["none-of-its-tokens", ALL.text])

        def read() -> bytes:
            client = durable_streams.connect_sync(url(server), token=lambda: next(given))
            with client as streams:
                streams.append("a/s", b"!", content_type="text/plain")
                return streams.read("a/s").data

        assert await asyncio.to_thread(read) == b"data!"


async def test_a_signed_url_reads_what_it_is_for(tmp_path: Path) -> None:
    async with guarded(tmp_path, [ALL]) as server:
        for path in ("a/s", "a/s/1", "a/t"):
            await server.create(path)
        for kind, path, may, may_not in (
            (Kind.PATH, "a/s", ["a/s"], ["a/t", "a/s/1"]),
            (Kind.PREFIX, "a/s", ["a/s", "a/s/1"], ["a/t"]),
        ):
            signed = f"{url(server)}/{path}?signed={server.sign(ALL, kind, path)}"
            base, named = split_url(signed)
            assert named == path
            async with durable_streams.connect(base) as streams:
                for found in may:
                    assert (await streams.read(found)).data == b"data"
                    tail = streams.tail(found)
                    assert (await anext(tail)).data == b"data"
                    await tail.aclose()
                for refused in may_not:
                    with pytest.raises((Unauthenticated, Forbidden)):
                        await streams.read(refused)


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "ümlaut", "a\0b"])
def test_what_no_header_can_hold_is_refused_without_showing_it(token: str) -> None:
    for connect in (durable_streams.connect, durable_streams.connect_sync):
        with pytest.raises(ValueError, match="a token is") as refused:
            connect("http://localhost/v1/stream", token=token)
        assert not token or token not in str(refused.value)


@pytest.mark.parametrize(
    "bad",
    ["", "localhost:4437", "ftp://x/", "http://", "http://u:p@host/", "http://h/#f", "http://h:x/"],
)
def test_what_is_no_url_of_a_server_is_refused(bad: str) -> None:
    for connect in (durable_streams.connect, durable_streams.connect_sync):
        with pytest.raises(ValueError, match=r"URL|[Pp]ort"):
            connect(bad)


async def test_headers_are_sent_along(url: str) -> None:
    count = iter(range(100))
    headers = {"X-Request-Id": lambda: f"id-{next(count)}"}
    async with durable_streams.connect(url, headers=headers) as streams:
        await streams.create("s")
        await streams.get_metadata("s")
    assert next(count) == 2
