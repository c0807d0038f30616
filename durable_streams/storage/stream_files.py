"""Reading one stream's directory: where the stream ends, and whether its files are sound.

A stream is the longest run from its beginning in which files continue each other and the bytes
are present.  What ends early is *torn*: normal, reported in ``notes``, left out.  A complete line
that does not continue the running checksum, although the file does, is *damage*:
:class:`DamagedFiles`, and nothing is cut.
"""

from __future__ import annotations

import re
import sys
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from durable_streams.storage import disk as disks
from durable_streams.storage import names
from durable_streams.storage.format import index as index_format
from durable_streams.storage.format import sidecar as sidecar_format
from durable_streams.storage.format.index import BadLine, Line, Opening, Tail
from durable_streams.storage.format.sidecar import BadSidecar, Sidecar

if TYPE_CHECKING:
    from durable_streams.storage.disk import Disk, StrPath
    from durable_streams.storage.format.journal import AppendRecord

_KEPT_BYTES: Final = 512  # of the ends of one segment beside the ends
_CHAIN_TEXT: Final = 64  # bytes at the end of a line that hold its chain field
_ENDS: Final = re.compile(rb'^\{"end":([0-9]+),', re.MULTILINE)


class DamagedFiles(Exception):
    """Bytes that are all there and fail their checksum; names file and position."""


class DamagedSidecar(DamagedFiles):
    """Nothing tells which stream the files are of."""


@dataclass(slots=True)
class LoadedStream:
    """A stream as its files prove it.

    ``sizes``: final bytes of every segment before the last.  ``producers``: epoch and highest
    sequence.  ``notes``: what was torn or left out, for the log.
    """

    sidecar: Sidecar
    tail: Tail
    sizes: list[int] = field(default_factory=list)
    producers: dict[str, tuple[int, int]] = field(default_factory=dict)
    last_append_ms: int = 0
    cut: bool = False
    notes: list[str] = field(default_factory=list)


def load_sidecar(disk: Disk, directory: StrPath) -> Sidecar | None:
    """The sidecar, None if the directory holds no stream; :class:`DamagedSidecar`."""
    data = disks.read_file(disk, f"{directory}/{names.SIDECAR}")
    if data is None:
        return None
    try:
        return sidecar_format.unpack(data)
    except BadSidecar as error:
        raise DamagedSidecar(f"{directory}/{names.SIDECAR}: {error}") from None


def load(disk: Disk, directory: StrPath, *, verify: bool = False) -> LoadedStream | None:
    """Read a stream's state; None if the directory holds no stream.

    ``verify``: writes may have been lost that were acknowledged unsynced, so the bytes of the last
    segment are read, and what fails its checksum ends the stream instead of damaging it (``cut``).
    """
    sidecar = load_sidecar(disk, directory)
    if sidecar is None:
        return None
    root = bytes.fromhex(sidecar.root)
    loaded = LoadedStream(sidecar, Tail(0, 0, 0, root))
    last = _continued(disk, directory, loaded, verify)
    if last is not None:
        opening, chain = last
        loaded.producers = dict(opening.producers)
        loaded.tail = Tail(opening.segment, 0, 0, chain, stream_seq=opening.stream_seq)
        _follow_lines(disk, directory, loaded, verify)
    return loaded


def _continued(
    disk: Disk, directory: StrPath, loaded: LoadedStream, verify: bool
) -> tuple[Opening, bytes] | None:
    """The opening of the last index that continues those before it; fills ``sizes``."""
    present = {
        parsed[0]
        for name in disk.names(directory)
        if (parsed := names.parse_file(name))
        and parsed[1] == loaded.sidecar.id
        and parsed[2] == "idx"
    }
    best: tuple[Opening, bytes] | None = None
    number = 0
    while number in present:
        found = _opening(disk, directory, loaded, number, verify=verify)
        if found is None:
            break
        if verify and best and not _is_sound(disk, directory, loaded, best, found[0]):
            loaded.cut = True
            loaded.sizes.pop()
            break
        best = found
        number += 1
    beyond = sorted(other for other in present if other >= number)
    if beyond:
        loaded.notes.append(f"segments from {beyond[0]} on do not continue the stream: left out")
    return best


def _opening(
    disk: Disk, directory: StrPath, loaded: LoadedStream, number: int, *, verify: bool
) -> tuple[Opening, bytes] | None:
    stream_id = loaded.sidecar.id
    name = names.index_file(number, stream_id)
    line = _line_at(disk, f"{directory}/{name}")
    if line is None:
        return None
    try:
        opening, chain = index_format.unpack_opening(line)
    except BadLine as error:
        if verify:
            loaded.cut = True
            return None
        raise DamagedFiles(f"{name}, line 1: {error}") from None
    if opening.segment != number:
        raise DamagedFiles(f"{name}, line 1: is of segment {opening.segment}")
    if number == 0:
        return (opening, chain) if opening.continues == loaded.sidecar.root else None
    if opening.previous is None:
        raise DamagedFiles(f"{name}, line 1: names no previous segment")
    before = f"{directory}/{names.segment_file(number - 1, stream_id)}"
    status = disk.status(before)
    if status is None or status.size_bytes < opening.previous[0]:
        return None
    ending = chain_at(disk, directory, stream_id, number - 1, opening.previous[1])
    if ending is None or ending.hex() != opening.continues:
        return None
    loaded.sizes.append(opening.previous[0])
    return opening, chain


def _line_at(disk: Disk, path: StrPath, position: int = 0) -> bytes | None:
    """The line that begins at a position, without its newline; None if it is not all there."""
    try:
        fd = disk.open_read(path)
    except FileNotFoundError:
        return None
    try:
        data, size = b"", 4096
        while b"\n" not in data:
            data = disk.pread(fd, size, position)
            if len(data) < size and b"\n" not in data:
                return None
            size *= 8
    finally:
        disk.close(fd)
    return data[: data.index(b"\n")]


def chain_at(
    disk: Disk, directory: StrPath, stream_id: str, segment: int, index_position: int
) -> bytes | None:
    """The chain that an index states right before a position; None if no line ends there."""
    try:
        fd = disk.open_read(f"{directory}/{names.index_file(segment, stream_id)}")
    except FileNotFoundError:
        return None
    try:
        begin = max(0, index_position - _CHAIN_TEXT)
        text = disk.pread(fd, index_position - begin, begin)
    finally:
        disk.close(fd)
    return index_format.chain_at_end(text) if len(text) == index_position - begin else None


def end_before(record: AppendRecord) -> Tail:
    """Where the stream ends that a record continues."""
    if record.index_position or not record.segment:
        return Tail(record.segment, record.position, record.index_position, record.chain)
    opening, _ = index_format.unpack_opening(record.index[: record.index.index(b"\n")])
    if opening.previous is None:
        raise DamagedFiles("a record begins a segment and names none before it")
    return Tail(record.segment - 1, *opening.previous, record.chain)


def continuation(disk: Disk, directory: StrPath, stream_id: str, end: Tail) -> bytes | None:
    """The index text of the append that the files prove right behind a place; None without one.

    Its line is whole, continues the chain at ``end`` and has its bytes.  If it begins a segment,
    the opening is part of the text.
    """
    if not end.index_position:
        return _begun_behind(disk, directory, stream_id, end, 0)
    begun = _begun_behind(disk, directory, stream_id, end, end.segment + 1)
    return begun or _line_behind(disk, directory, stream_id, end)


def _begun_behind(
    disk: Disk, directory: StrPath, stream_id: str, end: Tail, segment: int
) -> bytes | None:
    """The opening and first line of a segment, if they continue a place so."""
    text = _line_at(disk, f"{directory}/{names.index_file(segment, stream_id)}")
    if text is None:
        return None
    try:
        opening, chain = index_format.unpack_opening(text)
    except BadLine:
        return None
    if opening.continues != end.chain.hex():
        return None
    text += b"\n"
    line = _line_behind(disk, directory, stream_id, Tail(segment, 0, len(text), chain))
    return text + line if line is not None else None


def _line_behind(disk: Disk, directory: StrPath, stream_id: str, end: Tail) -> bytes | None:
    """The line behind one in the same index, if it is whole, continues it and has its bytes."""
    index = f"{directory}/{names.index_file(end.segment, stream_id)}"
    text = _line_at(disk, index, end.index_position)
    if text is None:
        return None
    try:
        line, _ = index_format.unpack_line(text, end.chain)
    except BadLine:
        return None
    status = disk.status(f"{directory}/{names.segment_file(end.segment, stream_id)}")
    return text + b"\n" if (status.size_bytes if status else 0) >= line.end else None


def _follow_lines(disk: Disk, directory: StrPath, loaded: LoadedStream, verify: bool) -> None:
    """Follow the lines of the last index as far as they and their bytes are there."""
    stream_id, number = loaded.sidecar.id, loaded.tail.segment
    name = names.index_file(number, stream_id)
    data = disks.read_file(disk, f"{directory}/{name}") or b""
    status = disk.status(f"{directory}/{names.segment_file(number, stream_id)}")
    size = status.size_bytes if status else 0
    lines = data.split(b"\n")
    position = len(lines[0]) + 1
    tail = msgspec.structs.replace(loaded.tail, index_position=position)
    if lines[-1]:
        loaded.notes.append(f"{name}: its last line is torn")
    for row in range(1, len(lines) - 1):
        text = lines[row]
        try:
            line, chain = index_format.unpack_line(text, tail.chain)
        except BadLine as error:
            if not verify:
                raise DamagedFiles(f"{name}, line {row + 1}: {error}") from None
            loaded.cut = True
            break
        if line.end > size:
            loaded.notes.append(f"{name}: its segment ends before line {row + 1}")
            loaded.cut = verify
            break
        if verify and not _has_checksum(disk, directory, loaded, tail.position, line):
            loaded.cut = True
            break
        position += len(text) + 1
        tail = _after(tail, line, chain, position)
        if line.producer is not None:
            loaded.producers[line.producer[0]] = line.producer[1:]
        loaded.last_append_ms = line.time
    if size > tail.position:
        loaded.notes.append(f"{size - tail.position} bytes of segment {number} have no index line")
    loaded.tail = tail


def _is_sound(
    disk: Disk,
    directory: StrPath,
    loaded: LoadedStream,
    found: tuple[Opening, bytes],
    following: Opening,
) -> bool:
    """Whether a segment has every line and all bytes that the one following it builds on."""
    opening, chain = found
    trial = LoadedStream(loaded.sidecar, Tail(opening.segment, 0, 0, chain))
    _follow_lines(disk, directory, trial, verify=True)
    return following.previous is not None and trial.tail.index_position >= following.previous[1]


def _has_checksum(
    disk: Disk, directory: StrPath, loaded: LoadedStream, begin: int, line: Line
) -> bool:
    """Whether the bytes of an append are those its line was written for."""
    if line.end == begin:  # there may be no file yet
        return line.crc32 == "00000000"
    path = f"{directory}/{names.segment_file(loaded.tail.segment, loaded.sidecar.id)}"
    fd = disk.open_read(path)
    try:
        data = disk.pread(fd, line.end - begin, begin)
    finally:
        disk.close(fd)
    return f"{index_format.checksum(data):08x}" == line.crc32


def _after(tail: Tail, line: Line, chain: bytes, index_position: int) -> Tail:
    return Tail(
        tail.segment,
        line.end,
        index_position,
        chain,
        line.closed,
        line.claim() if line.closed else None,
        tail.stream_seq if line.stream_seq is None else line.stream_seq,
    )


class AppendEnds:
    """Where each append of one segment ends, in stream order.

    Grows with the index: :meth:`extend` reads what was added since, until it is ``complete``.
    """

    __slots__ = ("complete", "ends", "scanned")

    def __init__(self) -> None:
        self.ends: array[int] = array("Q")
        self.scanned = 0
        self.complete = False

    def copy(self) -> AppendEnds:
        """A copy to extend in another thread."""
        other = AppendEnds()
        other.ends, other.scanned = self.ends[:], self.scanned
        return other

    @property
    def size_bytes(self) -> int:
        """Memory in use, by whoever keeps it as well."""
        return sys.getsizeof(self.ends) + _KEPT_BYTES

    def extend(self, text: bytes) -> None:
        """Take over whole index lines that follow those scanned before."""
        self.ends.extend(map(int, _ENDS.findall(text)))
        self.scanned += len(text)


def scan_ends(disk: Disk, path: StrPath, ends: AppendEnds, index_position: int) -> None:
    """Read an index up to ``index_position`` (the end of a line) into ``ends``."""
    fd = disk.open_read(path)
    try:
        ends.extend(disk.pread(fd, index_position - ends.scanned, ends.scanned))
    finally:
        disk.close(fd)
