"""Streams that expire: then nobody gets them, from no cache.

A ``HEAD`` asks the server whether a stream is there; it is no use that would prolong its life.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from durable_streams.settings import HttpSettings
from tests.caches.conftest import PROGRAMS
from tests.caches.running import running
from tests.caches.streams import create_long, is_hit, read, read_piece
from tests.http.client import Client

if TYPE_CHECKING:
    from pathlib import Path

    from tests.http.conftest import Serve


def expires_in(seconds: float) -> dict[str, str]:
    return {"Stream-Expires-At": (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()}


async def read_until_it_is_gone(origin: Client, reader: Client, path: str) -> list[bool]:
    """Read through the cache for as long as the stream is there; which answers it had."""
    hits = []
    while (await origin.request("HEAD", path)).status == 200:
        hits.append(is_hit(await read(reader, path)))
    return hits


async def test_a_stream_is_gone_from_the_cache_at_the_instant_at_which_it_expires(
    origin: Client, reader: Client, stream: str
) -> None:
    await create_long(origin, stream, expires_in(3.5))

    hits = await read_until_it_is_gone(origin, reader, stream)

    assert (hits[0], hits[1]) == (False, True)
    assert (await read(reader, stream)).status == 404


async def test_a_stream_is_gone_from_the_cache_when_nobody_has_used_it_for_its_ttl(
    origin: Client, reader: Client, another_reader: Client, stream: str
) -> None:
    await create_long(origin, stream, {"Stream-TTL": "4"})
    hits = [is_hit(await read_piece(client, stream)) for client in (reader, another_reader)]

    while (await origin.request("HEAD", stream)).status == 200:
        pass

    assert hits == [False, True]
    assert (await read(reader, stream)).status == 404


@pytest.mark.parametrize("program", PROGRAMS)
async def test_a_stream_is_gone_though_the_cache_may_show_a_piece_while_it_asks_again(
    program: str, serve: Serve, tmp_path: Path, stream: str
) -> None:
    server = await serve(HttpSettings(immutable_max_age_s=1))
    origin = await server.connect()
    with running(program, tmp_path / "cache", server.port) as port:
        reader = await Client.connect(port)
        await create_long(
            origin, stream, expires_in(4.5)
        )  # its time begins when the cache is there
        first = await read_piece(reader, stream)
        hits = await read_until_it_is_gone(origin, reader, stream)
        gone = await read(reader, stream)
        await reader.close()

    assert "max-age=1, stale-while-revalidate=" in first.headers["cache-control"]
    assert hits[0]
    assert gone.status == 404
