"""What :mod:`verify` finds, in words for people and fields for programs."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Level(Enum):
    """How bad a finding is.

    ``NOTE``: the normal trace of a crash or of a copy made while a server wrote; recovery or the
    next write mends it.  ``WARNING``: something is unreadable that may not be needed any more.
    ``DAMAGE``: bytes that were stored are not what they were.
    """

    NOTE = "note"
    WARNING = "warning"
    DAMAGE = "damage"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing out of the ordinary.

    ``file``: where, as a path on this machine.  ``place``: a line or a byte in it, or empty.
    ``stream``: the stream's URL path, empty if none is concerned.  ``meaning``: for its readers.
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


@dataclass(slots=True)
class Checked:
    """How much was looked at, and what was found."""

    streams: int = 0
    appends: int = 0
    data_bytes: int = 0
    found: dict[Level, int] = field(default_factory=lambda: dict.fromkeys(Level, 0))

    @property
    def is_sound(self) -> bool:
        """Whether nothing is damaged."""
        return not self.found[Level.DAMAGE]
