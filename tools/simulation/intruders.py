"""Other programs in the data directory: files that are open are replaced, taken away and put back.

What tools and people do while the server runs: an editor, a restore or a copy by rename puts a
synced copy of a file in its place; a file is moved away for a while and comes back, itself or as a
copy.  It happens at any call of the disk, in whatever thread is simulated, between any two.

They are careful: a copy has what the file has at that moment, nothing is put back where a stream is
no more or another file has come, no stream is disturbed twice before the engine has looked, and
before the next start everything is back.  A sidecar is taken only where a power cut leaves another
file of its stream, by which they know whose the directory is.  A stream that has lost a file is in
memory meanwhile, as somebody reads it: nobody can tell a stream whose last file is away from a
shorter one.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from durable_streams.filestore.files import names
from durable_streams.model.errors import StorageFailed, StreamUnusable
from durable_streams.model.paths import parse_path_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from durable_streams.filestore.files.disk import StrPath
    from durable_streams.model.paths import StreamPath
    from durable_streams.model.results import StreamRef
    from tools.simulation.disk import SimulatedDisk

_CALLS: Final = 25  # within so many calls of the disk it happens
_STREAM_FILES: Final = (".seg", ".idx", ".json")
_LOOKS_EVERY_MS: Final = 35_000  # a checkpoint looks at everything that was written to
_AWAY_S: Final = (0.0, 0.5, 3.0, 50.0)


class Away(NamedTuple):
    """A file that was moved ``to`` somewhere; ``held`` keeps the stream in memory whose it is."""

    name: Path
    to: Path
    stream_id: str
    held: StreamRef | None
    until_ms: int


@dataclass(eq=False)
class _Due:
    """What is to be done at one of the next calls of the disk for a file of some kind."""

    calls: int
    at: tuple[str, ...]
    do: Callable[[Path], None]


class Intruders:
    """Those of one generation.

    ``active``: whether there are any.  ``took_journal``: whether they took a file of the journal.
    """

    def __init__(self, random: Random, data: Path) -> None:
        self._random = random
        self._streams = data / "streams"
        self._journal = data / "journal"
        self._tmp = data / "tmp"
        self._elsewhere = data.parent.parent
        self.active = random.random() < 0.35
        self._copy_rate = random.choice((0.0, 0.3, 1.0))
        self._takes = random.random() < 0.5
        self._takes_journal = random.random() < 0.3
        self._pending: list[_Due] = []
        self._away: list[Away] = []
        self._moved: list[Away] = []
        self._replaced: dict[StreamPath, int] = {}
        self._taken: set[StreamPath] = set()
        self.took_journal = False

    def begin(self, disk: SimulatedDisk, now_ms: Callable[[], int]) -> None:
        """A server is about to start."""
        self._disk, self._now_ms = disk, now_ms

    async def live(self) -> None:
        """Do something now and then, until cancelled."""
        while self.active:
            await asyncio.sleep(self._random.choice((0.0, 0.0, 0.05, 0.5, 5.0)))
            if self._random.random() < self._copy_rate:
                self._soon(self._replace_one)
            if self._takes_journal:
                self._takes_journal = False
                self._soon(self._take_journal, (".journal",))
            now_ms = self._now_ms()
            for away in [away for away in self._away if away.until_ms <= now_ms]:
                self._away.remove(away)
                kinds = _STREAM_FILES if away.stream_id else (".journal",)
                self._soon(partial(self._bring_back, away), kinds)

    # -- at any call of the disk -----------------------------------------------------------

    def pass_by(self, called: StrPath) -> None:
        """The disk is called for a path: do what is due, there if it can be."""
        if not self._pending:
            return
        path = Path(called)
        for due in [due for due in self._pending if path.suffix in due.at]:
            due.calls -= 1
            if not due.calls:
                self._pending.remove(due)
                due.do(path)

    def _soon(self, do: Callable[[Path], None], at: tuple[str, ...] = _STREAM_FILES) -> None:
        self._pending.append(_Due(self._random.randrange(1, _CALLS), at, do))

    def _replace_one(self, called: Path) -> None:
        files = self._disk.list_files(self._streams)
        if not files:
            return
        file = called if called in files else self._random.choice(files)
        path = names.path_of(str(file.parent.relative_to(self._streams)))
        if path is not None and path not in self._taken:
            self._replaced[path] = self._now_ms()
            self._disk.put_copy(file, file)

    def take_from(self, stream: StreamRef) -> None:
        """Take a file of a stream away soon, that somebody reads."""
        if self.active and self._takes and self._is_quiet(stream.path):
            self._taken.add(stream.path)
            self._soon(partial(self._take, stream))

    def _is_quiet(self, path: StreamPath) -> bool:
        """Whether nothing happened to a stream that the engine has yet to see."""
        before = self._now_ms() - _LOOKS_EVERY_MS
        return path not in self._taken and self._replaced.get(path, 0) < before

    def _take(self, stream: StreamRef, called: Path) -> None:
        directory = self._streams / names.directory_of(stream.path)
        files = [file for file in self._disk.list_files(directory) if stream.id in file.name]
        sidecar = directory / names.SIDECAR
        if len(files) > 1 and self._disk.list_files(sidecar):
            if any(map(self._disk.outlasts_power, files)):  # by which the place is known again
                files.append(sidecar)
            self._move_away(called if called in files else self._random.choice(files), stream)

    def _take_journal(self, called: Path) -> None:
        files = self._disk.list_files(self._journal)
        if not files:
            return
        self.took_journal = True
        file = called if called in files else self._random.choice(files)
        if self._random.random() < 0.5:
            self._disk.put_copy(file, file)
        else:
            self._move_away(file, None)

    def _move_away(self, file: Path, stream: StreamRef | None) -> None:
        to = self._elsewhere / f"away-{len(self._moved)}"
        self._disk.move(file, to)
        until_ms = self._now_ms() + int(self._random.choice(_AWAY_S) * 1000)
        self._away.append(Away(file, to, stream.id if stream else "", stream, until_ms))
        self._moved.append(self._away[-1]._replace(held=None))

    def _bring_back(self, away: Away, _called: Path) -> None:
        _put_back(self._disk, away, as_copy=self._random.random() < 0.5)

    # -- what it explains ------------------------------------------------------------------

    def explain(self, error: Exception) -> bool:
        """Whether an error may come from what they did."""
        if isinstance(error, StreamUnusable):
            return parse_path_text(error.path) in self._taken
        return self.took_journal or (bool(self._taken) and not isinstance(error, StorageFailed))

    def put_everything_back(self, disk: SimulatedDisk) -> None:
        """Before the next server starts, wherever the crash left the directories."""
        for away in self._moved:
            unborn = self._tmp / away.stream_id / away.name.name  # a fork that may be adopted again
            for name in (away.name, unborn) if away.stream_id else (away.name,):
                _put_back(disk, away._replace(name=name), as_copy=self._random.random() < 0.5)


def _put_back(disk: SimulatedDisk, away: Away, *, as_copy: bool) -> None:
    """Put a file back, durably, if its place is free and its stream still there."""
    if not disk.list_files(away.to):
        return
    if disk.has_bytes(away.name):
        disk.keep(away.name)  # before anybody takes what was moved away for superfluous
        return
    directory = away.name.parent
    if away.stream_id and not any(away.stream_id in f.name for f in disk.list_files(directory)):
        return
    if as_copy:
        disk.put_copy(away.to, away.name)
    else:
        disk.move(away.to, away.name)
