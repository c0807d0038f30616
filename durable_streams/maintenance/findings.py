"""What :mod:`verify` finds, in words for people and fields for programs."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Level(Enum):
    """How bad a finding is.

    ``NOTE``: out of the ordinary, and nothing of ours.  ``TORN``: the normal trace of a crash or of
    a copy made while a server wrote; recovery or the next write mends it.  ``WARNING``: something
    is unreadable that may not be needed any more.  ``UNREAD``: it could not be looked at.
    ``INCOMPLETE``: something is gone that other files prove was there.  ``DAMAGE``: bytes that were
    stored are not what they were.
    """

    NOTE = "note"
    TORN = "torn"
    WARNING = "warning"
    UNREAD = "unread"
    INCOMPLETE = "incomplete"
    DAMAGE = "damage"


class State(Enum):
    """What all findings together amount to; the worst of them decides."""

    SOUND = "sound"
    TORN = "torn"
    UNREAD = "NOT ALL LOOKED AT"
    INCOMPLETE = "INCOMPLETE"
    DAMAGED = "DAMAGED"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing out of the ordinary.

    ``file``: where, as a path on this machine, or a row of a database.  ``place``: a line or a byte
    in it, or empty.  ``stream``: the text of the stream's path, empty if none is concerned.
    ``meaning``: for its readers.
    """

    level: Level
    file: Path
    text: str
    place: str = ""
    stream: str = ""
    meaning: str = ""

    def __str__(self) -> str:
        where = f"{self.file}, {self.place}" if self.place else str(self.file)
        whose = f" (stream {self.stream})" if self.stream else ""
        rest = f"; {self.meaning}" if self.meaning else ""
        return f"{self.level.value}: {where}: {self.text}{whose}{rest}"


def refused(file: Path, error: OSError, stream: str = "") -> Finding:
    """The system did not let us look at something: a bad place on the disk, or somebody's rule."""
    why = error.strerror or str(error)
    if error.errno == errno.EIO:
        return Finding(Level.DAMAGE, file, f"the disk refuses to read it: {why}", "", stream)
    return Finding(Level.UNREAD, file, f"it cannot be looked at: {why}", "", stream)


@dataclass(slots=True)
class Checked:
    """How much was looked at, and what was found."""

    streams: int = 0
    appends: int = 0
    data_bytes: int = 0
    found: dict[Level, int] = field(default_factory=lambda: dict.fromkeys(Level, 0))

    @property
    def state(self) -> State:
        """What was found, in a word."""
        if self.found[Level.DAMAGE]:
            return State.DAMAGED
        if self.found[Level.INCOMPLETE]:
            return State.INCOMPLETE
        if self.found[Level.UNREAD]:
            return State.UNREAD
        if self.found[Level.TORN] or self.found[Level.WARNING]:
            return State.TORN
        return State.SOUND
