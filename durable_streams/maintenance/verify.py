"""Verify a data directory, or one stream of it: read everything, change nothing.

Takes no lock, so it works on a backup, on a copy that was made while a server wrote, and beside a
server.  Of the journal only what recovery would read is looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable_streams.errors import DataDirectoryError
from durable_streams.maintenance.findings import Checked, Finding, Level
from durable_streams.maintenance.stream_check import StreamCheck
from durable_streams.storage import names
from durable_streams.storage.directory import Layout, check_format
from durable_streams.storage.disk import Disk
from durable_streams.storage.format import journal as fmt
from durable_streams.storage.journal import JournalContent, read_journal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Report = Callable[[Finding], None]
    Progress = Callable[[Checked], None]


def verify(
    directory: Path,
    report: Report,
    *,
    progress: Progress = lambda _checked: None,
    disk: Disk | None = None,
) -> Checked:
    """Check every byte of a data directory or of one stream's directory; blocks for long.

    ``report`` is called with each finding, ``progress`` after each stream.  Raises
    :class:`DataDirectoryError` if it is neither, or of an unknown format.
    """
    disk = disk or Disk()
    checked = Checked()

    def count(finding: Finding) -> None:
        checked.found[finding.level] += 1
        report(finding)

    root = directory.absolute()
    if names.is_stream_directory(root.name) and disk.is_directory(root):
        StreamCheck(disk, root, "", count).run(checked)
        return checked
    layout = layout_of(disk, root)
    _check_journal(layout, count)

    def unlisted(path: Path, error: OSError) -> None:
        count(Finding(Level.DAMAGE, path, f"it cannot be listed: {error}", meaning="not checked"))

    def stranger(path: Path) -> None:
        count(Finding(Level.NOTE, path, "it is no stream's directory"))

    for home in layout.stream_directories(unlisted, stranger):
        check_stream(layout, home, checked, count)
        progress(checked)
    return checked


def layout_of(disk: Disk, root: Path) -> Layout:
    """The data directory at ``root``, which must be there and of a known format."""
    if not check_format(disk, root):
        raise DataDirectoryError(f"{root} is no data directory: it has no FORMAT.json")
    return Layout(disk, root)


def check_stream(layout: Layout, home: Path, checked: Checked, report: Report) -> StreamCheck:
    """Check the stream whose directory is ``home``."""
    path = layout.stream_path(home)
    if path is None:
        report(Finding(Level.WARNING, home, "its name is no stream's path", meaning="not served"))
    check = StreamCheck(layout.disk, home, path or "", report)
    check.run(checked)
    return check


def _check_journal(layout: Layout, report: Report) -> None:
    content = JournalContent()
    ends: dict[tuple[str, str], tuple[int, int]] = {}
    for batch in read_journal(layout, content):
        try:
            records = fmt.unpack_records(batch.payload)
        except ValueError as error:
            content.damage.append(f"batch {batch.number} holds no records: {error}")
            continue
        for record in records:
            _note_end(record, ends)
    for text in content.damage:
        report(
            Finding(
                Level.WARNING,
                layout.journal,
                text,
                meaning="normal in a copy made while a server wrote; else writes may be lost "
                "that had not reached their streams' files",
            )
        )
    behind = sum(not _is_in_files(layout, *key, *end) for key, end in ends.items())
    if behind:
        report(
            Finding(
                Level.NOTE,
                layout.journal,
                f"{behind} stream{'s have' if behind > 1 else ' has'} writes that are here only",
                meaning="a start puts them into the streams' files",
            )
        )


def _note_end(record: fmt.Record, ends: dict[tuple[str, str], tuple[int, int]]) -> None:
    """Note the segment and the position in it at which a stream ends behind a record."""
    key = record.path, record.id
    match record:
        case fmt.CreateRecord():
            ends[key] = 0, len(record.data)
        case fmt.AppendRecord():
            ends[key] = record.segment, record.position + len(record.data)
        case fmt.DeleteRecord():
            ends.pop(key, None)
        case _:
            pass


def _is_in_files(layout: Layout, path: str, stream_id: str, segment: int, end: int) -> bool:
    home = layout.stream_directory(path)
    try:
        if not end:
            return layout.disk.is_directory(home)
        status = layout.disk.status(f"{home}/{names.segment_file(segment, stream_id)}")
    except OSError:
        return True  # the check of the stream tells
    return status is not None and status.size_bytes >= end
