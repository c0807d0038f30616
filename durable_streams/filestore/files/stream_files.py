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
from typing import TYPE_CHECKING, NamedTuple, assert_never

from durable_streams.filestore.files import names, whole_files
from durable_streams.filestore.files.fork_marks import is_forked
from durable_streams.filestore.files.index_files import (
    chain_at,
    each_line_behind,
    text_at,
    time_before,
)
from durable_streams.filestore.files.missing import files_of, what_is_missing
from durable_streams.filestore.files.segment_reader import SegmentReader
from durable_streams.filestore.files.segments import UNSEALED, Segments, beginning_at
from durable_streams.filestore.format import sidecar as sidecar_format
from durable_streams.filestore.format.index import NewerIndex, Opening, Tail
from durable_streams.filestore.format.index_lines import (
    Appended,
    Damaged,
    Opened,
    Torn,
    first_line,
    lines_behind,
)
from durable_streams.filestore.format.proved_end import ProvedEnd
from durable_streams.filestore.format.sidecar import BadSidecar, NewerSidecar, Sidecar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from durable_streams.filestore.files.disk import Disk, StrPath
    from durable_streams.filestore.files.missing import Files
    from durable_streams.filestore.format.index_lines import FurtherLine
    from durable_streams.filestore.format.journal import AppendRecord
    from durable_streams.rules.producers import ProducerState

log = logging.getLogger("durable_streams.filestore.files")


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
    data = whole_files.read_file(disk, f"{directory}/{names.SIDECAR}")
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
    last = _continued(disk, directory, loaded, files, verify)
    if last is not None:
        producers = _producers(disk, directory, loaded, last.first.opening)
        end = ProvedEnd.behind(last.first, producers, segment=loaded.segments.last)
        _follow_lines(disk, directory, loaded, last, end, verify=verify)
        loaded.tail, loaded.producers = end.tail, end.producers
        loaded.last_append_ms = end.time_ms
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
    return _owners(found)


def owners_of(disk: Disk, directory: StrPath) -> set[str]:
    """Ids of the streams whose segments, or their indexes, are in a directory."""
    return _owners(disk.names(directory))


def _owners(found: Iterable[str]) -> set[str]:
    return {file[1] for file in map(names.parse_file, found) if file is not None}


def is_still_there(disk: Disk, directory: StrPath, stream_id: str) -> bool:
    """Whether a stream was not deleted while its files were looked at."""
    try:
        sidecar = load_sidecar(disk, directory)
    except DamagedFiles:
        return True
    return sidecar is not None and sidecar.id == stream_id


class _Index(NamedTuple):
    """An index that continues those before it; ``text``: what was read of it, ``is_all`` or not."""

    first: Opened
    text: bytes
    is_all: bool


def _continued(
    disk: Disk, directory: StrPath, loaded: LoadedStream, files: Files, verify: bool
) -> _Index | None:
    """The last index that continues those before it; fills ``segments``."""
    present = {number for number, kind in files if kind == "idx"}
    best: _Index | None = None
    number = loaded.segments.first
    while number in present:
        found = _opening(disk, directory, loaded, number, verify=verify)
        if found is None:
            break
        if verify and best and not _is_sound(disk, directory, loaded, best, found.first.opening):
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
) -> _Index | None:
    stream_id = loaded.sidecar.id
    name = names.index_file(number, stream_id)
    text, is_all = text_at(disk, f"{directory}/{name}")
    first = first_line(text)
    if isinstance(first, Damaged):
        if isinstance(first.error, NewerIndex):
            raise NewerFiles(f"{directory}/{name}", str(first.error))
        if verify:
            loaded.cut = True
            return None
        raise DamagedFiles(f"{name}, line 1: {first.error}")
    if not isinstance(first, Opened):
        return None
    opening = first.opening
    if not loaded.sidecar.may_say(number, opening.segment):
        raise DamagedFiles(f"{name}, line 1: is of segment {opening.segment}")
    if number == loaded.segments.first:
        return _Index(first, text, is_all) if opening.continues == loaded.sidecar.root else None
    if opening.previous is None:
        raise DamagedFiles(f"{name}, line 1: names no previous segment")
    before = f"{directory}/{names.segment_file(number - 1, stream_id)}"
    status = disk.status(before)
    if status is None or status.size_bytes < opening.previous[0]:
        return None
    ending = chain_at(disk, directory, stream_id, number - 1, opening.previous[1])
    if ending is None or not opening.follows(ending):
        return None
    loaded.segments = loaded.segments.sealed(opening.previous[0], ending)
    return _Index(first, text, is_all)


def end_before(record: AppendRecord) -> Tail:
    """Where the stream ends that a record continues."""
    if record.index_position or not record.segment:
        return Tail(record.segment, record.position, record.index_position, record.chain)
    first = first_line(record.index)
    if isinstance(first, Damaged):
        raise first.error
    if not isinstance(first, Opened):
        raise DamagedFiles("a record begins a segment without a first line")
    if first.opening.previous is None:  # it begins the stream
        return Tail(record.segment, 0, 0, record.chain)
    return Tail(record.segment - 1, *first.opening.previous, record.chain)


def _follow_lines(
    disk: Disk,
    directory: StrPath,
    loaded: LoadedStream,
    index: _Index,
    end: ProvedEnd,
    *,
    verify: bool,
) -> None:
    """Bring ``end`` behind the lines of an index, as far as they and their bytes are there.

    ``verify``: and are what they were, see :func:`load`.
    """
    stream_id, number = loaded.sidecar.id, end.segment
    name = names.index_file(number, stream_id)
    if index.is_all:
        lines = lines_behind(index.text[end.index_position :], end.tail)
    else:
        lines = each_line_behind(disk, f"{directory}/{name}", end.tail)
    segment = f"{directory}/{names.segment_file(number, stream_id)}"
    if verify:
        with SegmentReader(disk, segment) as reader:
            size = reader.size
            loaded.cut |= _take_lines(lines, end, size, name, notes=loaded.notes, reader=reader)
    else:
        status = disk.status(segment)
        size = status.size_bytes if status else 0
        _take_lines(lines, end, size, name, notes=loaded.notes)
    if size > end.position:
        loaded.notes.append(f"{size - end.position} bytes of segment {number} have no index line")


def _take_lines(
    lines: Iterator[FurtherLine],
    end: ProvedEnd,
    size: int,
    name: str,
    *,
    notes: list[str],
    reader: SegmentReader | None = None,
) -> bool:
    """Take what is proved in a segment of a ``size``; whether it was cut instead of damaged.

    ``reader``: compares the bytes as well, and then what fails its checksum is cut.
    """
    for found in lines:
        match found:
            case Appended() if found.line.end > size:
                notes.append(f"{name}: its segment ends before line {found.row}")
                return reader is not None
            case Appended() if reader is not None and not reader.has_bytes_of(found):
                return True
            case Appended():
                end.take(found)
            case Torn():
                notes.append(f"{name}: its last line is torn")
            case Damaged():
                if reader is None:
                    raise DamagedFiles(f"{name}, line {found.row}: {found.error}")
                return True
            case _:
                assert_never(found)
    return False


def _is_sound(
    disk: Disk, directory: StrPath, loaded: LoadedStream, index: _Index, following: Opening
) -> bool:
    """Whether a segment has every line and all bytes that the one following it builds on."""
    end = ProvedEnd.behind(index.first, {}, segment=loaded.segments.last - 1)
    trial = LoadedStream(loaded.sidecar, end.tail)
    _follow_lines(disk, directory, trial, index, end, verify=True)
    return following.previous is not None and end.index_position >= following.previous[1]
