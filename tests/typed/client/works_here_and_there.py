"""The same functions for a directory and for a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import durable_streams
from durable_streams import Details, ListedStream, Record, RemoteStreams, Streams

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

Any: TypeAlias = Streams | RemoteStreams


def opened(where: str) -> AbstractAsyncContextManager[Any]:
    if where.startswith("http"):
        return durable_streams.connect(where)
    return durable_streams.open(where)


async def sizes(streams: Any) -> dict[str, int | None]:
    found: list[ListedStream] = [one async for one in streams.list("logs/")]
    # by mistake: `return {one.path: one for one in found}`
    return {one.path: one.size_bytes for one in found}


async def last(streams: Any, path: str) -> Record | None:
    details: Details = await streams.details(path)
    records = (await streams.records(path, last=1)).records
    return records[0] if details.stream.size_bytes and records else None
