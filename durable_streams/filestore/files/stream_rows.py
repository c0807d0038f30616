"""What a list says of a stream that is not open: read from a few of its files' bytes.

The sidecar, and the last line of the last index, if that is whole and its bytes are there: lines
are not followed, and checksums not compared, which opening the stream does.  Where files are not as
a server leaves them, all that an opening reads is read, and says where the stream ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from durable_streams.filestore.files import names
from durable_streams.filestore.files.index_files import last_line
from durable_streams.filestore.files.missing import files_of
from durable_streams.filestore.files.stream_files import load, load_sidecar
from durable_streams.filestore.format.stored_path import unpack_path
from durable_streams.model.offsets import Offset
from durable_streams.model.results import ForkedFrom, StreamRow
from durable_streams.model.tokens import parse_offset
from durable_streams.rules.lifetime import deadline_ms

if TYPE_CHECKING:
    from durable_streams.filestore.files.disk import Disk
    from durable_streams.filestore.files.stream_files import LoadedStream
    from durable_streams.filestore.format.sidecar import Sidecar
    from durable_streams.model.paths import StreamPath


class End(NamedTuple):
    """Where a stream ends.  ``last_append_ms``: 0 if it never had any."""

    offset: Offset
    closed: bool
    size_bytes: int
    last_append_ms: int


def row_on_disk(disk: Disk, directory: str, path: StreamPath, now_ms: int) -> StreamRow | None:
    """The row of the stream in a directory; None if none is there, or none that is listed.

    Raises ``DamagedFiles`` and ``OSError``; blocks.
    """
    sidecar = load_sidecar(disk, directory)
    if sidecar is None or sidecar.soft_deleted:
        return None
    end = _plain_end(disk, directory, sidecar)
    if end is None:
        loaded = load(disk, directory)
        if loaded is None:
            return None
        end = _end_of(loaded)
    last_use_ms = min(max(sidecar.last_use_ms, end.last_append_ms), now_ms)
    ends_at_ms = deadline_ms(sidecar.lifetime(), last_use_ms)
    if ends_at_ms is not None and ends_at_ms <= now_ms:
        return None
    return row_of(path, sidecar, end, ends_at_ms)


def row_of(path: StreamPath, sidecar: Sidecar, end: End, ends_at_ms: int | None) -> StreamRow:
    """The row of a stream that ends somewhere."""
    origin, last_ms = sidecar.fork, end.last_append_ms
    fork = ForkedFrom(unpack_path(origin.source), parse_offset(origin.point)) if origin else None
    # What a fork has from its source was not written to it, whenever that was.
    is_written = last_ms > 0 and (fork is None or end.closed or end.offset != fork.offset)
    return StreamRow(
        path,
        sidecar.id,
        sidecar.content_type,
        end.offset,
        end.size_bytes,
        sidecar.created_ms,
        last_ms if is_written else None,
        end.closed,
        sidecar.lifetime(),
        ends_at_ms,
        fork,
    )


def _plain_end(disk: Disk, directory: str, sidecar: Sidecar) -> End | None:
    """Where a stream ends whose files are as a server leaves them; None if they are not."""
    files = files_of(disk, directory, sidecar.id)
    if not files:
        return End(Offset(sidecar.first, 0), closed=False, size_bytes=0, last_append_ms=0)
    last = max(number for number, _ in files)
    if len(files) != 2 * (last - sidecar.first + 1):
        return None
    line = last_line(disk, f"{directory}/{names.index_file(last, sidecar.id)}")
    sizes = [
        disk.status(f"{directory}/{names.segment_file(number, sidecar.id)}")
        for number in range(sidecar.first, last + 1)
    ]
    if line is None or any(size is None for size in sizes):
        return None
    *sealed, own = [size.size_bytes for size in sizes if size is not None]
    if line.end > own:
        return None
    return End(Offset(last, line.end), line.closed, sum(sealed) + line.end, line.time)


def _end_of(loaded: LoadedStream) -> End:
    tail = loaded.tail
    size_bytes = sum(loaded.segments.sizes) + tail.position
    return End(tail.offset, tail.closed, size_bytes, loaded.last_append_ms)
