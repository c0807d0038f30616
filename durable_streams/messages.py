"""What was read, taken apart into messages: byte for byte as appended, with an offset each."""

from __future__ import annotations

import json
from itertools import accumulate, islice, pairwise
from typing import TYPE_CHECKING, Any, Final

import msgspec

from durable_streams.model.errors import InvalidJson
from durable_streams.model.offsets import Offset
from durable_streams.rules.json_borders import Borders
from durable_streams.settings import KIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable_streams.model.results import Chunk
    from durable_streams.store import Store

_SLICE_BYTES: Final = 16 * KIB
_SLICE_MESSAGES: Final = 1024
"""Of what is made into messages in one turn of the event loop: at most a few milliseconds."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """One message: an element of a JSON stream, one append of any other.

    ``offset``: where to read on after it, also between messages that were appended together.
    """

    # No garbage collector looks at it: it would hold up the loop for each of half a million.
    data: bytes
    offset: str

    def json(self) -> Any:  # noqa: ANN401 - it is for whoever asks to know
        """The value that its JSON stands for; ``InvalidJson`` if it is none that Python has."""
        try:
            return json.loads(self.data)
        except RecursionError:
            raise InvalidJson(f"the message before {self.offset} nests too deep here") from None
        except ValueError as error:
            raise InvalidJson(f"the message before {self.offset} is not JSON: {error}") from None


class Messages:
    """The messages of a chunk, made when they are asked for; true while there are more."""

    def __init__(self, data: bytes, end: Offset, sizes: list[int] | None) -> None:
        """``end``: where the chunk ends.  ``sizes``: those of its appends; None for JSON."""
        self._data = data
        self._segment = end.segment
        self._position = end.position - len(data)
        self._begin = 0
        self._comma = int(sizes is None)
        self._ends = _json_slices(data) if sizes is None else _append_slices(sizes)

    def __bool__(self) -> bool:
        return self._begin < len(self._data)

    def some(self) -> list[Message]:
        """The next of them, perhaps none; let the event loop go on before the ones behind."""
        ends = next(self._ends)
        data, segment, position, comma = self._data, self._segment, self._position, self._comma
        made = [
            Message(data[start : end - comma], Offset(segment, position + end).token)
            for start, end in pairwise([self._begin, *ends])
        ]
        self._begin = ends[-1] if ends else self._begin
        return made


async def messages_of(engine: Store, chunk: Chunk) -> Messages:
    """The messages of a chunk, which is released, whatever happens."""
    data = await bytes_of(engine, chunk)
    if chunk.stream.is_json:
        return Messages(data, chunk.end, None)
    return Messages(data, chunk.end, await engine.sizes(chunk) if data else [])


async def bytes_of(engine: Store, chunk: Chunk) -> bytes:
    """All bytes of a chunk, which is released, whatever happens."""
    with chunk:
        return await engine.bytes_of(chunk)


def _json_slices(data: bytes) -> Iterator[list[int]]:
    """Where the messages in wire bytes end, each behind its comma."""
    borders = Borders()
    for begin in range(0, len(data), _SLICE_BYTES):
        piece = data[begin : begin + _SLICE_BYTES]
        yield [begin + end for end in borders.feed(piece)]


def _append_slices(sizes: list[int]) -> Iterator[list[int]]:
    """Where appends end, given how long each one is."""
    ends = accumulate(sizes)
    while some := list(islice(ends, _SLICE_MESSAGES)):
        yield some
