"""The files of one stream, written in ``tmp/`` from appends as they were; blocks.

Nothing is durable before whoever has them put in their place has synced the file system.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable_streams.filestore.files import names
from durable_streams.filestore.format import index as index_format
from durable_streams.filestore.format.checksum import crc32
from durable_streams.filestore.format.index import Tail
from durable_streams.rules.json_borders import positions
from durable_streams.rules.producers import ProducerState

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from durable_streams.filestore.files.disk import Disk
    from durable_streams.transfers import Appended


class StreamFiles:
    """Segments and indexes in a directory, from an end on.

    ``kept``: producers that are known in the end; all others are forgotten behind their last
    append, as the files have to lead to what is known.
    """

    def __init__(
        self,
        disk: Disk,
        home: str,
        stream_id: str,
        tail: Tail,
        *,
        is_json: bool,
        kept: Container[str],
    ) -> None:
        self._disk = disk
        self._home = home
        self._id = stream_id
        self._is_json = is_json
        self._kept = kept
        self._producers: dict[str, ProducerState] = {}
        self._doomed: set[str] = set()
        self.tail = tail

    def put(self, batch: Sequence[Appended], *, last_seq: str | None = None) -> None:
        """Some more appends, of which the last one has ``last_seq``."""
        begin = 0
        for at in range(1, len(batch) + 1):
            if at == len(batch) or batch[at].segment != batch[begin].segment:
                some = batch[begin:at]
                self._put(some, last_seq if at == len(batch) else None)
                begin = at

    def _put(self, batch: Sequence[Appended], last_seq: str | None) -> None:
        """Appends of one segment."""
        segment = batch[0].segment
        self.reach(segment)
        position, index_position, chain = (
            self.tail.position,
            self.tail.index_position,
            self.tail.chain,
        )
        lines: list[bytes] = []
        for append in batch:
            line, chain = self._line(append, chain, last_seq if append is batch[-1] else None)
            lines.append(line)
        index, data = b"".join(lines), b"".join([append.data for append in batch])
        self._write(names.segment_file(segment, self._id), data, position)
        self._write(names.index_file(segment, self._id), index, index_position)
        last = batch[-1]
        self.tail = Tail(
            segment,
            last.end,
            index_position + len(index),
            chain,
            last.closes,
            last.claim if last.closes else None,
            last_seq,
        )

    def reach(self, segment: int) -> None:
        """Begin a segment, unless it is begun."""
        tail = self.tail
        if tail.index_position and tail.segment == segment:
            return
        previous = (tail.position, tail.index_position) if tail.index_position else None
        opening, chain = index_format.pack_opening(
            tail.chain, segment, previous, self._producers, None
        )
        self._write(names.segment_file(segment, self._id), b"", 0)
        self._write(names.index_file(segment, self._id), opening, 0)
        self.tail = Tail(segment, 0, len(opening), chain)

    def _line(self, append: Appended, chain: bytes, stream_seq: str | None) -> tuple[bytes, bytes]:
        claim = append.claim
        forgot = tuple(sorted(self._doomed - {claim.id if claim else None}))
        line, chain = index_format.pack_line(
            chain,
            append.end,
            messages=self._messages(append.data),
            crc=crc32(append.data),
            time_ms=append.time_ms,
            forgot=forgot,
            producer=claim,
            stream_seq=stream_seq,
            closed=append.closes,
        )
        for name in forgot:
            del self._producers[name]
            self._doomed.discard(name)
        if claim is not None:
            state = ProducerState(claim.epoch, claim.seq, append.time_ms)
            self._producers[claim.id] = state
            if claim.id not in self._kept:
                self._doomed.add(claim.id)
        return line, chain

    def _messages(self, data: bytes) -> int:
        if not data or not self._is_json:
            return int(bool(data))
        return sum(1 for _ in positions([data]))

    def _write(self, name: str, data: bytes, position: int) -> None:
        fd = self._disk.open_write(f"{self._home}/{name}")
        try:
            self._disk.pwrite(fd, data, position)
        finally:
            self._disk.close(fd)
