"""The segments of a stream, as one object: which is the first, and what the sealed ones hold.

Segments are numbered one after the other.  The last one is written to, and what it holds is told by
the stream's tail; those before it are *sealed*, and final.  Nothing else knows which number the
first one has, or takes it for 0.

An object is never changed: a stream that seals a segment gets another one, and one that takes that
back has the former again.  Most streams have one segment, and share :data:`UNSEALED`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from durable_streams.filestore.format.index import CHAIN_BYTES
from durable_streams.model.offsets import ZERO, Offset

if TYPE_CHECKING:
    from durable_streams.filestore.format.index import Tail


class Segments(msgspec.Struct, frozen=True, gc=False):
    """The segments of one stream.

    ``begin``: the offset that the stream begins at, in its first segment.  ``sizes``: bytes of each
    sealed one.  ``chains``: the running checksum behind each, one directly after the other.
    """

    begin: Offset = ZERO
    sizes: tuple[int, ...] = ()
    chains: bytes = b""

    @property
    def first(self) -> int:
        """Number of the first segment."""
        return self.begin.segment

    @property
    def last(self) -> int:
        """Number of the one that is written to."""
        return self.begin.segment + len(self.sizes)

    def sealed(self, size_bytes: int, chain: bytes) -> Segments:
        """With the last one sealed at its size and running checksum, and another one behind it."""
        return Segments(self.begin, (*self.sizes, size_bytes), self.chains + chain)

    def cut(self, last: int) -> Segments:
        """Up to the one with a number, which is written to, as none is behind it."""
        kept = last - self.begin.segment
        return Segments(self.begin, self.sizes[:kept], self.chains[: kept * CHAIN_BYTES])

    def moved_to(self, first: int) -> Segments:
        """The same segments with other numbers, the first one's given."""
        return msgspec.structs.replace(self, begin=Offset(first, 0))

    def size_of(self, segment: int, tail: Tail) -> int:
        """Bytes of a segment, where the stream ends at a tail."""
        if segment == tail.segment:
            return tail.position
        return self.sizes[segment - self.begin.segment]

    def chain_behind(self, segment: int, tail: Tail) -> bytes:
        """The running checksum at the end of a segment, where the stream ends at a tail."""
        if segment == tail.segment:
            return tail.chain
        at = (segment - self.begin.segment) * CHAIN_BYTES
        return self.chains[at : at + CHAIN_BYTES]


UNSEALED: Final = Segments()
"""Of every stream that has one segment only, numbered 0."""


def beginning_at(first: int) -> Segments:
    """The segments of a new stream, whose first one has a number."""
    return Segments(Offset(first, 0)) if first else UNSEALED
