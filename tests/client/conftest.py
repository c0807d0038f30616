"""Fixtures: the same verbs on a directory, and over HTTP to a server in this process."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeAlias

import pytest

import durable_streams
from durable_streams import RemoteStreams, Retries, Streams
from durable_streams.filestore.store import FileStore
from durable_streams.http.server import HttpServer
from durable_streams.settings import HttpSettings, Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

AnyStreams: TypeAlias = Streams | RemoteStreams
"""What the contract is for."""

QUICK: Final = Retries(first_s=0.01, longest_s=0.05, give_up_s=10)


@asynccontextmanager
async def served(data_dir: Path) -> AsyncIterator[str]:
    """A server of a directory, in this event loop; the URL of its streams."""
    engine = await FileStore.at(data_dir, Settings())
    settings = HttpSettings()
    server = HttpServer(engine, settings)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    await server.start([listening])
    try:
        yield f"http://127.0.0.1:{port}{settings.prefix}"
    finally:
        await server.stop()
        listening.close()
        await engine.close()


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    """The URL of a server of an empty directory."""
    async with served(tmp_path / "data") as found:
        yield found


@pytest.fixture
async def remote(url: str) -> AsyncIterator[RemoteStreams]:
    """A client of that server."""
    async with durable_streams.connect(url, retries=QUICK) as streams:
        yield streams


@pytest.fixture(params=["embedded", "remote"])
async def streams(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AnyStreams]:
    """The same verbs, from everywhere."""
    data_dir = tmp_path / "data"
    if request.param == "embedded":
        async with durable_streams.open(data_dir) as streams:
            yield streams
        return
    async with served(data_dir) as url, durable_streams.connect(url, retries=QUICK) as streams:
        yield streams
