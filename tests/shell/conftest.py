"""Fixtures: a server for all tests of a file, and a shell that knows its URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.shell.running import Shell
from tools.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A real server; its streams are those of all tests of the file."""
    server = ServerProcess(tmp_path_factory.mktemp("served") / "data")
    server.start()
    yield server
    server.finish()


@pytest.fixture
def shell(running: ServerProcess, tmp_path: Path) -> Shell:
    """A shell whose ``STREAM_URL`` is that of the server."""
    return Shell(tmp_path, running.base_url)
