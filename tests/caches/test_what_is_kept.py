"""What must not be kept: private streams, and answers that do not say for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.caches.conftest import PROGRAMS, REACHED_AS
from tests.caches.running import running
from tests.caches.streams import create_long, is_hit, read_piece
from tests.http.client import Client

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartServer


@pytest.mark.parametrize("program", PROGRAMS)
async def test_private_streams_are_not_kept(
    program: str, start_server: StartServer, tmp_path: Path, stream: str
) -> None:
    server = start_server("--private-caching", *REACHED_AS)
    origin = await Client.connect(server.port)
    content = await create_long(origin, stream)
    with running(program, tmp_path / "cache", server.port) as port:
        reader = await Client.connect(port)
        for _ in range(2):
            piece = await read_piece(reader, stream)
            assert piece.body == content[: len(piece.body)]
            assert not is_hit(piece)
        await reader.close()
    await origin.close()


@pytest.mark.needs("varnishd")
async def test_whether_the_server_is_ready_is_told_by_the_server(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server()
    with running("varnishd", tmp_path / "cache", server.port) as port:
        reader = await Client.connect(port)
        for _ in range(2):
            answer = await reader.request("GET", "/readyz")
            assert (answer.status, is_hit(answer)) == (200, False)
        await reader.close()
