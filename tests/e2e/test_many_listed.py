"""Lists of many streams, made in place by the tool that makes a million of them."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING, Final

import pytest

import durable_streams
from durable_streams.maintenance.verify import verify
from durable_streams.model.paths import path_text
from tools.proofs.make_streams import make_streams, path_of
from tools.proofs.prove_listing import prove
from tools.server_process import ServerProcess

if TYPE_CHECKING:
    from pathlib import Path

    from durable_streams.maintenance.findings import Finding

STREAMS: Final = 20_000


@pytest.mark.slow
@pytest.mark.parametrize("together", [0, 1000], ids=["in one namespace", "in twenty"])
def test_what_is_proved_of_a_million_is_proved_of_fewer(tmp_path: Path, together: int) -> None:
    """But for the times, which are another machine's on every day."""
    data = tmp_path / "data"
    make_streams(data, STREAMS, together)
    options = argparse.Namespace(
        streams=STREAMS, together=together, seconds=0.2, rounds=1, pages=10
    )
    server = ServerProcess(data)
    server.start()
    asyncio.run(prove(server, options))
    server.finish()


async def test_streams_made_in_place_are_streams_like_any(tmp_path: Path) -> None:
    data = tmp_path / "data"
    await asyncio.to_thread(make_streams, data, 30, 10)
    await asyncio.to_thread(make_streams, data, 50, 10)  # those that are there stay
    found: list[Finding] = []
    await asyncio.to_thread(verify, data, found.append)
    assert not found
    async with durable_streams.open(data) as streams:
        paths = [path_text(path_of(number, 10)) for number in range(50)]
        assert [stream.path async for stream in streams.list(page_size=7)] == paths
        for path in paths:
            assert not (await streams.create(path)).created
            await streams.append(path, b"some")
            assert (await streams.read(path)).data == b"some"
    await asyncio.to_thread(make_streams, data, 50, 10)
    async with durable_streams.open(data) as streams:
        assert [stream.size_bytes async for stream in streams.list("rooms")] == [4] * 50
