"""What appends carry, and reading it back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from durable_streams.model.offsets import Offset, Start

if TYPE_CHECKING:
    from durable_streams.filestore.store import FileStore
    from durable_streams.model.results import StreamRef

BINARY: Final = "application/octet-stream"
JSON: Final = "application/json"
NUMBER: Final = re.compile(rb'"(\d+):')


def token(number: int, size: int) -> bytes:
    """The bytes of one append, valid as JSON too."""
    return b'"%d:%s"' % (number, b"x" * size)


def body_and_wire(content_type: str, number: int, size: int, parts: int) -> tuple[bytes, bytes]:
    """An append as it is sent, of so many messages in a JSON stream, and as it is stored."""
    if content_type != JSON:
        data = token(number, size)
        return data, data
    messages = [token(number, size // parts)] * parts
    body = messages[0] if parts == 1 else b"[" + b",".join(messages) + b"]"
    return body, b"".join(message + b"," for message in messages)


def first_messages(wire: bytes, count: int) -> bytes:
    """So many messages of a JSON append, as they are stored."""
    return b"".join(wire.split(b",")[n] + b"," for n in range(count))


class Run(NamedTuple):
    """Bytes of a stream that lie in one segment, from ``begin`` on."""

    segment: int
    begin: int
    data: bytes

    @property
    def end(self) -> Offset:
        """Behind its last byte."""
        return Offset(self.segment, self.begin + len(self.data))


def joined(runs: list[Run]) -> list[Run]:
    """The same bytes in as few runs as there are segments."""
    result: list[Run] = []
    for run in runs:
        if result and result[-1].end == (run.segment, run.begin):
            last = result.pop()
            run = Run(last.segment, last.begin, last.data + run.data)  # noqa: PLW2901
        result.append(run)
    return result


async def read(
    engine: FileStore, stream: StreamRef, start: Offset | Start = Start.BEGINNING
) -> tuple[list[Run], Offset]:
    """All bytes of a stream from an offset on, and its tail."""
    runs: list[Run] = []
    at = start
    while True:
        with await engine.read(stream, at) as chunk:
            data = await engine.bytes_of(chunk)
        assert len(data) == chunk.size_bytes, f"{stream.path}: not as many bytes as announced"
        assert isinstance(at, Start) or chunk.end >= at, f"{stream.path}: reading goes back"
        if data:
            begin = chunk.end.position - chunk.size_bytes
            assert isinstance(at, Start) or begin == at.position or not begin, "bytes left out"
            runs.append(Run(chunk.end.segment, begin, data))
        at = chunk.end
        if chunk.at_tail:
            return joined(runs), at
