"""Reading one stream's directory: where the stream ends, and whether its files are sound.

A stream is the longest run from its beginning in which files continue each other and the bytes
are present.  What ends early is *torn*: normal, reported in ``notes``, left out.  Where later files
prove that there was more, the stream is *incomplete* (``missing``): it is served as far as it goes.
A complete line that does not continue the running checksum, although the file does, is *damage*:
:class:`DamagedFiles`, and nothing is cut.
"""

from __future__ import annotations

import errno
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from durable_streams.filestore.files import disk as disks
from durable_streams.filestore.files import names
from durable_streams.filestore.files.fork_marks import is_forked
from durable_streams.filestore.files.index_files import chain_at, continuation, line_at, time_before
from durable_streams.filestore.files.missing import files_of, what_is_missing
from durable_streams.filestore.files.segments import UNSEALED, Segments, beginning_at
from durable_streams.filestore.format import index as index_format
from durable_streams.filestore.format import sidecar as sidecar_format
from durable_streams.filestore.format.index import (
    BadLine,
    Line,
    NewerIndex,
    Opening,
    Tail,
)
from durable_streams.filestore.format.sidecar import BadSidecar, NewerSidecar, Sidecar

if TYPE_CHECKING:
    from durable_streams.filestore.files.disk import Disk, StrPath
    from durable_streams.filestore.files.missing import Files
    from durable_streams.filestore.format.journal import AppendRecord
    from durable_streams.rules.producers import ProducerState

log = logging.getLogger("durable_streams.filestore.files")

__all__ = [
    "DamagedFiles",
    "DamagedSidecar",
    "LoadedStream",
    "NewerFiles",
    "chain_at",
    "continuation",
    "end_before",
    "load",
    "load_sidecar",
]


class DamagedFiles(Exception):
    """Bytes that are all there and fail their checksum; names file and position."""


class DamagedSidecar(DamagedFiles):
    """Nothing tells which stream the files are of."""


class NewerFiles(OSError):
    """A newer version wrote them: neither damaged nor usable, and nothing of ours may replace them.

    It is an ``OSError`` so that whoever writes to the stream stops, as where the disk refuses.
    """

    def __init__(self, file: StrPath, text: str) -> None:
        super().__init__(errno.ENOTSUP, text, str(file))

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


@dataclass(slots=True)
class LoadedStream:
    """A stream as its files prove it.

    ``notes``: what was torn or left out, for the log.  ``missing``: of an incomplete stream,
    which file is gone or cut.
    ``forked``: it has, or had, forks.
    """

    sidecar: Sidecar
    tail: Tail
    segments: Segments = UNSEALED
    producers: dict[str, ProducerState] = field(default_factory=dict)
    last_append_ms: int = 0
    cut: bool = False
    notes: list[str] = field(default_factory=list)
    missing: str = ""
    forked: bool = False


def load_sidecar(disk: Disk, directory: StrPath) -> Sidecar | None:
    """The sidecar, None if the directory holds no stream.

    Raises :class:`DamagedSidecar` or :class:`NewerFiles`.
    """
    data = disks.read_file(disk, f"{directory}/{names.SIDECAR}")
    if data is None:
        return None
    try:
        return sidecar_format.unpack(data)
    except NewerSidecar as error:
        raise NewerFiles(f"{directory}/{names.SIDECAR}", str(error)) from None
    except BadSidecar as error:
        raise DamagedSidecar(f"{directory}/{names.SIDECAR}: {error}") from None


def load(disk: Disk, directory: StrPath, *, verify: bool = False) -> LoadedStream | None:
    """Read a stream's state; None if the directory holds no stream (whose log tells if it did).

    ``verify``: writes may have been lost that were acknowledged unsynced, so the bytes of the last
    segment are read, and what fails its checksum ends the stream instead of damaging it (``cut``).
    """
    sidecar = load_sidecar(disk, directory)
    if sidecar is None:
        if lacks_sidecar(disk, directory):
            log.error("%s: incomplete: %s is gone, segments are there", directory, names.SIDECAR)
        return None
    files = files_of(disk, directory, sidecar.id)
    root = bytes.fromhex(sidecar.root)
    first = sidecar.first
    loaded = LoadedStream(sidecar, Tail(first, 0, 0, root), beginning_at(first))
    loaded.forked = bool(sidecar.forks) or is_forked(disk, directory, sidecar.id)
    found = _continued(disk, directory, loaded, files, verify)
    if found is not None:
        opening, chain = found
        loaded.producers = _producers(disk, directory, loaded, opening)
        last = loaded.segments.last
        loaded.tail = Tail(last, 0, 0, chain, stream_seq=opening.stream_seq)
        _follow_lines(disk, directory, loaded, verify)
    if not verify:  # else what was lost is cut off, whatever it was
        missing = what_is_missing(disk, directory, sidecar.id, loaded.tail, files)
        if missing is not None and is_still_there(disk, directory, sidecar.id):
            loaded.missing = str(missing)
    return loaded


def _producers(
    disk: Disk, directory: StrPath, loaded: LoadedStream, opening: Opening
) -> dict[str, ProducerState]:
    """The producers that an index opens with; one of format 1 does not say when they appended."""
    if opening.index != 1 or not opening.producers or opening.previous is None:
        return opening.known_producers(0)
    stream_id, before, at = loaded.sidecar.id, loaded.segments.last - 1, opening.previous[1]
    last_ms = time_before(disk, directory, stream_id, before, at)
    if last_ms is None:
        name = names.index_file(before, stream_id)
        raise DamagedFiles(f"{name}: the line that ends at byte {at} tells no time")
    return opening.known_producers(last_ms)


def lacks_sidecar(disk: Disk, directory: StrPath) -> set[str]:
    """Ids of the streams whose files are in a directory without a sidecar; empty if it has one."""
    found = disk.names(directory)
    if names.SIDECAR in found or disk.status(f"{directory}/{names.SIDECAR}") is not None:
        return set()
    return {file[1] for file in map(names.parse_file, found) if file is not None}


def is_still_there(disk: Disk, directory: StrPath, stream_id: str) -> bool:
    """Whether a stream was not deleted while its files were looked at."""
    try:
        sidecar = load_sidecar(disk, directory)
    except DamagedFiles:
        return True
    return sidecar is not None and sidecar.id == stream_id


def _continued(
    disk: Disk, directory: StrPath, loaded: LoadedStream, files: Files, verify: bool
) -> tuple[Opening, bytes] | None:
    """The opening of the last index that continues those before it; fills ``segments``."""
    present = {number for number, kind in files if kind == "idx"}
    best: tuple[Opening, bytes] | None = None
    number = loaded.segments.first
    while number in present:
        found = _opening(disk, directory, loaded, number, verify=verify)
        if found is None:
            break
        if verify and best and not _is_sound(disk, directory, loaded, best, found[0]):
            loaded.cut = True
            loaded.segments = loaded.segments.cut(number - 1)
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
    line = line_at(disk, f"{directory}/{name}")
    if line is None:
        return None
    try:
        opening, chain = index_format.unpack_opening(line)
    except NewerIndex as error:
        raise NewerFiles(f"{directory}/{name}", str(error)) from None
    except BadLine as error:
        if verify:
            loaded.cut = True
            return None
        raise DamagedFiles(f"{name}, line 1: {error}") from None
    if not loaded.sidecar.may_say(number, opening.segment):
        raise DamagedFiles(f"{name}, line 1: is of segment {opening.segment}")
    if number == loaded.segments.first:
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
    loaded.segments = loaded.segments.sealed(opening.previous[0], ending)
    return opening, chain


def end_before(record: AppendRecord) -> Tail:
    """Where the stream ends that a record continues."""
    if record.index_position or not record.segment:
        return Tail(record.segment, record.position, record.index_position, record.chain)
    opening, _ = index_format.unpack_opening(record.index[: record.index.index(b"\n")])
    if opening.previous is None:  # it begins the stream
        return Tail(record.segment, 0, 0, record.chain)
    return Tail(record.segment - 1, *opening.previous, record.chain)


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
        line.change(loaded.producers)
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
    _, chain = found
    number = loaded.segments.last - 1
    trial = LoadedStream(loaded.sidecar, Tail(number, 0, 0, chain))
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
