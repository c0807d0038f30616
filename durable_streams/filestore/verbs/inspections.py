"""What is told of one stream beside its bytes, to whoever asks; no use of the stream."""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from durable_streams.filestore.files.living_forks import living_forks
from durable_streams.filestore.pipeline.admission import COME_BACK_S
from durable_streams.filestore.reading.records import RecordReader
from durable_streams.filestore.streams.life import RULES
from durable_streams.model.details import MOST_DETAILS, StreamDetails
from durable_streams.model.errors import Overloaded, StreamError
from durable_streams.rules.last_producers import last_producers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from durable_streams.filestore.core import Core
    from durable_streams.filestore.streams.stream import Stream
    from durable_streams.filestore.verbs.access import Access
    from durable_streams.model.commands import Place
    from durable_streams.model.paths import StreamPath
    from durable_streams.model.records import RecordsPage
    from durable_streams.rules.producers import ProducerState


class Inspections:
    """The verbs ``records`` and ``details``."""

    def __init__(self, core: Core, access: Access) -> None:
        self._core = core
        self._access = access
        self._records = RecordReader(core.directory, core.reader, core.run, core.tuning)

    async def records(self, stream: Stream, place: Place, limit: int) -> RecordsPage:
        """Some of what was appended, once the stream's files have it."""
        self._access.check(stream)
        durable = stream.durable
        async with self._patience():
            await self._core.pipeline.files_have(stream, durable.offset, durable.index_position)
        with self._access.reading(stream):
            return await self._records.page(stream, place, limit)

    async def details(self, stream: Stream) -> StreamDetails:
        """All that is known of a stream."""
        self._access.check(stream)
        async with self._patience():
            states = await _durable_producers(stream)
        known = await self._core.run(last_producers, states.items())
        forks, more_forks = await self._forks(stream)
        self._access.check(stream)
        now_ms = self._core.now_ms()
        end_ms, tail, segments = stream.ends_at_ms(now_ms), stream.durable, stream.segments
        sealed = tail.segment - segments.first
        sizes = (*segments.sizes[:sealed][1 - MOST_DETAILS :], tail.position)
        return StreamDetails(
            stream.row(now_ms),
            segments.begin,
            None if end_ms is None else max(0, end_ms - now_ms) // 1000,
            sealed + 1,
            sizes,
            len(states),
            known,
            forks,
            more_forks,
            stream.followers,
            len(stream.audience.waiters),
            len(stream.audience.subscribers),
        )

    @asynccontextmanager
    async def _patience(self) -> AsyncIterator[None]:
        """Wait for the disk, and no longer than a write that is held up."""
        patience_s = self._core.settings.held_up_s
        try:
            async with asyncio.timeout(None if patience_s == math.inf else patience_s):
                yield
        except TimeoutError:
            raise Overloaded(
                "the disk is behind, and has yet to take what this tells: "
                f"try again in {COME_BACK_S} s",
                COME_BACK_S,
            ) from None

    async def _forks(self, stream: Stream) -> tuple[list[StreamPath], bool]:
        """Where forks of it are, as far as that is looked at, and whether there may be more."""
        if not stream.forked:
            return [], False
        with self._access.reading(stream):
            found, more = await self._core.run(
                living_forks, self._core.directory, stream.sidecar, stream.path, MOST_DETAILS
            )
        return sorted([path for path in found if self._is_there(path, found[path])]), more

    def _is_there(self, path: StreamPath, stream_id: str) -> bool:
        """Whether what was found on the disk has not been deleted since."""
        stream = self._core.catalog.known(path)
        return stream is None or (stream.id == stream_id and not RULES[stream.state].has_ended)


async def _durable_producers(stream: Stream) -> dict[str, ProducerState]:
    """Those that a stream has now, once what they did is durable."""
    states = dict(stream.producers.states)
    if stream.last_operation is not None:
        try:
            await stream.last_operation.wait()
        except StreamError:
            return dict(stream.producers.states)  # as it was before that
    return states
