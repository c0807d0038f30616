"""Fixtures: real servers that have to give back every descriptor."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.settings import MIB
from tests.hostile.raw_clients import request
from tools.descriptors import leaked_files, open_now, sockets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import StartServer
    from tools.server_process import ServerProcess


MAX_RSS_BYTES: Final = (46 + 3 * 256 + 256 + 125) * MIB
"""What docs/operations.rst says of a server with default settings, but for its connections."""

log = logging.getLogger(__name__)


@pytest.fixture
def start_server(start_server: StartServer) -> Iterator[StartServer]:
    """Start real servers, which have to stay within what is documented of their memory.

    When all clients have left, none has a descriptor more than at first.
    """
    began: list[tuple[ServerProcess, int]] = []

    def start(
        *options: str, data_dir: Path | None = None, open_files: int | None = None
    ) -> ServerProcess:
        server = start_server(*options, data_dir=data_dir, open_files=open_files)
        began.append((server, sockets(open_now(server.pid))))
        return server

    yield start
    for server, before in began:
        if not server.running:
            continue
        while sockets(opened := open_now(server.pid)) > before:  # or the test's time is over
            pass
        assert leaked_files(opened) == {}
        highest = server.highest_rss_bytes()
        log.info("highest resident memory: %d MiB", highest // MIB)
        assert highest < MAX_RSS_BYTES


@pytest.fixture
def target(server: ServerProcess) -> ServerProcess:
    assert request(server, "PUT", "a")[0] == 201
    return server
