"""The ASGI front in real servers, alone and in frameworks."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from tests.asgi.servers import COMMANDS, PREFIXES
from tests.http.client import Client

if TYPE_CHECKING:
    from tests.asgi.conftest import StartAsgi

TEXT = {"Content-Type": "text/plain"}

everywhere = pytest.mark.parametrize(("kind", "app"), list(itertools.product(COMMANDS, PREFIXES)))


@everywhere
async def test_streams_are_written_read_and_followed(
    start_asgi: StartAsgi, kind: str, app: str
) -> None:
    server = start_asgi(kind, app)
    at = f"{server.prefix}/"
    client = await Client.connect(server.port)
    created = await client.request("PUT", f"{at}runs%2F1", b"one", TEXT)
    assert created.status == 201
    assert created.headers["location"] == f"http://example.test{at}runs%2F1"
    assert (await client.request("GET", f"{at}runs/1")).status == 404
    assert (await client.request("POST", f"{at}runs%2F1", b"two", TEXT)).status == 204
    read = await client.request("GET", f"{at}runs%2F1")
    assert (read.status, read.body) == (200, b"onetwo")
    assert (await client.request("OPTIONS", f"{at}a")).status == 204
    assert (await client.request("HEAD", f"{at}runs%2F1")).headers["content-type"] == "text/plain"
    forked = {"Stream-Forked-From": f"{at}runs%2F1"}
    assert (await client.request("PUT", f"{at}f", b"", forked)).status == 201

    follower = await Client.connect(server.port)
    follower.ask("GET", f"{at}f?offset=-1&live=sse")
    assert (await follower.head()).headers["connection"] == "close"
    await follower.events_until(b"onetwo")
    assert (await client.request("POST", f"{at}f", b"three", TEXT)).status == 204
    await follower.events_until(b"three")
    closing = {"Stream-Closed": "true"}
    assert (await client.request("POST", f"{at}f", b"", closing)).status == 204
    await follower.events_until(b"streamClosed")
    assert await follower.chunk() == b""
    assert await follower.ended()
    assert (await client.request("DELETE", f"{at}f")).status == 204
    await client.close()
    await follower.close()
