"""How far a stream was proved by reading all of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from durable_streams.filestore.format.index import Tail
from durable_streams.model.offsets import Offset

if TYPE_CHECKING:
    from durable_streams.filestore.format.index import Line
    from durable_streams.rules.producers import ProducerState


@dataclass(slots=True)
class End:
    """How far a stream was proved: segment, bytes of it and of its index, and what came before.

    ``producers`` and ``stream_seq`` are what the lines so far add up to, ``time_ms`` is when the
    last append was.
    """

    segment: int = 0
    position: int = 0
    index_position: int = 0
    chain: bytes = b""
    producers: dict[str, ProducerState] = field(default_factory=dict)
    stream_seq: str | None = None
    closed: bool = False
    time_ms: int = 0

    @property
    def offset(self) -> str:
        """The end as an offset."""
        return Offset(self.segment, self.position).token

    @property
    def tail(self) -> Tail:
        """The end as the storage has it."""
        return Tail(self.segment, self.position, self.index_position, self.chain)

    def take(self, line: Line, chain: bytes, size_bytes: int) -> None:
        """Go on behind a line, which has so many bytes with its newline."""
        self.position, self.chain = line.end, chain
        self.index_position += size_bytes
        self.time_ms = line.time
        line.change(self.producers)
        if line.stream_seq is not None:
            self.stream_seq = line.stream_seq
        self.closed = self.closed or line.closed
