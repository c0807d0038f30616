"""Servers of ASGI for the tests of this folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from tests.asgi.servers import AsgiServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class StartAsgi(Protocol):
    """Start a server of a kind, with an application, and with these in its environment."""

    def __call__(self, kind: str, app: str, *options: str, **environment: str) -> AsgiServer: ...


@pytest.fixture
def start_asgi(tmp_path: Path, data_dir: Path) -> Iterator[StartAsgi]:
    """Start servers; each is stopped at the end, and its log has no traceback."""
    servers: list[AsgiServer] = []

    def start(kind: str, app: str, *options: str, **environment: str) -> AsgiServer:
        log = tmp_path / f"log-{len(servers)}"
        server = AsgiServer(kind, app, data_dir, log, options=options, environment=environment)
        servers.append(server)
        return server

    try:
        yield start
        for server in servers:
            if server.running:
                server.stop()
            log = server.log.read_text()
            assert "Traceback" not in log, log
            assert "ERROR" not in log, log
    finally:
        for server in servers:
            server.close()
