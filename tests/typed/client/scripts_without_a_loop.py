"""A script that makes, writes, reads and removes a stream."""

from __future__ import annotations

import durable_streams
from durable_streams import ReadResult, SyncRemoteStreams


def main(url: str) -> bytes:
    with durable_streams.connect_sync(url, token="t") as streams:
        streams.create("a", content_type="text/plain", ttl_s=60)
        # by mistake: `streams.append("a", b"hello", closed=True)`
        streams.append("a", b"hello")
        found = everything(streams, "a")
        streams.delete("a")
    return found


def everything(streams: SyncRemoteStreams, path: str) -> bytes:
    whole, offset, more = b"", durable_streams.BEGINNING, True
    while more:
        piece: ReadResult = streams.read(path, offset)
        # by mistake: `whole += piece`
        whole += piece.data
        offset, more = piece.next_offset, piece.has_more
    return whole
