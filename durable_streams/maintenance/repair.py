"""Repair a data directory: cut damaged and incomplete streams to what is sound.  Deletes nothing.

A damaged stream has bytes that are wrong, an incomplete one lacks some that later files prove: what
is behind them is of no use to readers without them.  Who has the missing file puts it back instead.
What cannot stay is moved to ``aside/repair-<time>/``, under the path that it had.  A stream that is
cut serves everything up to its last sound append.
Each step is durable before the next one begins, and a repair that was cut short is repeated.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from durable_streams.filestore.files import names, whole_files
from durable_streams.filestore.files.aside import cut_file
from durable_streams.filestore.files.directory import DataDirectory, absolute
from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.files.recovery import recover
from durable_streams.maintenance.findings import Checked
from durable_streams.maintenance.journal_check import JournalCheck
from durable_streams.maintenance.verify import check_stream, layout_of, missing_streams
from durable_streams.maintenance.walk import stream_homes
from durable_streams.model.errors import DataDirectoryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from durable_streams.filestore.files.directory import Layout
    from durable_streams.maintenance.findings import Finding
    from durable_streams.maintenance.stream_check import StreamCheck

_FILES = 256  # open at a time while the journal is recovered


@dataclass(frozen=True, slots=True)
class Repair:
    """What is to be done to one stream.

    ``text``: in words.  ``files``: file and the size it is cut to; 0 moves all of it.  ``check``
    tells the sound end; ``whole``: the stream has no readable sidecar and is moved as a whole.
    """

    home: Path
    text: str
    check: StreamCheck
    files: tuple[tuple[Path, int], ...] = ()
    whole: bool = False

    @property
    def is_possible(self) -> bool:
        """Whether anything can be done: the stream can be read, and by this version."""
        return self.check.refusal is None


@dataclass(slots=True)
class Outcome:
    """How many streams were (or are to be) repaired, and how many are left as they are."""

    repaired: int = 0
    left: int = 0

    def count(self, step: Repair) -> None:
        """Count one stream."""
        if step.is_possible:
            self.repaired += 1
        else:
            self.left += 1


def plan(layout: Layout) -> list[Repair]:
    """What :func:`repair` would do to each stream; blocks for long, changes nothing."""
    steps: list[Repair] = []
    for home in stream_homes(layout, _give_up, lambda _path, _why: None):
        check = check_stream(layout, home, Checked(), _ignore)
        if check.refusal is not None:
            text = f"{home}: left, it cannot be read ({check.refusal}): copy by hand what can be"
            steps.append(Repair(home, text, check))
        elif check.is_damaged or check.incomplete is not None:
            steps.append(_repair_of(layout, home, check))
    return steps


def repair(
    directory: Path, told: Callable[[str], None], *, apply: bool, disk: Disk | None = None
) -> Outcome:
    """Say with ``told`` what has to be done and, if ``apply``, do it.

    Raises :class:`DataDirectoryError` if it is no data directory, or if it
    is to be changed and a server has it open.
    """
    disk = disk or Disk()
    root = absolute(directory)
    layout = layout_of(disk, root)
    if missing_streams(layout) is not None:
        told(f"{layout.streams} is gone: left, put it back or restore the whole directory")
        return Outcome(left=1)
    if not apply:
        return _count(_without_those_of_the_journal(layout, plan(layout)), told)
    with _opened(disk, root) as opened:
        told(str(recover(opened, _FILES)))
        aside = opened.aside / f"repair-{time.time_ns()}"
        steps = plan(opened)
        outcome = _count(steps, told)
        for step in steps:
            _apply(opened, step, aside)
        if disk.is_directory(aside):
            told(f"what was taken out is in {aside}")
        return outcome


@contextmanager
def _opened(disk: Disk, root: Path) -> Iterator[DataDirectory]:
    directory = DataDirectory.open(disk, root)
    try:
        yield directory
    finally:
        directory.close()


def _count(steps: list[Repair], told: Callable[[str], None]) -> Outcome:
    """Say what is done to each stream before any of it is."""
    outcome = Outcome()
    for step in steps:
        told(step.text)
        outcome.count(step)
    return outcome


def _without_those_of_the_journal(layout: Layout, steps: list[Repair]) -> list[Repair]:
    """Leave out what is complete once the journal is recovered."""
    incomplete = [step.check for step in steps if step.check.incomplete is not None]
    if not incomplete:
        return steps
    journal = JournalCheck(layout, incomplete)
    journal.run()
    completed = set(map(id, journal.completed()))
    return [step for step in steps if id(step.check) not in completed]


def _give_up(path: Path, error: OSError) -> None:
    raise DataDirectoryError(f"{path} cannot be listed: {error}") from error


def _ignore(_finding: Finding) -> None:
    """``verify`` tells of findings; a plan is about what to do."""


def _repair_of(layout: Layout, home: Path, check: StreamCheck) -> Repair:
    stream = check.stream or home.name
    if check.sidecar is None:
        back = f"put {names.SIDECAR} back if you have it, else " if check.incomplete else ""
        text = f"stream {stream}: no sidecar tells what it is; {back}move it aside whole"
        return Repair(home, text, check, whole=True)
    end, stream_id = check.end, check.sidecar.id
    files: list[tuple[Path, int]] = []
    lost_bytes = 0
    for name in sorted(layout.disk.names(home), reverse=True):
        parsed = names.parse_file(name)
        if parsed is None or parsed[1] != stream_id or parsed[0] < end.segment:
            continue
        size = 0
        if parsed[0] == end.segment and end.index_position:
            size = end.position if parsed[2] == "seg" else end.index_position
        status = layout.disk.status(home / name)
        # An empty file of a later segment proves, too, that there was more.
        if status is not None and (status.size_bytes > size or parsed[0] > end.segment):
            files.append((home / name, size))
            lost_bytes += (status.size_bytes - size) if parsed[2] == "seg" else 0
    rest = f"keep everything up to offset {end.offset}, move aside the {lost_bytes} bytes behind it"
    text = f"stream {stream}: {rest}"
    if check.incomplete is not None:
        file, what = check.incomplete.file.name, check.incomplete.text
        text = (
            f"stream {stream}: incomplete, {file}: {what}; put it back if you have it, else {rest}"
        )
    return Repair(home, text, check, tuple(files))


def _apply(directory: DataDirectory, step: Repair, aside: Path) -> None:
    disk = directory.disk
    kept = aside / step.home.relative_to(directory.root)
    if step.whole:
        _make(directory, kept.parent)
        disk.rename(step.home, kept)
        disk.sync_directory(kept.parent)
        disk.sync_directory(step.home.parent)
        return
    if not step.files:
        return
    _make(directory, kept)
    for file, size in step.files:
        if size:
            cut_file(directory, file, size, kept / f"{file.name}.from-{size}")
        else:
            disk.rename(file, kept / file.name)
            disk.sync_directory(kept)
            disk.sync_directory(step.home)


def _make(directory: DataDirectory, path: Path) -> None:
    for parent in whole_files.make_directories(directory.disk, path, directory.root):
        directory.disk.sync_directory(parent)
