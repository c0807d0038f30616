"""What is behind the streams that a test has open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable_streams.filestore.store import FileStore

if TYPE_CHECKING:
    from durable_streams import Streams


def file_store(streams: Streams) -> FileStore:
    """The store of a data directory, whose inside a test looks at."""
    engine = streams.engine
    assert isinstance(engine, FileStore)
    return engine
