"""Fixtures: servers that a test may leave in any state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from tests.process.commands import QuietServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class StartQuietServer(Protocol):
    """Start a server with a shell's redirections; returns once it answers."""

    def __call__(
        self, redirections: str, *options: str, pass_fds: tuple[int, ...] = ()
    ) -> QuietServer: ...


@pytest.fixture
def start_quiet_server(data_dir: Path) -> Iterator[StartQuietServer]:
    """Start servers on the test's data directory; what is left of them is killed."""
    servers: list[QuietServer] = []

    def start(redirections: str, *options: str, pass_fds: tuple[int, ...] = ()) -> QuietServer:
        server = QuietServer(data_dir, redirections, *options, pass_fds=pass_fds)
        servers.append(server)
        server.wait_until_it_serves()
        return server

    yield start
    for server in servers:
        server.process.kill()
        server.process.wait()
