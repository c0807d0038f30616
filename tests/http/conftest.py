"""Fixtures: a server on a real engine and a real port, and clients that speak bytes."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Protocol

import pytest

from durable_streams.filestore.store import FileStore
from durable_streams.filestore.tuning import Tuning
from durable_streams.http.handler import StreamsHandler
from durable_streams.http.server import HttpServer
from durable_streams.settings import HttpSettings, Settings
from tests.http.client import Client

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator
    from pathlib import Path

PREFIX = HttpSettings().prefix


class RunningServer:
    """A server in this process, with its engine and its handler to look at."""

    def __init__(self, engine: FileStore, settings: HttpSettings) -> None:
        self.engine = engine
        self.handler = StreamsHandler(engine, settings)
        self._server = HttpServer(engine, settings, self.handler)
        self._clients: list[Client] = []
        self._stopped = False
        self._listening = socket.socket()
        self.port = 0

    async def start(self, context: ssl.SSLContext | None = None) -> None:
        """Serve; ``context``: what TLS is spoken with, if it is."""
        self._listening.bind(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        await self._server.start([self._listening], None if context is None else lambda: context)

    async def stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            await self._server.stop()
            self._listening.close()

    async def finish(self) -> None:
        for client in self._clients:
            await client.close()
        await self.stop()
        await self.engine.close()

    async def connect(self, *, receive_buffer_bytes: int | None = None) -> Client:
        client = await Client.connect(self.port, receive_buffer_bytes=receive_buffer_bytes)
        self._clients.append(client)
        return client

    async def create(self, path: str, content_type: str, body: bytes = b"") -> None:
        client = await self.connect()
        answer = await client.request("PUT", path, body, {"Content-Type": content_type})
        assert answer.status == 201, answer
        await client.close()


class Serve(Protocol):
    """Start a server with these settings."""

    async def __call__(
        self, settings: HttpSettings = ..., engine_settings: Settings = ..., tuning: Tuning = ...
    ) -> RunningServer: ...


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    servers: list[RunningServer] = []

    async def start(
        settings: HttpSettings = HttpSettings(),  # noqa: B008 - it is frozen
        engine_settings: Settings = Settings(),  # noqa: B008
        tuning: Tuning = Tuning(),
    ) -> RunningServer:
        data_dir = tmp_path / f"data-{len(servers)}"
        engine = await FileStore.at(data_dir, engine_settings, tuning=tuning)
        server = RunningServer(engine, settings)
        servers.append(server)
        await server.start()
        return server

    yield start
    for server in servers:
        await server.finish()


@pytest.fixture
async def server(serve: Serve) -> RunningServer:
    return await serve()


@pytest.fixture(params=[True, False], ids=["lane", "aiohttp"])
async def either(serve: Serve, request: pytest.FixtureRequest) -> RunningServer:
    return await serve(HttpSettings(fast_lane=request.param))
