"""Messages with what the server knows of each: when, where, and by which producer.

They are put together of two answers: the bytes come by the tail, which follows, and what is known
of them by the records.  A line for each append, or each message of JSON::

    {"offset": …, "next_offset": …, "time": "2027-01-31T12:00:00.123Z", "size_bytes": 17,
     "producer": {"id": …, "epoch": 0, "seq": 4} or null, "closed": false, "data": …}

``data`` is the value of JSON; of text a string; of all else it is called ``base64``.
"""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from durable_streams.model.errors import Unavailable
from durable_streams.model.tokens import parse_offset
from durable_streams.rules.record_pages import MAX_RECORDS
from durable_streams.shell.formats import Content, harmless, one_line
from durable_streams.shell.places import size_between

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from durable_streams.history import Record
    from durable_streams.messages import Message
    from durable_streams.shell.output import Output
    from durable_streams.shell.targets import AnyStreams

_AGAIN_S: Final = 1.0


class Envelopes:
    """Prints what is known of messages around them."""

    def __init__(
        self, output: Output, streams: AnyStreams, path: str, content: Content, start: str
    ) -> None:
        """``start``: where the first message begins."""
        self._output = output
        self._streams = streams
        self._path = path
        self._content = content
        self._place = start

    async def put_some(self, messages: list[Message]) -> None:
        """Print messages that follow each other."""
        if self._content is Content.JSON:
            records = self._records(messages[-1].offset)
            by_end = {message.offset: message.data for message in messages}
            async for record in records:
                if record.next_offset in by_end:
                    await self._put(record, by_end[record.next_offset])
        else:
            data = b"".join(message.data for message in messages)
            async for record in self._records(messages[-1].offset):
                begin = max(record.offset, self._place)  # a read may begin inside of an append
                size = size_between(parse_offset(begin), parse_offset(record.next_offset))
                await self._put(record, data[:size])
                data = data[size:]
        self._place = messages[-1].offset

    async def end(self) -> None:
        """The stream is at its end: a close without data is a record too."""
        found = await self._streams.records(self._path, self._place)
        for record in found.records:
            if not record.size_bytes:
                await self._put(record, b"")
        await self._output.flush()

    async def _records(self, end: str) -> AsyncIterator[Record]:
        """Those with data from the place up to ``end``."""
        place = self._place
        while place < end:  # tokens are in the order of the stream
            try:
                found = await self._streams.records(self._path, place, limit=MAX_RECORDS)
            except Unavailable:
                await asyncio.sleep(_AGAIN_S)  # as the tail, which never gives up
                continue
            for record in found.records:
                if record.next_offset > end:
                    return
                if record.size_bytes:
                    yield record
            place = found.next_offset

    async def _put(self, record: Record, data: bytes) -> None:
        when = datetime.fromtimestamp(record.time_ms / 1000, UTC)
        producer = record.producer
        known: dict[str, Any] = {
            "offset": record.offset,
            "next_offset": record.next_offset,
            "time": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "size_bytes": record.size_bytes,
            "producer": None
            if producer is None
            else {"id": producer.id, "epoch": producer.epoch, "seq": producer.seq},
            "closed": record.closed,
        }
        head = json.dumps(known, ensure_ascii=False)[:-1].encode()
        line = b"%b, %b}" % (head, self._shown(data))
        if self._output.is_terminal:
            line = harmless(line.decode(errors="replace")).encode()
        await self._output.put(line + b"\n")

    def _shown(self, data: bytes) -> bytes:
        match self._content:
            case Content.JSON:
                return b'"data": %b' % (one_line(data) or b"null")
            case Content.TEXT:
                text = json.dumps(data.decode(errors="replace"), ensure_ascii=False)
                return b'"data": %b' % text.encode()
            case Content.BYTES:
                return b'"base64": "%b"' % b64encode(data)
