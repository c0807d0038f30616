"""Durable streams without HTTP: a data directory as an async context manager.

    async with durable_streams.open("./data") as streams:
        await streams.create("events", content_type="application/json")
        await streams.append_json("events", {"hello": "world"})
        async for message in streams.tail("events"):
            ...

The same engine that the HTTP server runs on: every rule of the protocol holds, and whatever a write
returned for is on disk.  The errors are in ``durable_streams.model.errors``; :class:`Streams` says
which.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import durable_streams.arguments as arguments  # noqa: PLR0402 - not from the root, which knows us
from durable_streams.databases import is_database, open_database
from durable_streams.filestore.runtime.forgotten import OpenStore
from durable_streams.filestore.store import FileStore
from durable_streams.home import Home
from durable_streams.settings import Settings
from durable_streams.streams import Streams

if TYPE_CHECKING:
    import os
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from durable_streams.postgres.store import PostgresStore

__all__ = ["Streams", "open_streams"]


def open_streams(
    data_dir: str | os.PathLike[str], settings: Settings | None = None
) -> AbstractAsyncContextManager[Streams]:
    """Open a data directory, made if missing; closed, with everything in its files, at the end.

    ``async with durable_streams.open(data_dir) as streams``.  Or the URL of a PostgreSQL database,
    ``postgresql://…``, that ``durable-streams store init`` has made one of streams; any number of
    programs may have it open.

    Raises ``TypeError`` or ``ValueError`` if an argument cannot be; then
    :class:`~durable_streams.model.errors.DataDirectoryError` if the directory is in use (as
    ``DataDirectoryInUse``), is not a data directory or one of another version, or cannot be read,
    written or recovered.

    The end of ``async with`` closes it whatever happens: also if its task is cancelled meanwhile,
    by a timeout, by Ctrl-C or again and again.  It returns when everything is done, and the
    cancellation goes on from there.  ``asyncio.run`` waits for it, after a second Ctrl-C as well.
    A third one, or a loop that is ended by other means, leaves the directory as after a crash: what
    was acknowledged is there, and the next opening recovers it.

    What was opened and is dropped without that end gives a ``ResourceWarning``, and is let go as in
    a crash, so that the same process can open it again.
    """
    return _Open(data_dir, settings)


class _Open:
    """The ``async with`` of one data directory."""

    def __init__(self, data_dir: str | os.PathLike[str], settings: Settings | None) -> None:
        self._data_dir = data_dir
        self._settings = settings
        self._opened: tuple[Streams, OpenStore | PostgresStore, Home] | None = None

    async def __aenter__(self) -> Streams:
        """Open it."""
        if self._opened is not None:
            raise RuntimeError("it is open already: call durable_streams.open() for each opening")
        directory = arguments.directory("data_dir", self._data_dir)
        settings = arguments.settings("settings", self._settings, Settings)
        home = Home()
        if is_database(self._data_dir):
            store = await open_database(str(self._data_dir), settings)
            self._opened = Streams(store), store, home
        else:
            engine = await FileStore.at(directory, settings)
            streams = Streams(engine)
            self._opened = streams, OpenStore(engine, streams, self), home
        return self._opened[0]

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        assert self._opened is not None
        _, store, home = self._opened
        if home.is_left_by_a_child(error):
            return
        home.check()  # elsewhere it would wait for ever
        try:
            await store.close()
        finally:
            self._opened = None
