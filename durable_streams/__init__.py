"""Durable streams: append-only, URL-addressable byte logs, kept in plain files.

A server (``python -m durable_streams serve``), a part of your aiohttp application (:func:`mount`)
and a library (:func:`open`), all on the same engine and the same data directory.
"""

from durable_streams.errors import DataDirectoryError, StreamError
from durable_streams.http import mount
from durable_streams.library import (
    BEGINNING,
    NOW,
    AppendResult,
    Message,
    MessagesResult,
    Metadata,
    ReadResult,
    Streams,
    open_streams,
)
from durable_streams.protocol.commands import ProducerClaim
from durable_streams.settings import Durability, HttpSettings, Settings

open = open_streams  # noqa: A001 - read as durable_streams.open, like os.open

__all__ = [
    "BEGINNING",
    "NOW",
    "AppendResult",
    "DataDirectoryError",
    "Durability",
    "HttpSettings",
    "Message",
    "MessagesResult",
    "Metadata",
    "ProducerClaim",
    "ReadResult",
    "Settings",
    "StreamError",
    "Streams",
    "mount",
    "open",
    "open_streams",
]
