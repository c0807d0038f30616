"""Verify a data directory, or one stream of it: read everything, change nothing.

Takes no lock, so it works on a backup, on a copy that was made while a server wrote, and beside a
server.  Of the journal only what recovery would read is looked at, and after the streams: it tells
which of those that seem incomplete a start completes, or were deleted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable_streams.filestore.files import names, whole_files
from durable_streams.filestore.files.directory import Layout, absolute
from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.files.format_file import check_format
from durable_streams.filestore.files.removed_file import NAME as REMOVED
from durable_streams.filestore.format.removed import BadRemoved, unpack
from durable_streams.maintenance.findings import Checked, Finding, Level, refused
from durable_streams.maintenance.journal_check import JournalCheck
from durable_streams.maintenance.stream_check import StreamCheck
from durable_streams.maintenance.walk import stream_homes
from durable_streams.model.errors import DataDirectoryError

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

    root = absolute(directory)
    if _is_stream(disk, root):
        check = StreamCheck(disk, root, None, count)
        check.run(checked)
        if check.incomplete is not None:
            count(check.incomplete)
        return checked
    layout = layout_of(disk, root)
    for finding in (missing_streams(layout), _damaged_removed(layout)):
        if finding is not None:
            count(finding)

    def stranger(path: Path, why: str) -> None:
        count(Finding(Level.NOTE, path, why))

    incomplete: list[StreamCheck] = []
    for home in stream_homes(layout, lambda path, error: count(refused(path, error)), stranger):
        check = check_stream(layout, home, checked, count)
        if check.incomplete is not None:
            incomplete.append(check)
        progress(checked)
    journal = JournalCheck(layout, incomplete)
    journal.run()
    for finding in journal.findings_of_incomplete() + journal.findings:
        count(finding)
    return checked


def _is_stream(disk: Disk, root: Path) -> bool:
    try:
        return names.is_stream_directory(root.name) and disk.is_directory(root)
    except OSError as error:
        raise DataDirectoryError(f"{root} cannot be looked at: {error.strerror}") from error


def layout_of(disk: Disk, root: Path) -> Layout:
    """The data directory at ``root``, which must be there and of a known format."""
    try:
        if not check_format(disk, root):
            raise DataDirectoryError(f"{root} is no data directory: it has no FORMAT.json")
    except OSError as error:
        raise DataDirectoryError(f"{root} cannot be looked at: {error}") from error
    return Layout(disk, root)


def missing_streams(layout: Layout) -> Finding | None:
    """Whether ``streams/`` is gone: a first start makes it before the journal."""
    disk = layout.disk
    try:
        if disk.is_directory(layout.streams) or not disk.is_directory(layout.journal):
            return None
    except OSError:
        return None  # the walk over the streams tells
    meaning = "a start begins without the streams that were in it"
    return Finding(
        Level.INCOMPLETE, layout.streams, "it is gone, though a journal is there", meaning=meaning
    )


def _damaged_removed(layout: Layout) -> Finding | None:
    """Whether the file of removed paths is there and unreadable."""
    path = layout.root / REMOVED
    try:
        data = whole_files.read_file(layout.disk, path)
        if data is not None:
            unpack(data)
    except OSError as error:
        return refused(path, error)
    except BadRemoved as error:
        meaning = "caches may mix up streams removed minutes ago with those made at their paths"
        return Finding(Level.WARNING, path, str(error), meaning=meaning)
    return None


def check_stream(layout: Layout, home: Path, checked: Checked, report: Report) -> StreamCheck:
    """Check the stream whose directory is ``home``; what is incomplete is not reported."""
    path = layout.stream_path(home)
    if path is None:
        report(Finding(Level.WARNING, home, "its name is no stream's path", meaning="not served"))
    check = StreamCheck(layout.disk, home, path, report)
    check.run(checked)
    return check
