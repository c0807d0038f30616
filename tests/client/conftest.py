"""Fixtures: the same verbs on a directory, and over HTTP to a server in this process."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import pytest

import durable_streams
from durable_streams import RemoteStreams, Retries, Streams, SyncRemoteStreams
from durable_streams.filestore.store import FileStore
from durable_streams.http.server import HttpServer
from durable_streams.settings import HttpSettings, Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

AnyStreams: TypeAlias = Streams | RemoteStreams
"""What the contract is for."""

QUICK: Final = Retries(first_s=0.01, longest_s=0.05, give_up_s=60)


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


class InThreads:
    """The verbs of a client that blocks, each in a thread."""

    def __init__(self, streams: SyncRemoteStreams) -> None:
        self._streams = streams

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._streams, name)
        return partial(asyncio.to_thread, verb)

    def list(self, *args: Any, **named: Any) -> AsyncIterator[Any]:
        return _in_threads(self._streams.list(*args, **named))

    def tail(self, *args: Any, **named: Any) -> AsyncIterator[Any]:
        return _in_threads(self._streams.tail(*args, **named))


async def _in_threads(source: Iterator[Any]) -> AsyncIterator[Any]:
    end = object()
    while (one := await asyncio.to_thread(next, source, end)) is not end:
        yield one


@asynccontextmanager
async def opened(kind: str, data_dir: Path) -> AsyncIterator[AnyStreams]:
    """Streams of one kind, of a directory."""
    if kind == "embedded":
        async with durable_streams.open(data_dir) as streams:
            yield streams
        return
    async with served(data_dir) as url:
        if kind == "blocking":
            with durable_streams.connect_sync(url, retries=QUICK) as blocking:
                yield cast("AnyStreams", InThreads(blocking))
            return
        async with durable_streams.connect(url, retries=QUICK) as remote:
            yield remote


@pytest.fixture(params=["embedded", "remote", "blocking"])
async def streams(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AnyStreams]:
    """The same verbs, from everywhere."""
    async with opened(request.param, tmp_path / "data") as streams:
        yield streams


@pytest.fixture(params=["embedded", "remote"])
async def awaited(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AnyStreams]:
    """The same, in an event loop."""
    async with opened(request.param, tmp_path / "data") as streams:
        yield streams
