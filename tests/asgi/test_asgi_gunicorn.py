"""The ASGI front under gunicorn, which replaces workers, before their end or after it."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pytest

from tests.asgi.servers import PATIENCE_S, UNDER_GUNICORN
from tests.http.client import Client

if TYPE_CHECKING:
    from tests.asgi.conftest import StartAsgi
    from tests.asgi.servers import AsgiServer

TEXT: Final = {"Content-Type": "text/plain"}
PATH: Final = "/v1/stream/a"
ENOUGH: Final = 20

under_gunicorn = pytest.mark.parametrize("kind", UNDER_GUNICORN)


async def asked(server: AsgiServer, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    """The answer of whichever worker accepts a new connection."""
    client = await Client.connect(server.port)
    try:
        answer = await client.request(method, path, body, TEXT)
    finally:
        await client.close()
    return answer.status, answer.body


async def asked_of_any(server: AsgiServer, path: str) -> bytes:
    """The same of one that answers: who ends closes what it has accepted but not read."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                return (await asked(server, "GET", path))[1]


async def following(server: AsgiServer) -> Client:
    follower = await Client.connect(server.port)
    follower.ask("GET", f"{PATH}?offset=-1&live=sse")
    await follower.head()
    await follower.events_until(b"upToDate")
    return follower


async def until_another_answers(server: AsgiServer, than: bytes) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await asked_of_any(server, "/pid") == than:
            pass


@under_gunicorn
async def test_a_worker_that_comes_with_a_reload_waits_until_the_last_one_has_ended(
    start_asgi: StartAsgi, kind: str
) -> None:
    """Also where the last one waits for connections on which nobody asks anything."""
    server = start_asgi(kind, "fastapi", "--graceful-timeout", "5", STREAMS_LOCK_WAIT_S="25")
    idle = await Client.connect(server.port)
    assert (await asked(server, "PUT", PATH, b"one"))[0] == 201
    _, first = await asked(server, "GET", "/pid")
    follower = await following(server)
    server.process.send_signal(signal.SIGHUP)
    assert await follower.chunk() == b""  # it is ended, and not cut off
    await until_another_answers(server, first)
    assert (await asked(server, "POST", PATH, b"two"))[0] == 204
    assert await asked(server, "GET", PATH) == (200, b"onetwo")
    await follower.close()
    await idle.close()


@under_gunicorn
async def test_a_worker_that_has_served_enough_ends_when_its_readers_do(
    start_asgi: StartAsgi, kind: str
) -> None:
    """Nobody tells the streams: there is no signal, so a reader stays for its time."""
    server = start_asgi(kind, "fastapi", "--max-requests", str(ENOUGH), STREAMS_SSE_S="3")
    assert (await asked(server, "PUT", PATH, b"one"))[0] == 201
    _, first = await asked(server, "GET", "/pid")
    follower = await following(server)
    for _ in range(ENOUGH):
        await asked_of_any(server, PATH)
    assert await follower.chunk() == b""
    await until_another_answers(server, first)
    assert await asked(server, "GET", PATH) == (200, b"one")
    await follower.close()
