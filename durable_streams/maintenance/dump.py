"""Print a journal, an index or a sidecar for a person; changes nothing, needs no lock."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

import msgspec

from durable_streams.filestore.files import names, whole_files
from durable_streams.filestore.files.directory import absolute
from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.files.removed_file import NAME as REMOVED
from durable_streams.filestore.format import journal as fmt
from durable_streams.filestore.format import removed as removed_format
from durable_streams.filestore.format import sidecar as sidecar_format
from durable_streams.filestore.format.index_lines import (
    Appended,
    Damaged,
    Foreign,
    Opened,
    Torn,
    walk,
)
from durable_streams.filestore.format.removed import BadRemoved
from durable_streams.filestore.format.sidecar import BadSidecar, NewerSidecar
from durable_streams.filestore.format.stored_path import stored_text
from durable_streams.maintenance.findings import Checked, Finding
from durable_streams.maintenance.stream_check import StreamCheck

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SHOWN = (
    "segment",
    "position",
    "index_position",
    "version",
    "fork_id",
    "next_segment",
)
_PREVIEW = 48  # bytes of content shown without ``full``


class NotDumpable(Exception):
    """The path is nothing that can be printed; the text is for the user."""


def dump(path: Path, *, full: bool = False, disk: Disk | None = None) -> Iterator[str]:
    """Lines that describe a file of a data directory, a stream's directory, or a journal.

    ``full``: content whole, not as its first bytes.  Raises :class:`NotDumpable`.
    """
    disk = disk or Disk()
    path = absolute(path)
    if disk.is_directory(path):
        yield from _directory(disk, path, full=full)
        return
    data = whole_files.read_file(disk, path)
    if data is None:
        raise NotDumpable(f"there is no file {path}")
    if path.name == names.SIDECAR:
        yield from _sidecar(data)
    elif path.suffix == ".idx":
        yield from _index(data)
    elif path.suffix == ".journal":
        yield from _journal(data, full=full)
    elif path.name == REMOVED:
        yield from _removed(data)
    else:
        raise NotDumpable(
            f"{path} is no journal file (.journal), index (.idx), sidecar ({names.SIDECAR}) or "
            f"{REMOVED}; "
            "segments (.seg) hold a stream's bytes as they are"
        )


def _directory(disk: Disk, path: Path, *, full: bool) -> Iterator[str]:
    found = sorted(disk.names(path))
    journals = [
        name for name in found if name.endswith(".journal") and not disk.is_directory(path / name)
    ]
    if names.SIDECAR in found:
        yield from _stream(disk, path)
    elif journals:
        for name in journals:
            yield f"{name}:"
            yield from (f"  {line}" for line in dump(path / name, full=full, disk=disk))
    elif "journal" in found and "FORMAT.json" in found:
        yield from dump(path / "journal", full=full, disk=disk)
    else:
        raise NotDumpable(f"{path} is no data directory, journal or stream")


def _stream(disk: Disk, path: Path) -> Iterator[str]:
    findings: list[Finding] = []
    check = StreamCheck(disk, path, None, findings.append)
    checked = Checked()
    check.run(checked)
    if check.sidecar is not None:
        yield from _sidecar(sidecar_format.pack(check.sidecar))
        yield f"ends at {check.end.offset}, {'closed' if check.end.closed else 'open'}"
        yield f"{checked.appends} appended, {checked.data_bytes} bytes"
        for name, (epoch, seq, time_ms) in sorted(check.end.producers.items()):
            yield f"producer {name!r}: epoch {epoch}, sequence {seq}, time {time_ms}"
    yield from map(str, findings)
    if check.incomplete is not None:
        yield str(check.incomplete)


def _sidecar(data: bytes) -> Iterator[str]:
    try:
        sidecar_format.unpack(data)
    except NewerSidecar as error:
        yield f"NEWER: {error}"
    except BadSidecar as error:
        yield f"DAMAGED: {error}"
    yield from data.decode(errors="replace").splitlines()


def _removed(data: bytes) -> Iterator[str]:
    try:
        removed_format.unpack(data)
    except BadRemoved as error:
        yield f"DAMAGED: {error}"
    yield from data.decode(errors="replace").splitlines()


def _index(data: bytes) -> Iterator[str]:
    for found in walk(data):
        match found:
            case Opened(opening=opening) | Foreign(opening=opening):
                yield (
                    f"segment {opening.segment}, continues {opening.continues}, "
                    f"previous {opening.previous}, {len(opening.producers)} producers"
                )
            case Appended():
                yield _append(found)
            case Damaged():
                yield f"line {found.row} DAMAGED: {found.error}"
                yield f"  {found.text!r}"
            case Torn():
                yield f"line {found.row} TORN: {found.text!r}"
            case _:
                assert_never(found)


def _append(found: Appended) -> str:
    line = found.line
    forgot = f", forgot {list(line.forgot)}" if line.forgot else ""
    producer = f", producer {line.producer}" if line.producer else ""
    seq = f", stream seq {line.stream_seq!r}" if line.stream_seq is not None else ""
    closed = ", closed" if line.closed else ""
    return (
        f"line {found.row}: bytes {found.begin} to {line.end}, {line.messages} messages, "
        f"crc32 {line.crc32}, time {line.time}{forgot}{producer}{seq}{closed}"
    )


def _journal(data: bytes, *, full: bool) -> Iterator[str]:
    header = fmt.unpack_header(data)
    if header is None:
        yield "no journal header: a new file, or one whose beginning is torn"
        return
    yield f"generation {header.generation}, from batch {header.first} on, salt {header.salt:016x}"
    view, position, number = memoryview(data), fmt.FILE_HEADER_BYTES, header.first
    while batch := fmt.unpack_batch(view, position, header):
        if batch.number != number:
            break
        records = fmt.unpack_records(batch.payload)
        yield (
            f"batch {batch.number} at byte {position}: {len(records)} records, "
            f"synced to {batch.synced}, checkpointed to {batch.checkpointed}"
        )
        yield from (f"  {_record(record, full=full)}" for record in records)
        position, number = position + batch.size_bytes, batch.number + 1
    rest = "zeros" if not any(data[position:]) else "what an earlier use left, or is unreadable"
    yield f"ends at byte {position} of {len(data)}; behind it: {rest}"


def _record(record: fmt.Record, *, full: bool) -> str:
    kind = type(record).__name__.removesuffix("Record").lower()
    text = f"{kind} {stored_text(record.path)!r} {record.id}"
    fields = msgspec.structs.asdict(record)
    for name in _SHOWN:
        if name in fields:
            text += f", {name} {fields[name]}"
    if isinstance(record, fmt.ForkRecord):
        text += f", fork_path {stored_text(record.fork_path)!r}"
    for name in ("sidecar", "index", "data"):
        content = fields.get(name)
        if content:
            shown = content if full or len(content) <= _PREVIEW else content[:_PREVIEW]
            more = "" if shown is content else " ..."
            text += f", {name} {len(content)} bytes {shown!r}{more}"
    return text
