"""Connections that are closed before their client has taken all: they end all the same, in time."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pytest
import uvloop

from durable_streams.filestore.store import FileStore
from durable_streams.settings import HttpSettings, Settings
from tests.certificates import made_in
from tests.http.conftest import RunningServer
from tests.http.lanes import connections

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from durable_streams.http.fast_lane import LaneConnection

    Scenario = Callable[[RunningServer], Awaitable[None]]
    Play = Callable[[Scenario, HttpSettings], None]

HOUR_S: Final = 3600.0
STALL_S: Final = 0.1
BODY: Final = b"x" * 40_000
"""Below the high-water mark, and more than the kernel takes with such buffers."""

BUFFER_BYTES: Final = 4096
READ: Final = b"GET /v1/stream/a HTTP/1.1\r\nHost: a\r\n\r\n"
LAST_READ: Final = READ.replace(b"Host", b"Connection: close\r\nHost")
OLD_READ: Final = READ.replace(b"1.1", b"1.0")
EVENTS: Final = READ.replace(b"/a ", b"/a?offset=-1&live=sse ")


@pytest.fixture(params=["uvloop", "asyncio"])
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Play:
    """Play a scenario with a server that has a closed stream."""

    async def whole(scenario: Scenario, settings: HttpSettings) -> None:
        server = RunningServer(await FileStore.at(tmp_path / "data", Settings()), settings)
        await server.start()
        client = await server.connect()
        closed = {"Content-Type": "text/plain", "Stream-Closed": "true"}
        assert (await client.request("PUT", "a", BODY, closed)).status == 201
        await client.close()
        await ended(server)
        try:
            await scenario(server)
        finally:
            await server.finish()

    def run(scenario: Scenario, settings: HttpSettings) -> None:
        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(whole(scenario, settings))

    return run


async def ended(server: RunningServer) -> None:
    """Wait until no connection is left, nor the place of one."""
    while connections(server) or server._server._server.places.served:
        await asyncio.sleep(0)


async def connected(server: RunningServer) -> socket.socket:
    """A client whose kernel has room for little."""
    client = socket.socket()
    client.setblocking(False)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", server.port))
    return client


async def with_little_room(server: RunningServer) -> LaneConnection:
    """The only connection of a server, whose kernel has room for little as well."""
    while not connections(server):
        await asyncio.sleep(0)
    (connection,) = connections(server)
    assert connection.transport is not None
    descriptor = connection.transport.get_extra_info("socket").fileno()
    with socket.socket(fileno=socket.dup(descriptor)) as ours:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    return connection


async def untaken(server: RunningServer, request: bytes) -> tuple[socket.socket, LaneConnection]:
    """A client that has asked, and takes nothing more."""
    client = await connected(server)
    connection = await with_little_room(server)
    await asyncio.get_running_loop().sock_sendall(client, request)
    return client, connection


async def is_kept(connection: LaneConnection) -> None:
    """Wait until an answer is out, part of it still here, and its connection waits for the next."""
    transport = connection.transport
    assert transport is not None
    while not (transport.get_write_buffer_size() and connection.is_at_rest()):
        await asyncio.sleep(0)
    for _ in range(10):  # uvloop writes behind the turn
        await asyncio.sleep(0)
    assert transport.get_write_buffer_size()
    assert not connection.writing_paused


def idle_for_long(connection: LaneConnection) -> None:
    connection._next_keepalive_close_time = 0.0
    connection._process_keepalive()


@pytest.mark.parametrize("lane", [True, False], ids=["lane", "aiohttp"])
def test_an_idle_connection_whose_client_took_no_answer_ends(play: Play, *, lane: bool) -> None:
    async def scenario(server: RunningServer) -> None:
        client, connection = await untaken(server, READ)
        with client:
            await is_kept(connection)
            idle_for_long(connection)
            assert connections(server) == [connection]  # what it was sent is still here
            await ended(server)

    play(scenario, HttpSettings(stall_timeout_s=STALL_S, fast_lane=lane))


@pytest.mark.parametrize("lane", [True, False], ids=["lane", "aiohttp"])
def test_a_client_that_sends_no_more_and_takes_nothing_is_cut_off(
    play: Play, *, lane: bool
) -> None:
    async def scenario(server: RunningServer) -> None:
        client, connection = await untaken(server, READ)
        with client:
            await is_kept(connection)
            client.shutdown(socket.SHUT_WR)
            await ended(server)

    play(scenario, HttpSettings(stall_timeout_s=STALL_S, fast_lane=lane))


@pytest.mark.parametrize("last", [LAST_READ, OLD_READ, EVENTS], ids=["close", "1.0", "events"])
def test_the_last_answer_of_a_connection_has_to_be_taken_in_time(play: Play, last: bytes) -> None:
    async def scenario(server: RunningServer) -> None:
        client, _ = await untaken(server, last)
        with client:
            await ended(server)

    play(scenario, HttpSettings(stall_timeout_s=STALL_S))


def test_a_head_that_comes_too_late_is_refused_and_that_has_to_be_taken_too(play: Play) -> None:
    async def scenario(server: RunningServer) -> None:
        client, connection = await untaken(server, READ)
        with client:
            await is_kept(connection)
            await asyncio.get_running_loop().sock_sendall(client, READ[:10])
            await ended(server)

    play(scenario, HttpSettings(stall_timeout_s=STALL_S, head_timeout_s=0.01))


@pytest.mark.parametrize("request_", [READ, LAST_READ], ids=["idle", "close"])
def test_a_client_that_takes_the_rest_in_time_gets_all_of_it(play: Play, request_: bytes) -> None:
    async def taken(client: socket.socket) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        with suppress(ConnectionResetError):
            while data := await loop.sock_recv(client, 65_536):
                yield data

    async def scenario(server: RunningServer) -> None:
        client, connection = await untaken(server, request_)
        with client:
            if request_ is READ:
                await is_kept(connection)
                idle_for_long(connection)
            else:
                while connection._ending is None:
                    await asyncio.sleep(0)
            answer = b"".join([data async for data in taken(client)])
            assert answer.endswith(b"\r\n\r\n" + BODY)
            await ended(server)
            assert connection._ending is not None
            assert connection._ending.cancelled()

    play(scenario, HttpSettings(stall_timeout_s=HOUR_S))


# -- with TLS ------------------------------------------------------------------------------


class TlsClient:
    """A client that has what it sends and gets in its own hands."""

    def __init__(self, raw: socket.socket, context: ssl.SSLContext) -> None:
        self.raw = raw
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")

    async def shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._send()
                loop = asyncio.get_running_loop()
                self._incoming.write(await loop.sock_recv(self.raw, 65_536))
        await self._send()

    async def ask(self, request: bytes) -> None:
        self._tls.write(request)
        await self._send()

    async def say_the_last(self) -> None:
        """Send ``close_notify``, and take nothing."""
        with suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        await self._send()

    async def _send(self) -> None:
        await asyncio.get_running_loop().sock_sendall(self.raw, self._outgoing.read())


async def is_below_tls(connection: LaneConnection) -> None:
    """Wait until an answer is out, all of it encrypted, and the socket has taken what it can."""
    while not connection.is_at_rest() or connection.is_answering:
        await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
    assert connection.transport is not None
    assert connection.transport.get_write_buffer_size() == 0


@pytest.mark.parametrize("how", ["close_notify", "FIN", "idle"])
def test_with_tls_a_connection_whose_client_took_no_answer_gives_its_place_back(
    play: Play, tmp_path: Path, how: str
) -> None:
    """The size of its transport says nothing: what waits is in that of the socket, below it."""
    files = made_in(tmp_path)
    trusted = files.client()
    shown = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    shown.load_cert_chain(files.certificate, files.key)

    async def scenario(plain: RunningServer) -> None:
        server = RunningServer(plain.engine, HttpSettings(stall_timeout_s=STALL_S))
        await server.start(shown)
        client = TlsClient(await connected(server), trusted)
        with client.raw:
            await client.shake_hands()
            connection = await with_little_room(server)
            await client.ask(READ)
            await is_below_tls(connection)
            if how == "close_notify":
                await client.say_the_last()
            elif how == "FIN":  # of which uvloop tells nobody while an answer is on its way
                client.raw.shutdown(socket.SHUT_WR)
            if how != "close_notify":
                idle_for_long(connection)
            await ended(server)
        await server.stop()

    play(scenario, HttpSettings())
