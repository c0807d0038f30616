"""The streams of a data directory as their files prove them, each line and each byte checked.

What ends early is left out, as a server does that opens the stream; what is damaged, or proved to
be missing, ends the copy.  Files are read in threads, some appends at a time.
"""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from durable_streams.filestore.files import names, whole_files
from durable_streams.filestore.files.index_files import each_line_behind, text_at
from durable_streams.filestore.files.removed_file import NAME as REMOVED
from durable_streams.filestore.files.segment_reader import SegmentReader
from durable_streams.filestore.files.stream_files import DamagedFiles, lacks_sidecar, load
from durable_streams.filestore.format.checksum import crc32
from durable_streams.filestore.format.index_lines import Appended as Line
from durable_streams.filestore.format.index_lines import Opened, first_line
from durable_streams.filestore.format.removed import BadRemoved, unpack
from durable_streams.filestore.format.removed import Removed as RemovedFile
from durable_streams.filestore.format.stored_path import pack_path, unpack_path
from durable_streams.filestore.transfer.sharing import Files, is_shared
from durable_streams.model.offsets import Offset
from durable_streams.model.tokens import parse_offset
from durable_streams.rules.lifetime import deadline_ms
from durable_streams.settings import MIB
from durable_streams.transfers import Appended, Damaged, Moved, Removed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from durable_streams.filestore.files.directory import Layout
    from durable_streams.filestore.files.disk import Disk
    from durable_streams.filestore.files.stream_files import LoadedStream
    from durable_streams.filestore.format.sidecar import Sidecar
    from durable_streams.model.paths import StreamPath

_T = TypeVar("_T")

BATCH_BYTES: Final = 4 * MIB
"""Of appends that are handed over at once, unless one is larger."""

BATCH_APPENDS: Final = 10_000
_HEADS_AT_ONCE: Final = 100


async def in_thread(work: Callable[..., _T], *arguments: object) -> _T:
    """Do something with files, which blocks, and wait for it."""
    return await asyncio.to_thread(work, *arguments)


class DirectoryStreams:
    """What a copy reads of a data directory.

    ``verify``: acknowledged writes may have been lost, so what fails its checksum at a stream's end
    was not acknowledged durably, and is left out.
    """

    def __init__(self, layout: Layout, *, verify: bool = False) -> None:
        self.layout = layout
        self._verify = verify

    async def all(self) -> AsyncIterator[Sequence[Moved]]:
        """Every stream."""
        homes = self.layout.stream_directories(_unlisted)
        while heads := await in_thread(self._some, homes):
            yield [head for head in heads if head is not None]

    def _some(self, homes: Iterator[Path]) -> list[Moved | None]:
        found: list[Moved | None] = []
        for home in homes:
            found.append(self._head(str(home)))
            if len(found) == _HEADS_AT_ONCE:
                break
        return found

    async def at(self, path: StreamPath) -> Moved | None:
        """The stream at a path."""
        return await in_thread(self._head, self.layout.stream_directory(path))

    def _head(self, home: str) -> Moved | None:
        path = self.layout.stream_path(Path(home))
        loaded = None if path is None else self._load(home)
        return None if path is None or loaded is None else self._moved(path, home, loaded)

    def _load(self, home: str) -> LoadedStream | None:
        try:
            loaded = load(self.layout.disk, home, verify=self._verify)
        except DamagedFiles as error:
            raise Damaged(f"{home}: {error}", _REPAIR) from None
        if loaded is None and lacks_sidecar(self.layout.disk, home):
            raise Damaged(f"{home}: {names.SIDECAR} is gone, segments are there", _REPAIR)
        if loaded is not None and loaded.missing:
            raise Damaged(f"{home}: {loaded.missing}", _REPAIR)
        return loaded

    def _moved(self, path: StreamPath, home: str, loaded: LoadedStream) -> Moved:
        sidecar, tail = loaded.sidecar, loaded.tail
        lifetime = sidecar.lifetime()
        used_ms = max(sidecar.last_use_ms, loaded.last_append_ms)
        fork = sidecar.fork
        source, point = self._origin(home, loaded)
        return Moved(
            _key(path, sidecar),
            path,
            sidecar.content_type,
            lifetime,
            sidecar.requested.lifetime(),
            None if fork is None else fork.request(),
            source,
            point,
            sidecar.created_ms,
            deadline_ms(lifetime, used_ms),
            sidecar.soft_deleted,
            sidecar.first,
            tail.offset,
            tail.chain,
            tail.closed,
            tail.closed_by,
            tail.stream_seq,
            loaded.producers,
        )

    def _origin(self, home: str, loaded: LoadedStream) -> tuple[str | None, Offset]:
        """The key of a fork's source, if it is there, and up to where the fork has its content."""
        fork, begin = loaded.sidecar.fork, Offset(loaded.sidecar.first, 0)
        if fork is None:
            return None, begin
        point, disk = parse_offset(fork.point), self.layout.disk
        source_home = self.layout.home_of(fork.source)
        source = self._load(source_home)
        if source is None or source.sidecar.id != fork.source_id:
            return None, point
        ours, theirs = Files(disk, home, loaded), Files(disk, source_home, source)
        if point > begin and not is_shared(ours, theirs, point):
            point = begin
        return _key(unpack_path(fork.source), source.sidecar), point

    async def appends(self, stream: Moved, behind: Offset) -> AsyncIterator[Sequence[Appended]]:
        """The appends of a stream."""
        home = self.layout.stream_directory(stream.path)
        loaded = await in_thread(self._load, home)
        key = None if loaded is None else _key(stream.path, loaded.sidecar)
        if loaded is None or key != stream.key or loaded.tail.offset != stream.tail:
            raise Damaged(f"{home}: it is not what it was a moment ago: somebody writes there")
        batches = _Reader(self.layout, home, loaded).batches(behind)
        while batch := await in_thread(partial(next, batches, None)):
            yield batch

    async def removed(self) -> Removed:
        """Where other streams have to begin above the segments of those that were there."""
        path = self.layout.root / REMOVED
        data = await in_thread(whole_files.read_file, self.layout.disk, path)
        try:
            found = NOTHING if data is None else unpack(data)
        except BadRemoved as error:
            raise Damaged(f"{path}: {error}", _REPAIR) from None
        paths = {unpack_path(stored): first for stored, first in found.paths.items()}
        return Removed(found.floor, paths)


NOTHING: Final = RemovedFile()
_REPAIR: Final = "see durable-streams verify, and repair it first"


def _key(path: StreamPath, sidecar: Sidecar) -> str:
    """What a stream is called: its id, which a second one of it has that somebody made by hand."""
    own = pack_path(path)
    return sidecar.id if sidecar.path == own else f"{sidecar.id} {own}"


def _unlisted(path: Path, error: OSError) -> None:
    raise Damaged(f"{path} cannot be listed: {error.strerror}") from None


class _Reader:
    """The files of one stream, from the beginning to the tail."""

    def __init__(self, layout: Layout, home: str, loaded: LoadedStream) -> None:
        self._disk = layout.disk
        self._home = home
        self._loaded = loaded

    def batches(self, behind: Offset) -> Iterator[list[Appended]]:
        """Appends that end behind an offset, and the close."""
        batch, size = list[Appended](), 0
        for append in self._all(behind):
            batch.append(append)
            size += len(append.data)
            if size >= BATCH_BYTES or len(batch) >= BATCH_APPENDS:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _all(self, behind: Offset) -> Iterator[Appended]:
        loaded = self._loaded
        if not loaded.tail.index_position:
            return
        chain = bytes.fromhex(loaded.sidecar.root)
        for number in range(loaded.segments.first, loaded.tail.segment + 1):
            segment = _Segment(self._disk, self._home, loaded, number)
            yield from segment.appends(chain, behind)
            chain = loaded.segments.chain_behind(number, loaded.tail)


class _Segment:
    """One segment and its index."""

    def __init__(self, disk: Disk, home: str, loaded: LoadedStream, number: int) -> None:
        self._disk = disk
        self._number = number
        stream_id = loaded.sidecar.id
        self._index = f"{home}/{names.index_file(number, stream_id)}"
        self._file = f"{home}/{names.segment_file(number, stream_id)}"
        self._size = loaded.segments.size_of(number, loaded.tail)
        self._chain = loaded.segments.chain_behind(number, loaded.tail)

    def appends(self, chain: bytes, behind: Offset) -> Iterator[Appended]:
        """Those that end behind an offset, in what continues a running checksum."""
        text, _ = text_at(self._disk, self._index)
        first = first_line(text, chain)
        if not isinstance(first, Opened):
            raise Damaged(f"{self._index}: line 1 does not continue the stream", _REPAIR)
        chain, position = first.chain, 0
        with SegmentReader(self._disk, self._file) as reader:
            for found in each_line_behind(self._disk, self._index, first.tail):
                if chain == self._chain or not isinstance(found, Line):
                    break
                line, chain, position = found.line, found.chain, found.line.end
                is_close = line.closed and position == found.begin
                if is_close or Offset(self._number, position) > behind:
                    yield Appended(
                        self._number,
                        found.begin,
                        position,
                        line.time,
                        line.claim(),
                        line.closed,
                        self._bytes(reader, found),
                    )
        if position != self._size or chain != self._chain:
            raise Damaged(f"{self._index}: its lines end at byte {position}", _REPAIR)

    def _bytes(self, reader: SegmentReader, found: Line) -> bytes:
        data = reader.bytes_of(found)
        if f"{crc32(data):08x}" != found.line.crc32 or len(data) != found.line.end - found.begin:
            place = f"bytes {found.begin} to {found.line.end}"
            raise Damaged(f"{self._file}: {place} are not what they were", _REPAIR)
        return data
