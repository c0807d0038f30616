"""How far the lines of its indexes prove a stream, and what they add up to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from durable_streams.filestore.format.index import Tail
from durable_streams.model.offsets import Offset

if TYPE_CHECKING:
    from durable_streams.filestore.format.index_lines import Appended, Opened
    from durable_streams.model.commands import ProducerClaim
    from durable_streams.rules.producers import ProducerState


@dataclass(slots=True)
class ProvedEnd:
    """The end of the lines that were walked along so far.

    ``segment``, ``position``, ``index_position``: where in a segment and its index.
    ``chain``: the running checksum there.
    ``producers``, ``stream_seq``: what the lines so far leave of the opening's.
    ``closed``, ``closed_by``: whether the last append closed the stream, and as which producer's.
    ``time_ms``: when the last append was, 0 if there is none.
    """

    segment: int = 0
    position: int = 0
    index_position: int = 0
    chain: bytes = b""
    producers: dict[str, ProducerState] = field(default_factory=dict)
    stream_seq: str | None = None
    closed: bool = False
    closed_by: ProducerClaim | None = None
    time_ms: int = 0

    @classmethod
    def behind(
        cls,
        first: Opened,
        producers: dict[str, ProducerState],
        time_ms: int = 0,
        *,
        segment: int,
    ) -> Self:
        """Right behind the first line of an index; ``producers`` becomes the end's own.

        ``segment``: the number that it has, which in a fork may not be the one that it states.
        """
        opening = first.opening
        return cls(
            segment,
            0,
            first.index_position,
            first.chain,
            producers,
            opening.stream_seq,
            time_ms=time_ms,
        )

    @property
    def offset(self) -> str:
        """The end as an offset."""
        return Offset(self.segment, self.position).token

    @property
    def tail(self) -> Tail:
        """The end as the storage has it."""
        return Tail(
            self.segment,
            self.position,
            self.index_position,
            self.chain,
            self.closed,
            self.closed_by,
            self.stream_seq,
        )

    def take(self, found: Appended) -> None:
        """Go on behind one more append."""
        line = found.line
        self.position, self.index_position = line.end, found.index_position
        self.chain, self.time_ms = found.chain, line.time
        self.closed = line.closed
        self.closed_by = line.claim() if line.closed else None
        line.change(self.producers)
        if line.stream_seq is not None:
            self.stream_seq = line.stream_seq
