"""Streams for whoever uses them: by path or as they were opened, or why they cannot be used."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from durable_streams.model.errors import NotOpen, StreamDamaged, StreamGone, StreamNotFound
from durable_streams.model.paths import path_text
from durable_streams.postgres.decisions import why_unusable
from durable_streams.postgres.streams import Stream
from durable_streams.postgres.texts import check_path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from durable_streams.model.paths import StreamPath
    from durable_streams.model.results import StreamRef
    from durable_streams.postgres.database import Clock
    from durable_streams.postgres.following import Following
    from durable_streams.postgres.readers import Rows
    from durable_streams.postgres.rows import Row
    from durable_streams.postgres.streams import Streams


class Access:
    """Asks the database each time; ``closed``: nothing can be used any more."""

    def __init__(self, streams: Streams, rows: Rows, following: Following, clock: Clock) -> None:
        self._streams = streams
        self._rows = rows
        self._following = following
        self._clock = clock
        self.closed = False

    async def at(self, path: StreamPath, *, uses: bool = False) -> tuple[Stream, Row]:
        """The stream at a path, and its row as it is now; ``uses``: that renews a TTL."""
        check_path(path)
        if self.closed:
            raise NotOpen
        known = self._streams.at(path)  # not one that is made while the row is read
        row = await self._rows.at(path, uses=uses)
        if known is not None and (row is None or known.number != row.id):
            self._streams.end(known.number, StreamNotFound(path_text(path)))
        problem = why_unusable(path, row, row.now_ms if row else 0)
        if row is None or problem is not None:
            assert problem is not None
            raise problem
        stream = self._streams.learn(path, row)
        self._following.noticed(stream)
        if uses:
            stream.fresh = row, asyncio.current_task()
            asyncio.get_running_loop().call_soon(_forget_fresh, stream)
        return stream, row

    async def of(self, stream: StreamRef) -> tuple[Stream, Row]:
        """A stream that was opened, and its row as it is now.

        In the turn in which it was opened that is the row which was read for it then.
        """
        opened = own(stream)
        self.check_there(opened)
        fresh, opened.fresh = opened.fresh, None
        if (
            fresh is not None
            and fresh[1] is asyncio.current_task()
            and not opened.has_expired(self._clock.now_ms())
        ):
            return opened, fresh[0]
        row = await self._rows.of(opened)
        if self.closed:
            raise NotOpen
        problem = why_unusable(opened.path, row, row.now_ms if row else 0)
        if row is None or problem is not None:
            assert problem is not None
            if row is None or row.soft_deleted:
                self._streams.end(opened.number, problem)
            raise problem.again()
        opened.learn(row)
        self._following.noticed(opened)
        return opened, row

    @asynccontextmanager
    async def there_if_damaged(self, stream: StreamRef) -> AsyncIterator[None]:
        """Bytes that are missing are no damage if the stream has ended meanwhile: that is raised.

        Whoever read the row before may find that what ended is being swept.
        """
        try:
            yield
        except StreamDamaged:
            await self.of(stream)
            raise

    def known(self, stream: StreamRef) -> Stream:
        """A stream that has not ended as far as is known here; raises why it has."""
        opened = own(stream)
        self.check_there(opened)
        if opened.has_expired(self._clock.now_ms()):
            raise (StreamGone if opened.row.forked else StreamNotFound)(path_text(opened.path))
        return opened

    def check_there(self, stream: Stream) -> None:
        """Raise why a stream is no more, if somebody has ended it."""
        if self.closed:
            raise NotOpen
        if stream.ended is not None:
            raise stream.ended.again()


def _forget_fresh(stream: Stream) -> None:
    stream.fresh = None


def own(stream: StreamRef) -> Stream:
    """A stream of this store."""
    if not isinstance(stream, Stream):
        raise TypeError("not a stream of this store")
    return stream
