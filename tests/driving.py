"""A store driven by hand: its verbs in a word each, for streams of bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durable_streams.filestore.files import names
from durable_streams.model.commands import Append, Create, ForkRequest
from durable_streams.model.offsets import Start
from durable_streams.model.paths import parse_path_text

if TYPE_CHECKING:
    from pathlib import Path

    from durable_streams.store import Store

BYTES: Final = "application/octet-stream"


async def put(store: Store, path: str, body: bytes = b"") -> None:
    """Create a stream."""
    await store.create(Create(parse_path_text(path), BYTES), body)


async def append(store: Store, path: str, body: bytes) -> None:
    """Append to it."""
    await store.append(Append(parse_path_text(path), BYTES), body)


async def fork(store: Store, path: str, source: str) -> None:
    """Fork all of it."""
    await store.create(
        Create(parse_path_text(path), None, fork=ForkRequest(parse_path_text(source))), b""
    )


async def content(store: Store, path: str) -> bytes:
    """All that one read gives."""
    with await store.read(await store.open(parse_path_text(path)), Start.BEGINNING) as chunk:
        return await store.bytes_of(chunk)


def directory(data: Path, path: str) -> Path:
    """Where a stream's files are."""
    return data / "streams" / names.directory_of(parse_path_text(path))
