"""What is told of one stream beside its bytes, to whoever asks; no use of the stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable_streams.filestore.reading.records import RecordReader

if TYPE_CHECKING:
    from durable_streams.filestore.core import Core
    from durable_streams.filestore.streams.stream import Stream
    from durable_streams.filestore.verbs.access import Access
    from durable_streams.model.commands import Place
    from durable_streams.model.records import RecordsPage


class Inspections:
    """The verb ``records``."""

    def __init__(self, core: Core, access: Access) -> None:
        self._core = core
        self._access = access
        most_bytes = core.tuning.looked_into_bytes
        self._records = RecordReader(core.directory, core.reader, core.run, most_bytes)

    async def records(self, stream: Stream, place: Place, limit: int) -> RecordsPage:
        """Some of what was appended, once the stream's files have it."""
        self._access.check(stream)
        durable = stream.durable
        await self._core.pipeline.files_have(stream, durable.offset, durable.index_position)
        with self._access.reading(stream):
            return await self._records.page(stream, place, limit)
