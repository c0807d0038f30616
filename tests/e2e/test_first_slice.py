"""Create, append, read and follow a stream over HTTP, kill the server, and find it all again."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest

from tools.proofs.clients import sse_events
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from tests.conftest import StartServer
    from tools.server_process import ServerProcess

TEXT: Final = {"Content-Type": "text/plain"}
JSON: Final = {"Content-Type": "application/json"}


@pytest.fixture(params=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest, start_server: StartServer) -> ServerProcess:
    return start_server("--loop", request.param)


class Answer:
    """A whole response."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Client:
    """Requests to one server, answered whole."""

    def __init__(self, server: ServerProcess, session: aiohttp.ClientSession) -> None:
        self._server = server
        self._session = session

    async def __call__(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        url = self._server.url(path)
        async with self._session.request(method, url, data=body, headers=headers) as response:
            return Answer(response.status, response.headers, await response.read())


@asynccontextmanager
async def connected(server: ServerProcess) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(skip_auto_headers=["Content-Type"]) as session:
        yield Client(server, session)


def producer(seq: int, epoch: int = 0) -> dict[str, str]:
    return {"Producer-Id": "p", "Producer-Epoch": str(epoch), "Producer-Seq": str(seq)}


async def test_what_is_appended_is_read_back(server: ServerProcess) -> None:
    async with connected(server) as ask:
        created = await ask("PUT", "chat/room-1", b"one ", TEXT)
        appended = await ask("POST", "chat/room-1", b"two", TEXT)
        read = await ask("GET", "chat/room-1")
        rest = await ask("GET", f"chat/room-1?offset={created.headers['Stream-Next-Offset']}")

    assert (created.status, appended.status, read.status, rest.status) == (201, 204, 200, 200)
    assert created.headers["Location"] == server.url("chat/room-1")
    assert read.body == b"one two"
    assert rest.body == b"two"
    assert read.headers["Stream-Next-Offset"] == appended.headers["Stream-Next-Offset"]
    assert read.headers["Stream-Up-To-Date"] == "true"


async def test_a_waiting_long_poll_gets_the_next_append(server: ServerProcess) -> None:
    async with connected(server) as ask:
        tail = (await ask("PUT", "live", b"", TEXT)).headers["Stream-Next-Offset"]
        async with asyncio.TaskGroup() as group:
            poll = group.create_task(ask("GET", f"live?offset={tail}&live=long-poll"))
            group.create_task(ask("POST", "live", b"news", TEXT))

    assert poll.result().status == 200
    assert poll.result().body == b"news"
    assert "Stream-Cursor" in poll.result().headers


async def test_a_follower_sees_every_append_and_the_close(server: ServerProcess) -> None:
    async with connected(server) as ask, aiohttp.ClientSession() as session:
        await ask("PUT", "log", b'{"n":0}', JSON)
        url = server.url("log?offset=-1&live=sse")
        async with session.get(url) as response:
            events = sse_events(response)
            seen = [await anext(events), await anext(events)]
            await ask("POST", "log", b'[{"n":1},{"n":2}]', JSON)
            seen += [await anext(events), await anext(events)]
            await ask("POST", "log", None, {"Stream-Closed": "true"})
            seen += [event async for event in events]

    assert [name for name, _ in seen] == ["data", "control", "data", "control", "control"]
    assert [json.loads(text) for name, text in seen if name == "data"] == [
        [{"n": 0}],
        [{"n": 1}, {"n": 2}],
    ]
    assert json.loads(seen[-1][1])["streamClosed"] is True


async def test_everything_acknowledged_survives_a_kill(server: ServerProcess) -> None:
    async with connected(server) as ask:
        await ask("PUT", "text", b"one ", TEXT | {"Stream-TTL": "3600"})
        await ask("POST", "text", b"two ", TEXT | {"Stream-Seq": "005"})
        await ask("POST", "text", b"three", TEXT)
        await ask("PUT", "messages", b"[]", JSON)
        await ask("POST", "messages", b'[1.00, {"a": 2}]', JSON | producer(0))
        await ask("POST", "messages", b'"three"', JSON | producer(1))
        await ask("PUT", "done", b"all of it", TEXT | {"Stream-Closed": "true"})
        await ask("PUT", "gone", b"x", TEXT)
        await ask("DELETE", "gone")
        before = [await ask("HEAD", path) for path in ("text", "messages", "done")]
    server.restart()
    async with connected(server) as ask:
        after = [await ask("HEAD", path) for path in ("text", "messages", "done")]
        text = await ask("GET", "text")
        old_seq = await ask("POST", "text", b"x", TEXT | {"Stream-Seq": "005"})
        messages = await ask("GET", "messages")
        done = await ask("POST", "done", b"more", TEXT)
        gone = await ask("GET", "gone")

    for name in ("Content-Type", "Stream-Next-Offset", "Stream-TTL", "Stream-Closed"):
        assert [a.headers.get(name) for a in after] == [b.headers.get(name) for b in before], name
    assert text.body == b"one two three"
    assert old_seq.status == 409
    assert messages.body == b'[1.00,{"a": 2},"three"]'
    assert (done.status, done.headers["Stream-Closed"]) == (409, "true")
    assert gone.status == 404


async def test_a_producer_goes_on_after_a_kill_as_if_nothing_happened(
    server: ServerProcess,
) -> None:
    async with connected(server) as ask:
        await ask("PUT", "orders", b"", TEXT)
        first = await ask("POST", "orders", b"a", TEXT | producer(0))
        await ask("POST", "orders", b"b", TEXT | producer(1))
    server.restart()
    async with connected(server) as ask:
        duplicate = await ask("POST", "orders", b"b", TEXT | producer(1))
        gap = await ask("POST", "orders", b"x", TEXT | producer(3))
        following = await ask("POST", "orders", b"c", TEXT | producer(2))
        new_epoch = await ask("POST", "orders", b"d", TEXT | producer(0, epoch=1))
    server.restart()
    async with connected(server) as ask:
        stale = await ask("POST", "orders", b"x", TEXT | producer(3))
        read = await ask("GET", "orders")

    assert first.status == 200
    assert (duplicate.status, duplicate.headers["Producer-Seq"]) == (204, "1")
    assert (gap.status, gap.headers["Producer-Expected-Seq"]) == (409, "2")
    assert (following.status, new_epoch.status) == (200, 200)
    assert (stale.status, stale.headers["Producer-Epoch"]) == (403, "1")
    assert read.body == b"abcd"


async def test_a_stop_answers_who_waits_and_ends_cleanly(server: ServerProcess) -> None:
    asked = asyncio.Event()
    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(partial(_set, asked))
    async with (
        connected(server) as ask,
        aiohttp.ClientSession() as session,
        aiohttp.ClientSession(trace_configs=[trace]) as poller,
    ):
        tail = (await ask("PUT", "quiet", b"kept", TEXT)).headers["Stream-Next-Offset"]
        async with session.get(server.url("quiet?offset=now&live=sse")) as follower:
            events = sse_events(follower)
            await anext(events)
            poll = asyncio.create_task(
                _status_of(poller, server.url(f"quiet?offset={tail}&live=long-poll"))
            )
            await asked.wait()
            await ask("HEAD", "quiet")
            code = await asyncio.to_thread(server.stop)
            rest = [event async for event in events]
            status = await poll
    server.start()
    async with connected(server) as ask:
        read = await ask("GET", "quiet")

    assert code == 0
    assert rest == []
    assert status in {204, 503}
    assert read.body == b"kept"


async def _set(event: asyncio.Event, *_: object) -> None:
    event.set()


async def _status_of(session: aiohttp.ClientSession, url: str) -> int:
    async with session.get(url) as response:
        return response.status


def test_a_second_server_on_the_same_directory_is_refused_in_one_line(
    server: ServerProcess,
) -> None:
    command = [sys.executable, "-m", "durable_streams", "serve", "--port", "0"]
    command += ["--data-dir", str(server.data_dir)]
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert second.returncode != 0
    assert second.stdout == ""
    assert str(server.data_dir) in second.stderr
    assert len(second.stderr.splitlines()) == 1
