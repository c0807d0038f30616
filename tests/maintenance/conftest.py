"""A small data directory with one of everything."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

import durable_streams
from durable_streams import ProducerClaim, Settings
from durable_streams.maintenance.findings import Checked, State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SETTINGS = Settings(segment_bytes=40)


def is_sound(checked: Checked) -> bool:
    """Whether everything is there and as it was, but for torn ends."""
    return checked.state in {State.SOUND, State.TORN}


async def fill(data: Path) -> None:
    async with durable_streams.open(data, SETTINGS) as streams:
        await streams.create("chat/room", content_type="application/json")
        for number in range(8):
            claim = ProducerClaim("writer", 1, number)
            await streams.append("chat/room", b'{"n": %d}' % number, producer=claim)
        await streams.create("bytes", data=b"first.", ttl_s=100_000)
        await streams.append("bytes", b"second.", stream_seq="0001")
        await streams.close("bytes")
        await streams.fork("fork", "chat/room")
        await streams.append("fork", b'"own"')
        await streams.create("empty")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Streams with segments, producers, a fork, a close; everything in the streams' files."""
    asyncio.run(fill(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What is cut is told in the log each time."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)
