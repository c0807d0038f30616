"""Fixtures: a server, a cache in front of it, and connections to both.

What is served is the wheel's, as in ``tests/deploy``: these caches are recipes as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

from tests.caches.running import running
from tests.deploy.conftest import (  # noqa: F401 - fixtures
    distributions,
    made_once,
    programs,
    served_by,
    wheel,
)
from tests.http.client import Client
from tests.http.conftest import serve  # noqa: F401 - a fixture
from tools.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

PROGRAMS: Final = [
    pytest.param(program, marks=pytest.mark.needs(program)) for program in ("nginx", "varnishd")
]


REACHED_AS: Final = ("--allowed-host", "example.test")
"""Both caches pass on the host that clients ask for; the server has to know it."""

LIVE_S: Final = 3600
FOR_LONG: Final = ("--long-poll-timeout", str(LIVE_S), "--sse-lifetime", str(LIVE_S))
"""No live read ends by itself while a test lasts, however busy the machine is."""


@dataclass(frozen=True, slots=True)
class Cached:
    """A server, and the cache that stands before it."""

    program: str
    server: ServerProcess
    port: int


@pytest.fixture(scope="session", params=PROGRAMS)
def cached(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    programs: Path,  # noqa: F811 - the fixture
) -> Iterator[Cached]:
    """Run each cache in turn, one for all tests: each has a stream of its own."""
    directory = tmp_path_factory.mktemp(request.param)
    server = ServerProcess(directory / "data", *REACHED_AS, *FOR_LONG, programs=programs)
    server.start()
    try:
        with running(request.param, directory / "cache", server.port) as port:
            yield Cached(request.param, server, port)
    except BaseException:
        server.kill()
        raise
    server.finish()


@pytest.fixture
def stream(request: pytest.FixtureRequest) -> str:
    """A path that no other test uses."""
    return re.sub(r"\W+", "-", request.node.name)


@pytest.fixture
async def origin(cached: Cached) -> AsyncIterator[Client]:
    """A connection to the server itself."""
    client = await Client.connect(cached.server.port)
    yield client
    await client.close()


@pytest.fixture
async def reader(cached: Cached) -> AsyncIterator[Client]:
    """A connection to the cache."""
    client = await Client.connect(cached.port)
    yield client
    await client.close()


@pytest.fixture
async def another_reader(cached: Cached) -> AsyncIterator[Client]:
    """Another connection to the cache."""
    client = await Client.connect(cached.port)
    yield client
    await client.close()
