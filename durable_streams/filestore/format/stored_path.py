"""A stream's path as journal records, sidecars and marks of forks hold it: one text.

The segments of the path, joined by ``/``; a slash inside a segment is a NUL, which no path holds.
Format 1 had no slashes inside of segments, and wrote all others the same, percent signs included.

It is made once for each open stream: records are packed with it, and what the threads know of
streams' files has it for a key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable_streams.model.paths import path_text

if TYPE_CHECKING:
    from durable_streams.model.paths import StreamPath


def pack_path(path: StreamPath) -> str:
    """The path as it is stored."""
    text = "/".join(path)
    if text.count("/") < len(path):
        return text
    return "/".join([segment.replace("/", "\0") for segment in path])


def unpack_path(stored: str) -> StreamPath:
    """The path that is stored so."""
    segments = stored.split("/")
    if "\0" in stored:
        segments = [segment.replace("\0", "/") for segment in segments]
    return tuple(segments)


def stored_text(stored: str) -> str:
    """The text form of a stored path, for people."""
    return path_text(unpack_path(stored))
