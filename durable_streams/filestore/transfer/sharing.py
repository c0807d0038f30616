"""Whether a fork's files have what those of its source have, up to where the fork was made.

They did then.  Since then an earlier backup of the source may have been put back, which went its
own way, or a fork that was damaged before that place was repaired.  The checksums of lines are
compared, and bytes only where the fork has a part of an append; blocking code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from durable_streams.filestore.files import names
from durable_streams.filestore.files.index_files import each_line_behind, text_at
from durable_streams.filestore.files.segment_reader import SegmentReader
from durable_streams.filestore.format.index_lines import Appended, Opened, first_line
from durable_streams.model.offsets import Offset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable_streams.filestore.files.disk import Disk
    from durable_streams.filestore.files.stream_files import LoadedStream


class Files(NamedTuple):
    """The directory of a stream, and what its files prove."""

    disk: Disk
    home: str
    stream: LoadedStream

    def chain_before(self, segment: int) -> bytes:
        """The running checksum that a segment continues."""
        stream = self.stream
        if segment == stream.segments.first:
            return bytes.fromhex(stream.sidecar.root)
        return stream.segments.chain_behind(segment - 1, stream.tail)

    def lines(self, segment: int) -> Iterator[Appended]:
        """The lines of a segment's appends, but for a close that brought nothing."""
        index = f"{self.home}/{names.index_file(segment, self.stream.sidecar.id)}"
        first = first_line(text_at(self.disk, index)[0])
        if isinstance(first, Opened):
            for found in each_line_behind(self.disk, index, first.tail):
                if isinstance(found, Appended) and found.line.end > found.begin:
                    yield found

    def has_bytes_of(self, segment: int, other: Appended) -> bool:
        """Whether a segment has the bytes of an append to another stream, in the same place."""
        name = names.segment_file(segment, self.stream.sidecar.id)
        with SegmentReader(self.disk, f"{self.home}/{name}") as reader:
            return reader.has_bytes_of(other)


def is_shared(fork: Files, source: Files, point: Offset) -> bool:
    """Whether both have the same up to ``point``, which is an offset of the fork."""
    segments, tail = fork.stream.segments, fork.stream.tail
    if tail.offset < point:
        return False
    segment, position = point
    if not position:  # all of the segment before
        segment, position = segment - 1, segments.size_of(segment - 1, tail)
    number = segment - segments.first + source.stream.segments.first
    if source.stream.tail.offset < Offset(number, position):
        return False
    if fork.chain_before(segment) != source.chain_before(number):
        return False
    for own, line in zip(fork.lines(segment), source.lines(number), strict=False):
        is_whole = own.line.end == line.line.end
        if own.line.time != line.line.time or (is_whole and own.line.crc32 != line.line.crc32):
            return False
        if own.line.end == position:
            return is_whole or source.has_bytes_of(number, own)
        if not is_whole:
            return False
    return False
