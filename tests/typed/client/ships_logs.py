"""Lines of a file, appended by a producer that keeps its number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import durable_streams
from durable_streams import Limits, RemoteProducer

if TYPE_CHECKING:
    from pathlib import Path


async def ship(file: Path, kept: int) -> int:
    url = "http://localhost:4437/v1/stream"
    limits = Limits(linger_s=0.05, batch_bytes=65536, in_flight=2)
    async with durable_streams.connect(url) as streams:
        producer: RemoteProducer = streams.producer("logs", "web-1", number=kept, limits=limits)
        async with producer:
            for line in file.read_bytes().splitlines(keepends=True)[kept:]:
                # by mistake: `await producer.append(line.decode())`
                await producer.append(line)
            stored: int = await producer.flush()
    return stored + producer.acknowledged - producer.appended
