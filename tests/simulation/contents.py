"""What appends carry, and reading it back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from durable_streams.protocol.offsets import Offset, Start

if TYPE_CHECKING:
    from durable_streams.engine.engine import Engine

_TOKEN: Final = re.compile(rb'"(\d+):x*"')


def token(number: int, size: int) -> bytes:
    """The bytes of one append, valid as JSON too."""
    return b'"%d:%s"' % (number, b"x" * size)


def parse(path: str, content_type: str, data: bytes) -> list[tuple[int, int]]:
    """Numbers of the tokens in wire bytes, and where each ends; nothing else is there."""
    found: list[tuple[int, int]] = []
    position = 0
    while position < len(data):
        match = _TOKEN.match(data, position)
        assert match, (
            f"{path}: torn or foreign bytes at {position}: {data[position : position + 40]!r}"
        )
        position = match.end()
        if content_type == "application/json":
            assert data[position : position + 1] == b",", "a message without its comma"
            position += 1
        found.append((int(match[1]), position))
    return found


async def contents(
    engine: Engine, path: str, start: Offset | Start = Start.BEGINNING
) -> list[tuple[int, Offset]]:
    """All tokens of a stream from an offset on, in order, with the offset each ends at."""
    stream = await engine.open_stream(path)
    found: list[tuple[int, Offset]] = []
    at = start
    while True:
        chunk = await engine.read(stream, at)
        try:
            data = b"".join(
                [
                    part if isinstance(part, bytes) else await engine.read_slice(part)
                    for part in chunk.parts
                ]
            )
        finally:
            chunk.release()
        assert len(data) == chunk.size_bytes, f"{path}: not as many bytes as announced"
        begin = chunk.end.position - chunk.size_bytes
        found += [
            (number, Offset(chunk.end.segment, begin + end))
            for number, end in parse(path, stream.content_type, data)
        ]
        at = chunk.end
        if chunk.at_tail:
            return found
