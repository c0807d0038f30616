"""Durable streams: append-only, URL-addressable byte logs, kept in plain files.

A server (``python -m durable_streams serve``), a part of your application, of aiohttp
(:func:`mount`) or ASGI (:func:`asgi`), and a library (:func:`open`), all on the same engine and the
same data directory.

Importing this is cheap, and possible on every system: what works with files or serves HTTP is
imported when one of its names is first asked for.  Where it cannot run that is an ``ImportError``
that says so.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

import durable_streams.errors  # noqa: F401 - programs have used it as an attribute since 0.1
from durable_streams.model.commands import ProducerClaim
from durable_streams.model.details import ProducerSeen
from durable_streams.model.errors import (
    Conflict,
    ContentTypeMismatch,
    DatabaseDown,
    DatabaseMigrated,
    DatabaseReadOnly,
    DatabaseUnconfirmed,
    DataDirectoryError,
    DataDirectoryInUse,
    DiskFull,
    Draining,
    EpochWithoutStart,
    Forbidden,
    ForeignHost,
    ForeignPage,
    HeadersTooLarge,
    InvalidJson,
    InvalidOffset,
    InvalidRequest,
    MethodNotAllowed,
    NotOpen,
    OffsetGone,
    OpenedElsewhere,
    Overloaded,
    PayloadTooLarge,
    ProducerGap,
    RequestTimeout,
    SequenceConflict,
    SourceGone,
    StaleEpoch,
    StorageFailed,
    StreamClosed,
    StreamDamaged,
    StreamError,
    StreamExists,
    StreamGone,
    StreamNotFound,
    StreamOutOfService,
    StreamUnreadable,
    StreamUnusable,
    TargetTooLong,
    TooManyProducers,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    UnexpectedAnswer,
    Unreachable,
    UnsupportedEncoding,
    UnsupportedTransferCoding,
    WriteFailed,
)
from durable_streams.model.offsets import Offset
from durable_streams.namesake import warn_of_namesake
from durable_streams.settings import AccessSettings, Durability, HttpSettings, Settings
from durable_streams.version import __version__

if TYPE_CHECKING:
    from durable_streams.access.grants import Grant, Scope
    from durable_streams.access.principals import Principal
    from durable_streams.access.signed_urls import sign_url
    from durable_streams.client.aio import RemoteStreams, connect
    from durable_streams.client.aio_producer import RemoteProducer
    from durable_streams.client.aio_tail import RemoteTail
    from durable_streams.client.producing import Limits
    from durable_streams.client.retries import Retries
    from durable_streams.client.sync_producer import SyncRemoteProducer
    from durable_streams.client.sync_remote import SyncRemoteStreams, connect_sync
    from durable_streams.client.sync_tail import SyncRemoteTail
    from durable_streams.details import Details
    from durable_streams.history import Record, RecordsResult
    from durable_streams.http.asgi.application import asgi
    from durable_streams.http.mounting import mount
    from durable_streams.library import open_streams
    from durable_streams.listing import ListedStream, ListPage
    from durable_streams.messages import Message
    from durable_streams.outcomes import (
        AppendResult,
        JsonResult,
        MessagesResult,
        Metadata,
        ReadResult,
    )
    from durable_streams.streams import BEGINNING, NOW, Streams
    from durable_streams.sync import SyncIterator, SyncStreams, open_sync
    from durable_streams.tail import Tail

    open = open_streams  # noqa: A001 - read as durable_streams.open, like os.open

__all__ = [
    "BEGINNING",
    "NOW",
    "AccessSettings",
    "AppendResult",
    "Conflict",
    "ContentTypeMismatch",
    "DataDirectoryError",
    "DataDirectoryInUse",
    "DatabaseDown",
    "DatabaseMigrated",
    "DatabaseReadOnly",
    "DatabaseUnconfirmed",
    "Details",
    "DiskFull",
    "Draining",
    "Durability",
    "EpochWithoutStart",
    "Forbidden",
    "ForeignHost",
    "ForeignPage",
    "Grant",
    "HeadersTooLarge",
    "HttpSettings",
    "InvalidJson",
    "InvalidOffset",
    "InvalidRequest",
    "JsonResult",
    "Limits",
    "ListPage",
    "ListedStream",
    "Message",
    "MessagesResult",
    "Metadata",
    "MethodNotAllowed",
    "NotOpen",
    "Offset",
    "OffsetGone",
    "OpenedElsewhere",
    "Overloaded",
    "PayloadTooLarge",
    "Principal",
    "ProducerClaim",
    "ProducerGap",
    "ProducerSeen",
    "ReadResult",
    "Record",
    "RecordsResult",
    "RemoteProducer",
    "RemoteStreams",
    "RemoteTail",
    "RequestTimeout",
    "Retries",
    "Scope",
    "SequenceConflict",
    "Settings",
    "SourceGone",
    "StaleEpoch",
    "StorageFailed",
    "StreamClosed",
    "StreamDamaged",
    "StreamError",
    "StreamExists",
    "StreamGone",
    "StreamNotFound",
    "StreamOutOfService",
    "StreamUnreadable",
    "StreamUnusable",
    "Streams",
    "SyncIterator",
    "SyncRemoteProducer",
    "SyncRemoteStreams",
    "SyncRemoteTail",
    "SyncStreams",
    "Tail",
    "TargetTooLong",
    "TooManyProducers",
    "TooManyRequests",
    "Unauthenticated",
    "Unavailable",
    "UnexpectedAnswer",
    "Unreachable",
    "UnsupportedEncoding",
    "UnsupportedTransferCoding",
    "WriteFailed",
    "__version__",
    "asgi",
    "connect",
    "connect_sync",
    "mount",
    "open",
    "open_streams",
    "open_sync",
    "sign_url",
]

_LATER: Final = {
    "BEGINNING": "streams",
    "NOW": "streams",
    "AppendResult": "outcomes",
    "Details": "details",
    "Grant": "access.grants",
    "JsonResult": "outcomes",
    "Limits": "client.producing",
    "ListPage": "listing",
    "ListedStream": "listing",
    "Message": "messages",
    "MessagesResult": "outcomes",
    "Metadata": "outcomes",
    "Principal": "access.principals",
    "ReadResult": "outcomes",
    "Record": "history",
    "RemoteProducer": "client.aio_producer",
    "RemoteStreams": "client.aio",
    "RemoteTail": "client.aio_tail",
    "Retries": "client.retries",
    "RecordsResult": "history",
    "Scope": "access.grants",
    "Streams": "streams",
    "SyncIterator": "sync",
    "SyncStreams": "sync",
    "SyncRemoteProducer": "client.sync_producer",
    "SyncRemoteStreams": "client.sync_remote",
    "SyncRemoteTail": "client.sync_tail",
    "Tail": "tail",
    "asgi": "http.asgi.application",
    "connect": "client.aio",
    "connect_sync": "client.sync_remote",
    "mount": "http.mounting",
    "open": "library",
    "open_streams": "library",
    "open_sync": "sync",
    "sign_url": "access.signed_urls",
}
"""Names that are imported when they are asked for, and from where."""

if not TYPE_CHECKING:  # a checker knows all names, and would take any other for one of them

    def __getattr__(name: str) -> object:
        """Import a name that is asked for for the first time."""
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = import_module(f"{__name__}.{_LATER[name]}")
        value = getattr(module, "open_streams" if name == "open" else name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


warn_of_namesake()
