"""The streams of a data directory that a server has open: to be looked at, without its lock.

What is read is the streams' files, which have what was acknowledged a moment later: what is in the
journal alone is seen when it is in them.  Nothing is changed, not even a time of use.
Of records nothing is known here: the server is asked for these.

Blocking code, in a program that does nothing else meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import durable_streams.arguments as arguments  # noqa: PLR0402 - not from the root, which knows us
from durable_streams.details import Details
from durable_streams.filestore.files.directory import Layout, absolute
from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.files.names import segment_file
from durable_streams.filestore.files.stream_files import DamagedFiles, load
from durable_streams.filestore.files.stream_rows import row_on_disk
from durable_streams.listing import ListedStream, listed_stream
from durable_streams.messages import Message
from durable_streams.model.errors import (
    InvalidOffset,
    StreamDamaged,
    StreamNotFound,
    UnexpectedAnswer,
)
from durable_streams.model.offsets import ZERO, Offset, Start
from durable_streams.model.paths import path_text
from durable_streams.outcomes import Metadata
from durable_streams.rules.json_borders import Borders
from durable_streams.rules.media_type import is_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from durable_streams.history import RecordsResult
    from durable_streams.model.paths import StreamPath
    from durable_streams.model.results import StreamRow

_LOOK_S: Final = 0.2
_PIECE_BYTES: Final = 1024 * 1024


class HeldStreams:
    """The verbs that only look, as :class:`.Streams` has them."""

    def __init__(self, root: Path) -> None:
        self._disk = Disk()
        self._layout = Layout(self._disk, absolute(root))

    async def list(self, prefix: str = "") -> AsyncIterator[ListedStream]:
        """All streams at and below a prefix, in the order of their paths."""
        wanted = arguments.prefix("prefix", prefix)
        found = [
            path
            for home in self._layout.stream_directories(lambda *_: None, lambda _: None)
            if (path := self._layout.stream_path(home)) and path[: len(wanted)] == wanted
        ]
        for path in sorted(found):
            try:
                row = self._row(path)
            except (DamagedFiles, OSError) as error:
                yield ListedStream(path_text(path), error=str(error))
                continue
            if row is not None:
                yield listed_stream(row)

    async def get_metadata(self, path: str) -> Metadata:
        """What is known of a stream."""
        found = listed_stream(self.row(arguments.path("path", path)))
        return Metadata(
            found.path,
            found.content_type,
            found.next_offset,
            found.closed,
            found.ttl_s,
            found.expires_at,
            found.created_ms,
        )

    async def details(self, path: str) -> Details:
        """The same, and how it is kept; of its producers and readers the server knows."""
        row = self.row(arguments.path("path", path))
        begin, sizes = self.segments(row)
        shown = tuple(sizes[number] for number in sorted(sizes))
        return Details(
            listed_stream(row), begin.token, segments=len(shown), segment_bytes=shown[-100:]
        )

    async def records(self, path: str, *_: object, **__: object) -> RecordsResult:
        """Nobody but the server has them."""
        del path
        self._refuse()

    def tail(self, path: str, offset: str = "-1", *, live: bool = True) -> HeldTail:
        """What is there from an offset on, and what comes."""
        start = arguments.start("offset", offset)
        return HeldTail(self, arguments.path("path", path), start, live=live)

    def _refuse(self) -> NoReturn:
        raise UnexpectedAnswer(
            f"{self._layout.root} is open in a server, which has to be asked for times and "
            "producers: use its URL"
        )

    def row(self, path: StreamPath) -> StreamRow:
        """What files say of a stream; ``StreamNotFound``, ``StreamDamaged``."""
        try:
            found = self._row(path)
        except DamagedFiles as error:
            raise StreamDamaged(path_text(path), str(error)) from None
        except FileNotFoundError:
            found = None
        if found is None:
            raise StreamNotFound(path_text(path))
        return found

    def _row(self, path: StreamPath) -> StreamRow | None:
        directory = self._layout.stream_directory(path)
        return row_on_disk(self._disk, directory, path, int(time.time() * 1000))

    def segments(self, row: StreamRow) -> tuple[Offset, dict[int, int]]:
        """Where a stream begins, and how many bytes of each segment are its."""
        loaded = load(self._disk, self._layout.stream_directory(row.path))
        if loaded is None:
            raise StreamNotFound(path_text(row.path))
        begin = loaded.segments.begin
        sizes = dict(enumerate(loaded.segments.sizes, begin.segment))
        sizes[loaded.tail.segment] = loaded.tail.position
        return begin, sizes

    def bytes_of(self, row: StreamRow, place: Offset, size: int) -> bytes:
        """Bytes of one segment."""
        file = segment_file(place.segment, row.id)
        fd = self._disk.open_read(f"{self._layout.stream_directory(row.path)}/{file}")
        try:
            return self._disk.pread(fd, size, place.position)
        finally:
            self._disk.close(fd)


class HeldTail:
    """A reader of one of them; looks again and again for what comes."""

    def __init__(
        self, streams: HeldStreams, path: StreamPath, start: Offset | Start, *, live: bool
    ) -> None:
        self._streams = streams
        self._path = path
        self._start = start
        self._live = live
        self._place: Offset | None = None
        self._sizes: dict[int, int] = {}
        self._rest = b""
        self._borders = Borders()

    async def some(self) -> list[Message]:
        """What is there, or comes; nothing at the end."""
        while True:
            row = self._streams.row(self._path)
            place = self._place if self._place is not None else self._begin(row)
            if place != row.tail:
                found = self._read(row, place)
                if found:
                    return found
            elif row.closed or not self._live:
                return []
            else:
                await asyncio.sleep(_LOOK_S)

    async def aclose(self) -> None:
        """End it."""

    def _begin(self, row: StreamRow) -> Offset:
        begin, self._sizes = self._streams.segments(row)
        if self._start is Start.NOW:
            place = row.tail
        elif isinstance(self._start, Start) or self._start == ZERO:
            place = begin
        else:
            place = self._start
        if not begin <= place <= row.tail:
            raise InvalidOffset(f"the stream has no offset {place.token}: use one it has")
        self._place = place
        return place

    def _read(self, row: StreamRow, place: Offset) -> list[Message]:
        """The next piece; none if it is in the middle of a message, or the end of a segment."""
        if place.segment not in self._sizes or place.segment == max(self._sizes):
            _, self._sizes = self._streams.segments(row)
        left = self._sizes.get(place.segment, 0) - place.position
        if left <= 0:
            if place.segment < row.tail.segment:
                self._place = Offset(place.segment + 1, 0)
            return []
        data = self._streams.bytes_of(row, place, min(left, _PIECE_BYTES))
        self._place = end = Offset(place.segment, place.position + len(data))
        if not is_json(row.content_type):
            return [Message(data, end.token)] if data else []
        return self._messages(data, end)

    def _messages(self, data: bytes, end: Offset) -> list[Message]:
        """Those that end in a piece; what is begun in it waits for the next one."""
        made: list[Message] = []
        before = end.position - len(data)
        begin = 0
        for border in self._borders.feed(data):
            message = self._rest + data[begin : border - 1]
            made.append(Message(message, Offset(end.segment, before + border).token))
            self._rest, begin = b"", border
        self._rest += data[begin:]
        return made


def listening(pid: int) -> list[str]:
    """Where a process of this machine accepts connections, by what Linux tells; perhaps nothing."""
    found: list[str] = []
    with suppress(OSError, ValueError):
        sockets = {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()}
        for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                address, port = fields[1].split(":")
                host = ".".join(str(byte) for byte in reversed(bytes.fromhex(address)))
                found.append(f"{host}:{int(port, 16)}")
    return found
