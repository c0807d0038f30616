"""The ASGI front in real servers, alone and in frameworks."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.settings import MIB
from tests.asgi.servers import COMMANDS, PATIENCE_S, PREFIXES
from tests.http.client import Client
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.asgi.conftest import StartAsgi
    from tests.asgi.servers import AsgiServer

TEXT: Final = {"Content-Type": "text/plain"}
JSON: Final = {"Content-Type": "application/json"}
BYTES: Final = {"Content-Type": "application/octet-stream"}
POST: Final = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n"
READERS: Final = {"uvicorn": 1000, "hypercorn": 100}
OPEN_FILES: Final = 4096
SLOW_CLIENTS: Final = 60

_PAGE_BYTES: Final = 4096
_READERS: Final = re.compile(r'live_readers\{kind="(\w+)"\} (\d+)')


async def until_it_has(server: AsgiServer, kind: str, count: int) -> None:
    """Return when so many live reads of a kind are under way; the server says so."""
    found = {kind: -1}
    while found[kind] != count:
        client = await Client.connect(server.port)  # servers have only so many requests on one
        said = await client.request_from_here(f"{server.prefix}/__ds/metrics")
        await client.close()
        assert said.status == 200, said.body
        found = {name: int(number) for name, number in _READERS.findall(said.body.decode())}


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES


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


@pytest.fixture
def many_open_files() -> Iterator[None]:
    """This process, and those that it starts, may have a connection to each of many clients."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, enough), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_open_files")
@pytest.mark.parametrize("kind", COMMANDS)
async def test_a_stop_ends_every_live_read_cleanly(start_asgi: StartAsgi, kind: str) -> None:
    server = start_asgi(kind, "fastapi")
    at = f"{server.prefix}/"
    client = await Client.connect(server.port)
    assert (await client.request("PUT", f"{at}a", b"one", TEXT)).status == 201
    followers = [await Client.connect(server.port) for _ in range(READERS[kind])]
    for follower in followers:
        follower.ask("GET", f"{at}a?offset=-1&live=sse")
    for follower in followers:
        await follower.head()
        await follower.events_until(b"upToDate")
    poller = await Client.connect(server.port)
    poller.ask("GET", f"{at}a?offset=now&live=long-poll")
    await until_it_has(server, "long_poll", 1)
    await until_it_has(server, "sse", READERS[kind])
    server.process.terminate()
    assert (await poller.answer()).status == 204
    for follower in followers:
        assert await follower.chunk() == b""
        assert await follower.ended()
        await follower.close()
    await client.close()
    await poller.close()
    server.process.wait(PATIENCE_S)


async def numbers(server: AsgiServer, path: str) -> list[int]:
    client = await Client.connect(server.port)
    read = await client.request("GET", path)
    assert read.status == 200
    await client.close()
    return [int(number) for number in json.loads(read.body)]


async def write_until_cut_off(server: AsgiServer, path: str, acknowledged: list[int]) -> None:
    """Append numbers, each once the one before it is acknowledged, until the server is gone."""
    client = await Client.connect(server.port)
    assert (await client.request("PUT", path, b"", JSON)).status == 201
    with suppress(OSError, asyncio.IncompleteReadError):
        for number in itertools.count():
            assert (await client.request("POST", path, b"%d" % number, JSON)).status == 204
            acknowledged.append(number)
    await client.close()


@pytest.mark.parametrize(("kind", "app"), [("uvicorn", "fastapi"), ("hypercorn", "in_django")])
async def test_what_was_acknowledged_is_there_after_a_kill(
    start_asgi: StartAsgi, kind: str, app: str
) -> None:
    server = start_asgi(kind, app)
    acknowledged: dict[str, list[int]] = {f"{server.prefix}/{n}": [] for n in range(8)}
    writing = [
        asyncio.create_task(write_until_cut_off(server, path, mine))
        for path, mine in acknowledged.items()
    ]
    while min(map(len, acknowledged.values())) < 20:
        await asyncio.sleep(0)
        assert not any(task.done() for task in writing)
    server.kill_and_restart()
    await asyncio.gather(*writing)
    for path, mine in acknowledged.items():
        found = await numbers(server, path)
        assert found[: len(mine)] == mine
        assert len(found) <= len(mine) + 1  # one may have been on its way


@pytest.mark.parametrize("kind", COMMANDS)
async def test_slow_clients_cost_a_bounded_buffer(start_asgi: StartAsgi, kind: str) -> None:
    server = start_asgi(kind, "plain")
    client = await Client.connect(server.port)
    assert (await client.request("PUT", "/large", bytes(4 * MIB), BYTES)).status == 201
    assert (await client.request("PUT", "/a", b"x", TEXT)).status == 201
    before = resident_bytes(server.process.pid)
    slow = [
        await Client.connect(server.port, receive_buffer_bytes=4096) for _ in range(SLOW_CLIENTS)
    ]
    for number, one in enumerate(slow):
        one.ask("GET", "/large" if number % 2 else "/large?offset=-1&live=sse")
    for one in slow:
        await one.head()
    for _ in range(50):
        assert (await client.request("POST", "/a", b"y", TEXT)).status == 204
    grown = resident_bytes(server.process.pid) - before
    assert grown < SLOW_CLIENTS * MIB
    for one in slow[1::2]:
        body = await one.reader.readexactly(4 * MIB)
        assert body == bytes(4 * MIB)
    for one in [*slow, client]:
        await one.close()


@pytest.mark.parametrize("kind", COMMANDS)
async def test_a_client_that_leaves_is_noticed(start_asgi: StartAsgi, kind: str) -> None:
    server = start_asgi(kind, "starlette")
    at = f"{server.prefix}/"
    client = await Client.connect(server.port)
    assert (await client.request("PUT", f"{at}a", b"x", TEXT)).status == 201
    for live, name in (("sse", "sse"), ("long-poll", "long_poll")):
        leaving = await Client.connect(server.port)
        leaving.ask("GET", f"{at}a?offset=now&live={live}")
        await until_it_has(server, name, 1)
        await leaving.close()
        await until_it_has(server, name, 0)
    await client.close()


@pytest.mark.parametrize("kind", COMMANDS)
async def test_bodies_are_bounded_in_size_and_time(start_asgi: StartAsgi, kind: str) -> None:
    server = start_asgi(kind, "plain", STREAMS_BODY_S="0.5")
    client = await Client.connect(server.port)
    assert (await client.request("PUT", "/a", b"x", TEXT)).status == 201
    await client.close()
    announced = await Client.connect(server.port)
    announced.send(POST + b"Content-Length: 999999999\r\n\r\n")
    assert (await announced.answer()).status == 413
    chunked = await Client.connect(server.port)
    chunked.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
    with suppress(ConnectionError):  # hypercorn resets a connection whose request is not whole
        for _ in range(20):
            chunked.send(b"%x\r\n%b\r\n" % (MIB, bytes(MIB)))
            await chunked.writer.drain()
        chunked.send(b"0\r\n\r\n")
        assert (await chunked.answer()).status == 413
    slow = await Client.connect(server.port)
    slow.send(POST + b"Content-Length: 10\r\n\r\nhalf")
    late = await slow.answer()
    assert (late.status, late.headers["connection"]) == (408, "close")
    client = await Client.connect(server.port)
    assert (await client.request("GET", "/a")).body == b"x"
    for one in (announced, chunked, slow, client):
        await one.close()


async def curl(*arguments: str) -> bytes:
    command = ("curl", "--silent", "--show-error", "--http2-prior-knowledge", *arguments)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    assert process.returncode == 0
    return said


@pytest.mark.needs("curl")
async def test_http_2_carries_all_of_it(start_asgi: StartAsgi) -> None:
    server = start_asgi("hypercorn", "fastapi")
    url = server.url("runs%2F1")
    client = await Client.connect(server.port)  # it waits for the server
    assert (await client.request("GET", f"{server.prefix}/a")).status == 404
    text = ("--header", "Content-Type: text/plain")
    created = await curl("--include", "--request", "PUT", "--data", "one", *text, url)
    assert created.startswith(b"HTTP/2 201")
    assert f"location: {url}".encode() in created
    command = ("curl", "--silent", "--no-buffer", "--http2-prior-knowledge")
    following = [
        await asyncio.create_subprocess_exec(
            *command, f"{url}?offset=-1&live=sse", stdout=asyncio.subprocess.PIPE
        )
        for _ in range(2)
    ]
    for one in following:
        assert one.stdout is not None
        await one.stdout.readuntil(b"upToDate")
    await until_it_has(server, "sse", 2)
    following[0].kill()
    await until_it_has(server, "sse", 1)
    assert await curl("--request", "POST", "--data", "two", *text, url) == b""
    assert await curl(url) == b"onetwo"
    assert (await curl("--head", url)).startswith(b"HTTP/2 200")
    server.process.terminate()
    rest, _ = await following[1].communicate()
    assert b"data:two" in rest
    assert following[1].returncode == 0  # it was ended, not cut off
    await client.close()


async def test_a_framework_serves_the_rest(start_asgi: StartAsgi) -> None:
    for app in ("fastapi", "in_django"):
        server = start_asgi("uvicorn", app)
        client = await Client.connect(server.port)
        assert b"hello" in (await client.request("GET", "/hello")).body
        await client.close()
        server.stop()


async def test_workers_that_come_second_are_told_the_ways_out(start_asgi: StartAsgi) -> None:
    server = start_asgi("uvicorn", "plain")
    client = await Client.connect(server.port)
    assert (await client.request("PUT", "/a", b"x", TEXT)).status == 201
    second = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "uvicorn", "--port", "0", "tests.asgi.apps:fastapi"),
        cwd=ROOT,
        env=server.environment,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await second.communicate()
    assert second.returncode
    assert f"in use by another server (pid {server.process.pid})".encode() in said
    assert b"run one worker (--workers 1)" in said
    assert (await client.request("GET", "/a")).status == 200
    await client.close()
