"""Check one stream: every line of its indexes and every byte of its segments.

Where :mod:`durable_streams.storage.stream_files` reads as little as a server needs, this reads
everything, by the same rules: what ends early is torn, what is there and fails a checksum is
damage.  It stops at the first of them, as nothing behind it can be told from chance.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from durable_streams.maintenance.findings import Checked, Finding, Level
from durable_streams.protocol.offsets import Offset
from durable_streams.storage import disk as disks
from durable_streams.storage import names
from durable_streams.storage.format import index as index_format
from durable_streams.storage.format.checksum import crc32
from durable_streams.storage.format.index import BadLine, Line, Opening
from durable_streams.storage.stream_files import DamagedFiles, load_sidecar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from durable_streams.storage.disk import Disk
    from durable_streams.storage.format.sidecar import Sidecar

_PIECE: Final = 1 << 20  # bytes read at a time


@dataclass(slots=True)
class End:
    """How far a stream was proved: segment, bytes of it and of its index, and what came before.

    ``producers`` and ``stream_seq`` are what the lines so far add up to.
    """

    segment: int = 0
    position: int = 0
    index_position: int = 0
    chain: bytes = b""
    producers: dict[str, tuple[int, int]] = field(default_factory=dict)
    stream_seq: str | None = None
    closed: bool = False

    @property
    def offset(self) -> str:
        """The end as an offset."""
        return Offset(self.segment, self.position).token


class _Stop(Exception):
    """The stream is proved up to here and not beyond."""


class StreamCheck:
    """The check of one stream's directory; ``sidecar`` and ``end`` tell what was proved.

    ``sidecar`` is None where it is missing or damaged; nothing else can be checked then.
    ``refusal``: why the disk did not let it be read.
    """

    def __init__(
        self, disk: Disk, directory: Path, stream: str, report: Callable[[Finding], None]
    ) -> None:
        self._disk = disk
        self._directory = directory
        self._stream = stream
        self._report = report
        self.sidecar: Sidecar | None = None
        self.end = End()
        self.is_damaged = False
        self.refusal: OSError | None = None

    def run(self, checked: Checked) -> None:
        """Check everything; ``checked`` is counted up."""
        checked.streams += 1
        try:
            self._run(checked)
        except OSError as error:
            if not self._disk.is_directory(self._directory):
                checked.streams -= 1  # deleted meanwhile, by a server
                return
            self.refusal = error
            text = f"the disk refuses to read it: {error}"
            finding = Finding(Level.DAMAGE, self._directory, text, "", self._stream)
            self._report(finding)

    def _run(self, checked: Checked) -> None:
        try:
            self.sidecar = load_sidecar(self._disk, self._directory)
        except DamagedFiles as error:
            text = str(error).partition(": ")[2]
            self._damage(self._directory / names.SIDECAR, "", text, "the stream answers 500")
            return
        if self.sidecar is None:
            self._note(self._directory, "", "there is no sidecar, so it is no stream")
            return
        self.end.chain = bytes.fromhex(self.sidecar.root)
        with suppress(_Stop):
            self._follow(self.sidecar, checked)
        self._look_at_the_rest(self.sidecar)

    # -- findings --------------------------------------------------------------------------

    def _note(self, file: Path, place: str, text: str) -> None:
        self._report(Finding(Level.NOTE, file, text, place, self._stream))

    def _damage(self, file: Path, place: str, text: str, meaning: str) -> None:
        self.is_damaged = True
        self._report(Finding(Level.DAMAGE, file, text, place, self._stream, meaning))

    # -- the chain of files ----------------------------------------------------------------

    def _file(self, number: int, kind: str) -> Path:
        assert self.sidecar is not None
        name = names.segment_file if kind == "seg" else names.index_file
        return self._directory / name(number, self.sidecar.id)

    def _follow(self, sidecar: Sidecar, checked: Checked) -> None:
        present = {
            (parsed[0], parsed[2])
            for name in self._disk.names(self._directory)
            if (parsed := names.parse_file(name)) and parsed[1] == sidecar.id
        }
        number = 0
        while (number, "idx") in present:
            data = disks.read_file(self._disk, self._file(number, "idx")) or b""
            self._segment(sidecar, number, data, checked)
            number += 1
        last = max((other for other, _ in present), default=-1)
        if last >= number:
            self._note(
                self._file(last, "seg"), "", f"segments from {number} on do not continue the stream"
            )

    def _segment(self, sidecar: Sidecar, number: int, data: bytes, checked: Checked) -> None:
        """One segment and its index; raises :class:`_Stop` where the stream ends for good."""
        file = self._file(number, "idx")
        lines = data.split(b"\n")
        torn = lines.pop()
        if not lines:
            self._torn(file, 1, torn)
            raise _Stop
        self._open(sidecar, number, lines[0])
        self.end.index_position = len(lines[0]) + 1
        with _Segment(self._disk, self._file(number, "seg")) as segment:
            for row, text in enumerate(lines[1:], start=2):
                self._line(file, row, text, segment)
                checked.appends += 1
            checked.data_bytes += self.end.position
            if segment.size > self.end.position:
                extra = segment.size - self.end.position
                place = f"byte {self.end.position}"
                self._note(self._file(number, "seg"), place, f"{extra} bytes have no index line")
        if torn:
            self._torn(file, len(lines) + 1, torn)

    def _open(self, sidecar: Sidecar, number: int, text: bytes) -> None:
        """The first line of an index, against everything before it."""
        file, end = self._file(number, "idx"), self.end
        breaks = f"the stream cannot be read from {end.offset} on"
        try:
            opening, chain = index_format.unpack_opening(text)
        except BadLine as error:
            self._damage(file, "line 1", str(error), "the stream answers 500")
            raise _Stop from None
        if opening.continues != end.chain.hex() or opening.segment != number:
            self._note(file, "line 1", "it does not continue the stream: of another time")
            raise _Stop
        previous = (end.position, end.index_position) if number else None
        if opening.previous != previous:
            self._damage(file, "line 1", "it names other sizes of the segment before", breaks)
            raise _Stop
        if not self._has_right_producers(sidecar, opening):
            self._report(
                Finding(
                    Level.WARNING,
                    file,
                    "its producers are not those of the lines before",
                    "line 1",
                    self._stream,
                    "a producer's retry may be refused, or stored twice",
                )
            )
        self.end = End(number, 0, 0, chain, dict(opening.producers), opening.stream_seq, end.closed)

    def _has_right_producers(self, sidecar: Sidecar, opening: Opening) -> bool:
        end = self.end
        if (opening.producers, opening.stream_seq) == (end.producers, end.stream_seq):
            return True
        if sidecar.fork is None:
            return False
        # A fork begins without its source's producers in the piece that its fork point lies in.
        inherited = Offset.parse(sidecar.fork.point).segment
        return opening.segment <= inherited and not opening.producers and not opening.stream_seq

    def _line(self, file: Path, row: int, text: bytes, segment: _Segment) -> None:
        """One append: its line continues the chain, and its bytes fit its checksum."""
        end = self.end
        meaning = f"the stream answers 500, or ends at {end.offset}"
        try:
            line, chain = index_format.unpack_line(text, end.chain)
        except BadLine as error:
            self._damage(file, f"line {row}", str(error), meaning)
            raise _Stop from None
        if line.end < end.position:
            self._damage(file, f"line {row}", "it ends before the line above it", meaning)
            raise _Stop
        if line.end > segment.size:
            self._note(
                segment.file,
                f"byte {segment.size}",
                f"it ends before line {row} of its index, which says {line.end} bytes",
            )
            raise _Stop
        if f"{segment.checksum(end.position, line.end):08x}" != line.crc32:
            self._damage(
                segment.file,
                f"bytes {end.position} to {line.end}",
                f"they fail the checksum in line {row} of the index",
                f"readers get wrong bytes behind {end.offset}",
            )
            raise _Stop
        self._take(line, chain, len(text) + 1)

    def _torn(self, file: Path, row: int, text: bytes) -> None:
        """The end of an index that is no line: torn, unless only its newline is wrong."""
        try:
            if row == 1:
                index_format.unpack_opening(text[:-1])
            else:
                index_format.unpack_line(text[:-1], self.end.chain)
        except BadLine:
            self._note(file, f"line {row}", "it is torn")
        else:
            meaning = f"the stream ends at {self.end.offset}"
            self._damage(file, f"line {row}", "it ends in a byte that is no newline", meaning)

    def _take(self, line: Line, chain: bytes, size: int) -> None:
        end = self.end
        end.position, end.chain = line.end, chain
        end.index_position += size
        if line.producer is not None:
            end.producers[line.producer[0]] = line.producer[1:]
        if line.stream_seq is not None:
            end.stream_seq = line.stream_seq
        end.closed = end.closed or line.closed

    def _look_at_the_rest(self, sidecar: Sidecar) -> None:
        for name in sorted(self._disk.names(self._directory)):
            parsed = names.parse_file(name)
            if name != names.SIDECAR and (parsed is None or parsed[1] != sidecar.id):
                self._note(self._directory / name, "", "it is not a file of this stream")


class _Segment:
    """A segment file, read from its beginning to its end; as good as empty if it is missing."""

    def __init__(self, disk: Disk, file: Path) -> None:
        self.file = file
        self._disk = disk
        self._fd: int | None = None
        self.size = 0

    def __enter__(self) -> Self:
        try:
            self._fd = self._disk.open_read(self.file)
        except FileNotFoundError:
            return self
        self.size = self._disk.file_status(self._fd).size_bytes
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd is not None:
            self._disk.close(self._fd)

    def checksum(self, begin: int, end: int) -> int:
        """The checksum of the bytes from ``begin`` to ``end``."""
        crc = 0
        while begin < end:
            assert self._fd is not None
            piece = self._disk.pread(self._fd, min(_PIECE, end - begin), begin)
            if not piece:
                break
            crc = crc32(piece, crc)
            begin += len(piece)
        return crc
